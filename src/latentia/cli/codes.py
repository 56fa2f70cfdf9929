"""What q says of each row: posterior means, and the probabilities of discrete latent variables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Categorical

from ..data import Rows
from ..diagnostics.layers import latent_parents
from ..exact import Exact, is_discrete
from ..model import Model

MEAN_FIELD = "latent parents at their own means (mean field)"
CHUNK = 2**22  # entries of the widest event, times states, that live at a time


@torch.no_grad()
def posterior_codes(model: Model, rows: Rows) -> dict[str, Tensor]:
    """The code of each row by latent variable, `[N, *event]`: the mean of its posterior, as `Model.encode`
    has it.

    Where q is exact a discrete variable is told by its posterior probabilities, the responsibilities of the
    components, `[N, K]`.
    """
    if not isinstance(model.q, Exact):
        found = model.encode(rows)
        return found if isinstance(found, dict) else {next(iter(model.latent or ("z",))): found}
    step, parts = max(1, CHUNK // model.widest), []
    for start in range(0, len(rows), step):
        posteriors = model.q.distributions(model.batch(rows, slice(start, start + step)))
        parts.append(
            {
                name: of.probs if isinstance(of, Categorical) else model.p[name].mean(of)
                for name, of in posteriors.items()
            }
        )
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def point_of(model: Model) -> str:
    """The values of the latent variables at which rows are reconstructed, in words."""
    latents = parents_of_data(model) or ("z",)
    if isinstance(model.q, Exact):
        exact = [f"the {'most probable' if is_discrete(model.p[n]) else 'mean of'} {n}" for n in latents]
        return f"p(x | {', '.join(latents)}) at {' and '.join(exact)}"
    points, mean_field = centres_of(model, latents, "the mean")
    return f"p(x | {', '.join(latents)}) at {' and '.join(points)}{mean_field}"


def centres_of(model: Model, names: Sequence[str], mean: str) -> tuple[list[str], str]:
    """The values that `Model.encode` gives to latent variables, codes first, and how their own parents stand.

    mean: what to call a mean, as one may stand for several.
    """
    coded = [name for name in names if name in model.p and model.p[name].coding is not None]
    others = [name for name in names if name not in coded]
    points = [f"the most probable codes of {_posteriors(model, coded)}"] if coded else []
    points += [f"{mean} of {_posteriors(model, others)}"] if others else []
    return points, f", {MEAN_FIELD}" if latent_parents(model).keys() & set(names) else ""


def _posteriors(model: Model, names: Sequence[str]) -> str:
    """q(z1, z2 | x), or q(z1 | x) and q(z2 | z1) where one of them has latent parents."""
    if model.q is None or not latent_parents(model).keys() & set(names):
        return f"q({', '.join(names)} | x)"
    return " and ".join(f"q({name} | {', '.join(model.q[name].given)})" for name in names)


def parents_of_data(model: Model) -> tuple[str, ...]:
    """The latent variables that p(x | .) names: the parents of the observed ones, and of what is computed
    for them.
    """
    p, found, left = model.p, set(), list(model.observed)
    while left:
        for parent in p[left.pop()].given:
            if parent in model.latent:
                found.add(parent)
            elif parent in p and not p[parent].has_density:
                left.append(parent)
    return tuple(name for name in model.latent if name in found)


def names_of(model: Model, name: str, code: Tensor) -> list[str]:
    """The columns of a latent variable's code: k=0, k=1, ... of responsibilities, else z0, z1, ..., and
    h1_0, h1_1, ... where the name itself ends in a number.
    """
    of_states = isinstance(model.q, Exact) and name in model.q and not model.p[name].event
    sign = "=" if of_states and is_discrete(model.p[name]) else "_" if name[-1].isdecimal() else ""
    return [f"{name}{sign}{j}" for j in range(code[0].numel())]


@torch.no_grad()
def root_probabilities(model: Model) -> dict[str, Tensor]:
    """p(k) of each latent code k that has no parents, `[K]`."""
    found = {}
    for name in model.latent:
        factor = model.p[name]
        if is_discrete(factor) and not factor.event and not factor.given:
            found[name] = factor.log_prob(factor.support()).exp().cpu()
    return found
