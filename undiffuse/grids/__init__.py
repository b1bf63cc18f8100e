"""The times at which a sampler stops."""

from undiffuse.catalogue import exports

__getattr__, __dir__, __all__ = exports(__name__)
