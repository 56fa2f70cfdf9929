"""SIGINT and SIGTERM as a note to read between two steps: the state is saved before the program ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Arrived:
    """The signal that came, or None."""

    signal: int | None = None


@contextmanager
def noted_signals() -> Iterator[Arrived]:
    """Note SIGINT and SIGTERM while the block runs; a second one acts at once.

    Outside the main thread nothing changes.
    """
    arrived = Arrived()
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        arrived.signal = number
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
