"""Sphinx configuration."""

from importlib.metadata import version as installed_version

project = "Bridle"
author = "The Bridle authors"
release = version = installed_version("bridle")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Arguments", "params_style"), "References"]

html_theme = "furo"
html_title = "Bridle"
