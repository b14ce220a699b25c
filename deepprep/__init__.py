"""DeepPrep: brain MRI preprocessing (T1w and BOLD fMRI) from a plain pip install."""

from deepprep._version import __version__

__all__ = ["__version__"]
