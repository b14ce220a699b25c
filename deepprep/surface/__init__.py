"""Cortical surfaces: level set, topology, meshing, placement, measures, spheres, group spaces."""
