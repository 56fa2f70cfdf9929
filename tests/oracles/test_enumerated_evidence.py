"""Discrete latents summed over by name, in bounds that draw the others: exact in what is enumerated."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.factor import NotEnumerableError

SPREAD, NOISE, SLOPE, SHIFT = 0.8, 0.5, 1.5, 0.4
CENTRES = (-2.0, 3.0)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture() -> lt.Model:
    """A mixture whose q(k | x) is a net at random."""
    p = lt.Joint(k=lt.Categorical(3), x=lt.Normal(lt.Table(3, 4), given="k"))
    model = lt.Model(p, lt.Joint(k=lt.Categorical(lt.MLP(2, 3), given="x"))).double()
    for seed, parameter in enumerate(model.parameters()):
        parameter.data.copy_(numbers(*parameter.shape, seed=seed))
    return model


def clustered_latent() -> lt.Model:
    """p(k) p(z | k) p(x | z) in one dimension: q(z | k, x) is the posterior, and q(k | x) is not."""
    z = lt.Normal(lt.Table(2, 1), given="k", scale=torch.tensor(SPREAD, dtype=torch.float64))
    x = lt.Normal(lt.MLP(1, 1), given="z", scale=torch.tensor(NOISE, dtype=torch.float64))
    q_z = lt.Normal(lt.MLP(3, 1), given=("x", "k"), scale=torch.tensor(1.0, dtype=torch.float64))
    q = lt.Joint(k=lt.Categorical(lt.MLP(1, 2), given="x"), z=q_z)
    model = lt.Model(lt.Joint(k=lt.Categorical(2), z=z, x=x), q).double()
    variance = 1 / (SPREAD**-2 + (SLOPE / NOISE) ** 2)
    slope, centres = variance * SLOPE / NOISE**2, torch.tensor(CENTRES, dtype=torch.float64)
    with torch.no_grad():
        model.p["z"].net.weight.copy_(centres.unsqueeze(1))
        model.p["x"].net.layers[0].weight.fill_(SLOPE)
        model.p["x"].net.layers[0].bias.fill_(SHIFT)
        model.q["k"].net.layers[0].weight.copy_(numbers(2, 1))
        model.q["z"].net.layers[0].weight.copy_(
            torch.cat([torch.tensor([slope], dtype=torch.float64), variance / SPREAD**2 * centres])
        )
        model.q["z"].net.layers[0].bias.fill_(-slope * SHIFT)
        model.q["z"].fixed_scale.fill_(math.sqrt(variance))
    return model


def test_many_states_are_summed_over_only_where_that_is_asked_for() -> None:
    few, many = (
        lt.Model(
            lt.Joint(h=lt.Bernoulli(lt.Constant(bits)), x=lt.Bernoulli(lt.MLP(bits, 3), given="h")),
            lt.Joint(h=lt.Bernoulli(lt.MLP(3, bits), given="x")),
        )
        for bits in (4, 14)
    )
    x = torch.ones(2, 3)
    assert lt.log_evidence(few, x).direction == "exact"
    assert lt.log_evidence(many, x, samples=9).name == "L_9"
    exact = lt.log_evidence(many, x, "exact")
    assert exact.direction == "exact"
    bound = lt.log_evidence(many, x, samples=5000)
    assert abs(bound.mean - exact.mean) < 5 * bound.mc_error + 1e-3


@pytest.mark.parametrize("method", ["importance", "naive"])
def test_with_every_latent_enumerated_nothing_is_left_to_chance(method: str) -> None:
    model, x = mixture(), numbers(7, 2)
    exact = lt.log_evidence(model, x, "exact")
    found = lt.log_evidence(model, x, method, samples=3, enumerate="k")
    torch.testing.assert_close(found.values, exact.values, rtol=1e-12, atol=0)
    assert found.direction == "exact" and found.mc_error == 0


def test_an_enumerated_elbo_is_the_expectation_over_q() -> None:
    model, x = mixture(), numbers(7, 2)
    log_q = torch.log_softmax(model.q["k"].net(x), -1)  # [B, K]
    log_p = torch.stack([model.p.log_prob({"k": torch.full((7,), k), "x": x}) for k in range(3)], -1)
    found = lt.log_evidence(model, x, "elbo", samples=20, enumerate=("k",))
    torch.testing.assert_close(found.values, (log_q.exp() * (log_p - log_q)).sum(-1), rtol=1e-12, atol=0)
    assert found.mc_error < 1e-12 and found.direction == "lower"
    assert lt.log_evidence(model, x, "elbo", samples=20).mc_error > 1e-3


def test_what_is_drawn_beside_it_is_weighed_for_each_state() -> None:
    """At the posterior q(z | k, x) each sum_k p(x, k, z_k) / q(z_k | k, x) is p(x), whatever q(k | x)."""
    model, x = clustered_latent(), 3 * numbers(9, 1)
    with torch.no_grad():
        exact = lt.Exact(model.p).log_evidence({"x": x})
    found = lt.log_evidence(model, x, "importance", samples=5, enumerate=["k"], rows_per_batch=4)
    torch.testing.assert_close(found.values, exact, rtol=1e-10, atol=1e-10)
    drawn = lt.log_evidence(model, x, "importance", samples=5)
    assert (drawn.values - exact).abs().max() > 0.01
    naive = lt.log_evidence(model, x, "naive", samples=4000, enumerate="k")
    assert ((naive.values - exact).abs() < 5 * naive.mc_errors).all()


@pytest.mark.parametrize(
    ("method", "names", "error", "sentence"),
    [
        ("elbo", "c", ValueError, "'c' cannot be enumerated: it is no latent variable, there are 'k', 'z'"),
        ("importance", ("k", "x"), ValueError, "'x' cannot be enumerated: it is no latent variable"),
        ("importance", ("k", "z"), NotEnumerableError, "'z' cannot be enumerated: the values of Normal"),
        ("ais", "k", ValueError, "method 'ais' takes no enumerate=: 'elbo', 'importance' and 'naive' do"),
    ],
)
def test_what_cannot_be_enumerated_is_refused(
    method: str, names: str | tuple[str, ...], error: type[ValueError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        lt.log_evidence(clustered_latent(), numbers(3, 1), method, samples=2, enumerate=names)
