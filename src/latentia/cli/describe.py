"""What `latentia fit` says of the pair before the run, and what to try after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data import Data, Image
from ..evidence.criteria import free_parameters
from ..exact import Exact, is_discrete
from ..factor import Factor
from ..factors import (
    BayesianCategorical,
    BayesianNormal,
    Bernoulli,
    Categorical,
    Columns,
    Diagonal,
    LinearNormal,
    LogLinear,
    LowRank,
    Normal,
    Spherical,
    StandardNormal,
    Tied,
)
from ..factors.relaxed import Relaxed
from ..joint import Joint
from ..model import Model
from ..nets import Table


def announced(model: Model, name: str, data: Data, asked: bool) -> str:
    """The equations, the families, and the likelihood with its reason."""
    count, free = sum(p.numel() for p in model.parameters() if p.requires_grad), free_parameters(model.p)
    exact = isinstance(model.q, Exact)
    bayesian = any(model.p[variable].is_bayesian for variable in model.p)
    size = "a posterior over its parameters" if bayesian else f"{count:,} parameters"
    lines = [
        f"Model: {name}, {size}{f', {free:,} of them free' if exact and free < count else ''}",
        f"  {model.p.equation('p')}",
    ]
    if isinstance(model.q, Exact):
        lines.append(f"  {model.q.equation('q')}, exact: {_inferred(model.q)}")
        lines += [f"  {_symbol('p', name, model.p[name])} is {family(model.p[name])}" for name in model.q]
    else:
        for variable in () if model.q is None else model.q.variables:
            factor = model.q[variable]  # type: ignore[index]
            lines.append(f"  {_symbol('q', variable, factor)} is {family(factor)}")
    for variable in model.observed:
        factor = model.p[variable]
        reason = "as asked" if asked else _why(data, factor)
        lines.append(f"  {_symbol('p', variable, factor)} is {family(factor)}{reason and ': ' + reason}")
    return "\n".join(lines)


def _inferred(q: Exact) -> str:
    """How the posterior is computed."""
    gaussian = [name for name in q if not is_discrete(q[name])]
    discrete = [name for name in q if is_discrete(q[name])]
    listed = " and ".join(gaussian)
    if not discrete:
        return f"{listed} given x is Gaussian"
    states = f"{q.state_count:,} states of {' and '.join(discrete)} are enumerated"
    return f"{states}, {listed} given each is Gaussian" if gaussian else states


def _symbol(letter: str, variable: str, factor: Factor) -> str:
    return f"{letter}({variable}{' | ' + ', '.join(factor.given) if factor.given else ''})"


def family(factor: Factor) -> str:
    """The family of a factor, with what else it was built of."""
    name, shape = type(factor).__name__, list(factor.event)
    states = f", one for each of {factor.net.weight.shape[0]:,} codes" if type(factor.net) is Table else ""
    match factor:
        case StandardNormal():
            return f"standard Normal of shape {shape}"
        case Relaxed():
            return f"{name} {family(factor.discrete)}, of temperature {float(factor.temperature):.3g}"
        case Categorical() if factor.event:
            return f"{name} of shape {shape}, each with {factor.classes:,} codes"
        case Categorical():
            return f"{name} with {factor.classes:,} codes"
        case BayesianCategorical():
            return f"Categorical with {len(factor.support()):,} codes, its probabilities ~ Dirichlet"
        case BayesianNormal():
            kind = type(factor.covariance).__name__.lower()
            of = f", one for each of {factor.states:,} codes" if factor.states > 1 else ""
            return f"Normal with {kind} covariance{of}, means and precisions ~ Normal-Wishart"
        case LogLinear():
            return f"{name} over {len(factor.support()):,} values, with {factor.features.size:,} features"
        case LinearNormal():
            shared = isinstance(factor.covariance, Spherical)
            noise = "one variance" if shared else "a variance for each entry"
            of = "" if factor.states is None else f", one for each of {factor.states:,} codes"
            return f"{name} of shape {shape}, {factor.latent} latent dimensions, noise of {noise}{of}"
        case Columns():
            families = {"number": "Normal", "binary": "Bernoulli", "count": "Poisson"}
            kinds = {str(kind): families.get(str(kind), "Categorical") for kind in factor.columns}
            return "by column " + ", ".join(dict.fromkeys(kinds.values())) + states
        case Normal() if factor.raw_scale is not None:
            return f"{name} with one learnt scale"
        case Normal() if isinstance(factor.covariance, Tied):
            return f"{name}{states}, all with the same full covariance"
        case Normal() if isinstance(factor.covariance, LowRank):
            return f"{name} with a covariance of rank {factor.covariance.rank} plus a diagonal{states}"
        case Normal() if not isinstance(factor.covariance, Diagonal):
            return f"{name} with {type(factor.covariance).__name__.lower()} covariance{states}"
    return f"{name} of shape {shape}{states}"


def _why(data: Data, factor: Factor) -> str:
    """Why the likelihood suits the data; nothing for a family of the user's own."""
    field = data.schema.fields[data.schema.main]
    if isinstance(factor, Bernoulli | LogLinear):
        return f"the {'pixels' if isinstance(field, Image) else 'values'} are 0 or 1"
    if isinstance(factor, Columns):
        kinds = {str(kind) for kind in factor.columns}
        return "the columns are of several kinds" if len(kinds) > 1 else ""
    if isinstance(factor, Normal | LinearNormal | BayesianNormal):
        return "the pixels are grey" if isinstance(field, Image) else "the values are numbers"
    return ""


def unasked(model: Model, objective: Mapping[str, Any]) -> str:
    """Why an objective other than the elbo was taken; nothing where it is the elbo."""
    if objective["name"] == "elbo" or model.q is None:
        return ""
    drawn = ", ".join(model.q.variables)
    binary = isinstance(model.q, Joint) and all(isinstance(f, Bernoulli) for f in model.q.factors)
    others = ["wake_sleep", "vimco", "nvil", "reinforce", *(["arm", "disarm"] if binary else [])]
    return (
        f"Objective: {objective['name']}, reweighted wake-sleep, as draws of {drawn} have no gradient; others"
        f" for discrete latents are {', '.join(others)}, and elbo with --relaxation concrete"
    )


def next_commands(out: Path, model: Model, own: str) -> str:
    """What to try next; `own` names the function that built a model with parts of the user's own."""
    ending = "png" if any(len(model.p[name].event) == 3 for name in model.observed) else "csv"
    commands = [f"latentia evaluate {out}{own}"]
    if model.latent:
        commands.append(f"latentia sample {out} -n 64 --out samples.{ending}{own}")
    else:
        commands.append(f"latentia embed {out} --out codes.csv{own}")
    commands.append(f"latentia reconstruct {out} --out reconstructions.{ending}{own}")
    commands.append(f"latentia plot {out}{own}")
    return "\n".join(["", "Next:", *(f"  {command}" for command in commands)])
