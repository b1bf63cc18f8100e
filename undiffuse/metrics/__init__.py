"""Distances between two clouds of points: generated samples, or their features, and real ones."""

from undiffuse.catalogue import exports

__getattr__, __dir__, __all__ = exports(__name__)
