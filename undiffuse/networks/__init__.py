"""Networks: the functions F(x, c_noise, label) that a learned denoiser trains."""

from undiffuse.catalogue import exports

__getattr__, __dir__, __all__ = exports(__name__)
