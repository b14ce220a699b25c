"""FastCSR's networks: signed distance to the white surface, with official weights."""
