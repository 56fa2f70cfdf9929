"""PPCA of digits / 16, whose evidence is known: 17.4519 nats with 10 latents, 27.2773 with 20."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

import latentia as lt

KNOWN = {10: 17.4519, 20: 27.2773}


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.tensor(load_digits().data / 16)


def ppca(digits: Tensor, latent: int) -> lt.Model:
    """Maximum likelihood, and for q a net that is the posterior made wider by a tenth."""
    model = lt.models.ppca(event=64, latent=latent).double()
    lt.fit(model, digits, progress=False)
    factor = model.p["x"]
    weight, scale = factor.weight.detach().reshape(64, latent), factor.scale.detach().reshape(())
    precision = torch.eye(latent).double() + weight.T @ weight / scale**2
    gain = torch.linalg.solve(precision, weight.T) / scale**2
    width = 1.1 * precision.diagonal().rsqrt()  # of maximum likelihood, whose weight has orthogonal columns
    q = lt.Joint(z=lt.Normal(lt.MLP(64, latent), given="x", scale=width)).double()
    encoder = q["z"].net
    assert isinstance(encoder, lt.MLP)
    with torch.no_grad():
        encoder.layers[0].weight.copy_(gain)
        encoder.layers[0].bias.copy_(-gain @ factor.bias.detach().reshape(64))
    return lt.Model(model.p, q)


def test_importance_is_within_a_hundredth_of_a_nat(digits: Tensor) -> None:
    model = ppca(digits, 10)
    assert lt.log_evidence(model, digits, "exact").mean == pytest.approx(KNOWN[10], abs=2e-4)
    found = lt.log_evidence(model, digits, "importance", 100)
    assert found.direction == "lower" and not found.caution
    assert found.mean == pytest.approx(KNOWN[10], abs=0.01)
    assert found.mean < lt.log_evidence(model, digits, "exact").mean + 4 * found.mc_error


def test_annealing_at_its_defaults_is_within_its_error_bar(digits: Tensor) -> None:
    model, rows = ppca(digits, 10), digits[:12]
    exact, found = (lt.log_evidence(model, rows, method) for method in ("exact", "ais"))
    assert found.samples == 16 and found.direction == "lower"
    assert found.mc_error < 0.1
    assert abs(found.mean - exact.mean) < 4 * found.mc_error
    ratio = (found.values - exact.values) / found.mc_errors
    assert float(ratio.abs().max()) < 6  # of 12 rows, by 16 chains each


def test_naive_monte_carlo_fails_at_twenty_latents_and_says_so(digits: Tensor) -> None:
    found = lt.log_evidence(ppca(digits, 20), digits[:100], "naive")
    exact = lt.log_evidence(ppca(digits, 20), digits[:100], "exact")
    assert exact.mean - found.mean > 20
    assert found.mc_error < 1  # what it claims
    assert "effective sample size is 1." in found.caution
    assert "draws from the prior rarely meet the posterior" in found.caution
