"""Training losses: a distribution of times, a weighting and a prediction."""

from undiffuse.catalogue import exports

__getattr__, __dir__, __all__ = exports(__name__)
