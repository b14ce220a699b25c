"""The BIDS data set in and out: inputs, checks, derivative names."""
