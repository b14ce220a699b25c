"""nireports specs, figures, pages and the methods text."""
