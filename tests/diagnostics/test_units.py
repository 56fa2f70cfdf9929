"""Diagnostics against closed forms on models whose posteriors are known."""

from __future__ import annotations

import pytest
import torch

import latentia as lt
from latentia.diagnostics import activity, collapse_warning, count_active, total_kl
from latentia.diagnostics.layers import kl_drawn, kl_pair, latent_parents, why_no_unit_kl


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


def test_the_kl_of_a_second_layer_is_a_mean_over_draws_of_the_first() -> None:
    model = lt.models.helmholtz_machine(4, (3, 2), likelihood="bernoulli").double()
    x = (torch.rand(3000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) < 0.4).double()
    x = x[:1].expand(20000, -1)  # one row, drawn from often
    with torch.no_grad():
        for parameter in model.q["h2"].parameters():
            parameter.mul_(8)
        states, prior = model.p["h1"].support(), model.p["h2"].net.value.sigmoid()
        weights = torch.stack([model.q["h1"].log_prob(h.expand(1, -1), x[:1]) for h in states]).exp()
        on = model.q["h2"].net(states).sigmoid()
        kl = on * (on / prior).log() + (1 - on) * ((1 - on) / (1 - prior)).log()
    expected = (weights * kl).sum(0)
    error = ((weights * kl.square()).sum(0) - expected.square()).sqrt() / len(x) ** 0.5
    found = lt.diagnostics.kl_per_dimension(model, x, seed=0)
    assert ((found - expected).abs() < 4.5 * error).all(), (found, expected, error)


def ladder() -> lt.Model:
    """q(b | x) q(a | x, b) beside p(b) p(a | b): the KL of both layers splits."""
    mlp = lt.MLP
    p = lt.Joint(
        b=lt.StandardNormal(2),
        a=lt.Normal(mlp(2, 6, ()), given="b"),
        x=lt.Normal(mlp(3, 4, ()), given="a", scale=1.0),
    )
    q = lt.Joint(b=lt.Normal(mlp(4, 4, ()), given="x"), a=lt.Normal(mlp(6, 6, ()), given=("x", "b")))
    return lt.Model(p, q)


def test_the_words_on_layers_are_those_of_the_graphs() -> None:
    machine = lt.models.helmholtz_machine(4, (3, 2), likelihood="bernoulli")
    assert latent_parents(machine) == {"h2": ("h1",)}
    assert kl_pair(machine, "h2") == ("q(u | h1)", "p(u)")
    assert kl_drawn(machine, ("h2",)) == ("h1",)
    assert why_no_unit_kl(machine, "h1").endswith("as its prior depends on h2, which q draws after it")
    assert latent_parents(ladder()) == {"a": ("b",)}
    assert [kl_pair(ladder(), name) for name in "ba"] == [("q(u | x)", "p(u)"), ("q(u | x, b)", "p(u | b)")]
    assert set(lt.diagnostics.kl_per_dimension(ladder(), torch.randn(5, 4))) == {"a", "b"}
    one = lt.models.vae(event=3, latent=2, hidden=(), covariance=lt.Full())
    assert latent_parents(one) == {} and kl_drawn(one, ("z",)) == ()
    assert "no closed form" in why_no_unit_kl(one, "z")


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


def test_the_remedies_of_discrete_latents_are_their_own() -> None:
    p = lt.Joint(h=lt.Bernoulli(lt.Constant(4)), x=lt.Bernoulli(lt.MLP(4, 5), given="h"))
    q = lt.Joint(h=lt.Bernoulli(lt.MLP(5, 4), given="x"))
    with torch.no_grad():
        p["h"].net.value.zero_()
        for parameter in q.parameters():
            parameter.zero_()
    told = collapse_warning(lt.Model(p, q), torch.ones(6, 5))
    assert told is not None and "vimco" in told and "--samples" in told
    assert "beta" not in told and "free bits" not in told


def test_units_are_counted_only_where_there_are_some() -> None:
    p = lt.Joint(k=lt.Categorical(3), x=lt.Bernoulli(lt.MLP(3, 5), given="k"))
    q = lt.Joint(k=lt.Categorical(lt.MLP(5, 3), given="x"))
    with torch.no_grad():
        for parameter in (*q.parameters(), *p["k"].parameters()):
            parameter.zero_()
    told = collapse_warning(lt.Model(p, q), torch.ones(6, 5))
    assert told is not None and "nats)" in told and "units active" not in told
    alone = collapse_warning(linear_model([0.0, 0.0, 0.0], 1.0), torch.ones(1, 3).double())
    assert alone is not None and "units active" not in alone


def test_a_posterior_that_is_alike_for_all_x_is_not_called_the_prior(x: torch.Tensor) -> None:
    told = collapse_warning(linear_model([0.0, 0.0, 0.0], 0.5), x)
    assert told is not None and "the mean of q(z | x) is the same whatever x is" in told
    assert "is the prior" not in told


def test_models_without_a_posterior_are_refused(x: torch.Tensor) -> None:
    encoder = lt.models.autoencoder(event=3, latent=2, hidden=()).double()
    for diagnose in (activity, lt.diagnostics.kl_per_dimension):
        with pytest.raises(ValueError, match="reconstructions and no evidence"):
            diagnose(encoder, x)
    assert collapse_warning(encoder, x) is None
    with pytest.raises(ValueError, match="at least two"):
        activity(linear_model([1.0, 1.0, 1.0], 0.5), x[:1])
