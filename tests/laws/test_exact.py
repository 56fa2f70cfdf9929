"""Exact inference: for every model of the registry it is Bayes' rule, and the bounds have no gap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

import latentia as lt
from latentia.exact import NotExactError
from latentia.factor import NotEnumerableError
from latentia.joint import MASK
from latentia.noise import GivenNoise, Noise, Request, draw_noise

from .exact_models import CASES, ROWS, brute_evidence, brute_force, cases

EVERY = pytest.mark.parametrize(("name", "how"), cases())
LAWS = {"rtol": 1e-9, "atol": 1e-9}


class Points:
    """Noise whose mean is 0 and whose covariance is I over its 2 M samples: +- sqrt(M) times each axis."""

    def take(self, key: str, request: Request) -> Tensor:
        size = request.shape[-1]
        axes = math.sqrt(size) * torch.eye(size, dtype=torch.float64)
        points = torch.cat([axes, -axes]).unsqueeze(1)  # [S, 1, M]
        return points.expand(request.shape)

    def sample(self, distribution: object) -> Tensor:
        raise AssertionError("exact draws take their noise as it is given")


def gradients(value: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    return torch.autograd.grad(value.sum(), parameters, **options)


@EVERY
def test_the_evidence_and_its_gradient_are_those_of_brute_force(name: str, how: str) -> None:
    exact = CASES[name].exact()
    values = CASES[name].values(exact, how)
    learnt = [parameter for parameter in exact.p.parameters() if parameter.requires_grad]
    evidence, expected = exact.log_evidence(values), brute_evidence(exact, values)
    torch.testing.assert_close(evidence, expected, **LAWS)
    gradient = gradients(expected, learnt)
    bound = lt.elbo(exact.p, exact, values, Noise(1, dtype=torch.float64), samples=2)
    for total in (evidence, bound.surrogate):
        for one, other in zip(gradients(total, learnt), gradient, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@EVERY
@pytest.mark.parametrize("samples", [1, 3])
def test_the_bounds_are_the_evidence_whatever_is_drawn(name: str, how: str, samples: int) -> None:
    exact = CASES[name].exact()
    values = CASES[name].values(exact, how)
    with torch.no_grad():
        evidence = exact.log_evidence(values)
        for objective in (lt.elbo, lt.iwae):
            bound = objective(exact.p, exact, values, Noise(samples, dtype=torch.float64), samples=samples)
            torch.testing.assert_close(bound.value, evidence, **LAWS)
            assert bound.direction == "exact"


@EVERY
def test_the_posterior_is_bayes_rule(name: str, how: str) -> None:
    exact = CASES[name].exact()
    values = CASES[name].values(exact, how)
    with torch.no_grad():
        found, marginals = exact.posterior(values), exact.distributions(values)
        brute = brute_force(exact, values)
    weights = found.log_weights.exp()
    assert set(marginals) == {*found.states, *found.places}
    torch.testing.assert_close(weights.reshape(-1, ROWS).sum(0), torch.ones(ROWS, dtype=torch.float64))
    for row, truth in enumerate(brute):
        expected = truth.log_joint.softmax(0)
        possible = weights[..., row].flatten()
        torch.testing.assert_close(possible[possible > 0], expected, **LAWS)
        for variable in found.states:
            support = exact[variable].support()
            own = torch.stack(
                [
                    chosen.get(variable, values.get(variable, support)[row : row + 1])[0]
                    for chosen in truth.states
                ]
            )
            if support.is_floating_point():
                mean = torch.tensordot(expected, own, 1)
                torch.testing.assert_close(marginals[variable].mean[row], mean, **LAWS)
                continue
            shares = torch.stack([expected[own == code].sum() for code in support])
            torch.testing.assert_close(marginals[variable].probs[row], shares, **LAWS)
        if not found.places:
            continue
        mean = sum(w * m for w, m in zip(expected, truth.mean, strict=True))
        second = sum(
            w * (c + torch.outer(m, m))
            for w, m, c in zip(expected, truth.mean, truth.covariance, strict=True)
        )
        for variable, place in found.places.items():
            torch.testing.assert_close(marginals[variable].mean[row], mean[place], **LAWS)
            variance = second.diagonal()[place] - mean[place].square()
            torch.testing.assert_close(marginals[variable].variance[row], variance, **LAWS)


@pytest.mark.parametrize(("name", "how"), [case for case in cases() if CASES[case[0]].has_gaussian])
def test_draws_of_gaussian_latents_have_the_posteriors_moments(name: str, how: str) -> None:
    exact = CASES[name].exact()
    values = CASES[name].values(exact, how)
    with torch.no_grad():
        found = exact.posterior(values)
        size = sum(place.stop - place.start for place in found.places.values())
        done = exact.complete(values, Points(), samples=2 * size)
        brute = brute_force(exact, values)
    lead = found.log_weights.shape[:-1]
    drawn = torch.cat([done.values[v].flatten(len(lead) + 2) for v in found.places], -1)
    drawn = drawn.expand(*lead, *drawn.shape[-3:]).reshape(-1, *drawn.shape[-3:])  # [K, S, B, M]
    weights = found.log_weights.reshape(-1, ROWS)
    for row, truth in enumerate(brute):
        possible = drawn[weights[:, row] > -math.inf, :, row]
        torch.testing.assert_close(possible.mean(1), torch.stack(truth.mean), **LAWS)
        covariance = torch.stack([torch.cov(part.mT, correction=0).reshape(size, size) for part in possible])
        torch.testing.assert_close(covariance, torch.stack(truth.covariance), **LAWS)


def test_the_brute_force_is_scipys() -> None:
    exact = CASES["factor_analysis"].exact()
    values, factor = CASES["factor_analysis"].values(exact, "whole"), exact.p["x"]
    weight, scale = factor.weight.detach(), factor.scale.detach()
    covariance = weight @ weight.mT + torch.diag(scale.square())
    expected = multivariate_normal(factor.bias.detach().numpy(), covariance.numpy()).logpdf(
        values["x"].numpy()
    )
    np.testing.assert_allclose(brute_evidence(exact, values).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(("name", "how"), [case for case in cases() if case[1] != "labels"])
def test_a_model_with_an_exact_q_does_all_that_models_do(name: str, how: str, tmp_path: Path) -> None:
    exact = CASES[name].exact()
    model, values = lt.Model(exact.p, exact), CASES[name].values(exact, how)
    if how == "holes":
        values["x"] = torch.where(values.pop("x" + MASK), values["x"], math.nan)
    with torch.no_grad():
        inside = model.batch(model.rows(values), slice(None))
        expected = exact.log_evidence(inside)
        marginals = exact.distributions(inside)
    torch.testing.assert_close(model.log_evidence(values), expected)
    for method in ("exact", "elbo", "importance"):
        estimate = lt.log_evidence(model, values, method, samples=2)
        torch.testing.assert_close(estimate.values, expected)
        assert estimate.direction == "exact"
    codes, posterior = model.encode(values), model.posterior(values)
    codes = codes if isinstance(codes, dict) else {model.latent[0]: codes}
    posterior = posterior if isinstance(posterior, dict) else {model.latent[0]: posterior}
    assert set(codes) == set(posterior) == set(marginals)
    for variable, code in codes.items():
        factor = model.p[variable]
        assert code.shape == (len(expected), *factor.event)
        torch.testing.assert_close(code, factor.mean(marginals[variable]))
        drawn = posterior[variable].sample()
        assert torch.isfinite(posterior[variable].log_prob(drawn)).all()
    again = model.reconstruct(values)
    again = again["x"] if isinstance(again, dict) else again
    assert again.shape == (len(expected), 3) and torch.isfinite(again).all()
    loaded = lt.load_model(model.save(tmp_path / "model"))
    assert torch.equal(loaded.log_evidence(values), model.log_evidence(values))
    assert loaded.q.equation() == exact.equation()


def pair(order: str) -> tuple[lt.Joint, lt.Joint]:
    """Two codes and a Gaussian latent; q draws the last before the codes, after them or between them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        z = lt.Normal(lt.Table(3, 4), given="k")
        x = lt.Normal(lt.MLP(7, 3, hidden=(5,), activation="tanh"), given=("k", "l", "z"), scale="learnt")
        p = lt.Joint(k=lt.Categorical(3), l=lt.Categorical(lt.Table(3, 2), given="k"), z=z, x=x)
        given = {name: ["x", *order[:place]] for place, name in enumerate(order)}
        width = {"x": 3, "k": 3, "l": 2, "z": 2}
        inputs = {name: sum(width[parent] for parent in parents) for name, parents in given.items()}
        made = {
            "k": lambda: lt.Categorical(lt.MLP(inputs["k"], 3), given=given["k"]),
            "l": lambda: lt.Categorical(lt.MLP(inputs["l"], 2), given=given["l"]),
            "z": lambda: lt.Normal(lt.MLP(inputs["z"], 4), given=given["z"]),
        }
        return p.double(), lt.Joint({name: made[name]() for name in order}).double()


