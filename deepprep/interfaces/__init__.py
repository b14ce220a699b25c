"""One Pydra task per stage: load files, call numerics, save files."""
