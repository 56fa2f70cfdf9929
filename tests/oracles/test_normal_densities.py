"""Densities of Normal where examples share covariances, and its affine form, against torch's Gaussian."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

import latentia as lt
from latentia.factors.gaussian import FullNormal, LowRankNormal, tril_of
from tests.oracles.linear_gaussian import as_multivariate
from tests.oracles.normals import OPTIONS, PRECISION, made, rows, support


def shared_covariances() -> Iterator[tuple[lt.Normal, list[Tensor], Tensor]]:
    """Factors with parents and values, in each way in which values can share covariances."""
    x = rows(7, 30)
    for kind in ("full", "tied"):
        yield made(kind, 1, 30), [], x
        yield made(kind, 1, 30), [], x.expand(2, 7, 30) + torch.ones(2, 1, 1).double()
        yield made(kind, 4, 30), support(4), x
        yield made(kind, 4, 30), [torch.arange(4).reshape(2, 2, 1)], x
        yield made(kind, 4, 30), support(4), x.expand(4, 7, 30)
        yield made(kind, 4, 30), [torch.tensor([0, 1, 3, 2, 1, 0, 0])], x
        yield made(kind, 4, 30), [torch.tensor([2])], x[:1]


def test_log_prob_of_shared_covariances_is_the_textbook_density() -> None:
    for factor, parents, x in shared_covariances():
        distribution = factor.distribution(*parents)
        known = MultivariateNormal(distribution.mean, scale_tril=tril_of(distribution)).log_prob(x)
        log_p = distribution.log_prob(x)
        torch.testing.assert_close(log_p, known, **PRECISION)
        parameters = list(factor.parameters())
        expected = torch.autograd.grad(known.sum(), parameters, retain_graph=True)
        for gradient, other in zip(torch.autograd.grad(log_p.sum(), parameters), expected, strict=True):
            torch.testing.assert_close(gradient, other, **PRECISION)
        with torch.no_grad():
            again = factor.distribution(*parents)
            for _ in range(2):
                torch.testing.assert_close(again.log_prob(x), known, **PRECISION)
        first = factor.distribution(*parents)
        with torch.no_grad():
            first.log_prob(x)
        assert first.log_prob(x).requires_grad


def test_affine_is_the_distribution() -> None:
    for kind in OPTIONS:
        factor = made(kind, 4)
        for parents in (support(4), [torch.tensor([3, 0, 1])]):
            affine, distribution = factor.affine(*parents), as_multivariate(factor.distribution(*parents))
            assert affine is not None and affine.weights == ()
            torch.testing.assert_close(affine.offset, distribution.mean)
            tril = affine.scale if affine.full else torch.diag_embed(affine.scale)
            expected = distribution.covariance_matrix
            torch.testing.assert_close((tril @ tril.mT).expand(expected.shape), expected)
    standard = lt.StandardNormal((2, 2)).affine()
    assert standard is not None
    assert torch.equal(standard.offset, torch.zeros(2, 2)) and torch.equal(standard.scale, torch.ones(2, 2))


@pytest.mark.parametrize(
    "options",
    [{"scale": "learnt"}, {"scale": 0.5}, {"scale": torch.rand(4) + 0.1}, {"covariance": lt.Tied()}],
)
def test_affine_of_a_linear_net_splits_its_columns(options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    y, z = (torch.randn(2, 5, width, generator=generator).double() for width in (2, 3))
    factor = lt.Normal(lt.MLP(5, 4), given=("y", "z"), **options).double()
    factor.bind([1, 1])
    affine, distribution = factor.affine(y, None), as_multivariate(factor.distribution(y, z))
    assert affine is not None and [w.shape for w in affine.weights] == [(4, 3)]
    torch.testing.assert_close(z @ affine.weights[0].mT + affine.offset, distribution.mean)
    tril = affine.scale if affine.full else torch.diag_embed(affine.scale)
    torch.testing.assert_close((tril @ tril.mT).expand(2, 5, 4, 4), distribution.covariance_matrix)
    assert factor.affine(None, None) is None


def test_affine_keeps_the_shape_of_images_and_is_none_where_the_factor_is_not_linear() -> None:
    image = lt.Normal(lt.MLP(2, (1, 2, 3)), given="z", scale=0.5)
    affine = image.affine(None)
    assert affine is not None and affine.weights[0].shape == (6, 2)
    assert affine.offset.shape == affine.scale.shape == (1, 2, 3)
    assert lt.Normal(lt.MLP(2, 3, hidden=(4,)), given="z", scale=0.5).affine(None) is None
    assert lt.Normal(lt.MLP(2, 6), given="z").affine(None) is None
    assert lt.Normal(lt.MLP(2, 3, missing=True), given="z", scale=0.5).affine(None) is None


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
@pytest.mark.parametrize("pattern", ["scattered", "the same", "none", "all"])
def test_missing_entries_by_their_block_of_the_precision(lead: tuple[int, ...], pattern: str) -> None:
    """Without gradients, the quick way: the marginal density of each row, and the textbook's conditional."""
    generator, d, rows = torch.Generator().manual_seed(0), 5, 6
    tril = torch.randn(*lead, *(1,) * bool(lead), d, d, generator=generator, dtype=torch.float64).tril()
    tril.diagonal(dim1=-2, dim2=-1).abs_().add_(0.3)
    loc = 100 + torch.randn(*lead, *(1,) * bool(lead), d, generator=generator, dtype=torch.float64)
    x = 100 + torch.randn(rows, d, generator=generator, dtype=torch.float64)
    some = torch.rand(rows, d, generator=generator) < 0.5
    some[0], some[1] = True, False
    seen = {
        "scattered": some,
        "the same": some[2:3].expand(rows, d),
        "none": torch.zeros_like(some),
        "all": torch.ones_like(some),
    }[pattern]
    normal = FullNormal(loc, tril)
    with torch.no_grad():
        density = normal.marginal_log_prob(torch.where(seen, x, torch.zeros_like(x)), seen)
        mean, covariance = normal.conditional(torch.where(seen, x, torch.zeros_like(x)), seen)
    slow = normal.marginal_log_prob(x, seen)
    torch.testing.assert_close(density, slow, rtol=1e-10, atol=1e-10)
    for part, whole in zip((mean, covariance), normal.conditional(x, seen), strict=True):
        torch.testing.assert_close(part, whole.expand_as(part), rtol=1e-9, atol=1e-9)
    sigma = (tril @ tril.mT).reshape(-1, d, d)
    for place, (mu, s) in enumerate(zip(loc.reshape(-1, d), sigma, strict=True)):
        for b in range(rows):
            o, m = seen[b].nonzero().flatten(), (~seen[b]).nonzero().flatten()
            gain = s[m][:, o] @ torch.linalg.inv(s[o][:, o]) if len(o) else s.new_zeros(len(m), 0)
            expected = x[b].clone()
            expected[m] = mu[m] + gain @ (x[b, o] - mu[o])
            left = torch.zeros(d, d, dtype=torch.float64)
            left[m.unsqueeze(1), m] = s[m][:, m] - gain @ s[o][:, m]
            torch.testing.assert_close(mean.reshape(-1, rows, d)[place, b], expected)
            own = covariance.expand(*lead, rows, d, d).reshape(-1, rows, d, d)[place, b]
            torch.testing.assert_close(own, left, rtol=1e-8, atol=1e-9)


