"""FastSurferCNN v1 and FastSurferVINN, for users who have the official weights."""
