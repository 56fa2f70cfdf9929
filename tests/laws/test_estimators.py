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
from latentia.noise import GivenNoise, Noise, draw_noise
from latentia.objectives.wake_sleep import dreams, sleep_phase
from latentia.testing import check_objective

GROUPS, PER_GROUP = 100, 60  # groups of draws, and repetitions of each row in one
ERRORS = 5.0
PRECISION = {"rtol": 1e-10, "atol": 1e-12}
ROWS = torch.tensor([[1.0, 0, 1, 1], [0, 1, 1, 0]], dtype=torch.float64)

Objective = Callable[..., lt.Bound]
Gradients = dict[str, Tensor]


def pair(p: Mapping[str, lt.Factor], q: Mapping[str, lt.Factor], seed: int = 3) -> lt.Model:
    """A float64 model whose parameters are all random, none at a symmetric start."""
    model = lt.Model(lt.Joint(p), lt.Joint(q)).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = 0.8 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def one_layer() -> lt.Model:
    return pair(
        {"z": lt.Bernoulli(lt.Constant(3)), "x": lt.Bernoulli(lt.MLP(3, 4), given="z")},
        {"z": lt.Bernoulli(lt.MLP(4, 3), given="x")},
    )


def two_layers() -> lt.Model:
    return pair(
        {
            "h": lt.Bernoulli(lt.Constant(2)),
            "z": lt.Bernoulli(lt.MLP(2, 3), given="h"),
            "x": lt.Bernoulli(lt.MLP(3, 4), given="z"),
        },
        {"z": lt.Bernoulli(lt.MLP(4, 3), given="x"), "h": lt.Bernoulli(lt.MLP(3, 2), given="z")},
    )


def categorical() -> lt.Model:
    return pair(
        {"k": lt.Categorical(4), "x": lt.Bernoulli(lt.MLP(4, 4), given="k")},
        {"k": lt.Categorical(lt.MLP(4, 4), given="x")},
    )


def computed() -> lt.Model:
    """Two independent bits in q, of which p computes something that it draws from, and a head they share."""
    return pair(
        {
            "a": lt.Bernoulli(lt.Constant(1)),
            "b": lt.Bernoulli(lt.Constant(2)),
            "c": lt.Deterministic(lt.MLP(1, 2, hidden=(2,), activation="tanh"), given="a"),
            "x": lt.Bernoulli(lt.MLP(4, 4), given=("c", "b")),
        },
        {
            "f": lt.Deterministic(lt.MLP(4, 3), given="x"),
            "a": lt.Bernoulli(lt.MLP(3, 1), given="f"),
            "b": lt.Bernoulli(lt.MLP(3, 2), given="f"),
        },
    )


def mixed() -> lt.Model:
    """A Gaussian, bits drawn given it, and a Gaussian given the bits."""
    return pair(
        {
            "u": lt.StandardNormal(1),
            "b": lt.Bernoulli(lt.MLP(1, 2), given="u"),
            "v": lt.Normal(lt.MLP(2, 1), given="b", scale=1.0),
            "x": lt.Bernoulli(lt.MLP(4, 4), given=("u", "b", "v")),
        },
        {
            "u": lt.Normal(lt.MLP(4, 2), given="x"),
            "b": lt.Bernoulli(lt.MLP(5, 2), given=("x", "u")),
            "v": lt.Normal(lt.MLP(6, 2), given=("x", "b")),
        },
    )


MODELS = {make.__name__: make for make in (one_layer, two_layers, categorical, computed, mixed)}
ESTIMATORS: dict[str, Callable[[lt.Model], Objective]] = {
    "reinforce": lt.Reinforce,
    "running mean": lambda model: lt.Reinforce(model, "running_mean"),
    "network": lambda model: lt.Reinforce(model, "network", hidden=(5,)),
    "leave one out": lambda model: partial(lt.Reinforce(model, "leave_one_out"), samples=3),
    "arm": lambda model: lt.arm,
    "disarm": lambda model: partial(lt.disarm, samples=2),
}


