"""Estimators of gradients through discrete draws, against enumeration.

G groups of draws, R repetitions of each row, M states of all latents, B rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import latentia as lt
from latentia.joint import total
from latentia.noise import Noise
from latentia.objectives.vimco import learning_signals
from latentia.testing import check_objective

from .discrete_pairs import (
    MODELS,
    PRECISION,
    ROWS,
    Objective,
    categorical,
    computed,
    enumerated_elbo,
    estimated,
    exact_gradient,
    labelled,
    mixed,
    one_layer,
    pair,
    repeated,
    require_equal_means,
    spread,
    two_layers,
    weights_of_states,
)

ESTIMATORS: dict[str, Callable[[lt.Model], Objective]] = {
    "reinforce": lt.Reinforce,
    "running mean": lambda model: lt.Reinforce(model, "running_mean"),
    "network": lambda model: lt.Reinforce(model, "network", hidden=(5,)),
    "leave one out": lambda model: partial(lt.Reinforce(model, "leave_one_out"), samples=3),
    "arm": lambda model: lt.arm,
    "disarm": lambda model: partial(lt.disarm, samples=2),
}


def warmed(model: lt.Model, objective: Objective, values: Mapping[str, Tensor]) -> Objective:
    """The objective after some calls have given it a running mean and variance."""
    for seed in range(20):
        objective(model.p, model.q, repeated(values, 50), Noise(1000 + seed, dtype=torch.float64))
    learner = getattr(objective, "func", objective)
    if isinstance(learner, nn.Module):
        learner.eval()
    return objective


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_mean_gradient_of_the_elbo_is_the_enumerated_one(estimator: str, name: str) -> None:
    model = MODELS[name]()
    objective = ESTIMATORS[estimator](model)
    values = {"x": ROWS}
    if name == "categorical" and estimator in ("arm", "disarm"):
        with pytest.raises(
            ValueError, match=r"'k' from Categorical, and \w+ is for Bernoulli latents: use vimco"
        ):
            objective(model.p, model.q, values, Noise(dtype=torch.float64))
        return
    found = estimated(model, warmed(model, objective, values), values)
    require_equal_means(found, enumerated_elbo(model, values))


@pytest.mark.parametrize("make", [one_layer, two_layers, categorical])
def test_vimcos_mean_gradient_is_that_of_all_pairs_of_states(make: Callable[[], lt.Model]) -> None:
    model, values = make(), {"x": ROWS}
    log_w, log_q = weights_of_states(model, values)
    pairs = torch.logaddexp(log_w.unsqueeze(0), log_w.unsqueeze(1)) - math.log(2)  # [M, M, B]
    probability = torch.exp(log_q.unsqueeze(0) + log_q.unsqueeze(1))
    exact = exact_gradient(model, (probability * pairs).sum((0, 1)).mean())
    require_equal_means(estimated(model, partial(lt.vimco, samples=2), values), exact)


def scored_bound(
    p: lt.Joint, q: lt.Joint, values: Mapping[str, Tensor], noise: Noise, samples: int = 3
) -> lt.Bound:
    """L_K by the score function of the discrete draws, with L_K itself as the signal and no baseline."""
    done = q.complete(values, noise, samples)
    log_w = p.log_prob(done.values) - total(done.log_q.values())
    value = torch.logsumexp(log_w, 0) - math.log(samples)
    scored = [term.sum(0) for name, term in done.log_q.items() if not done.values[name].requires_grad]
    return lt.Bound(value, value + value.detach() * total(scored), {}, "lower")


def test_vimco_keeps_the_pathwise_gradient_of_what_has_one() -> None:
    model, values = mixed(), {"x": ROWS}
    found = estimated(model, partial(lt.vimco, samples=3), values)
    require_equal_means(found, estimated(model, scored_bound, values, seed=5))


def signals_by_hand(log_w: Tensor) -> Tensor:
    """L - L_-k for each k, in a loop; weights of zero have no part in the mean, and an empty mean is 0."""
    found = []
    for k in range(len(log_w)):
        others = torch.cat([log_w[:k], log_w[k + 1 :]])
        there = [column[column.isfinite()] for column in others.unbind(1)]
        mean = torch.stack([column.mean() if len(column) else column.sum() for column in there])
        without = torch.cat([others, mean.unsqueeze(0)])
        found.append(torch.logsumexp(log_w, 0) - torch.logsumexp(without, 0))
    return torch.stack(found)


@pytest.mark.parametrize("zeros", [0.0, 0.5])
def test_vimcos_signal_is_the_bound_less_the_bound_with_a_geometric_mean(zeros: float) -> None:
    generator = torch.Generator().manual_seed(0)
    log_w = 30 * torch.randn(4, 40, generator=generator, dtype=torch.float64)
    log_w[torch.rand(log_w.shape, generator=generator) < zeros] = -math.inf
    log_w = log_w[:, log_w.isfinite().any(0)]
    found = learning_signals(log_w)
    assert found.isfinite().all()
    torch.testing.assert_close(found, signals_by_hand(log_w), **PRECISION)


@pytest.mark.parametrize("make", [one_layer, two_layers])
def test_variances_order_as_theory_says(make: Callable[[], lt.Model]) -> None:
    model, values = make(), {"x": ROWS}

    def variance(objective: Objective) -> float:
        return spread(estimated(model, warmed(model, objective, values), values))

    four = {b: partial(lt.Reinforce(model, b), samples=4) for b in ("none", "running_mean", "leave_one_out")}
    none, running, left_out = (variance(objective) for objective in four.values())
    assert none > 2 * running and none > 2 * left_out
    single, opposite, averaged = map(variance, (lt.Reinforce(model), lt.arm, lt.disarm))
    assert single > 1.5 * opposite > 1.5 * 1.05 * averaged
    assert single > 3 * none  # four draws for one
    for samples in (2, 5):
        plain = variance(partial(scored_bound, samples=samples))
        assert 10 * variance(partial(lt.vimco, samples=samples)) < plain


def test_a_trained_baseline_lowers_the_variance() -> None:
    model, values = one_layer(), {"x": lt.Bernoulli(lt.Constant(4)).support().double()}
    objective = lt.nvil(model, hidden=(8,))
    optimiser = torch.optim.Adam(objective.parameters(), lr=0.02, maximize=True)
    for seed in range(200):
        bound = objective(model.p, model.q, repeated(values, 4), Noise(seed, dtype=torch.float64))
        optimiser.zero_grad()
        bound.surrogate.mean().backward(inputs=list(objective.parameters()))
        optimiser.step()
    objective.normalise = False
    objective.eval()
    running = warmed(model, lt.Reinforce(model, "running_mean"), values)
    found = estimated(model, objective, values, groups=40)
    require_equal_means(found, enumerated_elbo(model, values))
    assert spread(found) < 0.7 * spread(estimated(model, running, values, groups=40))


def test_the_squared_error_of_a_baseline_reaches_the_baseline_alone() -> None:
    """Whatever the baseline's error is, q's gradient is its score times the advantage, p's the ELBO's."""
    model, values = one_layer(), {"x": ROWS}
    objective = lt.Reinforce(model, "network", hidden=(4,)).eval()
    seed = Noise(1, dtype=torch.float64)
    bound = objective(model.p, model.q, values, seed)
    done = model.q.complete(values, Noise(1, dtype=torch.float64))
    log_p, log_q = model.p.log_prob(done.values), done.log_q["z"]
    guess = objective.networks[0](ROWS).squeeze(-1)
    signal = (log_p - log_q).detach()
    by_hand = log_p + (signal - guess.detach()) * log_q
    expected = exact_gradient(model, by_hand.mean())
    found = exact_gradient(model, bound.surrogate.mean())
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], **PRECISION)
    weights = list(objective.parameters())
    error = -0.5 * (signal - guess).square().mean()
    for a, b in zip(
        torch.autograd.grad(
            objective(model.p, model.q, values, Noise(1, dtype=torch.float64)).surrogate.mean(), weights
        ),
        torch.autograd.grad(error, weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b, **PRECISION)


def test_running_numbers_move_in_training_alone() -> None:
    model, values = one_layer(), {"x": ROWS}
    objective = lt.Reinforce(model, "running_mean", normalise=True, decay=0.5)
    call = partial(objective, model.p, model.q, values, Noise(dtype=torch.float64))
    with torch.no_grad():
        call()
    objective.eval()
    call()
    assert (objective.running == 0).all()
    objective.train()
    value = call().value.detach()
    expected = torch.stack([0.5 * value.mean(), 0.5 * value.var(correction=0)])
    torch.testing.assert_close(objective.running[0], expected, **PRECISION)
    with torch.no_grad():
        model.p["x"].net.layers[0].bias[0] = math.nan
    call()
    assert objective.running.isfinite().all()


def test_normalising_scales_a_layers_gradient() -> None:
    model, values = two_layers(), {"x": ROWS}
    plain, scaled = (lt.Reinforce(model, "none", normalise=n).eval() for n in (False, True))
    scaled.running[:, 1] = torch.tensor([4.0, 0.25])
    one, other = (
        exact_gradient(model, o(model.p, model.q, values, Noise(dtype=torch.float64)).surrogate.mean())
        for o in (plain, scaled)
    )
    for name in one:
        factor = 2 if name.startswith("q.factors.0.") else 1
        torch.testing.assert_close(one[name], factor * other[name], **PRECISION)


def test_a_layers_signal_holds_what_it_can_change() -> None:
    """The top layer of q changes log p(h), log p(z | h) and its own log q, and nothing of x."""
    from latentia.objectives.reinforce import learning_signal

    model = two_layers()
    done = model.q.complete({"x": ROWS}, Noise(dtype=torch.float64), samples=3)
    log_p, log_q = model.p.log_probs(done.values), done.log_q
    found = learning_signal(model.p, model.q, "h", log_p, log_q)
    torch.testing.assert_close(found, log_p["h"] + log_p["z"] - log_q["h"], **PRECISION)
    found = learning_signal(model.p, model.q, "z", log_p, log_q)
    torch.testing.assert_close(found, total(log_p.values()) - total(log_q.values()), **PRECISION)
    model = computed()
    done = model.q.complete({"x": ROWS}, Noise(dtype=torch.float64))
    log_p, log_q = model.p.log_probs(done.values), done.log_q
    found = learning_signal(model.p, model.q, "a", log_p, log_q)  # x depends on a through what is computed
    torch.testing.assert_close(found, log_p["a"] + log_p["x"] - log_q["a"], **PRECISION)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_with_labels_and_holes_have_the_enumerated_gradient(estimator: str) -> None:
    model, values = labelled()
    exact = enumerated_elbo(model, values)
    objective = warmed(model, ESTIMATORS[estimator](model), values)
    require_equal_means(estimated(model, objective, values), exact)


def pairs_for_the_laws() -> dict[str, Any]:
    model = two_layers()
    log_w, log_q = weights_of_states(model, {"x": ROWS})
    return {
        "p": model.p,
        "q": model.q,
        "values": {"x": ROWS.repeat(4, 1)},
        "evidence": torch.logsumexp(log_w + log_q, 0).detach().repeat(4),
    }


@pytest.mark.parametrize(
    "objective",
    [
        lt.wake_sleep,
        lt.rws,
        partial(lt.rws, q_update="sleep"),
        lt.vimco,
        lt.arm,
        lt.disarm,
        lt.Reinforce(two_layers()),
        lt.Reinforce(two_layers(), "running_mean"),
        partial(lt.Reinforce(two_layers(), "leave_one_out"), samples=2),
        lt.nvil(two_layers(), hidden=(5,)),
    ],
    ids=lambda objective: str(getattr(objective, "__name__", type(objective).__name__)),
)
def test_each_obeys_the_laws_of_objectives(objective: Objective) -> None:
    keywords: dict[str, Any] = {}
    if isinstance(objective, partial):
        objective, keywords = objective.func, objective.keywords
    report = check_objective(objective, **pairs_for_the_laws(), **keywords)
    assert report["check_side_of_the_evidence"] == "holds"
    assert report["check_ascent_raises_the_value"] == "holds"


def test_with_the_exact_posterior_each_is_the_log_evidence() -> None:
    p = one_layer().p
    q = lt.Exact(p)
    exact = q.log_evidence({"x": ROWS})
    for objective in (lt.wake_sleep, lt.rws, lt.vimco, lt.arm, lt.disarm, lt.Reinforce(one_layer())):
        bound = objective(p, q, {"x": ROWS}, Noise(dtype=torch.float64))
        torch.testing.assert_close(bound.value, exact, **PRECISION)
        assert bound.direction == "exact"


def test_what_cannot_be_is_refused_with_a_sentence() -> None:
    model, noise = one_layer(), Noise(dtype=torch.float64)
    p, q, values = model.p, model.q, {"x": ROWS}
    with pytest.raises(ValueError, match="compares each draw with the others, so it needs samples=2"):
        lt.vimco(p, q, values, noise, samples=1)
    with pytest.raises(ValueError, match="mean of the other draws, so it needs samples=2"):
        lt.Reinforce(model, "leave_one_out")(p, q, values, noise)
    with pytest.raises(ValueError, match=r"baseline must be 'none', .*got 'mean'"):
        lt.Reinforce(model, "mean")
    with pytest.raises(ValueError, match="decay must be at least 0 and below 1, got 1"):
        lt.Reinforce(model, "running_mean", decay=1)
    with pytest.raises(ValueError, match="no q that is trained"):
        lt.Reinforce(lt.Model(p, lt.Exact(p)))
    with pytest.raises(
        ValueError, match=r"q draws 'k', and this Reinforce was built on .* draws z: build it"
    ):
        other = categorical()
        lt.Reinforce(model)(other.p, other.q, values, noise)
    for objective in (lt.wake_sleep, lt.rws, lt.vimco, lt.arm, lt.disarm, lt.Reinforce(model)):
        with pytest.raises(ValueError, match="nothing is latent"):
            objective(p, None, values | {"z": torch.ones(2, 3)}, noise)
        with pytest.raises(ValueError, match="at least 1, got 0"):
            objective(p, q, values, noise, samples=0)
    by_row = pair(
        {"z": lt.Bernoulli(lt.Constant(1)), "x": lt.Bernoulli(lt.MLP(1, 4), given="z")},
        {"z": lt.Bernoulli(lt.Table(2, 1), given="row")},
    )
    with pytest.raises(ValueError, match="a dream belongs to no row"):
        lt.wake_sleep(by_row.p, by_row.q, values | {"row": torch.arange(2)}, noise)
