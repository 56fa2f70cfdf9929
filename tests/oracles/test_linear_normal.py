"""LinearNormal against closed forms, textbook EM steps, scipy and its own gradients, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits
from torch import Tensor

import latentia as lt
from latentia.factor import Moments
from latentia.factors.principal import principal_axes, principal_axes_of, summarise

DIGITS = torch.from_numpy(load_digits().data / 16)
ROWS, ENTRIES, LATENT, STATES = 40, 5, 2, 3


def linear(covariance: object = None, seed: int = 0, **options: object) -> lt.LinearNormal:
    """A factor whose parameters are all different from where it starts."""
    options = {"outputs": ENTRIES, "latent": LATENT, **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        factor = lt.LinearNormal(covariance=covariance or lt.Diagonal(), **options).double()
        with torch.no_grad():
            factor.bias.normal_()
            factor.raw_scale.add_(0.03 * torch.randn_like(factor.raw_scale))
    return factor


def rows(seed: int = 1, shape: Sequence[int] = (ROWS, ENTRIES)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return x * (1 + torch.arange(shape[-1])) / 3 + 2 + 0.5 * x[..., :1]


def posterior(factor: lt.LinearNormal, x: Tensor, seen: Tensor | None = None) -> Moments:
    """p(z | x) under z ~ N(0, I), by the covariance of the observed entries: `[B, M]`, `[B, M, M]`."""
    means, covariances = [], []
    for n, row in enumerate(x):
        kept = torch.ones(len(row), dtype=torch.bool) if seen is None else seen[n]
        weight = factor.weight.detach()[kept]
        noise = torch.diag(factor.scale.detach().expand(len(row))[kept].square())
        gain = weight.mT @ torch.linalg.inv(weight @ weight.mT + noise)
        means.append(gain @ (row - factor.bias.detach())[kept])
        covariances.append(torch.eye(factor.latent, dtype=x.dtype) - gain @ weight)
    return Moments(torch.stack(means), torch.stack(covariances))


def evidence(factor: lt.LinearNormal, x: Tensor, seen: Tensor | None = None) -> float:
    """The mean of log p(x) over rows, by scipy."""
    weight, bias = factor.weight.detach().numpy(), factor.bias.detach().numpy()
    covariance = weight @ weight.T + np.diag(factor.scale.detach().expand(len(bias)).numpy() ** 2)
    if seen is None:
        return float(multivariate_normal(bias, covariance).logpdf(x.numpy()).mean())
    total = 0.0
    for row, kept in zip(x.numpy(), seen.numpy(), strict=True):
        if kept.any():
            total += float(multivariate_normal(bias[kept], covariance[np.ix_(kept, kept)]).logpdf(row[kept]))
    return total / len(x)


def expected_log_prob(
    factor: lt.LinearNormal, x: Tensor, z: Moments, weight: Tensor, codes: Tensor, seen: Tensor
) -> Tensor:
    """sum w E[log p(x | z, k)] over observed entries: codes and weight `[L, B]`, z's mean `[L, B, M]`."""
    lead = factor.states is not None
    w, b, scale = ((p if lead else p[None])[codes] for p in (factor.weight, factor.bias, factor.scale))
    left = (x - b - (w * z.mean.unsqueeze(-2)).sum(-1)).square()
    left = left + (w * (w @ z.covariance)).sum(-1)
    entries = -0.5 * left / scale.square() - scale.log() - 0.5 * math.log(2 * math.pi)
    return (weight.unsqueeze(-1) * seen * entries).sum()


@pytest.mark.parametrize(
    ("latent", "log_likelihood", "noise"),
    [(2, 0.0057, 0.054117), (5, 8.9076, 0.036197), (10, 17.4519, 0.022751), (20, 27.2773, 0.011274)],
)
def test_the_closed_form_of_ppca_on_digits(latent: int, log_likelihood: float, noise: float) -> None:
    factor = lt.LinearNormal(64, latent, covariance=lt.Spherical()).double()
    factor.set_axes(principal_axes_of(DIGITS, latent))
    assert evidence(factor, DIGITS) == pytest.approx(log_likelihood, abs=5.1e-5)
    assert float(factor.scale.detach().square()) == pytest.approx(noise, abs=5.1e-7)
    before = evidence(factor, DIGITS)
    factor.maximize(factor.statistics(DIGITS, posterior(factor, DIGITS), weight=torch.ones(len(DIGITS))))
    assert evidence(factor, DIGITS) == pytest.approx(before, abs=1e-9)


