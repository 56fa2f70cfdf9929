"""Diagnostics against closed forms on models whose posteriors are known."""

from __future__ import annotations

import pytest
import torch

import latentia as lt
from latentia.diagnostics import activity, collapse_warning, count_active, total_kl


def linear_model(slopes: list[float], scale: float, covariance: object = None) -> lt.Model:
    """q(z_d | x) = N(slope_d x_d, scale^2) beside a standard normal prior; x of as many dimensions."""
    size = len(slopes)
    p = lt.Joint(z=lt.StandardNormal(size), x=lt.Normal(lt.MLP(size, size, ()), given="z", scale=1.0))
    net = lt.MLP(size, size, ())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.layers[0].weight.copy_(torch.diag(torch.tensor(slopes)))
    return lt.Model(p, lt.Joint(z=lt.Normal(net, given="x", scale=scale))).double()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_activity_is_the_variance_of_the_posterior_mean(x: torch.Tensor) -> None:
    found = activity(linear_model([2.0, 0.05, 0.0], 0.5), x)
    expected = (torch.tensor([2.0, 0.05, 0.0], dtype=torch.float64) * x).var(0, correction=0)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_a_unit_is_active_above_a_hundredth(x: torch.Tensor) -> None:
    active = lt.diagnostics.active_units(linear_model([2.0, 0.05, 0.0], 0.5), x)
    assert active.tolist() == [True, False, False]
    assert count_active(active) == (1, 3)


def test_kl_per_dimension_is_the_closed_form_and_sums_to_the_elbos(x: torch.Tensor) -> None:
    model = linear_model([2.0, 0.5, 0.0], 0.5)
    found = lt.diagnostics.kl_per_dimension(model, x)
    mean = torch.tensor([2.0, 0.5, 0.0], dtype=torch.float64) * x
    sigma = torch.tensor(0.5, dtype=torch.float64)
    expected = (0.5 * (sigma**2 + mean**2 - 1) - sigma.log()).mean(0)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    kl = lt.log_evidence(model, x, "elbo", 2).terms["kl"]
    assert found.sum().item() == pytest.approx(kl, rel=1e-9)
    assert total_kl(model, x) == pytest.approx(kl, rel=1e-9)


def test_it_does_not_depend_on_how_rows_are_batched(x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear_model([2.0, 0.5, 0.0], 0.5)
    whole = lt.diagnostics.kl_per_dimension(model, x)
    monkeypatch.setattr("latentia.diagnostics._rows.CHUNK", 7)
    torch.testing.assert_close(lt.diagnostics.kl_per_dimension(model, x), whole)


def test_a_full_covariance_has_no_kl_per_dimension() -> None:
    model = lt.models.vae(event=3, latent=2, hidden=(), covariance=lt.Full())
    assert lt.diagnostics.kl_per_dimension(model, torch.randn(5, 3)) is None


def test_several_latent_variables_come_as_a_dict() -> None:
    mlp = lt.MLP
    p = lt.Joint(
        b=lt.StandardNormal(2),
        a=lt.Normal(mlp(2, 6, ()), given="b"),
        x=lt.Normal(mlp(3, 4, ()), given="a", scale=1.0),
    )
    q = lt.Joint(a=lt.Normal(mlp(4, 6, ()), given="x"), b=lt.Normal(mlp(3, 4, ()), given="a"))
    x = torch.randn(20, 4)
    model = lt.Model(p, q)
    assert {name: tuple(t.shape) for name, t in activity(model, x).items()} == {"a": (3,), "b": (2,)}
    kl = lt.diagnostics.kl_per_dimension(model, x)
    assert tuple(kl.shape) == (2,), "a's KL depends on b, which q draws after it"


def test_collapse_is_told_and_its_absence_is_not(x: torch.Tensor) -> None:
    assert collapse_warning(linear_model([2.0, 1.0, 0.0], 0.5), x) is None
    wholly = collapse_warning(linear_model([0.0, 0.0, 0.0], 1.0), x)
    assert wholly is not None
    assert wholly.startswith("The posterior has collapsed")
    assert "0 of 3 units" in wholly
    mostly = collapse_warning(linear_model([2.0, 0.0, 0.0], 0.9), x)
    assert mostly is not None
    assert "1 of 3" in mostly
    for remedy in ("linear_warmup", "--free-bits", "smaller beta", "capacity"):
        assert remedy in wholly
        assert remedy in mostly


def test_models_without_a_posterior_are_refused(x: torch.Tensor) -> None:
    encoder = lt.models.autoencoder(event=3, latent=2, hidden=()).double()
    for diagnose in (activity, lt.diagnostics.kl_per_dimension):
        with pytest.raises(ValueError, match="reconstructions and no evidence"):
            diagnose(encoder, x)
    assert collapse_warning(encoder, x) is None
    with pytest.raises(ValueError, match="at least two"):
        activity(linear_model([1.0, 1.0, 1.0], 0.5), x[:1])
