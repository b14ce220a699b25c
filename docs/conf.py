"""Sphinx configuration; build with ``sphinx-build docs docs/_build`` after ``pip install .[docs]``."""

from deepprep import __version__

project = "DeepPrep"
copyright = "The DeepPrep developers"
release = version = __version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
]
autosummary_generate = True
numpydoc_show_class_members = False
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "dev/progress.md"]
html_theme = "alabaster"
