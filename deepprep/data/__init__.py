"""Templates, atlases, weights, report specs, demo."""

from pathlib import Path

DATA = Path(__file__).parent
"""Folder of the files that ship with the package."""
