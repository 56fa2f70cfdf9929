"""fit with objectives for discrete latents: phases, resuming, compiling, and what learns beside the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.errors import UsageError
from latentia.learn.engine import Engine, build_engine
from latentia.learn.folder import read_metrics
from latentia.noise import Noise
from latentia.schedules import learning_rate


def belief_net() -> lt.Model:
    """Two layers of bits each way."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return lt.Model(
            lt.Joint(
                h=lt.Bernoulli(lt.Constant(3)),
                z=lt.Bernoulli(lt.MLP(3, 6), given="h"),
                x=lt.Bernoulli(lt.MLP(6, 12), given="z"),
            ),
            lt.Joint(z=lt.Bernoulli(lt.MLP(12, 6), given="x"), h=lt.Bernoulli(lt.MLP(6, 3), given="z")),
        )


def one_layer() -> lt.Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return lt.Model(
            lt.Joint(z=lt.Bernoulli(lt.Constant(6)), x=lt.Bernoulli(lt.MLP(6, 12), given="z")),
            lt.Joint(z=lt.Bernoulli(lt.MLP(12, 6), given="x")),
        )


def patterns(rows: int = 400) -> Tensor:
    """Three patterns of 12 bits with noise."""
    generator = torch.Generator().manual_seed(0)
    centres = (torch.rand(3, 12, generator=generator) < 0.5).float()
    kind = torch.randint(3, (rows,), generator=generator)
    flips = (torch.rand(rows, 12, generator=generator) < 0.05).float()
    return (centres[kind] - flips).abs()


def trained(objective: Any, model: lt.Model, **options: Any) -> lt.Run:
    settings = {"steps": 60, "batch": 50, "lr": 0.02, "compile": False, "progress": False} | options
    return lt.fit(model, patterns(), objective, **settings)


def evidence(model: lt.Model) -> float:
    """The mean exact log p(x), both layers enumerated."""
    with torch.no_grad():
        return float(lt.Exact(model.p).log_evidence({"x": patterns()}).mean())


OBJECTIVES: dict[str, tuple[Callable[[lt.Model], Any], dict[str, Any]]] = {
    "wake_sleep": (lambda model: lt.wake_sleep, {}),
    "rws": (lambda model: lt.rws, {"q_update": "both"}),
    "vimco": (lambda model: lt.vimco, {"samples": 5}),
    "arm": (lambda model: lt.arm, {}),
    "disarm": (lambda model: lt.disarm, {}),
    "nvil": (lt.nvil, {}),
    "leave one out": (lambda model: lt.Reinforce(model, "leave_one_out"), {"samples": 4}),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_learns_patterns_of_bits(name: str) -> None:
    make, keywords = OBJECTIVES[name]
    model = belief_net()
    before = evidence(model)
    run = trained(make(model), model, steps=300, **keywords)
    assert evidence(model) > before + 1.5
    bounds = [record["bound"] for record in run.history if record["split"] == "train"]
    assert bounds[-1] > bounds[0]


def test_alternating_phases_update_q_at_even_steps_and_p_at_odd_ones(tmp_path: Path) -> None:
    def weights(steps: int) -> tuple[list[Tensor], list[Tensor]]:
        model = belief_net()
        if steps:
            trained(lt.wake_sleep, model, steps=steps, alternate=True)
        return tuple([w.detach().clone() for w in part.parameters()] for part in (model.p, model.q))

    states = [weights(steps) for steps in range(4)]
    for step in range(3):
        for part, moves in ((0, step % 2 == 1), (1, step % 2 == 0)):
            same = [
                torch.equal(a, b) for a, b in zip(states[step][part], states[step + 1][part], strict=True)
            ]
            assert not any(same) if moves else all(same)
    model = belief_net()
    before = evidence(model)
    trained(lt.wake_sleep, model, steps=400, alternate=True)
    assert evidence(model) > before + 1.5


def test_what_an_objective_learns_moves_in_the_sleep_phase() -> None:
    model = belief_net()
    objective = lt.nvil(model, hidden=(4,))
    start = [w.detach().clone() for w in objective.parameters()]
    trained(objective, model, steps=1, alternate=True)
    assert not any(torch.equal(a, b) for a, b in zip(start, objective.parameters(), strict=True))
    pairs = zip(belief_net().p.parameters(), model.p.parameters(), strict=True)
    assert all(torch.equal(before, after) for before, after in pairs)


@pytest.mark.parametrize("alternate", [False, True])
def test_a_resumed_run_has_the_bits_of_an_unbroken_one_the_baselines_too(
    tmp_path: Path, alternate: bool
) -> None:
    def run(folder: str, steps: int, resume: bool = False) -> tuple[lt.Model, lt.Reinforce]:
        model = belief_net()
        objective = lt.nvil(model, hidden=(4,))
        options = {"out": tmp_path / folder, "resume": resume, "alternate": alternate}
        trained(objective, model, steps=steps, checkpoint_every=10, report_every=5, **options)
        return model, objective

    run("broken", 25)
    for whole, resumed in zip(run("whole", 50), run("broken", 50, resume=True), strict=True):
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, resumed.state_dict()[name]), name
    records = [read_metrics(tmp_path / folder)[-1] for folder in ("whole", "broken")]
    assert records[0]["bound"] == records[1]["bound"]


