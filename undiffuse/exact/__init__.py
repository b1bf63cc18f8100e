"""Denoisers in closed form."""

from undiffuse.catalogue import exports

__getattr__, __dir__, __all__ = exports(__name__)