def test_principal_axes_by_rows_are_those_by_the_covariance() -> None:
    weight = torch.rand(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for x, latent in ((DIGITS[:30], 10), (DIGITS[:30], 40), (DIGITS[:200], 3)):
        share = weight if len(x) == 30 else None
        summary = summarise(x, share)
        by_covariance = principal_axes(summary.mean, summary.covariance, latent)
        by_rows = principal_axes_of(x, latent, share)
        both = by_rows.weight @ by_rows.weight.mT, by_covariance.weight @ by_covariance.weight.mT
        torch.testing.assert_close(*both, rtol=0, atol=1e-12)
        for name in ("mean", "noise", "variance"):
            torch.testing.assert_close(getattr(by_rows, name), getattr(by_covariance, name))


def test_a_summary_survives_a_large_offset_in_float32() -> None:
    x = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    summary = summarise(x + 1e4)
    expected = torch.cov((x + 1e4).double().mT, correction=0)
    torch.testing.assert_close(summary.covariance, expected, rtol=0, atol=1e-5)
    twice = summarise(x.double(), torch.full((len(x),), 2.0))
    assert float(twice.count) == 2 * len(x)
    torch.testing.assert_close(twice.covariance, torch.cov(x.double().mT, correction=0))


def test_an_em_step_is_the_textbook_one_for_ppca() -> None:
    """Tipping & Bishop (1999), eqs. 25-28."""
    x, factor = rows(), linear(lt.Spherical())
    with torch.no_grad():
        factor.bias.copy_(x.mean(0))
    weight, noise, centred = factor.weight.detach().clone(), factor.scale.detach().square(), x - x.mean(0)
    inverse = torch.linalg.inv(weight.mT @ weight + noise * torch.eye(LATENT))
    z = centred @ weight @ inverse
    zz = ROWS * noise * inverse + z.mT @ z
    expected = centred.mT @ z @ torch.linalg.inv(zz)
    left = (
        centred.square().sum()
        - 2 * (z * (centred @ expected)).sum()
        + torch.trace(zz @ expected.mT @ expected)
    )

    statistics = factor.statistics(x, posterior(factor, x), weight=torch.ones(ROWS))
    factor.maximize(statistics)
    torch.testing.assert_close(factor.weight.detach(), expected)
    torch.testing.assert_close(factor.bias.detach(), x.mean(0))
    torch.testing.assert_close(factor.scale.detach().square(), (left / x.numel()).reshape(1))


def test_an_em_step_is_the_textbook_one_for_factor_analysis() -> None:
    """Rubin & Thayer (1982); Ghahramani & Hinton (1996), eqs. 5-6."""
    x, factor = rows(), linear()
    with torch.no_grad():
        factor.bias.copy_(x.mean(0))
    weight, psi, centred = factor.weight.detach().clone(), factor.scale.detach().square(), x - x.mean(0)
    beta = weight.mT @ torch.linalg.inv(weight @ weight.mT + torch.diag(psi))
    second = centred.mT @ centred
    zz = ROWS * (torch.eye(LATENT) - beta @ weight) + beta @ second @ beta.mT
    expected = second @ beta.mT @ torch.linalg.inv(zz)
    variance = torch.diagonal(second - expected @ beta @ second) / ROWS

    factor.maximize(factor.statistics(x, posterior(factor, x), weight=torch.ones(ROWS)))
    torch.testing.assert_close(factor.weight.detach(), expected)
    torch.testing.assert_close(factor.bias.detach(), x.mean(0))
    torch.testing.assert_close(factor.scale.detach().square(), variance)


@pytest.mark.parametrize("covariance", [lt.Spherical(), lt.Diagonal()])
def test_em_with_missing_cells_increases_the_evidence_and_stops_at_its_maximum(covariance: object) -> None:
    seen = torch.rand(ROWS, ENTRIES, generator=torch.Generator().manual_seed(2)) < 0.7
    seen[0] = False
    x, factor = torch.where(seen, rows(), 0.0), linear(covariance)
    values = [evidence(factor, x, seen)]
    for _ in range(25):
        z, w = posterior(factor, x, seen), torch.ones(ROWS, dtype=torch.float64)
        parts = [slice(0, 13), slice(13, None)]
        sums = [
            factor.statistics(x[p], Moments(z.mean[p], z.covariance[p]), weight=w[p], observed=seen[p])
            for p in parts
        ]
        assert {name: tuple(tensor.shape) for name, tensor in sums[0].items()} == {
            "latent": (1, ENTRIES, LATENT + 1, LATENT + 1),
            "cross": (1, ENTRIES, LATENT + 1),
            "square": (1, ENTRIES),
        }
        factor.maximize({name: sums[0][name] + sums[1][name] for name in sums[0]})
        codes = torch.zeros(1, ROWS, dtype=torch.int64)
        objective = expected_log_prob(
            factor, x, Moments(z.mean[None], z.covariance[None]), w[None], codes, seen
        )
        gradients = torch.autograd.grad(objective, list(factor.parameters()))
        assert all(float(gradient.abs().max()) < 1e-7 for gradient in gradients)
        values.append(evidence(factor, x, seen))
    assert min(np.diff(values)) > 0


@pytest.mark.parametrize("covariance", [lt.Spherical(), lt.Diagonal()])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("codes_seen", [False, True])
def test_with_states_each_maximises_the_expected_log_prob(
    covariance: object, holes: bool, codes_seen: bool
) -> None:
    factor = linear(covariance, given=("k", "z"), states=STATES)
    generator = torch.Generator().manual_seed(3)
    x = rows()
    seen = torch.rand(x.shape, generator=generator) < (0.8 if holes else 2.0)
    if codes_seen:
        codes = torch.randint(STATES, (ROWS,), generator=generator)
        weight = torch.rand(ROWS, generator=generator, dtype=torch.float64)
    else:
        codes = torch.arange(STATES).unsqueeze(-1)
        weight = torch.rand(STATES, ROWS, generator=generator, dtype=torch.float64)
    mean = torch.randn(*weight.shape, LATENT, generator=generator, dtype=torch.float64)
    root = torch.randn(*weight.shape[:-1], 1, LATENT, LATENT, generator=generator, dtype=torch.float64)
    z = Moments(mean, root @ root.mT)
    statistics = factor.statistics(x, codes, z, weight=weight, observed=seen if holes else None)
    factor.maximize(statistics)
    led = codes.expand(weight.shape)
    value = expected_log_prob(factor, x, z, weight, led, seen)
    for gradient in torch.autograd.grad(value, list(factor.parameters())):
        assert float(gradient.abs().max()) < 1e-8


def test_statistics_without_states_sum_over_what_z_depends_on() -> None:
    factor, x = linear(), rows()
    z = posterior(factor, x)
    weight = torch.rand(4, ROWS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    led = Moments(z.mean.expand(4, -1, -1), z.covariance.expand(4, -1, -1, -1))
    one, other = factor.statistics(x, led, weight=weight), factor.statistics(x, z, weight=weight.sum(0))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name])