def by_hand(
    p: lt.Joint, q: lt.Joint, values: dict[str, Tensor], noise: Tensor, samples: int
) -> tuple[Tensor, Tensor]:
    """ELBO and importance-weighted bound, a term for each pair of codes and each draw.

    noise: of z, `[3 or 1, 2 or 1, S, B, 2]`.
    """
    labelled = values.get("k" + MASK, torch.zeros(ROWS, dtype=torch.bool))
    weights, terms = [], []
    for k in range(3):
        for other in range(2):
            for s in range(samples):
                chosen = {"x": values["x"], "k": torch.full((ROWS,), k), "l": torch.full((ROWS,), other)}
                log_q = {}
                for name in q:
                    parents = q.parents(name, chosen)
                    if name == "z":
                        base = q["z"].distribution(*parents).base_dist
                        epsilon = noise[k % noise.shape[0], other % noise.shape[1], s]
                        chosen["z"] = base.loc + base.scale * epsilon
                    log_q[name] = q[name].log_prob(chosen[name], *parents)
                seen = torch.where(values["k"] == k, 0.0, -math.inf) if "k" in values else log_q["k"]
                weights.append(torch.where(labelled, seen, log_q["k"]) + log_q["l"] - math.log(samples))
                log_q["k"] = torch.where(labelled, 0.0, log_q["k"])
                terms.append(p.log_prob(chosen) - sum(log_q.values()))
    weight, term = torch.stack(weights), torch.stack(terms)
    return (weight.exp() * term).sum(0), torch.logsumexp(weight + term, 0)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("order", ["zkl", "kzl", "klz"])
