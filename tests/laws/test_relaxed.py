"""Relaxed factors: discrete where they must be honest, with a gradient where something is learnt.

S samples, B rows, tau the temperature.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.factors.kl import closed_kl
from latentia.factors.relaxed import Relaxed
from latentia.noise import BoundNoise, Noise
from latentia.testing import check_objective
from tests.oracles.linear_gaussian import built

ROWS = 3
KINDS = [lt.Concrete, lt.StraightThrough]
DISCRETE = {
    "bernoulli": lambda: lt.Bernoulli(lt.MLP(3, 2), given="x"),
    "bernoulli_scalar": lambda: lt.Bernoulli(lt.MLP(3, 1), given="x", event=()),
    "categorical": lambda: lt.Categorical(lt.MLP(3, 4), given="x"),
    "categorical_vector": lambda: lt.Categorical(lt.MLP(3, 6), given="x", event=2),
}


def parent() -> Tensor:
    return torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def drawn(factor: lt.Factor, samples: int = 200) -> Tensor:
    """Draws with the same noise at each call."""
    noise = BoundNoise(Noise(1, dtype=torch.float64), "z", (samples, ROWS))
    return factor.draw(noise, parent()).value


def one_hot(factor: lt.Factor, value: Tensor) -> Tensor:
    """Codes as one-hot vectors `[*, K]`; binary values as they are."""
    if value.is_floating_point():
        return value
    return torch.nn.functional.one_hot(value, factor.classes).double()


def pair(
    kind: str, relaxed: type[Relaxed] | None = None, temperature: float = 0.5
) -> tuple[lt.Joint, lt.Joint]:
    """p(z) p(x | z) with two bits, or one of three codes, and a q(z | x) that is linear in x."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        if kind == "bernoulli":
            prior: lt.Factor = lt.Bernoulli(lt.Constant(2, value=0.3))
            encoder: lt.Factor = lt.Bernoulli(lt.MLP(3, 2), given="x")
        else:
            prior, encoder = lt.Categorical(3), lt.Categorical(lt.MLP(3, 3), given="x")
        decoder = lt.MLP(2 if kind == "bernoulli" else 3, 3, hidden=(4,), activation="tanh")
    for weight in decoder.parameters():
        weight.data *= 3
    p = lt.Joint(z=prior, x=lt.Normal(decoder, given="z", scale=0.7)).double()
    q = lt.Joint(z=encoder if relaxed is None else relaxed(encoder, temperature)).double()
    model = lt.Model(p, q)
    return model.p, model.q


VALUES = {"x": torch.tensor([[0.5, -1.0, 1.2]], dtype=torch.float64)}


@pytest.mark.parametrize("name", DISCRETE)
@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_is_learnt_it_is_the_discrete_factor(kind: type[Relaxed], name: str) -> None:
    discrete = built(DISCRETE[name], 0)
    relaxed = kind(discrete)
    expected = drawn(discrete)
    with torch.no_grad():
        assert torch.equal(drawn(relaxed), expected)
    relaxed.eval()
    assert torch.equal(drawn(relaxed), expected)
    assert torch.equal(relaxed.log_prob(expected, parent()), discrete.log_prob(expected, parent()))
    assert torch.equal(relaxed.support(), discrete.support())
    assert relaxed.event == discrete.event and relaxed.coding == discrete.coding


@pytest.mark.parametrize("name", DISCRETE)
def test_relaxed_draws_lie_between_and_tend_to_the_discrete_draw_of_the_same_noise(name: str) -> None:
    discrete = built(DISCRETE[name], 0)
    hard = one_hot(discrete, drawn(discrete))
    distances = []
    for temperature in (1.0, 0.1, 1e-3):
        soft = drawn(lt.Concrete(discrete, temperature).double())
        assert soft.shape == hard.shape and soft.requires_grad
        assert ((soft >= 0) & (soft <= 1)).all()
        if name.startswith("categorical"):
            torch.testing.assert_close(soft.sum(-1), torch.ones_like(soft[..., 0]))
            assert torch.equal(soft.argmax(-1), hard.argmax(-1))
        else:
            assert torch.equal((soft > 0.5).double(), hard)
        distances.append(float((soft.detach() - hard).abs().mean()))
    assert distances[0] > 3 * distances[1] > 0 and distances[2] < 1e-3


