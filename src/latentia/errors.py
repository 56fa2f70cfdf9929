"""The errors a person may meet, each with the exit code that the command line gives it."""

from __future__ import annotations


class LatentiaError(Exception):
    """Base of the library's own errors; `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(LatentiaError, ValueError):
    """What was asked for does not fit: an unknown name, an option out of range, an existing run folder."""

    exit_code = 2


class DataError(LatentiaError, ValueError):
    """The data cannot be used: a missing file, infinity in a cell, text where numbers were promised."""

    exit_code = 3


class ArchiveError(LatentiaError, ValueError):
    """A model folder is damaged, of a newer format, or holds what is never loaded."""

    exit_code = 4


class DivergedError(LatentiaError, ArithmeticError):
    """Training stopped because every recent step was not finite; the last good state is kept."""

    exit_code = 5


class Interrupted(LatentiaError, KeyboardInterrupt):
    """SIGINT or SIGTERM arrived; the state was saved first. `exit_code` is 128 + the signal's number."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal
