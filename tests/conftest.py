"""Shared fixtures."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("NO_ET", "1")


def shared_data_dir() -> Path | None:
    """The shared data folder beside the checkout, or None."""
    for base in (os.environ.get("DEEPPREP_SHARED_DATA"), Path(__file__).parents[2] / "shared/data"):
        if base and Path(base).is_dir():
            return Path(base)
    return None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Path of the shared data, or skip."""
    path = shared_data_dir()
    if path is None:
        pytest.skip("shared data folder not found (set DEEPPREP_SHARED_DATA)")
    return path