@pytest.mark.parametrize("name", DISCRETE)
def test_straight_through_draws_the_discrete_value_and_has_the_relaxed_gradient(name: str) -> None:
    discrete = built(DISCRETE[name], 0)
    weights, gradients = list(discrete.parameters()), []
    values = [drawn(kind(discrete, 0.7).double()) for kind in KINDS]
    assert torch.equal(values[1], one_hot(discrete, drawn(discrete)))
    direction = torch.randn(values[0].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for value in values:
        gradients.append(torch.autograd.grad((value * direction).sum(), weights))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
        assert (one != 0).any()


@pytest.mark.parametrize("name", DISCRETE)
def test_log_probabilities_are_linear_in_relaxed_values_and_exact_at_the_corners(name: str) -> None:
    discrete = built(DISCRETE[name], 0)
    one, other = drawn(discrete), drawn(discrete).flip(0)
    corners = [one_hot(discrete, value) for value in (one, other)]
    exact = [discrete.log_prob(value, parent()) for value in (one, other)]
    for corner, log_p in zip(corners, exact, strict=True):
        torch.testing.assert_close(discrete.log_prob(corner, parent()), log_p)
    between = 0.3 * corners[0] + 0.7 * corners[1]
    torch.testing.assert_close(discrete.log_prob(between, parent()), 0.3 * exact[0] + 0.7 * exact[1])


@pytest.mark.parametrize("name", DISCRETE)
def test_the_closed_kl_is_the_sum_over_all_values(name: str) -> None:
    q, p = built(DISCRETE[name], 0), built(DISCRETE[name], 1)
    values = q.support().unsqueeze(1).expand(-1, ROWS, *q.event)
    log_q, log_p = q.log_prob(values, parent()), p.log_prob(values, parent())
    summed = (log_q.exp() * (log_q - log_p)).sum(0)
    torch.testing.assert_close(closed_kl(q.distribution(parent()), p.distribution(parent())), summed)


@pytest.mark.parametrize("objective", [lt.elbo, lt.iwae])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bound_at_relaxed_values_is_on_no_side_and_at_discrete_ones_below(
    kind: type[Relaxed], objective: object
) -> None:
    p, q = pair("bernoulli", kind)
    bound = objective(p, q, VALUES, Noise(0, dtype=torch.float64))  # type: ignore[operator]
    assert bound.direction == ("none" if kind is lt.Concrete else "lower")
    with torch.no_grad():
        honest = objective(p, q, VALUES, Noise(0, dtype=torch.float64))  # type: ignore[operator]
        plain = objective(p, pair("bernoulli")[1], VALUES, Noise(0, dtype=torch.float64))  # type: ignore[operator]
    assert honest.direction == "lower"
    assert torch.equal(honest.value, plain.value)
    assert torch.equal(bound.value, honest.value) == (kind is lt.StraightThrough)


@pytest.mark.parametrize("name", ["bernoulli", "categorical"])
@pytest.mark.parametrize("kind", KINDS)
def test_enumerated_it_is_the_discrete_factor_with_its_exact_gradient(kind: type[Relaxed], name: str) -> None:
    bounds = []
    for relaxed in (None, kind):
        p, q = pair(name, relaxed)
        bound = lt.elbo(p, q, VALUES, Noise(), enumerate="z")
        bounds.append((bound, torch.autograd.grad(bound.surrogate.sum(), list(q.parameters()))))
    (exact, gradient), (ours, its_gradient) = bounds
    assert ours.direction == exact.direction == "lower"
    assert torch.equal(ours.value, exact.value)
    assert all(map(torch.equal, gradient, its_gradient))


def biases(name: str, kind: type[Relaxed]) -> list[float]:
    """|E[gradient] - exact gradient| / |exact gradient| for q at temperatures 1, 0.5 and 0.1.

    200,000 draws; the error by chance is below 0.01.
    """
    p, q = pair(name)
    bound = lt.elbo(p, q, VALUES, Noise(), enumerate="z")
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(bound.surrogate.sum(), list(q.parameters()))])
    found = []
    for temperature in (1.0, 0.5, 0.1):
        p, q = pair(name, kind)
        noise = Noise(0, dtype=torch.float64)
        bound = lt.elbo(p, q, VALUES, noise, samples=200_000, temperature=temperature)
        ours = torch.autograd.grad(bound.surrogate.sum(), list(q.parameters()))
        found.append(float((torch.cat([g.flatten() for g in ours]) - exact).norm() / exact.norm()))
    return found


@pytest.mark.parametrize("name", ["bernoulli", "categorical"])
def test_the_bias_of_the_concrete_gradient_shrinks_with_the_temperature(name: str) -> None:
    hot, warm, cold = biases(name, lt.Concrete)
    assert hot > 0.2 and warm < 0.6 * hot and cold < 0.2 * warm + 0.02


@pytest.mark.parametrize("name", ["bernoulli", "categorical"])
def test_the_bias_of_straight_through_stays(name: str) -> None:
    assert min(biases(name, lt.StraightThrough)) > 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("objective", [lt.elbo, lt.iwae])
def test_every_law_of_an_objective_holds(objective: object, kind: type[Relaxed]) -> None:
    p, q = pair("bernoulli", kind)
    values = {"x": torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)}
    report = check_objective(objective, p=p, q=q, values=values, weights={})  # type: ignore[arg-type]
    assert report["check_ascent_raises_the_value"] == "holds"