def named(model: lt.Model) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters())


def repeated(values: Mapping[str, Tensor], times: int) -> dict[str, Tensor]:
    return {name: value.repeat(times, *(1,) * (value.ndim - 1)) for name, value in values.items()}


def estimated(
    model: lt.Model, objective: Objective, values: Mapping[str, Tensor], seed: int = 0, groups: int = GROUPS
) -> Gradients:
    """The gradient of the surrogate's mean over the rows in each group of draws, `[G, *parameter]`."""
    noise, many = Noise(seed, dtype=torch.float64), repeated(values, PER_GROUP)
    found = [
        exact_gradient(model, objective(model.p, model.q, many, noise).surrogate.mean())
        for _ in range(groups)
    ]
    return {name: torch.stack([gradient[name] for gradient in found]) for name in named(model)}


def exact_gradient(model: lt.Model, scalar: Tensor) -> Gradients:
    parameters = named(model)
    gradients = torch.autograd.grad(scalar, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(weight) if gradient is None else gradient
        for (name, weight), gradient in zip(parameters.items(), gradients, strict=True)
    }


def enumerated_elbo(model: lt.Model, values: Mapping[str, Tensor]) -> Gradients:
    """The gradient of the ELBO with every discrete latent summed out, `[G, ...]` where others are drawn."""
    discrete = [name for name in model.q if name in MODEL_BITS]
    objective = partial(lt.elbo, enumerate=discrete)
    if all(name in discrete for name in model.q if model.q[name].has_density):
        noise = Noise(dtype=torch.float64)
        return exact_gradient(model, objective(model.p, model.q, values, noise).surrogate.mean())
    return estimated(model, objective, values, seed=77)


MODEL_BITS = {"z", "h", "k", "a", "b", "y"}


def require_equal_means(found: Gradients, exact: Gradients) -> None:
    """Each entry's mean is within 5 standard errors of the exact gradient; so is one that is estimated."""
    assert any(bool((gradient != 0).any()) for gradient in found.values())
    for name, gradient in found.items():
        target = exact[name]
        variance = gradient.var(0) / len(gradient)
        if target.ndim == gradient.ndim:
            variance, target = variance + target.var(0) / len(target), target.mean(0)
        gap = (gradient.mean(0) - target).abs()
        assert (gap <= ERRORS * variance.sqrt() + 1e-9).all(), (
            f"{name}: {gap.max():.4g} off, {(gap / variance.sqrt()).max():.1f} standard errors"
        )


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


