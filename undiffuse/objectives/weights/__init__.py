"""Weights of the loss as functions of log-SNR."""

from undiffuse.catalogue import exports

__getattr__, __dir__, __all__ = exports(__name__)
