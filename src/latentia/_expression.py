"""A model's parts as an expression: nested calls of registered constructors, in JSON.

    {"call": "Normal", "args": [{"call": "MLP", ...}], "kwargs": {"given": "x"}}

A part used twice carries an "id" where it is first written and is {"ref": id} afterwards. Tuples, dicts,
infinite numbers and tensors are objects with one key ("tuple", "dict", "float", "tensor", "array"); that of a
tensor holds its name in the weights file. Nothing is ever looked up outside `CONSTRUCTORS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import exact, factors, joint, nets  # noqa: F401 (their classes enter CONSTRUCTORS when they are imported)
from ._recorded import CONSTRUCTORS, call_of
from .errors import ArchiveError

ARGUMENT = "argument."


class Writer:
    """Writes expressions; `tensors` are their array arguments, `foreign` the user's own classes."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.foreign: list[str] = []
        self._nodes: dict[int, tuple[int, dict[str, Any]]] = {}
        self._names: dict[int, str] = {}

    def write(self, value: Any) -> Any:
        """The expression of a value, made of what JSON knows."""
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, np.generic):
            return self.write(value.item())
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, Tensor):
            return {"tensor": self._name(value, value)}
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            return {"array": self._name(value, torch.from_numpy(value))}
        if type(value) in (tuple, torch.Size):
            return {"tuple": [self.write(item) for item in value]}
        if type(value) is list:
            return [self.write(item) for item in value]
        if type(value) is dict:
            return {"dict": [[self.write(key), self.write(item)] for key, item in value.items()]}
        return self._call(value)

    def _call(self, thing: object) -> Any:
        if id(thing) in self._nodes:
            number, first = self._nodes[id(thing)]
            return {"ref": first.setdefault("id", number)}
        call = call_of(thing)
        if call is None or call.name not in CONSTRUCTORS:
            name = f"{type(thing).__module__}.{type(thing).__qualname__}"
            if name not in self.foreign:
                self.foreign.append(name)
            return None
        node: dict[str, Any] = {"call": call.name}
        self._nodes[id(thing)] = (len(self._nodes), node)
        node["args"] = [self.write(value) for value in call.args]
        node["kwargs"] = {key: self.write(value) for key, value in call.kwargs.items()}
        return node

    def _name(self, owner: object, tensor: Tensor) -> str:
        name = self._names.setdefault(id(owner), f"{ARGUMENT}{len(self._names)}")
        self.tensors[name] = tensor.detach()
        return name


class Reader:
    """Builds what expressions say. Raises ArchiveError for anything that `Writer` does not write."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self._built: dict[int, Any] = {}

    def read(self, node: Any) -> Any:
        """The value of an expression."""
        if node is None or isinstance(node, bool | int | float | str):
            return node
        if isinstance(node, list):
            return [self.read(item) for item in node]
        if isinstance(node, dict):
            if "call" in node:
                return self._call(node)
            if len(node) == 1:
                ((kind, content),) = node.items()
                return self._special(kind, content)
        raise ArchiveError(f"the model's expression holds {_short(node)}, which has no meaning there")

    def _special(self, kind: str, content: Any) -> Any:
        if kind == "tuple" and isinstance(content, list):
            return tuple(self.read(item) for item in content)
        if (
            kind == "dict"
            and isinstance(content, list)
            and all(isinstance(p, list) and len(p) == 2 for p in content)
        ):
            return {self.read(key): self.read(value) for key, value in content}
        if kind == "float" and content in ("inf", "-inf", "nan"):
            return float(content)
        if kind in ("tensor", "array") and isinstance(content, str) and content in self.tensors:
            tensor = self.tensors[content].clone()
            return tensor if kind == "tensor" else tensor.numpy()
        if kind == "ref" and isinstance(content, int) and content in self._built:
            return self._built[content]
        raise ArchiveError(
            f"the model's expression holds {_short({kind: content})}, which has no meaning there"
        )

    def _call(self, node: Mapping[str, Any]) -> Any:
        name, args, kwargs = node["call"], node.get("args", []), node.get("kwargs", {})
        if not isinstance(name, str) or name not in CONSTRUCTORS:
            raise ArchiveError(
                f"the model is made of {name!r}, which this version of latentia does not know: "
                f"it knows {', '.join(sorted(CONSTRUCTORS))}"
            )
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise ArchiveError(f"the model's expression holds a call of {name} without proper arguments")
        given = [self.read(value) for value in args]
        named = {key: self.read(value) for key, value in kwargs.items()}
        try:
            thing = CONSTRUCTORS[name](*given, **named)
        except (TypeError, ValueError, RuntimeError, KeyError, AttributeError, MemoryError) as error:
            raise ArchiveError(
                f"the model's {name} cannot be built as its expression says: {error}"
            ) from error
        if isinstance(node.get("id"), int):
            self._built[node["id"]] = thing
        return thing


def _short(node: Any) -> str:
    text = repr(node)
    return text if len(text) < 80 else f"{text[:77]}..."