def weights_of_states(model: lt.Model, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """log p(x, z) - log q(z | x) and log q(z | x) of every state of the latents, `[M, B]`."""
    done = model.q.complete(values, Noise(dtype=torch.float64), enumerate=model.q.variables)
    log_q = total(done.log_q.values())
    log_w = model.p.log_prob(done.values) - log_q
    return log_w.flatten(0, -2), log_q.expand_as(log_w).flatten(0, -2)


@pytest.mark.parametrize("make", [one_layer, two_layers, categorical])
def test_vimcos_mean_gradient_is_that_of_all_pairs_of_states(make: Callable[[], lt.Model]) -> None:
    model, values = make(), {"x": ROWS}
    log_w, log_q = weights_of_states(model, values)
    pairs = torch.logaddexp(log_w.unsqueeze(0), log_w.unsqueeze(1)) - math.log(2)  # [M, M, B]
    probability = torch.exp(log_q.unsqueeze(0) + log_q.unsqueeze(1))
    exact = exact_gradient(model, (probability * pairs).sum((0, 1)).mean())
    require_equal_means(estimated(model, partial(lt.vimco, samples=2), values), exact)


def test_vimco_keeps_the_pathwise_gradient_of_what_has_one() -> None:
    """Against the score function for the bits with L_K itself as the signal, and no baseline."""
    model, values = mixed(), {"x": ROWS}

    def plain(p: lt.Joint, q: lt.Joint, values: Mapping[str, Tensor], noise: Noise) -> lt.Bound:
        done = q.complete(values, noise, samples=3)
        log_w = p.log_prob(done.values) - total(done.log_q.values())
        value = torch.logsumexp(log_w, 0) - math.log(3)
        surrogate = value + value.detach() * done.log_q["b"].sum(0)
        return lt.Bound(value, surrogate, {}, "lower")

    found = estimated(model, partial(lt.vimco, samples=3), values)
    require_equal_means(found, estimated(model, plain, values, seed=5))


def test_vimcos_signal_is_the_bound_less_the_bound_with_a_geometric_mean() -> None:
    from latentia.objectives.vimco import learning_signals

    log_w = 30 * torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = []
    for k in range(6):
        others = torch.cat([log_w[:k], log_w[k + 1 :]])
        without = torch.cat([others, others.mean(0, keepdim=True)])
        expected.append(torch.logsumexp(log_w, 0) - torch.logsumexp(without, 0))
    torch.testing.assert_close(learning_signals(log_w), torch.stack(expected), **PRECISION)


def split(gradients: Gradients, part: str) -> Gradients:
    return {name: gradient for name, gradient in gradients.items() if name.startswith(f"{part}.")}


def enumerated_sleep(model: lt.Model) -> Gradients:
    """The gradient of E_p(x, z)[log q(z | x)], every (x, z) summed over."""
    p, q = model.p, model.q
    with torch.no_grad():
        done = p.complete({}, Noise(dtype=torch.float64), batch=1, enumerate=p.variables)
        weight = p.log_prob(done.values).exp().flatten()
        lead = torch.broadcast_shapes(*(term.shape for term in done.log_q.values()))
        rows = {n: v.expand(*lead, *p[n].event).flatten(0, len(lead) - 1) for n, v in done.values.items()}
    return exact_gradient(model, (weight * q.log_prob(rows)).sum())


@pytest.mark.parametrize("make", [one_layer, two_layers, categorical])
@pytest.mark.parametrize("samples", [1, 3])
def test_both_phases_mean_gradients_are_the_enumerated_ones(
    make: Callable[[], lt.Model], samples: int
) -> None:
    model, values = make(), {"x": ROWS}
    found = estimated(model, partial(lt.wake_sleep, samples=samples), values)
    require_equal_means(split(found, "p"), enumerated_elbo(model, values))
    require_equal_means(split(found, "q"), enumerated_sleep(model))


def test_updates_of_wake_sleep_are_local_to_a_layer() -> None:
    """Each factor's gradient is that of its own log probability at what was drawn, and of nothing else."""
    model, values = two_layers(), {"x": ROWS.repeat(3, 1)}
    probe = Noise(dtype=torch.float64)
    lt.wake_sleep(model.p, model.q, values, probe)
    generator = torch.Generator().manual_seed(4)
    noise = GivenNoise({k: draw_noise(r, generator, torch.float64) for k, r in probe.requests.items()})
    bound = lt.wake_sleep(model.p, model.q, values, noise)
    found = exact_gradient(model, bound.surrogate.sum())
    with torch.no_grad():
        awake = model.q.complete(values, noise).values
        asleep = dreams(model.p, model.q, values, noise)
    for part, graph, drawn in (("p", model.p, awake), ("q", model.q, asleep)):
        for place, name in enumerate(graph.variables):
            own = graph[name].log_prob(drawn[name], *graph.parents(name, drawn)).sum()
            alone = exact_gradient(model, own)
            for leaf in (leaf for leaf in found if leaf.startswith(f"{part}.factors.{place}.")):
                torch.testing.assert_close(found[leaf], alone[leaf], **PRECISION)
                assert (found[leaf] != 0).any()


def test_enumerating_the_latents_leaves_the_wake_phase_without_noise() -> None:
    model, values = two_layers(), {"x": ROWS}
    noise = Noise(dtype=torch.float64)
    bound = lt.wake_sleep(model.p, model.q, values, noise, enumerate=("z", "h"))
    found = split(exact_gradient(model, bound.terms["wake"].mean()), "p")
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, enumerated_elbo(model, values)[name], **PRECISION)


