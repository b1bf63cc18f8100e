"""The pages of the documentation, made by Sphinx from Markdown."""

from importlib.metadata import version as version_of

project = "undiffuse"
author = "The undiffuse authors"
version = release = version_of("undiffuse")

extensions = ["myst_parser", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# README and CONTRIBUTING link to files that are no pages, such as LICENSE.
suppress_warnings = ["myst.xref_missing"]

html_theme = "furo"
html_title = f"undiffuse {version}"
