"""From a BIDS data set to plain records, through pybids."""

from __future__ import annotations

from deepprep.bids.problems import Problem
from deepprep.bids.records import (
    Entities,
    FieldmapChoice,
    Image,
    RejectedFieldmap,
    Run,
    SliceTiming,
    SubjectInputs,
)
from deepprep.config import Settings

__all__ = [
    "Entities",
    "FieldmapChoice",
    "Image",
    "Problem",
    "RejectedFieldmap",
    "Run",
    "SliceTiming",
    "SubjectInputs",
    "collect",
]


def collect(settings: Settings) -> list[SubjectInputs]:
    """Find the images of every chosen participant."""
    raise NotImplementedError