def gap(found: Gradients, exact: Gradients) -> float:
    """The distance between the mean of found gradients and the exact one."""
    return math.sqrt(sum(float((g.mean(0) - exact[name]).square().sum()) for name, g in found.items()))


def spread(found: Gradients, part: str = "q") -> float:
    """The variance of one draw's gradient, summed over the parameters."""
    return sum(float(g.var(0).sum()) for g in split(found, part).values()) * PER_GROUP * len(ROWS)


def test_the_bias_of_reweighted_wake_sleep_shrinks_with_k() -> None:
    """Towards the gradients of log p(x) for p, and of the KL from the posterior to q for q."""
    model, values = one_layer(), {"x": ROWS}
    log_w, log_q = weights_of_states(model, values)
    log_p = log_w + log_q
    evidence = exact_gradient(model, torch.logsumexp(log_p, 0).mean())
    posterior = torch.softmax(log_w + log_q, 0).detach()
    log_w, log_q = weights_of_states(model, values)
    forward_kl = exact_gradient(model, (posterior * log_q).sum(0).mean())
    gaps = []
    for k in (1, 3, 30):
        found = estimated(model, partial(lt.rws, samples=k), values, groups=40)
        gaps.append((gap(split(found, "p"), evidence), gap(split(found, "q"), forward_kl)))
    for part in (0, 1):
        assert gaps[0][part] > 1.5 * gaps[1][part] > 3 * gaps[2][part]
    whole = lt.rws(model.p, model.q, values, Noise(dtype=torch.float64), samples=1, enumerate="z")
    exact = exact_gradient(model, whole.surrogate.mean())  # with every state there is no bias
    for name, gradient in exact.items():
        target = evidence[name] if name.startswith("p.") else forward_kl[name]
        torch.testing.assert_close(gradient, target, **PRECISION)


def test_reweighted_wake_sleep_updates_q_awake_asleep_or_both() -> None:
    model, values = two_layers(), {"x": ROWS}
    bounds = {
        update: estimated(model, partial(lt.rws, samples=4, q_update=update), values, groups=40)
        for update in ("wake", "sleep", "both")
    }
    require_equal_means(split(bounds["sleep"], "q"), enumerated_sleep(model))
    for name in split(bounds["both"], "q"):
        both = bounds["wake"][name] + bounds["sleep"][name]
        error = ERRORS * ((both.var(0) + bounds["both"][name].var(0)) / len(both)).sqrt()
        assert ((both.mean(0) - bounds["both"][name].mean(0)).abs() <= error).all()
    with pytest.raises(ValueError, match="q_update must be 'wake', 'sleep', 'both', got 'dream'"):
        lt.rws(model.p, model.q, values, Noise(dtype=torch.float64), q_update="dream")


def test_a_gaussian_latent_is_weighed_at_a_fixed_draw() -> None:
    """q's wake gradient is that of sum_k w_k log q(z_k | x) at constant z: no path through the draw."""
    model, values = mixed(), {"x": ROWS}
    bound = lt.rws(model.p, model.q, values, Noise(3, dtype=torch.float64), samples=6)
    with torch.no_grad():
        done = model.q.complete(values, Noise(3, dtype=torch.float64), samples=6)
        weight = torch.softmax(model.p.log_prob(done.values) - total(done.log_q.values()), 0)
    climbed = weight * (model.p.log_prob(done.values) + model.q.log_prob(done.values))
    expected = exact_gradient(model, climbed.sum(0).mean())
    for name, gradient in exact_gradient(model, bound.surrogate.mean()).items():
        torch.testing.assert_close(gradient, expected[name], **PRECISION)


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
    assert variance(partial(lt.vimco, samples=2)) > 0


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


