"""The linear VAE is PPCA: its best ELBO is the evidence, and the noise decides how many dimensions live.

Lucas, Tucker, Grosse & Norouzi (2019), "Don't blame the ELBO!".
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.datasets import load_digits
from torch import Tensor

import latentia as lt
from latentia.factors._tabular import inverse_softplus_of
from latentia.factors.normal import LEARNT_RATE
from latentia.factors.principal import principal_axes_of

from .linear_gaussian import sigma_points

DIGITS = torch.from_numpy(load_digits().data / 16)
PPCA, NOISE = 17.4519, 0.022751  # maximum likelihood with 10 latents


def elbo_of(model: lt.Model, x: Tensor) -> Tensor:
    """The ELBO of each row without Monte Carlo error: log p(x | z) is quadratic in z."""
    noise, samples = sigma_points(lambda noise, s: model.q.complete({"x": x}, noise, s))
    with torch.no_grad():
        return lt.elbo(model.p, model.q, {"x": x}, noise, samples=samples).value


def scale_of(model: lt.Model) -> float:
    distribution = model.p["x"].distribution(torch.zeros(1, 10).to(model.dtype))
    return float(distribution.base_dist.scale.detach().flatten()[0])


def test_the_elbo_of_a_linear_vae_reaches_ppcas_likelihood_and_never_passes_it() -> None:
    model = lt.models.linear_vae(64, 10)
    adam = partial(torch.optim.Adam, lr=0.1, betas=(0.9, 0.95), fused=True)
    options = {"steps": 1000, "batch": 600, "optimizer": adam, "schedule": "cosine", "progress": False}
    lt.fit(model, DIGITS.float(), lt.elbo, **options)
    model = model.double()
    exact, bound = lt.log_evidence(model, DIGITS, "exact"), elbo_of(model, DIGITS)
    assert exact.direction == "exact"
    assert exact.mean < PPCA + 1e-4
    assert (bound < exact.values + 1e-9).all()
    assert 0 < PPCA - float(bound.mean()) < 0.1
    assert scale_of(model) ** 2 == pytest.approx(NOISE, rel=0.01)
    axes = principal_axes_of(DIGITS, 10).weight.numpy()
    angles = np.rad2deg(subspace_angles(model.p["x"].net.layers[0].weight.detach().numpy(), axes))
    assert angles.max() < 5


def test_with_the_exact_posterior_as_encoder_there_is_no_gap_at_all() -> None:
    model, axes = lt.models.linear_vae(64, 10).double(), principal_axes_of(DIGITS, 10)
    precision = (
        1 + axes.weight.square().sum(0) / axes.noise
    )  # of z given x, diagonal: the axes are orthogonal
    decoder, encoder = model.p["x"], model.q["z"].net.layers[0]
    with torch.no_grad():
        decoder.net.layers[0].weight.copy_(axes.weight)
        decoder.net.layers[0].bias.copy_(axes.mean)
        decoder.raw_scale.copy_(inverse_softplus_of(axes.noise.sqrt() - decoder.floor) / LEARNT_RATE)
        gain = axes.weight.mT / axes.noise / precision.unsqueeze(1)
        scale = inverse_softplus_of(precision.rsqrt() - model.q["z"].floor)
        encoder.weight.copy_(torch.cat([gain, torch.zeros_like(gain)]))
        encoder.bias.copy_(torch.cat([-gain @ axes.mean, scale]))
    bound = elbo_of(model, DIGITS)
    torch.testing.assert_close(bound, lt.log_evidence(model, DIGITS, "exact").values, rtol=1e-9, atol=1e-9)
    assert float(bound.mean()) == pytest.approx(PPCA, abs=5.1e-5)


@pytest.mark.parametrize("way", ["em", "gradient"])
def test_noise_held_above_an_eigenvalue_collapses_its_dimension(way: str) -> None:
    x = DIGITS[:, 20:28]
    values, vectors = torch.linalg.eigh(torch.cov(x.mT, correction=0))
    held = float(values[-3:-1].prod().sqrt())  # between the second and the third
    factor = lt.LinearNormal(8, 4)
    p = lt.Joint(z=lt.StandardNormal(4), x=factor)
    model = lt.Model(p, lt.Exact(p)).double()
    with torch.no_grad():
        factor.raw_scale.fill_(math.log(math.sqrt(held) - factor.floor) / LEARNT_RATE)
    factor.raw_scale.requires_grad_(False)
    if way == "em":
        lt.fit(model, x, start="random", tol=1e-14, steps=3000, progress=False)
    else:
        options = {"steps": 300, "batch": len(x), "lr": 0.05, "schedule": "cosine", "progress": False}
        lt.fit(model, x, lt.elbo, samples=1, **options)
    assert float(factor.scale.detach().square()) == pytest.approx(held, rel=1e-6)
    signal = factor.weight.detach() @ factor.weight.detach().mT
    kept = vectors[:, -2:] * (values[-2:] - held)
    torch.testing.assert_close(signal, kept @ vectors[:, -2:].mT, rtol=0, atol=1e-3)
    with torch.no_grad():
        posterior = model.q.posterior({"x": x}).gaussian
    alive = torch.linalg.eigvalsh(posterior.covariance_matrix.reshape(-1, 4, 4)[0])
    expected = torch.cat([held / values[-2:].flip(0), torch.ones(2)])  # of a collapsed dimension, the prior's
    torch.testing.assert_close(alive, expected, rtol=0, atol=1e-3)
