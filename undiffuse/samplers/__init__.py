"""Steps from noise to data, and the one loop that takes them."""

from undiffuse.catalogue import exports

__getattr__, __dir__, __all__ = exports(__name__)
