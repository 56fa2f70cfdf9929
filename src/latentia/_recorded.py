"""Objects that remember the call that made them, so that a model can be written to a file as an expression.

`@recorded` goes on a library class. An instance of exactly that class keeps its constructor's name and
arguments in `_call`; a subclass (a user's own) keeps none, and the archive then says that it holds user code.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Call:
    """A constructor's registered name with the arguments it was given."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


CONSTRUCTORS: dict[str, Callable[..., Any]] = {}


def recorded(cls: T) -> T:
    """Class decorator: enter the class among the names an archive may call, and record each construction."""
    init = cls.__init__  # type: ignore[misc]

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is cls:
            named = {key: _snapshot(value) for key, value in kwargs.items()}
            object.__setattr__(self, "_call", Call(cls.__name__, tuple(map(_snapshot, args)), named))
        init(self, *args, **kwargs)

    cls.__init__ = __init__  # type: ignore[misc]
    CONSTRUCTORS[cls.__name__] = cls
    return cls


def _snapshot(value: Any) -> Any:
    """The value as it is now: a list or dict may be changed by its owner later."""
    return copy.copy(value) if type(value) in (list, dict) else value


def call_of(thing: object) -> Call | None:
    """The recorded call of an object, or None when it was not made by a library constructor."""
    call = getattr(thing, "_call", None)
    return call if isinstance(call, Call) else None