def engine(model: lt.Model, objective: Any, compiled: bool, **keywords: Any) -> Engine:
    made = build_engine(
        model,
        objective,
        keywords,
        optimizer="adam",
        lr=0.0,
        schedule=learning_rate("constant", 1000),
        clip=None,
        alternate=False,
        bf16=False,
        seed=0,
    )
    values = {"x": patterns()[:50]}
    made.probe(values)
    if compiled:
        assert made.compile(values) is None
    return made


def test_a_compiled_step_is_the_eager_step_and_is_compiled_once() -> None:
    """The one that learns something itself: a baseline, and running numbers beside the weights."""
    model = one_layer()
    eager, compiled = (engine(model, lt.nvil(model), compiled) for compiled in (False, True))
    values = {"x": patterns()[:50]}
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(3):
            compiled.generator.manual_seed(seed)
            noise = compiled._given_noise()
            one, other = (made.runs[0](values, noise, {}) for made in (eager, compiled))
            for a, b in zip([one[0], *one[1]], [other[0], *other[1]], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    buffers = [dict(made.step_module.objective.named_buffers()) for made in (eager, compiled)]
    for name, running in buffers[0].items():
        torch.testing.assert_close(running, buffers[1][name], rtol=1e-4, atol=1e-4)
        assert (running != 0).all()


def test_a_row_that_weighs_nothing_changes_nothing() -> None:
    model = belief_net()
    values = {"x": patterns()[:4], "weight": torch.tensor([1.0, 2.0, 0.0, 1.0])}
    for make, keywords in OBJECTIVES.values():
        step = engine(model, make(model), False, **keywords).step_module.eval()
        losses = []
        for last in (0.0, 1.0):
            x = values["x"].clone()
            x[2] = last
            loss, _ = step(values | {"x": x}, Noise(1), {})
            losses.append(torch.autograd.grad(loss, list(model.q.parameters())))
        for a, b in zip(*losses, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


ESTIMATORS = [lt.arm, lt.disarm, lt.vimco, lt.nvil, lt.Reinforce]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_estimator_is_refused_where_every_draw_has_a_gradient(estimator: Any) -> None:
    model = lt.models.vae(12, 2, hidden=(4,), likelihood="bernoulli")
    objective = estimator(model) if estimator in (lt.nvil, lt.Reinforce) else estimator
    with pytest.raises(ValueError, match="each latent of this q has one of its own: use elbo or iwae"):
        objective(model.p, model.q, {"x": patterns()[:4]}, Noise(0), samples=2)


@pytest.mark.parametrize("estimator", [*ESTIMATORS, lt.rws, lt.wake_sleep])
def test_an_estimator_is_refused_where_draws_are_relaxed(estimator: Any) -> None:
    model = lt.models.helmholtz_machine(12, (3,), relaxation="concrete")
    objective = estimator(model) if estimator in (lt.nvil, lt.Reinforce) else estimator
    with pytest.raises(ValueError, match="'h1' from Concrete, whose draws have a gradient of their own"):
        objective(model.p, model.q, {"x": patterns()[:4]}, Noise(0), samples=2)


def test_what_is_no_function_is_no_objective() -> None:
    with pytest.raises(UsageError, match=r"a function, such as lt\.wake_sleep, got 'wake_sleep'"):
        trained("wake_sleep", belief_net())


def test_a_factory_in_the_place_of_an_objective_is_told_to_be_built() -> None:
    model = belief_net()
    for factory in (lt.nvil, lt.Reinforce):
        with pytest.raises(
            UsageError, match=rf"built on the model first: fit\(model, data, {factory.__name__}"
        ):
            trained(factory, model)
    with pytest.raises(UsageError, match="has no option 'hiden'"):
        trained(lt.nvil(model), model, hiden=3)
