"""Templates, atlases, weights, report specs, demo."""
