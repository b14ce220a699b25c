"""Errors a user sees: one clear sentence that says which file, what is wrong and what to do."""

from __future__ import annotations


class DeepPrepError(Exception):
    """Base of all errors whose message is meant for the user, without a traceback."""

    exit_code = 1


class InputError(DeepPrepError):
    """The command line or the data set cannot be used as given (exit code 2)."""

    exit_code = 2


class NotAvailableError(InputError):
    """A known option that this version cannot honour yet (exit code 2)."""


class MissingResourceError(DeepPrepError):
    """A template or a network's weights are not on this machine; the message says where to put them."""

    exit_code = 2


class StageError(DeepPrepError):
    """A processing stage failed on data that passed the input checks (exit code 1)."""