def test_enumerated_latents_are_summed_over_with_their_weights(order: str, labels: bool) -> None:
    p, q = pair(order)
    values = {"x": torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)}
    if labels:
        values |= {"k": torch.tensor([2, 0, 1, 0]), "k" + MASK: torch.tensor([True, False, True, False])}
    noise = Noise(5, dtype=torch.float64)
    q.complete(values, noise, 2, enumerate=("k", "l"))
    (request,) = noise.requests.values()
    assert request.shape[:2] == {"zkl": (1, 1), "kzl": (3, 1), "klz": (3, 2)}[order]
    given = draw_noise(request, torch.Generator().manual_seed(1), torch.float64)
    learnt = [*p.parameters(), *q.parameters()]
    expected = by_hand(p, q, values, given, 2)
    for objective, options, truth in zip(
        (lt.elbo, lt.iwae), ({"analytic": False}, {}), expected, strict=True
    ):
        source = GivenNoise({"z.0": given})
        bound = objective(p, q, values, source, samples=2, enumerate=("k", "l"), **options)
        torch.testing.assert_close(bound.value, truth, **LAWS)
        assert bound.direction == "lower"
        for one, other in zip(gradients(bound.surrogate, learnt), gradients(truth, learnt), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_a_name_to_enumerate_is_one_that_q_infers() -> None:
    _, q = pair("zkl")
    values = {"x": torch.zeros(2, 3, dtype=torch.float64)}
    with pytest.raises(ValueError, match=r"'K' cannot be enumerated: it is none of .*did you mean 'k'\?"):
        q.complete(values, Noise(0, dtype=torch.float64), enumerate=("K",))
    with pytest.raises(NotEnumerableError, match="'z' cannot be enumerated: the values of Normal"):
        q.complete(values, Noise(0, dtype=torch.float64), enumerate=("z",))
    codes = {"k": lt.Categorical(lt.MLP(3, 2000), given="x"), "l": lt.Categorical(lt.MLP(3, 2000), given="x")}
    with pytest.raises(NotEnumerableError, match="2,000 of 'k' x 2,000 of 'l' are 4,000,000 states"):
        lt.Joint(codes).complete({"x": torch.zeros(2, 3)}, Noise(0), enumerate=("k", "l"))


def test_a_state_that_never_occurs_leaves_the_bounds_finite() -> None:
    p = CASES["gaussian_full"].exact().p
    with torch.no_grad():
        p["k"].net.value[1] = -math.inf
    exact = lt.Exact(p)
    values = CASES["gaussian_full"].values(exact, "whole")
    with torch.no_grad():
        evidence = exact.log_evidence(values)
    assert torch.isfinite(evidence).all()
    for objective in (lt.elbo, lt.iwae):
        bound = objective(p, exact, values, Noise(0, dtype=torch.float64))
        torch.testing.assert_close(bound.value.detach(), evidence)
    table = p["x"].net.weight
    assert torch.isfinite(torch.autograd.grad(exact.log_evidence(values).sum(), table)[0]).all()


def test_in_float32_small_noise_does_not_break_the_posterior() -> None:
    p = lt.Joint(z=lt.StandardNormal(3), x=lt.LinearNormal(20, 3, floor=1e-4))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        p["x"].weight.copy_(torch.randn(20, 3, generator=generator) * torch.tensor([100.0, 1.0, 0.01]))
        p["x"].raw_scale.fill_(-2.0)
    x = torch.randn(50, 3, generator=generator) @ p["x"].weight.detach().mT
    single, double = (
        lt.Exact(p.to(dtype)).posterior({"x": x.to(dtype)}) for dtype in (torch.float32, torch.float64)
    )
    root = [found.gaussian.scale_tril.detach().double() for found in (single, double)]
    assert torch.isfinite(root[0]).all()
    torch.testing.assert_close(*root, rtol=0.05, atol=0)


def a_close_follower() -> lt.Joint:
    """u2 = V u1 + 2e-5 noise, in five dimensions from two: its covariance is singular in float32."""
    first = lt.Normal(lt.Constant(2), scale=torch.tensor(3.0))
    second = lt.Normal(lt.MLP(2, 5), given="u1", scale=torch.tensor(2e-5))
    p = lt.Joint(u1=first, u2=second, x=lt.LinearNormal(6, 5, given="u2", floor=1e-4))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in p.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        p["u1"].net.value.fill_(100.0)
        p["x"].raw_scale.fill_(0.1)
    return p


def test_in_float32_a_latent_that_follows_another_closely_has_its_marginal() -> None:
    p = a_close_follower()
    x = lt.Model(p, lt.Exact(p)).sample(20)
    single, double = (lt.Exact(p.to(t)).distributions({"x": x.to(t)}) for t in (torch.float32, torch.float64))
    evidence = [lt.Exact(p.to(t)).log_evidence({"x": x.to(t)}) for t in (torch.float32, torch.float64)]
    for name in ("u1", "u2"):
        scale = double[name].variance.sqrt()
        assert ((single[name].mean - double[name].mean).abs() < 0.05 * scale).all(), name
        torch.testing.assert_close(single[name].variance.double(), double[name].variance, rtol=0.01, atol=0)
        assert torch.isfinite(single[name].log_prob(double[name].mean.float())).all()
    torch.testing.assert_close(evidence[0].double(), evidence[1], rtol=0.01, atol=1)


def neural() -> lt.Joint:
    x = lt.Normal(lt.MLP(2, 3, hidden=(4,)), given="z", scale="learnt")
    return lt.Joint(z=lt.StandardNormal(2), x=x)


def through_a_net() -> lt.Joint:
    h = lt.Deterministic(lt.MLP(2, 2), given="z")
    return lt.Joint(z=lt.StandardNormal(2), h=h, x=lt.Normal(lt.MLP(2, 3), given="h", scale="learnt"))


def code_of_z() -> lt.Joint:
    k = lt.Categorical(lt.MLP(2, 3), given="z")
    return lt.Joint(z=lt.StandardNormal(2), k=k, x=lt.Normal(lt.Table(3, 6), given="k"))


def binary_of_z() -> lt.Joint:
    return lt.Joint(z=lt.StandardNormal(2), x=lt.Bernoulli(lt.MLP(2, 3), given="z"))


def counts() -> lt.Joint:
    z = lt.Columns(lt.Constant(2), columns=("number", "count"))
    return lt.Joint(z=z, x=lt.Normal(lt.MLP(2, 3), given="z", scale="learnt"))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (neural, r"p\(x \| z\): Normal is not linear-Gaussian in 'z' and 'x'.*use an inference model"),
        (
            lambda: lt.Joint(z=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2, 6), given="z")),
            "Normal is not linear-Gaussian",
        ),
        (code_of_z, r"p\(k \| z\): Categorical is not linear-Gaussian in 'z' and 'k'"),
        (binary_of_z, "Bernoulli is not linear-Gaussian in 'z' and 'x'"),
        (through_a_net, r"p\(x \| h\): 'h' is computed from a Gaussian latent"),
        (counts, r"p\(z\): Columns is not linear-Gaussian in 'z'"),
    ],
)
def test_a_posterior_without_closed_form_says_why(make: Callable[[], lt.Joint], reason: str) -> None:
    p, x = make(), torch.zeros(5, 3)
    model = lt.Model(p, lt.Exact(p))
    for ask in (model.log_evidence, model.encode, lambda x: lt.fit(model, x, progress=False)):
        with pytest.raises(NotExactError, match=reason):
            ask(x)
    assert not model.fitted


