"""Per-datum variational inference: each example with variational parameters of its own.

N rows, M entries of a latent, K codes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from .data import Array, Rows, Schema
from .exact import Inference, is_discrete
from .factor import Factor
from .factors import Categorical, Normal
from .factors.categorical import logits_of
from .factors.covariances import Covariance, Diagonal, Full, Spherical, Tied, gaussian_outputs
from .factors.gaussian import tril_of
from .factors.normal_estimation import tril_entries
from .joint import MASK, Joint, Values, is_latent, names_of
from .learn.fit import fit
from .model import Model
from .nets import Table
from .noise import Noise
from .objectives import elbo

BETAS = (0.9, 0.95)  # of Adam; large gradients of the first steps are soon forgotten, as most later are small


def fit_posteriors(
    model: Model,
    x: Any,
    covariance: Covariance = Diagonal(),  # noqa: B008 (frozen)
    *,
    start: Inference | None = None,
    steps: int = 2000,
    samples: int = 8,
    lr: float = 0.05,
    seed: int = 0,
    progress: bool = False,
) -> Model:
    """The rows of x with the best q(z | row) of a family, p held fixed: a Model of p and a table of q's.

        q(z | n) = N(mu_n, Sigma_n), or Categorical(pi_n) for a discrete z;  maximise the ELBO over all n

    covariance   of Gaussian latents: Diagonal() is mean field, Full() or LowRank(r) are not; with several
                 latents q factorises over them
    start        a q(z | x), such as model.q, whose means and covariances (of a family with fewer parameters,
                 its marginal variances) the search begins at; near the prior otherwise, and where it has none
    steps, lr    of Adam on all rows at once, its rate falling to 0 along a cosine
    samples      draws per row and step; discrete latents are summed over

    The result infers the rows of x, numbered from 0, and them only: pass x again as {"x": x, "row":
    range(N)}. The gap between log p(x) and its ELBO is the approximation gap of the family. Raises ValueError
    for a latent that is neither discrete nor flat and continuous.

    Cremer, Li & Duvenaud (2018), section 2.
    """
    rows = model.rows(x)
    values = model.batch(rows, slice(None))
    latents = [name for name in model.latent if is_latent(name, values)]
    if not latents:
        raise ValueError("nothing is latent in these rows, so there is no posterior to fit")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        factors = {name: _table(name, model.p[name], len(rows), covariance) for name in latents}
    q = Joint(factors).to(model.device, model.dtype)
    if start is not None:
        _begin_at(start, q, values, Noise(seed, model.device, model.dtype))
    discrete = [name for name in latents if isinstance(factors[name], Categorical)]
    learnt = [parameter for parameter in model.p.parameters() if parameter.requires_grad]
    for parameter in learnt:
        parameter.requires_grad_(False)
    own = Model(model.p, q)
    try:
        fit(
            own,
            _as_they_are(values),
            elbo,
            steps=steps,
            batch=len(rows),
            optimizer=partial(torch.optim.Adam, lr=lr, betas=BETAS, fused=True),
            schedule="cosine",
            seed=seed,
            progress=progress,
            samples=samples,
            enumerate=tuple(discrete),
        )
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)
    own.schema = model.schema
    return own


def _begin_at(start: Inference, q: Joint, values: Values, noise: Noise) -> None:
    """Fill q's tables with the parameters of start's q(z | x), where that is Gaussian or Categorical."""
    with torch.no_grad():
        found = start.complete(values, noise).distributions
        for name in q:
            table, given = q[name].net, found.get(name)
            if given is None or not isinstance(table, Table):
                continue
            try:
                outputs = _outputs(q[name], given, len(table.weight))
            except (TypeError, AttributeError):  # another family
                continue
            table.weight[:, : outputs.shape[1]] = outputs


def _outputs(factor: Factor, given: Distribution, rows: int) -> Tensor:
    """The first outputs of a factor's net that make its distribution (nearly) the given one, `[N, ...]`."""
    if isinstance(factor, Categorical):
        return logits_of(given).reshape(rows, -1)
    if not isinstance(factor, Normal):
        raise TypeError(f"no table of {type(factor).__name__}")
    tril, entries = tril_of(given), factor.event[0]
    mean = given.mean.expand(*given.batch_shape, entries).reshape(rows, entries)
    tril = tril.expand(*given.batch_shape, entries, entries).reshape(rows, entries, entries)
    variances = tril.square().sum(-1)
    if isinstance(factor.covariance, Tied):
        return mean
    if isinstance(factor.covariance, Full):
        numbers = tril_entries(tril)
        raw = torch.cat([factor.raw_of(numbers[:, :entries]), numbers[:, entries:]], 1)
    elif isinstance(factor.covariance, Spherical):
        raw = factor.raw_of(variances.mean(1, keepdim=True).sqrt())
    else:
        raw = factor.raw_of(variances.sqrt())
    return torch.cat([mean, raw], 1)


def _as_they_are(values: Mapping[str, Tensor]) -> Rows:
    """Values and masks in model units as rows, numbered from 0, of a schema that does nothing to them."""
    names = names_of(values)
    fields, kept = {}, [key for name in names for key in (name, name + MASK) if key in values]
    for name in names:
        event, holes = tuple(values[name].shape[1:]), name + MASK in values
        if values[name].is_floating_point():
            kind = "float64" if values[name].dtype == torch.float64 else "float32"
            fields[name] = Array(event, missing=holes, dtype=kind)
        else:
            fields[name] = Array(event, "category", int(values[name].max()) + 1, holes)
    first = values[names[0]]
    numbers = torch.arange(len(first), device=first.device)
    return Rows(Schema(dict(fields)), {key: values[key] for key in kept}, None, numbers)


def _table(name: str, factor: Factor, rows: int, covariance: Covariance) -> Factor:
    if isinstance(factor, Categorical):
        outputs = math.prod(factor.event) * factor.classes
        return Categorical(Table(rows, outputs), given="row", classes=factor.classes, event=factor.event)
    if is_discrete(factor) or len(factor.event) != 1:
        raise ValueError(
            f"{name!r}: per-datum posteriors are Gaussian for flat continuous latents and Categorical for "
            f"codes, and {type(factor).__name__} of event {factor.event} is neither"
        )
    outputs = gaussian_outputs(factor.event[0], covariance)
    return Normal(Table(rows, outputs), given="row", covariance=covariance)
