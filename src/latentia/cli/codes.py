"""What q says of each row: posterior means, and the probabilities of discrete latent variables."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical

from ..data import Rows
from ..exact import Exact, is_discrete
from ..model import Model

CHUNK = 2**22  # entries of the widest event, times states, that live at a time


@torch.no_grad()
def posterior_codes(model: Model, rows: Rows) -> dict[str, Tensor]:
    """The code of each row by latent variable, `[N, *event]`: the mean of its posterior.

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
    if not isinstance(model.q, Exact):
        latents = ", ".join(model.latent or ("z",))
        what = "mean" if all(model.p[name].coding is None for name in model.latent) else "centre"
        return f"p(x | {latents}) at the {what} of q({latents} | x)"
    points = [f"the {'most probable' if is_discrete(model.p[n]) else 'mean of'} {n}" for n in model.latent]
    return f"p(x | {', '.join(model.latent)}) at {' and '.join(points)}"


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
