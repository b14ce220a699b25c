"""One thread: the networks of these tests are tiny, and threads would wait for each other."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small(monkeypatch):
    """A conformed side of 48 voxels, for speed."""
    monkeypatch.setattr("deepprep.segmentation.fastsurfer.conform.MIN_SIDE", 48)
