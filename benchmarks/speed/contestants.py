"""Who takes part: each contestant is built in a process of its own and then asked to run steps.

`build(task)` returns `run(steps)`, which trains that many further steps and returns the mean bound of an
example over them in nats (nan for the floor, which learns nothing), or a function that works it out, which
is called when the clock has stopped.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .exact_tasks import EXACT
from .tasks import AUTOENCODERS, Task

Run = Callable[[int], float | Callable[[], float]]
TASKS: dict[str, Task] = {task.name: task for task in (*AUTOENCODERS, *EXACT)}


@dataclass(frozen=True)
class Contestant:
    """A module of this package with the options its `build(task, **options)` is given.

    needs   what must be installed; where it is not, the contestant is left out with a line
    peer    whether it runs in the peers' Python
    times   how many times the task's steps it is asked for, where its own are short
    """

    module: str
    needs: str
    options: dict[str, Any] = field(default_factory=dict)
    peer: bool = False
    times: int = 1

    def build(self, task: Task) -> Run:
        """The contestant's `run`. Imports its libraries here, so a process holds one of them only."""
        build = importlib.import_module(f"{__package__}.{self.module}").build
        run: Run = build(task, **self.options)
        return run


CONTESTANTS: dict[str, dict[str, Contestant]] = {
    "autoencoder": {
        "floor": Contestant("floor", "torch"),
        "floor bf16": Contestant("floor", "torch", {"bf16": True}),
        "ours eager": Contestant("ours", "latentia", {"compiled": False, "bf16": False}),
        "ours eager bf16": Contestant("ours", "latentia", {"compiled": False, "bf16": True}),
        "ours compiled": Contestant("ours", "latentia", {"compiled": True, "bf16": False}),
        "ours compiled bf16": Contestant("ours", "latentia", {"compiled": True, "bf16": True}),
        "hand-written loop": Contestant("handwritten", "torch"),
        "pythae": Contestant("pythae_peer", "pythae", peer=True),
        "NumPyro": Contestant("numpyro_peer", "numpyro", peer=True),
    },
    "mixture": {
        "floor": Contestant("exact_floor", "torch"),
        "ours": Contestant("exact_ours", "latentia"),
        "scikit-learn": Contestant("sklearn_peer", "sklearn"),
        "pomegranate": Contestant("pomegranate_peer", "pomegranate", peer=True),
    },
    "factors": {
        "floor": Contestant("exact_floor", "torch"),
        "ours": Contestant("exact_ours", "latentia", times=50),
        "scikit-learn": Contestant("sklearn_peer", "sklearn"),
    },
    "factors fit": {
        "floor": Contestant("exact_floor", "torch"),
        "ours": Contestant("exact_ours", "latentia"),
        "scikit-learn": Contestant("sklearn_peer", "sklearn"),
    },
    "linear": {
        "floor": Contestant("exact_floor", "torch"),
        "ours": Contestant("exact_ours", "latentia"),
        "ours, the factor": Contestant("exact_ours", "latentia", {"alone": True}),
        "PCA covariance_eigh": Contestant("sklearn_peer", "sklearn", {"svd_solver": "covariance_eigh"}),
        "PCA full": Contestant("sklearn_peer", "sklearn", {"svd_solver": "full"}),
    },
}


def contestants_of(task: Task) -> dict[str, Contestant]:
    """Those who can take part in a task, by name."""
    return CONTESTANTS[task.kind]
