"""The options of a fit, checked at the door: each refusal is a sentence."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import nn

from .._words import did_you_mean
from ..data import Rows
from ..errors import UsageError
from ..exact import is_discrete
from ..factors.relaxed import Relaxed
from ..joint import Joint
from ..model import Model
from ..objectives.elbo import elbo
from ..objectives.reinforce import LEARNT
from ..objectives.rws import rws
from .ascent import Plan
from .engine import Objective

METHODS = ("em", "ascent", "likelihood")
ASCENT_ONLY = (
    "epochs",
    "batch",
    "optimizer",
    "lr",
    "schedule",
    "clip",
    "precision",
    "compile",
    "alternate",
    "valid_every",
    "patience",
    "report_every",
)


def chosen(
    model: Model, objective: Objective | None, method: str | None, enumerated: Sequence[str] = ()
) -> tuple[Objective, str]:
    """The objective and the method. Raises UsageError where they do not suit the model.

    enumerated: latents that the objective is told to sum over.
    """
    if objective is not None and not callable(objective):
        raise UsageError(f"the objective is a function, such as lt.wake_sleep, got {objective!r}")
    for factory in LEARNT.values():
        if objective is factory:
            raise UsageError(
                f"{name_of(factory)} learns something itself, so it is built on the model first: "
                f"fit(model, data, {name_of(factory)}(model))"
            )
    if method is None:
        exact = model.q is not None and model.q.exact and objective is None
        method = "likelihood" if model.q is None else "em" if exact else "ascent"
    if method not in METHODS:
        raise UsageError(f"method {method!r} is unknown: use {', '.join(map(repr, METHODS))}")
    if method == "likelihood" and model.q is not None:
        latent = ", ".join(model.latent or model.q.variables)
        raise UsageError(f"method 'likelihood' needs a model without latent variables; here q gives {latent}")
    if method == "em":
        if objective is not None:
            raise UsageError(f"method 'em' maximises the evidence itself: leave out {name_of(objective)}")
        if model.q is None or not model.q.exact:
            raise UsageError("method 'em' needs the exact posterior: build the model as Model(p, Exact(p))")
    if objective is None:
        objective = usual_objective(model, enumerated) if method == "ascent" else elbo
    return objective, method


def usual_objective(model: Model, enumerated: Sequence[str] = ()) -> Objective:
    """What gradient ascent climbs where nothing else is said: the elbo, or rws where q draws discrete latents
    only.

    Draws of a Bernoulli or a Categorical have no gradient, which the elbo needs. Reweighted wake-sleep takes
    any family, has nothing to tune, and what it reports, L_K, is a lower bound. Where continuous latents are
    drawn too it is left to the user: the elbo says what there is to choose.

    enumerated: latents that are summed over, not drawn.
    """
    q = model.q
    if not isinstance(q, Joint):
        return elbo
    drawn = [q[name] for name in q.variables if q[name].has_density and name not in enumerated]
    discrete = all(is_discrete(factor) and not isinstance(factor, Relaxed) for factor in drawn)
    return rws if drawn and discrete else elbo


def checked_keywords(
    objective: Callable[..., Any], keywords: Mapping[str, Any], others: list[str], who: str
) -> dict[str, Any]:
    """The keywords of an objective, or of another function, each one that it knows.

    who: what it is called. Raises UsageError with the nearest name otherwise.
    """
    call = objective.forward if isinstance(objective, nn.Module) else objective
    parameters = list(inspect.signature(call).parameters.values())
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return dict(keywords)
    own = [p.name for p in parameters[4:] if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for name in keywords:
        if name not in own:
            hint = did_you_mean(name, [*own, *others])
            raise UsageError(f"{who} has no option {name!r}; it takes {', '.join(own) or 'none'}{hint}")
    return dict(keywords)


def refuse_ascent_options(options: Mapping[str, tuple[Any, Any]]) -> None:
    """Raise UsageError for an option of gradient ascent, (value, default) by name, that was given to EM."""
    for name, (value, default) in options.items():
        if value != default:
            raise UsageError(f"{name}= is an option of gradient ascent and has no meaning for method 'em'")


def name_of(function: object) -> str:
    """What a function, or an object used as one, is called."""
    return getattr(function, "__name__", type(function).__name__)


def described(value: object) -> str:
    """A setting as text that is the same in another process."""
    return (
        getattr(value, "__qualname__", name_of(value))
        if callable(value) and not is_dataclass(value)
        else repr(value)
    )


def checked_device(device: str | torch.device) -> torch.device:
    """A device that is here. Raises UsageError otherwise."""
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UsageError(f"device {device!r} is unknown: use 'cpu' or 'cuda'") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available: use device='cpu'")
    return chosen


def make_plan(
    count: int,
    *,
    steps: int | None,
    epochs: int | None,
    batch: int | None,
    valid_every: int | None,
    report_every: int | None,
    checkpoint_every: int | None,
    patience: int | None,
) -> Plan:
    """How long and how often, for `count` training rows. Raises UsageError for numbers that do not fit."""
    given = {
        "steps": steps,
        "epochs": epochs,
        "batch": batch,
        "valid_every": valid_every,
        "report_every": report_every,
        "checkpoint_every": checkpoint_every,
        "patience": patience,
    }
    if steps is not None and epochs is not None:
        raise UsageError("say steps or epochs, not both")
    for name, number in given.items():
        if number is not None and number < 1:
            raise UsageError(f"{name} must be at least 1, got {number}")
    if batch is not None and batch > count:
        raise UsageError(
            f"a batch of {batch:,} is larger than the {count:,} training rows: use batch={count} or less"
        )
    batch = min(128, count) if batch is None else batch
    per_epoch = count // batch
    steps = epochs * per_epoch if epochs is not None else 10_000 if steps is None else steps
    valid_every = min(steps, max(100, per_epoch)) if valid_every is None else valid_every
    report_every = min(100, valid_every) if report_every is None else report_every
    return Plan(steps, batch, valid_every, report_every, checkpoint_every or valid_every, patience)


def fingerprints(train: Rows, valid: Rows | None) -> dict[str, str | None]:
    """What a run's settings say of its data."""
    return {"data": fingerprint(train), "validation": None if valid is None else fingerprint(valid)}


def fingerprint(rows: Rows) -> str:
    """A short hash of the rows' tensors, to tell other data of the same size."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(rows.tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).numpy().data)
    return digest.hexdigest()
