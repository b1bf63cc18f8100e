"""The command line, one verb a file."""

from undiffuse.cli.entry import main

__all__ = ["main"]
