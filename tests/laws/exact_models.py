"""Models whose posterior is exact, each with a few rows, and their evidence by brute force, in float64.

B rows, M entries of all Gaussian latents together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

import latentia as lt
from latentia.exact import is_discrete
from latentia.factors.covariances import Spherical, Tied
from latentia.joint import MASK

ROWS = 4


@dataclass(frozen=True)
class ExactCase:
    """A joint to be made under a fixed seed, and what else than x `[4, 3]` its rows hold.

    latents  what is inferred; None for what `Exact` chooses
    binary   x holds zeros and ones
    """

    make: Callable[[], lt.Joint]
    others: Mapping[str, Tensor] | None = None
    latents: tuple[str, ...] | None = None
    binary: bool = False

    @property
    def has_gaussian(self) -> bool:
        exact = self.exact()
        return any(not is_discrete(exact[name]) for name in exact)

    def exact(self, seed: int = 0) -> lt.Exact:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            p = self.make().double()
            for parameter in p.parameters():
                if parameter.requires_grad:
                    parameter.data.add_(0.2 * torch.randn_like(parameter))
        return lt.Exact(p, self.latents)

    def values(self, exact: lt.Exact, how: str, rows: int = ROWS) -> dict[str, Tensor]:
        """The rows: "whole", with "holes" in x, or with "labels", held by some rows, of what is discrete."""
        generator, number = torch.Generator().manual_seed(1), torch.arange(rows)
        x = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
        others = {name: value[number % len(value)] for name, value in (self.others or {}).items()}
        values = {"x": (x > 0).double() if self.binary else x, **others}
        if how == "holes":
            values["x" + MASK] = torch.rand(rows, 3, generator=generator) < 0.6
            values["x" + MASK][0] = False
            values["x"] = values["x"] * values["x" + MASK]
        if how == "labels":
            for place, name in enumerate(name for name in exact if is_discrete(exact[name])):
                support = exact[name].support()
                values[name] = support[number % len(support)]
                values[name + MASK] = number % (2 + place) == place
        return values


def mixture(covariance: object) -> Callable[[], lt.Joint]:
    return lambda: lt.models.gaussian_mixture(3, 3, covariance=covariance).p


def normal(*given: str, inputs: int, **options: object) -> lt.Normal:
    options = {"scale": "learnt"} | options
    return lt.Normal(lt.MLP(inputs, 3), given=given, **options)


def two_codes() -> lt.Joint:
    l_given_k = lt.Categorical(lt.Table(3, 2), given="k")
    return lt.Joint(k=lt.Categorical(3), l=l_given_k, x=normal("k", "l", inputs=5))


def bits(event: int | tuple[()], x: lt.Factor) -> lt.Joint:
    entries = event if isinstance(event, int) else 1
    return lt.Joint(h=lt.Bernoulli(lt.Constant(entries), event=event), x=x)


def computed() -> lt.Joint:
    h = lt.Deterministic(lt.MLP(3, 2, hidden=(4,)), given="k")
    return lt.Joint(k=lt.Categorical(3), h=h, x=normal("h", inputs=2))


def chain() -> lt.Joint:
    z1 = lt.LinearNormal(2, 2, given="z2", covariance=lt.Diagonal())
    z2 = lt.Normal(lt.Constant(5), covariance=lt.Full())
    return lt.Joint(z2=z2, z1=z1, x=lt.LinearNormal(3, 2, given="z1"))


def both_parents() -> lt.Joint:
    """x given two Gaussian latents through one of them: z1 -> z2, and another child of z1."""
    z2 = lt.LinearNormal(1, 2, given="z1")
    y = lt.LinearNormal(2, 2, given="z1", covariance=lt.Diagonal())
    return lt.Joint(z1=lt.StandardNormal(2), z2=z2, x=lt.LinearNormal(3, 1, given="z2"), y=y)


def apart() -> lt.Joint:
    """A code and a Gaussian latent that have nothing to do with each other."""
    y = lt.Bernoulli(lt.Table(3, 2), given="k")
    return lt.Joint(k=lt.Categorical(3), z=lt.StandardNormal(2), x=lt.LinearNormal(3, 2), y=y)


def prior_by_code() -> lt.Joint:
    z = lt.Normal(lt.Table(3, 4), given="k")
    return lt.Joint(k=lt.Categorical(3), z=z, x=lt.LinearNormal(3, 2))


def of_two_codes() -> lt.Joint:
    x = lt.LinearNormal(3, 2, ("k", "z"), states=3)
    return lt.Joint(
        l=lt.Categorical(2), k=lt.Categorical(lt.Table(2, 3), given="l"), z=lt.StandardNormal(2), x=x
    )


INPUT = torch.tensor([[0.5, -1.0], [0.0, 2.0], [1.5, 0.3], [-0.7, 0.1]], dtype=torch.float64)
BINARY = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)

CASES: dict[str, ExactCase] = {
    "gaussian_full": ExactCase(mixture(lt.Full())),
    "gaussian_diagonal": ExactCase(mixture(lt.Diagonal())),
    "gaussian_spherical": ExactCase(mixture(Spherical())),
    "gaussian_tied": ExactCase(mixture(Tied())),
    "gaussian_low_rank": ExactCase(mixture(lt.LowRank(1))),
    "bernoulli": ExactCase(lambda: lt.models.bernoulli_mixture(3, 3).p, binary=True),
    "categorical": ExactCase(lambda: lt.models.categorical_mixture((2, "binary", 3), 3).p, binary=True),
    "two_codes": ExactCase(two_codes),
    "given_input": ExactCase(
        lambda: lt.Joint(
            k=lt.Categorical(lt.MLP(2, 3, hidden=(4,)), given="y"), x=lt.Normal(lt.Table(3, 6), given="k")
        ),
        {"y": INPUT},
    ),
    "bits": ExactCase(
        lambda: bits(4, lt.Bernoulli(lt.MLP(4, 3, hidden=(5,), activation="tanh"), given="h")), binary=True
    ),
    "one_bit": ExactCase(lambda: bits((), lt.Bernoulli(lt.Constant(3))), latents=("h",), binary=True),
    "computed": ExactCase(computed),
    "log_linear": ExactCase(lambda: lt.models.log_linear(3, 2).p, binary=True),
    "log_linear_prior": ExactCase(
        lambda: lt.Joint(h=lt.LogLinear(("unary", "pairwise"), event=3), x=normal("h", inputs=3))
    ),
    "ppca": ExactCase(lambda: lt.models.ppca(3, 2).p),
    "factor_analysis": ExactCase(lambda: lt.models.factor_analysis(3, 2).p),
    "factor_analysers": ExactCase(lambda: lt.models.mixture_of_factor_analysers(3, 2, 2).p),
    "of_two_codes": ExactCase(of_two_codes),
    "chain": ExactCase(chain),
    "both_parents": ExactCase(both_parents, {"y": INPUT}),
    "apart": ExactCase(apart, {"y": BINARY}),
    "prior_by_code": ExactCase(prior_by_code),
    "normal": ExactCase(lambda: lt.Joint(z=lt.StandardNormal(2), x=normal("z", inputs=2))),
    "normal_fixed": ExactCase(lambda: lt.Joint(z=lt.StandardNormal(2), x=normal("z", inputs=2, scale=0.7))),
    "normal_tied": ExactCase(
        lambda: lt.Joint(
            z=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2, 3), given="z", covariance=Tied(), floor=0.1)
        )
    ),
    "normal_given_input": ExactCase(
        lambda: lt.Joint(z=lt.StandardNormal(2), x=normal("y", "z", inputs=4)), {"y": INPUT}
    ),
}


def cases() -> list[tuple[str, str]]:
    """(name, how its rows are given), where that makes sense."""
    found = [(name, "whole") for name in CASES]
    found += [(name, "holes") for name in CASES]
    for name, case in CASES.items():
        exact = case.exact()
        if any(is_discrete(exact[variable]) for variable in exact):
            found.append((name, "labels"))
    return found


@dataclass
class BruteForce:
    """What is true of one row, from log p(x, z) alone.

    log_joint    log p(x, states), one for each tuple of states, in order
    states       those tuples, by name
    mean, covariance   of the Gaussian latents side by side given each tuple, `[M]`, `[M, M]`
    """

    log_joint: Tensor
    states: list[dict[str, Tensor]]
    mean: list[Tensor]
    covariance: list[Tensor]


def brute_force(exact: lt.Exact, values: Mapping[str, Tensor]) -> list[BruteForce]:
    """Each row alone: all states tried, Gaussian latents integrated by Laplace's method, which is exact."""
    return [_of_row(exact, {name: v[row : row + 1] for name, v in values.items()}) for row in range(ROWS)]