def test_what_is_latent_must_be_known_and_wholly_so() -> None:
    exact = CASES["chain"].exact()
    values = CASES["chain"].values(exact, "whole")
    with pytest.raises(ValueError, match="'z3' is no variable of p"):
        lt.Exact(exact.p, "z3")
    with pytest.raises(ValueError, match="'z2' has no value, and Exact was not told that it is latent"):
        lt.Exact(exact.p, "z1").log_evidence(values)
    with pytest.raises(ValueError, match="nothing is latent"):
        lt.Exact(lt.Joint(x=lt.Normal(lt.Constant(6))))
    some = {"z1": torch.zeros(ROWS, 2, dtype=torch.float64), "z1" + MASK: torch.arange(ROWS) < 2}
    with pytest.raises(NotExactError, match="'z1' is continuous and observed in some rows only"):
        exact.log_evidence(values | some)
    with pytest.raises(ValueError, match="the exact posterior of another p"):
        lt.Model(CASES["chain"].exact().p, exact)


@pytest.mark.parametrize("name", ["h", "h, g"])
def test_too_many_states_are_refused_with_their_number(name: str) -> None:
    x = lt.Bernoulli(lt.MLP(24, 3), given=tuple(name.split(", ")))
    layers = {layer: lt.Bernoulli(lt.Constant(24 if name == "h" else 12)) for layer in name.split(", ")}
    p = lt.Joint({**layers, "x": x})
    model, data = lt.Model(p, lt.Exact(p)), (torch.rand(50, 3) < 0.5).float()
    message = {"h": "'h' cannot be enumerated: .* 16,777,216 values, and at most 1,048,576"}
    message["h, g"] = "4,096 of 'h' x 4,096 of 'g' are 16,777,216 states together"
    for ask in (model.log_evidence, lambda x: lt.fit(model, x, progress=False)):
        with pytest.raises(NotEnumerableError, match=message[name]):
            ask(data)


def test_an_exact_posterior_is_trained_by_ascent_too() -> None:
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([2.0, 0.0, -1.0])
    model = lt.models.gaussian_mixture(3, 2)
    before = model.log_evidence(x).mean()
    run = lt.fit(model, x, lt.elbo, steps=60, lr=0.05, progress=False)
    assert run.method == "ascent" and float(model.log_evidence(x).mean() - before) > 1
