"""Tasks that only pass files on: Pydra cannot build or index lists of files still to be made."""

from __future__ import annotations

from fileformats.generic import File
from pydra.compose import python

from deepprep.execution.resources import stage


@stage(cpus=1, mem_gb=0.2, title="Collect")
@python.define(outputs=["files"])
def Append(files: list[File], file: File) -> list[File]:
    """``files`` with ``file`` at the end."""
    return [*files, file]


@stage(cpus=1, mem_gb=0.2, title="Pick")
@python.define(outputs=["file"])
def Pick(files: list[File], index: int) -> File:
    """The file at ``index``: what follows depends on this one alone."""
    return files[index]
