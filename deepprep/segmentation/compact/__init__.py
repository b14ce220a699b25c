"""The embedded engine: a compact network of our own, with weights in the package."""
