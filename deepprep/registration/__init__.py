"""Linear, deformable, head-motion and boundary-based registration; transforms on disk."""
