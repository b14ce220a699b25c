"""A problem found before anything is computed: which file, what is wrong, what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One finding of the input checks.

    ``level`` is ``"error"`` or ``"warning"``. ``scope`` says what an error stops: the whole
    command (``dataset``, exit code 2), a participant (``subject``), or one image (``image``: a
    BOLD run, or one of several T1w).
    """

    level: str
    file: str
    """Path relative to the data set where possible."""
    what: str
    remedy: str
    scope: str = "dataset"
    subject: str = ""
    """``SubjectInputs.name`` such as ``sub-01``; empty for the data set."""
    code: str = ""
    """Stable identifier such as ``TR_IN_MS``."""
    image: str = ""
    """Absolute path of the image an error leaves out."""

    @property
    def is_error(self) -> bool:
        """Whether something cannot be processed because of it."""
        return self.level == "error"

    def sentence(self) -> str:
        """One line for the terminal, the log and the report."""
        return f"{self.file}: {self.what}. {self.remedy}"