def test_a_known_z_gives_the_least_squares_regression() -> None:
    factor, z = linear(), rows(7, (ROWS, LATENT))
    x = rows()
    factor.maximize(factor.statistics(x, z, weight=torch.ones(ROWS)))
    design = torch.cat([z, torch.ones(ROWS, 1)], dim=1)
    expected = torch.linalg.lstsq(design, x)
    torch.testing.assert_close(factor.weight.detach(), expected.solution[:LATENT].mT)
    torch.testing.assert_close(factor.bias.detach(), expected.solution[LATENT])
    torch.testing.assert_close(
        factor.scale.detach().square(), (x - design @ expected.solution).square().mean(0)
    )


def test_a_singular_regression_gives_no_nan_and_no_slope() -> None:
    factor, x = linear(), rows()
    z = torch.stack([torch.full((ROWS,), 1e4), torch.full((ROWS,), -3.0)], dim=1).double()
    factor.maximize(factor.statistics(x, z, weight=torch.ones(ROWS)))
    assert not factor.weight.any()
    torch.testing.assert_close(factor.bias.detach(), x.mean(0))
    repeated = rows(7, (ROWS, 1)).expand(-1, LATENT)
    factor.maximize(factor.statistics(x, repeated, weight=torch.ones(ROWS)))
    torch.testing.assert_close(factor.weight[:, 0], factor.weight[:, 1])
    assert all(bool(parameter.isfinite().all()) for parameter in factor.parameters())


