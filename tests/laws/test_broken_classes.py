"""The laws have teeth: each refuses a class that breaks it, with a sentence that says how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Exponential, Independent
from torch.distributions import Normal as TorchNormal

import latentia as lt
from latentia.factor import Factor
from latentia.noise import BoundNoise
from latentia.objectives import Bound
from latentia.testing import FactorCase, check_factor, check_maximum_likelihood, check_objective


class Laplace(Factor):
    """A factor of a user's own, right in every respect: p(x | z) = prod_d exp(-|x_d - f_d(z)|) / 2."""

    def distribution(self, *parents: Tensor) -> Distribution:
        (loc,) = self.parts(*parents)
        return Independent(torch.distributions.Laplace(loc, 1.0, validate_args=False), len(self.event))

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        u = noise(self.event, "uniform") - 0.5
        return distribution.mean - u.sign() * torch.log1p(-2 * u.abs())


class Unnormalised(Laplace):
    def log_prob(self, value: Tensor, *parents: Tensor, observed: Tensor | None = None) -> Tensor:
        return super().log_prob(value, *parents, observed=observed) + 0.1


class OtherDraws(Laplace):
    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        return distribution.mean + 0.9 * (super().transform(noise, distribution) - distribution.mean)


class ForgottenParameter(Laplace):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.unused = nn.Parameter(torch.ones(1))


class MixedRows(Laplace):
    def distribution(self, *parents: Tensor) -> Distribution:
        (loc,) = self.parts(*parents)
        return Independent(TorchNormal(loc - loc.mean(-2, keepdim=True), 1.0, validate_args=False), 1)


class SharedDraw(Factor):
    def __init__(self) -> None:
        super().__init__(event=1)

    def distribution(self, *parents: Tensor) -> Distribution:
        return Independent(TorchNormal(torch.zeros(1).double(), 1.0, validate_args=False), 1)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        return noise((1,), "normal")[..., :1, :].expand(*noise.batch, 1)


class WrongMarginal(lt.Normal):
    def marginal_log_prob(self, distribution: Distribution, value: Tensor, observed: Tensor) -> Tensor:
        conditional = torch.where(observed, value, distribution.mean)
        whole = distribution.log_prob(conditional)
        return (
            whole if bool(observed.all()) else torch.where(observed.any(-1), whole, torch.zeros_like(whole))
        )


class MeansForSums(lt.Bernoulli):
    def statistics(
        self, value: Any, *parents: Any, weight: Tensor, observed: Any = None
    ) -> dict[str, Tensor]:
        found = super().statistics(value, *parents, weight=weight, observed=observed)
        return {name: tensor / weight.sum() for name, tensor in found.items()}


class HalfWay(lt.Bernoulli):
    @torch.no_grad()
    def maximize(self, statistics: Any, prior: Any = None) -> None:
        before = self.rows.clone()
        super().maximize(statistics, prior)
        self.rows.copy_((before + self.rows) / 2)


class Astray(lt.Bernoulli):
    @torch.no_grad()
    def maximize(self, statistics: Any, prior: Any = None) -> None:
        super().maximize(statistics, prior)
        self.rows.neg_().add_(1)


class CountsOneMore(lt.Categorical):
    def maximize(self, statistics: Any, prior: Any = None) -> None:
        super().maximize({name: tensor + 1 for name, tensor in statistics.items()}, prior)


class GlobalNoise(Laplace):
    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        return distribution.mean + torch.distributions.Laplace(0.0, 1.0).sample((*noise.batch, 2))


class StillAttached(Laplace):
    def detached(self) -> StillAttached:
        return self


BROKEN: dict[str, tuple[type[Factor], str]] = {
    "density": (Unnormalised, "normalised density, and over all values it sums to 1.10"),
    "draws": (OtherDraws, "draws must follow exp\\(log_prob\\)"),
    "gradients": (ForgottenParameter, "no gradient reaches its parameter unused"),
    "rows": (MixedRows, "a row must not depend on the other rows"),
    "global noise": (GlobalNoise, "moved torch's global generator"),
    "detached": (StillAttached, "detached\\(\\) must stop parameters, and reaches net.layers.0.weight"),
}


def test_a_class_of_ones_own_that_is_right_passes() -> None:
    report = check_factor(Laplace(lt.MLP(3, 2), given="z"), [3])
    word = report.pop("check_maximum_likelihood")
    assert word == "does not apply: maximum likelihood has no closed form"
    assert set(report.values()) == {"holds"}


