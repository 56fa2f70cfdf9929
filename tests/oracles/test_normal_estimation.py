"""Estimates of Normal against numpy, textbook conditionals, stationarity and perturbations.

K states, B examples, D entries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.factor import Moments
from latentia.factors.normal_estimation import constrained_tril
from latentia.factors.priors import Dirichlet, NormalInverseWishart
from tests.oracles.linear_gaussian import as_multivariate
from tests.oracles.normals import OPTIONS, PRECISION, D, made, rows, support

PRIOR = NormalInverseWishart(mean=(0.5, -1.0, 2.0), strength=1.5, scale=0.8, degrees=4.0)
STATES = [1, 3, 13]  # a root, product by product, all states in one


def weights(states: int, count: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.softmax(torch.randn(states, count, generator=generator, dtype=torch.float64), 0)


def fitted(factor: lt.Normal, x: Tensor, weight: Tensor, prior: object | None = None) -> lt.Normal:
    states = len(weight)
    given = weight if states > 1 else weight[0]
    factor.maximize(factor.statistics(x, *support(states), weight=given), prior)
    return factor


def found(factor: lt.Normal, states: int) -> tuple[np.ndarray, np.ndarray]:
    """Means `[K, D]` and covariances `[K, D, D]`."""
    distribution = as_multivariate(factor.distribution(*support(states)))
    mean, covariance = distribution.mean.detach(), distribution.covariance_matrix.detach()
    covariance = covariance.expand(*mean.shape, mean.shape[-1])
    return mean.reshape(states, -1).numpy(), covariance.reshape(states, *covariance.shape[-2:]).numpy()


def expected_log_p(factor: lt.Normal, x: Tensor, weight: Tensor) -> Tensor:
    states = len(weight)
    log_p = factor.log_prob(x, *support(states))
    return (weight * log_p).sum()


def add(sums: Mapping[str, Tensor], more: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor + more[name] for name, tensor in sums.items()}


@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("kind", OPTIONS)
def test_maximum_likelihood_is_the_weighted_mean_and_covariance(kind: str, states: int) -> None:
    x, weight = rows(), weights(states)
    mean, covariance = found(fitted(made(kind, states), x, weight), states)
    expected_mean = np.stack([np.average(x, axis=0, weights=w) for w in weight])
    full = np.stack([np.cov(x.T, ddof=0, aweights=w) for w in weight])
    share = weight.sum(1).numpy() / float(weight.sum())
    variance = np.diagonal(full, axis1=1, axis2=2)
    one = np.eye(D)
    expected = {
        "diagonal": variance[:, :, None] * one,
        "spherical": variance.mean(1)[:, None, None] * one,
        "full": full,
        "tied": np.broadcast_to(np.einsum("k,kij->ij", share, full), full.shape),
        "learnt": np.broadcast_to((share @ variance).mean() * one, full.shape),
        "fixed": np.broadcast_to(np.diag([0.5**2, 0.7**2, 1.1**2]), full.shape),
    }
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-10, atol=1e-12)
    tolerance = 1e-6 if kind == "fixed" else 1e-9  # the fixed scale is given in float32
    np.testing.assert_allclose(covariance, expected[kind], rtol=tolerance, atol=1e-10)


@pytest.mark.parametrize("kind", OPTIONS)
def test_statistics_add_up_over_chunks(kind: str) -> None:
    factor, x, weight = made(kind, 3), rows(), weights(3)
    whole = factor.statistics(x, *support(3), weight=weight)
    parts = [
        factor.statistics(x[place], *support(3), weight=weight[:, place])
        for place in (slice(0, 7), slice(7, 40))
    ]
    for name, total in add(*parts).items():
        assert total.dtype == torch.float64
        torch.testing.assert_close(total, whole[name], **PRECISION)


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_sums_of_many_states_entries_and_rows_are_the_plain_sums(kind: str) -> None:
    states, entries, count = 9, 33, 1100
    factor, x = made(kind, states, entries), rows(count, entries)
    about = factor.rows.detach()[:, :entries]
    even, peaked = weights(states, count), torch.eye(states).double()[torch.arange(count) % states].mT
    for weight in (even, peaked + 1e-30):
        sums = factor.statistics(x, *support(states), weight=weight)
        d = x - about.unsqueeze(1)
        second = torch.einsum("kn,kni,knj->kij", weight, d, d)
        torch.testing.assert_close(sums["second"], second.sum(0) if kind == "tied" else second, **PRECISION)
        torch.testing.assert_close(sums["first"], torch.einsum("kn,kni->ki", weight, d), **PRECISION)


@pytest.mark.parametrize("prior", [None, PRIOR, NormalInverseWishart(scale=0.5, degrees=2.0)])
@pytest.mark.parametrize("kind", OPTIONS)
def test_the_maximum_is_stationary(kind: str, prior: NormalInverseWishart | None) -> None:
    x, weight = rows(), weights(3)
    factor = fitted(made(kind, 3), x, weight, prior)

    def objective() -> Tensor:
        return expected_log_p(factor, x, weight) + (0 if prior is None else factor.log_prior(prior))

    parameters = list(factor.parameters())
    for gradient in torch.autograd.grad(objective(), parameters):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-8)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        best = float(objective())
        for _ in range(10):
            steps = [0.1 * torch.randn(p.shape, generator=generator).double() for p in parameters]
            for parameter, step in zip(parameters, steps, strict=True):
                parameter.add_(step)
            assert float(objective()) < best
            for parameter, step in zip(parameters, steps, strict=True):
                parameter.sub_(step)


def test_raising_eigenvalues_to_the_floor_is_the_constrained_maximum() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 4, generator=generator, dtype=torch.float64) * torch.tensor([2.0, 1.0, 1e-3, 0.0])
    turn = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q
    scatter, floor = turn @ (x.mT @ x / 20) @ turn.mT, 0.1

    def value(covariance: Tensor) -> float:
        return float(-torch.logdet(covariance) - torch.trace(torch.linalg.solve(covariance, scatter)))

    tril = constrained_tril(scatter.unsqueeze(0), floor)[0]
    best = tril @ tril.mT
    eigenvalues = torch.linalg.eigvalsh(best)
    torch.testing.assert_close(eigenvalues[:2], torch.full((2,), floor**2, dtype=torch.float64), **PRECISION)
    assert tril.diagonal().min() >= floor * (1 - 1e-12)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(25):
            root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
            values, vectors = torch.linalg.eigh(best + size * 0.1 * (root + root.mT))
            other = vectors @ torch.diag(values.clamp(min=floor**2)) @ vectors.mT
            assert value(other) < value(best) + 1e-12


@pytest.mark.parametrize("kind", ["diagonal", "spherical", "full", "tied", "learnt"])
def test_no_standard_deviation_falls_below_the_floor(kind: str) -> None:
    for floor in (0.0, 0.2):
        x = torch.ones(10, D).double()
        factor = fitted(made(kind, 1, floor=floor), x, torch.ones(1, 10).double())
        mean, covariance = found(factor, 1)
        np.testing.assert_allclose(mean, 1.0)
        np.testing.assert_allclose(covariance[0], floor**2 * np.eye(D), rtol=1e-10, atol=1e-12)
        assert factor.log_prob(x).isfinite().all()


@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_scales_come_back_from_the_raw_parameters(link: str) -> None:
    factor = lt.Normal(lt.Constant(12), link=link, floor=1e-3).double()
    scale = 1e-3 + torch.logspace(-9, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(factor.scale_of(factor._raw(scale - 1e-3)), scale, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", ["diagonal", "spherical", "full", "tied", "learnt"])
@pytest.mark.parametrize("prior", [None, PRIOR])
def test_em_never_decreases_the_evidence(kind: str, prior: NormalInverseWishart | None) -> None:
    factor, x = made(kind, 3), rows(60)
    seen = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) > 0.2
    for observed in (None, seen):
        last = -math.inf
        for _ in range(8):
            with torch.no_grad():
                log_joint = factor.log_prob(x, *support(3), observed=observed) - math.log(3)
                log_p = torch.logsumexp(log_joint, 0)
                value = float(log_p.sum()) + (0 if prior is None else float(factor.log_prior(prior)))
            assert value >= last - 1e-9
            last = value
            weight = (log_joint - log_p).exp()
            sums = factor.statistics(x, *support(3), weight=weight, observed=observed)
            factor.maximize(sums, prior)


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_fill_is_the_conditional_gaussian(kind: str) -> None:
    factor, x = made(kind, 2), rows(4)
    seen = torch.tensor(
        [[True, True, False], [False, True, False], [True, True, True], [False, False, False]]
    )
    filled = factor.fill(torch.where(seen, x, 0.0), *support(2), observed=seen)
    assert filled is not None and filled.mean.shape == (2, 4, D)
    filled_covariance = filled.covariance.detach().expand(2, 4, D, D)
    mean, covariance = found(factor, 2)
    for k in range(2):
        for b in range(4):
            o, m = seen[b].numpy(), ~seen[b].numpy()
            expected_mean, expected = x[b].numpy().copy(), np.zeros((D, D))
            gain = covariance[k][np.ix_(m, o)] @ np.linalg.inv(covariance[k][np.ix_(o, o)])
            expected_mean[m] = mean[k][m] + gain @ (x[b].numpy()[o] - mean[k][o])
            expected[np.ix_(m, m)] = covariance[k][np.ix_(m, m)] - gain @ covariance[k][np.ix_(o, m)]
            np.testing.assert_allclose(filled.mean[k, b].detach(), expected_mean, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(filled_covariance[k, b], expected, rtol=1e-9, atol=1e-12)


def test_missing_entries_leave_the_sums_of_independent_ones() -> None:
    x, weight = rows(), weights(3)
    seen = torch.rand(x.shape, generator=torch.Generator().manual_seed(4)) > 0.3
    factor = made("diagonal", 3)
    holes = torch.where(seen, x, 0.0)
    factor.maximize(factor.statistics(holes, *support(3), weight=weight, observed=seen))
    mean, covariance = found(factor, 3)
    for k in range(3):
        for j in range(D):
            held, w = x[seen[:, j], j].numpy(), weight[k, seen[:, j]].numpy()
            np.testing.assert_allclose(mean[k, j], np.average(held, weights=w))
            np.testing.assert_allclose(covariance[k, j, j], np.cov(held, ddof=0, aweights=w))
    some = torch.arange(40) < 25
    one = factor.statistics(x, *support(3), weight=weight, observed=some)
    other = factor.statistics(x[:25], *support(3), weight=weight[:, :25])
    for name in one:
        torch.testing.assert_close(one[name], other[name], **PRECISION)


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_a_gaussian_posterior_adds_its_covariance(kind: str) -> None:
    generator = torch.Generator().manual_seed(5)
    mean = rows()
    root = torch.randn(40, D, D, generator=generator, dtype=torch.float64)
    covariance = root @ root.mT
    factor = made(kind, 1)
    factor.maximize(factor.statistics(Moments(mean, covariance), weight=torch.ones(40)))
    expected = np.cov(mean.T, ddof=0) + covariance.mean(0).numpy()
    result = found(factor, 1)[1][0]
    np.testing.assert_allclose(result, expected * (1 if kind == "full" else np.eye(D)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["diagonal", "spherical", "full", "tied"])
@pytest.mark.parametrize("states", STATES)
def test_float32_keeps_unit_variances_around_a_mean_of_ten_thousand(kind: str, states: int) -> None:
    x = (torch.randn(500, D, generator=torch.Generator().manual_seed(6)) + 1e4).float()
    weight = weights(states, 500).float()
    factor = made(kind, states).float()
    for _ in range(2):  # the first from means far away
        fitted(factor, x, weight)
        mean, covariance = found(factor, states)
        exact = x.double().numpy()
        for k in range(states):
            known = np.cov(exact.T, ddof=0, aweights=weight[k].numpy())
            np.testing.assert_allclose(mean[k], np.average(exact, axis=0, weights=weight[k]), rtol=1e-6)
            if kind == "full":
                np.testing.assert_allclose(covariance[k], known, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(np.diag(covariance[k]), np.ones(D), atol=0.5)
    as_double = made(kind, states)
    as_double.load_state_dict(factor.state_dict())
    log_p = factor.log_prob(x, *support(states))
    torch.testing.assert_close(
        log_p.double(), as_double.log_prob(x.double(), *support(states)), rtol=0, atol=0.01
    )


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_state_without_weight_keeps_its_parameters_and_frozen_ones_stay(kind: str) -> None:
    x, weight = rows(), weights(3)
    weight[1] = 0
    factor = made(kind, 3)
    before = [p.detach().clone() for p in factor.parameters()]
    fitted(factor, x, weight)
    table = factor.rows.detach()
    assert torch.equal(table[1], before[0][1] if before[0].shape == table.shape else before[1][1])
    assert table.isfinite().all() and not torch.equal(table[0], made(kind, 3).rows[0])
    frozen = made(kind, 3)
    frozen.rows.requires_grad_(False)
    table = frozen.rows.clone()
    fitted(frozen, x, weight)
    assert torch.equal(frozen.rows, table)
    if kind in ("tied", "learnt"):
        gradients = torch.autograd.grad(
            expected_log_p(frozen, x, weight), [p for p in frozen.parameters() if p.requires_grad]
        )
        assert all(gradient.abs().max() < 1e-8 for gradient in gradients)


@pytest.mark.parametrize("kind", OPTIONS)
def test_observed_codes_are_one_hot_weights(kind: str) -> None:
    factor, x = made(kind, 3), rows()
    codes = torch.arange(40) % 3
    weight = torch.rand(40, generator=torch.Generator().manual_seed(7)).double()
    one_hot = torch.nn.functional.one_hot(codes, 3).mT * weight
    enumerated = factor.statistics(x, *support(3), weight=one_hot)
    drawn = factor.statistics(
        x.expand(2, 40, D), codes.expand(2, 40), weight=torch.stack([0.25 * weight, 0.75 * weight])
    )
    for name, total in factor.statistics(x, codes, weight=weight).items():
        torch.testing.assert_close(total, enumerated[name], **PRECISION)
        torch.testing.assert_close(total, drawn[name], **PRECISION)


def test_an_image_is_estimated_entry_by_entry() -> None:
    x = rows(20, 6).reshape(20, 1, 2, 3)
    factor = lt.Normal(lt.Constant((2, 2, 3))).double()
    factor.maximize(factor.statistics(x, weight=torch.ones(20)))
    distribution = factor.distribution()
    torch.testing.assert_close(distribution.mean, x.mean(0))
    torch.testing.assert_close(distribution.variance, x.var(0, correction=0))


def test_a_prior_decides_where_there_are_no_data() -> None:
    factor = made("full", 2)
    sums = factor.statistics(rows(), *support(2), weight=torch.zeros(2, 40))
    factor.maximize(sums, PRIOR)
    mean, covariance = found(factor, 2)
    np.testing.assert_allclose(mean, np.broadcast_to(PRIOR.mean, (2, D)))
    np.testing.assert_allclose(covariance[0], 0.8**2 / (4 + D + 2) * np.eye(D), rtol=1e-10, atol=1e-12)


def test_what_cannot_be_estimated_is_refused() -> None:
    factor = made("full", 2)
    sums = factor.statistics(rows(), *support(2), weight=weights(2))
    with pytest.raises(TypeError, match="the prior of a Normal is a NormalInverseWishart, got Dirichlet"):
        factor.maximize(sums, Dirichlet(2.0))
    with pytest.raises(ValueError, match="a mean of 2 entries, and an event has 3"):
        factor.log_prior(NormalInverseWishart(mean=(0.0, 1.0)))
    assert not lt.Normal(lt.MLP(2, 6), given="z").has_closed_form
    assert not lt.Normal(lt.Constant(6), covariance=lt.LowRank(1)).has_closed_form
    with pytest.raises(TypeError, match="closed-form estimates"):
        lt.Normal(lt.MLP(2, 6), given="z").statistics(rows(), rows(), weight=torch.ones(40))
    with pytest.raises(ValueError, match="needs 9 outputs from its net, got 12"):
        lt.Normal(lt.Constant(12), covariance=lt.Full(), event=3)
    with pytest.raises(ValueError, match="has a scale of its own"):
        lt.Normal(lt.Constant(3), covariance=lt.Tied(), scale="learnt")


def test_free_parameters_count_means_and_covariances() -> None:
    expected = {"diagonal": 18, "spherical": 12, "full": 27, "tied": 15, "learnt": 10, "fixed": 9}
    assert {kind: made(kind, 3).free_parameters for kind in OPTIONS} == expected


@pytest.mark.parametrize(("rank", "count"), [(1, 5 + 10), (2, 5 + 5 * 2 - 1 + 5), (4, 5 + 15), (9, 5 + 15)])
def test_rotations_of_a_low_rank_are_not_counted(rank: int, count: int) -> None:
    """D R - R (R - 1) / 2 + D, at most D (D + 1) / 2: the dimensions in which the covariance can move."""
    outputs = lt.factors.gaussian_outputs(5, lt.LowRank(rank))
    root = lt.Normal(lt.Constant(outputs), covariance=lt.LowRank(rank))
    table = lt.Normal(lt.Table(3, outputs), given="k", covariance=lt.LowRank(rank))
    assert root.free_parameters == count and table.free_parameters == 3 * count
    root.double()
    with torch.no_grad():
        root.net.value.copy_(torch.randn(outputs, generator=torch.Generator().manual_seed(0)))

    def law(value: torch.Tensor) -> torch.Tensor:
        found = torch.func.functional_call(_Law(root), {"factor.net.value": value}, ())
        return torch.cat([part.flatten() for part in found])

    moves = torch.autograd.functional.jacobian(law, root.net.value.detach())
    assert torch.linalg.matrix_rank(moves) == count
    assert root.requires_grad_(False).free_parameters == 0


class _Law(torch.nn.Module):
    """Mean and covariance of a root factor."""

    def __init__(self, factor: lt.Normal) -> None:
        super().__init__()
        self.factor = factor

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        distribution = self.factor.distribution()
        return distribution.mean, distribution.covariance_matrix
