"""The demo: a BIDS data set simulated from a real head, and scoring against its truth."""

from deepprep.phantom.score import score_phantom
from deepprep.phantom.simulate import make_phantom

__all__ = ["make_phantom", "score_phantom"]