def test_a_half_line_is_integrated_as_one() -> None:
    class Waiting(Factor):
        def distribution(self, *parents: Tensor) -> Distribution:
            (raw,) = self.parts(*parents)
            return Independent(Exponential(raw.exp(), validate_args=False), 1)

    report = check_factor(Waiting(lt.MLP(3, 2), given="z"), [3])
    assert report["check_density_integrates"] == report["check_masks"] == "holds"
    assert "forked generator" in report["check_noise_is_an_input"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_law_is_named(name: str) -> None:
    family, sentence = BROKEN[name]
    with (
        torch.random.fork_rng(devices=[]),
        pytest.raises(AssertionError, match=f"{family.__name__}: .*{sentence}"),
    ):
        check_factor(family(lt.MLP(3, 2), given="z"), [3])


def test_one_draw_shared_by_a_batch_is_refused() -> None:
    with pytest.raises(AssertionError, match="SharedDraw: a root factor must draw for each row"):
        check_factor(SharedDraw())


@pytest.mark.parametrize(
    ("factor", "sentence"),
    [
        (lambda: MeansForSums(lt.Constant(2, value=0.5)), "statistics must be float64 sums over examples"),
        (lambda: HalfWay(lt.Constant(2, value=0.5)), "the gradient of the weighted log likelihood must be 0"),
        (lambda: Astray(lt.Constant(2, value=2.0)), "maximize must not lower the weighted log likelihood"),
        (lambda: CountsOneMore(lt.Constant(3, value=0.5)), "2.5 times as large must have the same maximum"),
    ],
)
def test_a_broken_m_step_is_refused(factor: Callable[[], Factor], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_maximum_likelihood(FactorCase(factor()))


def test_a_wrong_marginal_is_refused() -> None:
    with pytest.raises(AssertionError, match="with an entry missing, log_prob must be that of the others"):
        check_factor(WrongMarginal(lt.MLP(3, 5), given="z", covariance=lt.Full()), [3])


def test_parents_are_counted() -> None:
    with pytest.raises(ValueError, match="Laplace has 1 parents \\(z\\), and 2 were given"):
        check_factor(Laplace(lt.MLP(3, 2), given="z"), [3, 3])


def scaled_elbo(p: lt.Joint, q: lt.Joint, values: Any, noise: Any, *, beta: float = 2.0) -> Bound:
    bound = lt.elbo(p, q, values, noise, beta=beta)
    return bound._replace(value=bound.terms["reconstruction"] - beta * bound.terms["kl"])


def negative_elbo(p: lt.Joint, q: lt.Joint, values: Any, noise: Any) -> Bound:
    bound = lt.elbo(p, q, values, noise)
    return bound._replace(surrogate=-bound.surrogate)


def too_high(p: lt.Joint, q: lt.Joint, values: Any, noise: Any) -> Bound:
    bound = lt.elbo(p, q, values, noise)
    return bound._replace(value=bound.value + 9)


def summed(p: lt.Joint, q: lt.Joint, values: Any, noise: Any) -> Bound:
    bound = lt.elbo(p, q, values, noise)
    return bound._replace(value=bound.value.sum())


def stopped(p: lt.Joint, q: lt.Joint, values: Any, noise: Any) -> Bound:
    bound = lt.elbo(p, q, values, noise)
    return bound._replace(surrogate=bound.surrogate.detach().requires_grad_())


def global_noise(p: lt.Joint, q: lt.Joint, values: Any, noise: Any) -> Bound:
    bound = lt.elbo(p, q, values, noise)
    return bound._replace(value=bound.value + 0 * torch.randn(()))


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        (scaled_elbo, "beta must not change the value"),
        (negative_elbo, "is the sign right"),
        (too_high, "its direction is lower, and its mean is"),
        (summed, "value must be \\[B\\] = \\[5\\]"),
        (stopped, "no gradient of the surrogate reaches p"),
        (global_noise, "moved torch's global generator"),
    ],
)
def test_a_broken_objective_is_named(objective: Any, sentence: str) -> None:
    with torch.random.fork_rng(devices=[]), pytest.raises(AssertionError, match=sentence):
        check_objective(objective)


def test_the_library_objectives_obey_the_laws() -> None:
    assert set(check_objective(lt.elbo).values()) == {"holds"}
    report = check_objective(lt.elbo, samples=3, analytic=False)
    assert set(report.values()) == {"holds"}
    assert check_objective(lt.iwae, samples=5)["check_side_of_the_evidence"] == "holds"


def test_a_deterministic_q_promises_no_side() -> None:
    model = lt.models.autoencoder(event=3, latent=2, hidden=(4,))
    report = check_objective(lt.elbo, p=model.p, q=model.q, values={"x": torch.ones(4, 3)}, weights={})
    assert report["check_side_of_the_evidence"] == "does not apply: direction none promises no side"