@pytest.mark.parametrize("kind", KINDS)
def test_rows_with_a_label_keep_it_one_hot_among_relaxed_draws(kind: type[Relaxed]) -> None:
    p, q = pair("categorical", kind)
    x = VALUES["x"].expand(4, 3)
    observed = torch.tensor([True, False, True, False])
    values = {"x": x, "z": torch.tensor([2, 0, 1, 0]), "z.observed": observed}
    done = q.complete(values, Noise(0, dtype=torch.float64), samples=2)
    hot = torch.nn.functional.one_hot(values["z"], 3).double()
    assert torch.equal(done.values["z"][:, observed], hot[observed].expand(2, 2, 3))
    assert (done.log_q["z"][:, observed] == 0).all() and (done.log_q["z"][:, ~observed] != 0).all()
    labelled = {"x": x[observed], "z": values["z"][observed]}
    value = lt.elbo(p, q, values, Noise(0, dtype=torch.float64)).value
    torch.testing.assert_close(value[observed], p.log_prob(labelled))


@pytest.mark.parametrize("kind", KINDS)
def test_fit_lowers_the_temperature_and_validates_the_discrete_model(
    kind: type[Relaxed], tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.bernoulli(torch.rand(400, 1, generator=generator).expand(-1, 6), generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        p = lt.Joint(z=lt.Bernoulli(lt.Constant(2)), x=lt.Bernoulli(lt.MLP(2, 6), given="z"))
        model = lt.Model(p, lt.Joint(z=kind(lt.Bernoulli(lt.MLP(6, 2), given="x"))))
    decay = lt.exponential_decay(1.0, 0.25, 200)
    run = lt.fit(
        model,
        lt.load_data(x.numpy()),
        steps=400,
        lr=1e-2,
        temperature=decay,
        patience=None,
        progress=False,
        out=tmp_path / "run",
    )
    assert model.q["z"].temperature == 0.25
    valid = [record["bound"] for record in run.history if record["split"] == "valid"]
    assert valid[-1] > valid[0]
    again = lt.load_model(tmp_path / "run" / "model")
    assert isinstance(again.q["z"], kind) and again.q["z"].temperature == 0.25
    one, other = (m.log_evidence(x[:20], samples=200) for m in (model, again.eval()))
    assert torch.equal(one, other)
    exact = lt.log_evidence(model, x[:200], method="exact")
    drawn_bound = lt.log_evidence(model, x[:200], method="importance", samples=200)
    assert drawn_bound.direction == "lower"
    assert abs(drawn_bound.mean - exact.mean) < 0.05


def test_an_exponential_decay_goes_in_equal_ratios_and_stays_at_its_end() -> None:
    decay = lt.exponential_decay(2.0, 0.5, 4)
    values = [decay(step) for step in range(7)]
    assert values[0] == 2.0 and values[2] == 1.0 and values[4:] == [0.5, 0.5, 0.5]
    ratios = [b / a for a, b in itertools.pairwise(values[:5])]
    assert max(ratios) - min(ratios) < 1e-12
    with pytest.raises(ValueError, match=r"from one positive number to another, got 1.0 and 0.0"):
        lt.exponential_decay(1.0, 0.0, 10)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="a temperature must be positive, got"):
        lt.Concrete(lt.Categorical(3), temperature)
    p, q = pair("bernoulli", lt.Concrete)
    for given in (temperature, torch.tensor(temperature)):
        for objective in (lt.elbo, lt.iwae, lt.renyi):
            with pytest.raises(ValueError, match="a temperature must be positive, got"):
                objective(p, q, VALUES, Noise(0, dtype=torch.float64), temperature=given)
    assert q["z"].temperature == 0.5


@pytest.mark.parametrize("objective", [lt.elbo, lt.iwae])
def test_a_temperature_without_a_relaxed_factor_is_refused(objective: object) -> None:
    p, q = pair("bernoulli")
    with pytest.raises(ValueError, match=r"q has none: give it one, such as Concrete\(Bernoulli\("):
        objective(p, q, VALUES, Noise(), temperature=0.5)  # type: ignore[operator]


def test_only_discrete_factors_are_relaxed() -> None:
    with pytest.raises(TypeError, match="Concrete relaxes a Bernoulli or a Categorical, got StandardNormal"):
        lt.Concrete(lt.StandardNormal(2))


@pytest.mark.parametrize("kind", KINDS)
def test_in_evaluation_mode_it_is_never_trained_with_a_silent_bias(kind: type[Relaxed]) -> None:
    p, q = pair("bernoulli", kind)
    q.eval()
    with pytest.raises(ValueError, match=r"'z' from \w+ in evaluation mode.*call model.train\(\) to learn"):
        lt.elbo(p, q, VALUES, Noise(0, dtype=torch.float64))
