"""Likelihoods and bounds on them."""

from undiffuse.catalogue import exports

__getattr__, __dir__, __all__ = exports(__name__)
