"""Volumes: resampling, conform, orientation, bias field, brain mask."""
