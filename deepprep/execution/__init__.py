"""Pydra workers, resources, retry, stale locks, provenance."""