def test_a_state_or_an_entry_without_weight_keeps_its_parameters() -> None:
    factor, x = linear(given=("k", "z"), states=STATES), rows()
    before = [parameter.detach().clone() for parameter in factor.parameters()]
    z = rows(7, (ROWS, LATENT))
    seen = torch.ones(x.shape, dtype=torch.bool)
    seen[:, 3] = False
    statistics = factor.statistics(
        x, torch.ones(ROWS, dtype=torch.int64), z, weight=torch.ones(ROWS), observed=seen
    )
    factor.maximize(statistics)
    for old, new in zip(before, factor.parameters(), strict=True):
        assert torch.equal(old[[0, 2]], new[[0, 2]])
        assert torch.equal(old[1, 3], new[1, 3])
        assert (old[1, :3] != new[1, :3]).all()


def test_frozen_parameters_stay_and_the_others_are_the_best_beside_them() -> None:
    x = rows()
    for frozen in ("weight", "bias", "raw_scale"):
        factor = linear()
        getattr(factor, frozen).requires_grad_(False)
        before, z = getattr(factor, frozen).clone(), posterior(factor, x)
        factor.maximize(factor.statistics(x, z, weight=torch.ones(ROWS)))
        assert torch.equal(getattr(factor, frozen), before)
        w, codes = torch.ones(1, ROWS), torch.zeros(1, ROWS, dtype=torch.int64)
        led = Moments(z.mean[None], z.covariance[None])
        value = expected_log_prob(factor, x, led, w, codes, torch.ones(x.shape))
        learnt = [parameter for parameter in factor.parameters() if parameter.requires_grad]
        assert all(float(g.abs().max()) < 1e-8 for g in torch.autograd.grad(value, learnt))
        factor.start(x)
        factor.random_start(x.mean(0), x.var(0))
        assert torch.equal(getattr(factor, frozen), before)


