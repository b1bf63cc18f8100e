"""What a network predicts, as one affine map to the denoised x_0."""

from undiffuse.catalogue import exports

__getattr__, __dir__, __all__ = exports(__name__)
