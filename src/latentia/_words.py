"""Small helpers for sentences: "did you mean", counted nouns, shortened lists."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """How a sentence ends: `; did you mean 'x'?` for the closest known word (case aside), or nothing."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: `1 cell`, `1,836 cells`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shortened(items: Sequence[str], most: int = 12) -> str:
    """The items with commas between; beyond `most`, how many more there are."""
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most:,} more"
