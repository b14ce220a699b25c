"""Who runs after whom: Pydra workflows, no arithmetic, no file formats."""