def labelled() -> tuple[lt.Model, dict[str, Tensor]]:
    """Labels y seen in some rows, holes in x, and bits z: p(y) p(z) p(x | y, z), q(y | x) q(z | x, y)."""
    model = pair(
        {
            "y": lt.Bernoulli(lt.Constant(1)),
            "z": lt.Bernoulli(lt.Constant(2)),
            "x": lt.Bernoulli(lt.MLP(3, 4), given=("y", "z")),
        },
        {
            "y": lt.Bernoulli(lt.MLP(4, 1, missing=True), given="x"),
            "z": lt.Bernoulli(lt.MLP(5, 2, missing=True), given=("x", "y")),
        },
    )
    seen = torch.tensor([[True, True, False, True], [True] * 4])
    values = {
        "x": torch.where(seen, ROWS, 0.0),
        "x.observed": seen,
        "y": torch.tensor([[0.0], [1.0]], dtype=torch.float64),
        "y.observed": torch.tensor([False, True]),
    }
    return model, values


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_with_labels_and_holes_have_the_enumerated_gradient(estimator: str) -> None:
    model, values = labelled()
    exact = enumerated_elbo(model, values)
    objective = warmed(model, ESTIMATORS[estimator](model), values)
    require_equal_means(estimated(model, objective, values), exact)


def test_vimco_and_rws_weigh_rows_with_labels_and_holes() -> None:
    model, values = labelled()
    require_equal_means(split(estimated(model, lt.wake_sleep, values), "p"), enumerated_elbo(model, values))
    evidence = lt.Exact(model.p).log_evidence(values).detach()
    for objective in (partial(lt.vimco, samples=100), partial(lt.rws, samples=100)):
        with torch.no_grad():
            bound = objective(model.p, model.q, repeated(values, 1000), Noise(dtype=torch.float64))
        weight = (bound.value.reshape(-1, 2) - evidence).exp()  # the mean of exp L_K is p(x)
        assert ((weight.mean(0) - 1).abs() <= ERRORS * weight.std(0) / math.sqrt(1000)).all()


def test_dreams_have_the_holes_of_the_rows_and_all_latents() -> None:
    model, values = labelled()
    dream = dreams(model.p, model.q, values, Noise(dtype=torch.float64), samples=50)
    assert dream["x"].shape == (100, 4) and dream["y"].shape == (100, 1)
    assert torch.equal(dream["x.observed"], values["x.observed"].repeat(50, 1)) and "y.observed" not in dream
    assert (dream["x"][::2, 2] == 0).all() and (dream["x"][1::2, 2] != 0).any()
    found = exact_gradient(model, sleep_phase(model.p, model.q, values, Noise(dtype=torch.float64), 4).mean())
    assert all((gradient != 0).any() for gradient in split(found, "q").values())
    assert all((gradient == 0).all() for gradient in split(found, "p").values())


def test_dreams_are_of_the_inputs_of_the_rows() -> None:
    model = pair(
        {"z": lt.Bernoulli(lt.Constant(2)), "x": lt.Bernoulli(lt.MLP(3, 4), given=("z", "c"))},
        {"z": lt.Bernoulli(lt.MLP(5, 2), given=("x", "c"))},
    )
    values = {"x": ROWS, "c": torch.tensor([[-2.0], [3.0]], dtype=torch.float64)}
    dream = dreams(model.p, model.q, values, Noise(dtype=torch.float64))
    assert torch.equal(dream["c"], values["c"])
    bound = lt.wake_sleep(model.p, model.q, values, Noise(dtype=torch.float64))
    assert bound.value.shape == (2,) and bound.direction == "lower"


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
