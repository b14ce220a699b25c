"""Quality metrics, thresholds as data, verdicts."""
