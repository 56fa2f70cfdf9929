"""Wake-sleep and its reweighted form, against enumeration.

G groups of draws, R repetitions of each row, M states of all latents, B rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch

import latentia as lt
from latentia.joint import total
from latentia.noise import GivenNoise, Noise, draw_noise
from latentia.objectives.wake_sleep import dreams, sleep_phase

from .discrete_pairs import (
    ERRORS,
    PRECISION,
    ROWS,
    Gradients,
    categorical,
    enumerated_elbo,
    estimated,
    exact_gradient,
    gap,
    labelled,
    mixed,
    one_layer,
    pair,
    repeated,
    require_equal_means,
    split,
    two_layers,
    weights_of_states,
)


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