def test_the_noise_is_not_below_its_floor() -> None:
    factor = linear(floor=0.1)
    factor.maximize(
        factor.statistics(torch.ones(ROWS, ENTRIES), rows(7, (ROWS, LATENT)), weight=torch.ones(ROWS))
    )
    torch.testing.assert_close(
        factor.scale.detach(), torch.full((ENTRIES,), 0.1, dtype=torch.float64), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("covariance", [lt.Spherical(), lt.Diagonal()])
def test_log_prob_is_scipys_and_affine_is_the_distribution(covariance: object) -> None:
    factor, x, z = linear(covariance), rows(), rows(7, (ROWS, LATENT))
    weight, bias, scale = (t.detach().numpy() for t in (factor.weight, factor.bias, factor.scale))
    noise = np.diag(np.broadcast_to(scale, ENTRIES) ** 2)
    expected = [
        multivariate_normal(weight @ row + bias, noise).logpdf(value)
        for row, value in zip(z.numpy(), x.numpy(), strict=True)
    ]
    torch.testing.assert_close(factor.log_prob(x, z), torch.tensor(np.array(expected)))
    base = factor.distribution(z).base_dist
    affine, known = factor.affine(None), factor.affine(z)
    torch.testing.assert_close(z @ affine.weights[0].mT + affine.offset, base.loc)
    torch.testing.assert_close(known.offset, base.loc)
    assert known.weights == () and affine.scale.shape == affine.offset.shape == (ENTRIES,)
    torch.testing.assert_close(affine.scale.expand(ROWS, ENTRIES), base.scale)


@pytest.mark.parametrize("event", [ENTRIES, (1, 5, 1)])
@pytest.mark.parametrize("covariance", [lt.Spherical(), lt.Diagonal()])
def test_states_as_codes_enumerated_expanded_and_by_row_agree(covariance: object, event: object) -> None:
    factor = linear(covariance, outputs=event, given=("k", "z"), states=STATES)
    x, z = rows().reshape(ROWS, *factor.event), rows(7, (ROWS, LATENT))
    support = torch.arange(STATES).unsqueeze(-1)
    enumerated = factor.log_prob(x, support, z)
    assert enumerated.shape == (STATES, ROWS)
    for state in range(STATES):
        alone = factor.log_prob(x, torch.full((ROWS,), state), z)
        torch.testing.assert_close(enumerated[state], alone)
    hot = torch.eye(STATES, dtype=torch.float64)[support.expand(STATES, ROWS)]
    torch.testing.assert_close(factor.log_prob(x, hot, z), enumerated)
    samples = z.expand(STATES, 4, ROWS, LATENT)
    for codes in (support.unsqueeze(1), support.unsqueeze(1).expand(STATES, 1, ROWS)):
        sampled = factor.log_prob(x, codes, samples)
        torch.testing.assert_close(sampled, enumerated.unsqueeze(1).expand(STATES, 4, ROWS))
    affine = factor.affine(support, None)
    assert affine.weights[0].shape == (STATES, 1, ENTRIES, LATENT)
    assert affine.offset.shape == affine.scale.shape == (STATES, 1, *factor.event)
    by_row = factor.affine(torch.arange(ROWS) % STATES, None)
    assert by_row.weights[0].shape == (ROWS, ENTRIES, LATENT)
    assert by_row.offset.shape == by_row.scale.shape == (ROWS, *factor.event)
    moved = (z @ affine.weights[0].squeeze(1).mT).reshape(STATES, ROWS, *factor.event) + affine.offset
    torch.testing.assert_close(moved, factor.distribution(support, z).mean)


def test_starts() -> None:
    mean, variance = torch.tensor([1e4, -3.0, 0.0]), torch.tensor([1.0, 4.0, 9.0])
    factor = lt.LinearNormal(3, 2, covariance=lt.Diagonal()).double()
    factor.random_start(mean, variance, torch.Generator().manual_seed(0))
    again = factor.weight.detach().clone()
    factor.random_start(mean, variance, torch.Generator().manual_seed(0))
    assert torch.equal(again, factor.weight)
    torch.testing.assert_close(factor.bias.detach(), mean.double())
    torch.testing.assert_close(factor.scale.detach().square(), variance.double() / 2)
    states = linear(lt.Spherical(), given=("k", "z"), states=STATES)
    kept = states.weight[2].detach().clone()
    x, weight = rows(), torch.zeros(STATES, ROWS)
    weight[0, :20], weight[1, 20:] = 1, 0.5
    states.start(x, weight)
    for state, part in enumerate((x[:20], x[20:])):
        torch.testing.assert_close(states.weight[state].detach(), principal_axes_of(part, LATENT).weight)
        torch.testing.assert_close(states.bias[state].detach(), part.mean(0))
    assert torch.equal(states.weight[2], kept)


def test_parameters_that_a_rotation_leaves_are_counted() -> None:
    assert linear(lt.Spherical()).free_parameters == 5 * 2 - 1 + 5 + 1
    assert linear(given=("k", "z"), states=STATES).free_parameters == STATES * (5 * 2 - 1 + 5 + 5)
    frozen = linear()
    frozen.bias.requires_grad_(False)
    assert frozen.free_parameters == 5 * 2 - 1 + 5
    small = lt.LinearNormal(3, 2, covariance=lt.Diagonal())
    assert small.free_parameters == 3 + 6  # 3 * 2 - 1 + 3 numbers of a covariance with no more than 6
    assert lt.LinearNormal(4, 3).free_parameters == 4 + 10


def test_what_cannot_be_is_refused() -> None:
    for options in ({"latent": 0}, {"states": 0, "given": ("k", "z")}):
        with pytest.raises(ValueError, match="must be at least 1"):
            linear(**options)
    with pytest.raises(ValueError, match="floor must be positive"):
        linear(floor=0.0)
    with pytest.raises(ValueError, match=r"two parents, as given=\('k', 'z'\)"):
        linear(states=2)
    with pytest.raises(TypeError, match="Spherical"):
        linear(lt.Full())
    with pytest.raises(ValueError, match="2 entries, got 3"):
        linear().log_prob(rows(), rows(7, (ROWS, 3)))
    with pytest.raises(ValueError, match="1 to 4 latent dimensions, got latent=5"):
        principal_axes_of(rows(), 5)
    with pytest.raises(ValueError, match="not finite"):
        principal_axes_of(torch.full((9, 3), math.nan), 1)
    with pytest.raises(ValueError, match="there are no rows"):
        summarise(rows(), torch.zeros(ROWS))
    with pytest.raises(TypeError, match="takes no prior"):
        linear().maximize({}, lt.Diagonal())
    with pytest.raises(ValueError, match="no state None"):
        linear(given=("k", "z"), states=2).set_axes(principal_axes_of(rows(), LATENT))
