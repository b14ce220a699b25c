"""BOLD reference, slice timing, head motion, one-shot resampling, confounds."""