def test_quick_marginals_stay_accurate_in_float32_far_from_the_origin() -> None:
    generator = torch.Generator().manual_seed(0)
    tril = torch.eye(20) + 0.3 * torch.randn(2, 1, 20, 20, generator=generator).tril(-1)
    loc = 1e4 + torch.randn(2, 1, 20, generator=generator)
    x, seen = loc[0] + torch.randn(30, 20, generator=generator), torch.rand(30, 20, generator=generator) < 0.8
    with torch.no_grad():
        quick = FullNormal(loc, tril).marginal_log_prob(x, seen)
    exact = FullNormal(loc.double(), tril.double()).marginal_log_prob(x.double(), seen)
    torch.testing.assert_close(quick.double(), exact, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-3])
def test_a_low_rank_density_keeps_its_digits_beside_small_noise(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    factor = 100 * torch.randn(3, 1, 8, 2, generator=generator)
    inner, outer = (torch.randn(5, size, generator=generator) for size in (2, 8))
    x = inner @ factor[0, 0].mT + scale * outer
    loc, noise = torch.zeros(3, 1, 8), torch.full((3, 1, 8), scale)
    single = LowRankNormal(loc, factor, noise).log_prob(x)[0]
    double = LowRankNormal(loc.double(), factor.double(), noise.double()).log_prob(x.double())[0]
    covariance = factor[0, 0].double() @ factor[0, 0].double().mT + scale**2 * torch.eye(8).double()
    known = MultivariateNormal(loc[0].double(), covariance).log_prob(x.double())
    torch.testing.assert_close(double, known, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(single.double(), known, rtol=0, atol=1e-4 + 1e-4 / scale)
