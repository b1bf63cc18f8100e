"""Making a denoiser: recipe, loop, moving average, checkpoints, the run directory."""

from undiffuse.catalogue import exports

__getattr__, __dir__, __all__ = exports(__name__)