def brute_evidence(exact: lt.Exact, values: Mapping[str, Tensor]) -> Tensor:
    """log p(x), `[B]`."""
    return torch.stack([row.log_joint.logsumexp(0) for row in brute_force(exact, values)])


def _of_row(exact: lt.Exact, values: dict[str, Tensor]) -> BruteForce:
    for name in exact:
        if name in values and not bool(values.pop(name + MASK, torch.tensor(True))):
            del values[name]
    hidden = [name for name in exact if name not in values]
    discrete = [name for name in hidden if is_discrete(exact[name])]
    gaussian = [name for name in hidden if name not in discrete]
    found = BruteForce(torch.empty(0), [], [], [])
    terms = []
    for states in itertools.product(*(exact[name].support() for name in discrete)):
        chosen = {name: state.unsqueeze(0) for name, state in zip(discrete, states, strict=True)}
        log_joint, mean, covariance = _integral(exact.p, values | chosen, gaussian)
        terms.append(log_joint)
        found.states.append(chosen)
        found.mean.append(mean)
        found.covariance.append(covariance)
    found.log_joint = torch.stack(terms)
    return found


def _integral(p: lt.Joint, values: dict[str, Tensor], names: list[str]) -> tuple[Tensor, Tensor, Tensor]:
    """log of the integral of p(x, u) over u, and u's posterior; log p is quadratic in u."""
    sizes = [math.prod(p[name].event) for name in names]
    start = torch.zeros(sum(sizes), dtype=torch.float64)

    def log_p(u: Tensor) -> Tensor:
        parts = u.split(sizes) if sizes else ()
        given = {name: part.reshape(1, *p[name].event) for name, part in zip(names, parts, strict=True)}
        return p.log_prob(values | given).squeeze(0)

    if not names:
        return log_p(start), start, torch.zeros(0, 0)
    functional = torch.autograd.functional
    slope = functional.jacobian(log_p, start, create_graph=True)
    precision = -functional.hessian(log_p, start, create_graph=True)
    mode = torch.linalg.solve(precision, slope)
    volume = 0.5 * (len(start) * math.log(2 * math.pi) - torch.logdet(precision))
    return log_p(mode) + volume, mode, torch.linalg.inv(precision)
