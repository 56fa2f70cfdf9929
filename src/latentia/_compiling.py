"""Functions compiled by torch where that pays, and run as they are where it cannot be done."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import nn
from torch.distributions import Distribution

Compile = bool | Literal["auto"]
LONG = 5e9  # entries of the widest layer: about a minute of a processor's core, several times a compilation


def one_graph() -> AbstractContextManager[Any]:
    """Where torch can, a backward pass is traced into the graph of its forward pass."""
    config = torch._dynamo.config
    return config.patch(trace_autograd_ops=True) if hasattr(config, "trace_autograd_ops") else nullcontext()


def pays(compile: Compile, module: nn.Module, entries: float) -> bool:
    """Whether to compile: as said, or, "auto", where `entries` of the widest layer in all are many.

    Never, unasked, for convolutions on a CPU, which are faster as they are.
    """
    if compile != "auto":
        return compile
    device = next((p.device.type for p in module.parameters()), "cpu")
    convolves = any(isinstance(part, nn.modules.conv._ConvNd) for part in module.modules())
    return entries > LONG and not (convolves and device == "cpu")


def reason(failure: Exception) -> str:
    """Why something was not compiled, in one line."""
    lines = str(failure).strip().splitlines() or ["no reason given"]
    return f"{type(failure).__name__}: {lines[0]}"[:160]


class Compiled:
    """A function of tensors, compiled at its first call for the shapes of that call; where that fails it
    warns with the reason and runs as it is.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.tried = function, False

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments) if self.tried else self._first(arguments)

    def _first(self, arguments: Sequence[Any]) -> Any:
        plain, validate = self.function, Distribution._validate_args  # torch.compile sets the latter for all
        self.tried = True
        try:
            with warnings.catch_warnings(), one_graph():
                warnings.simplefilter("ignore")  # torch's own, about its own modules
                self.function = torch.compile(plain, dynamic=False)
                return self.function(*arguments)
        except Exception as failure:
            self.function = plain
            found = plain(*arguments)  # a fault of its own is raised here
            warnings.warn(f"not compiled ({reason(failure)}): it runs as it is, slower", stacklevel=2)
            return found
        finally:
            Distribution.set_default_validate_args(validate)
