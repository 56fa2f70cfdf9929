"""What a model with exact posterior says of x before any row is seen: its components and their Gaussians.

K components, D entries of an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..exact import Exact, is_discrete
from ..factors import BayesianNormal
from ..linear_gaussian import Stack
from ._display import DoesNotApply
from ._values import Floats

if TYPE_CHECKING:
    from ..data import Rows
    from ..model import Model

LARGEST = 2000  # entries of an event whose covariance is shown
CHUNK = 2**22  # entries, times states, that live at a time


def component_variable(model: Model) -> str:
    """The latent code k whose values are the components. Raises DoesNotApply where there is no single one."""
    if not isinstance(model.q, Exact):
        raise DoesNotApply(f"{model.p.equation()} has no exact posterior of components")
    names = [name for name in model.q if is_discrete(model.p[name])]
    if len(names) != 1 or model.p[names[0]].given or model.p[names[0]].event:
        raise DoesNotApply(f"{model.p.equation()} has no single variable whose codes are components")
    return names[0]


@torch.no_grad()
def component_weights(model: Model) -> Floats:
    """p(k), `[K]`."""
    factor = model.p[component_variable(model)]
    found: Floats = factor.log_prob(factor.support()).exp().double().cpu().numpy()
    return found


@torch.no_grad()
def responsibilities(model: Model, rows: Rows) -> Floats:
    """p(k | x) of each row, `[N, K]`."""
    name, step, parts = component_variable(model), max(1, CHUNK // model.widest), []
    for start in range(0, len(rows), step):
        found = model.posterior(rows[start : start + step])
        of = found[name] if isinstance(found, Mapping) else found
        parts.append(of.probs.double().cpu())  # type: ignore[attr-defined]
    whole: Floats = torch.cat(parts).numpy()
    return whole


@torch.no_grad()
def gaussians(model: Model, variable: str) -> tuple[Floats, Floats]:
    """Mean `[K, D]` and covariance `[K, D, D]` of p(x | k) in model units, Gaussian latents integrated out.

    K = 1 without components. Of a variational Bayes mixture it is N(m_k, E[Lambda_k]^-1). Raises DoesNotApply
    where p(x | k) is not Gaussian.
    """
    p, stack, parents = model.p, Stack(), []
    if not isinstance(model.q, Exact):
        raise DoesNotApply(f"{p.equation()} has no exact posterior")
    values = p.states([name for name in model.q if is_discrete(p[name])])
    if len(values) > 1:
        raise DoesNotApply(f"{p.equation()} has several discrete latent variables")
    if torch.Size(p[variable].event).numel() > LARGEST:
        raise DoesNotApply(f"{variable!r} has too many entries to show their covariance")
    if isinstance(p[variable], BayesianNormal):
        return _expected(p[variable])  # type: ignore[arg-type]
    for name in (*(name for name in model.q if name not in values), variable):
        factor = p[name]
        given = [
            None if parent in stack.places else p.feature(name, parent, values) for parent in factor.given
        ]
        affine = factor.affine(*given)
        if affine is None:
            raise DoesNotApply(f"p({name}) is not Gaussian given the components")
        parents = [parent for parent in factor.given if parent in stack.places]
        stack.add(name, affine, tuple(parents), len(factor.event))
    if stack.mean is None or stack.covariance is None:
        raise DoesNotApply(f"{p.equation()} says nothing of {variable!r}")
    place = stack.places[variable]
    mean, covariance = stack.mean[..., place], stack.covariance[..., place, place]
    size = mean.shape[-1]
    means: Floats = np.asarray(mean.reshape(-1, size).double().cpu())
    shared = covariance.reshape(-1, size, size).expand(len(means), size, size)  # Tied has one for all
    covariances: Floats = np.asarray(shared.double().cpu())
    return means, covariances


def _expected(factor: BayesianNormal) -> tuple[Floats, Floats]:
    """m `[K, D]` and E[Lambda]^-1 `[K, D, D]`."""
    means: Floats = np.asarray(factor.loc.double().cpu())
    found = factor.covariances.double().cpu()
    count, size = means.shape
    if found.ndim == 2:
        found = torch.diag_embed(found.expand(count, size))
    covariances: Floats = np.asarray(found.expand(count, size, size))
    return means, covariances
