"""Where the figures of a training go beside metrics.jsonl, one place a file."""

from undiffuse.catalogue import exports

__getattr__, __dir__, __all__ = exports(__name__)
