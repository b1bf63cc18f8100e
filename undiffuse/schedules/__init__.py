"""Noise schedules: x_t = alpha(t) x_0 + sigma(t) eps for t in [0, 1]."""

from undiffuse.catalogue import exports

__getattr__, __dir__, __all__ = exports(__name__)
