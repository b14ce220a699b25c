"""Whole-brain segmentation and tissue maps."""
