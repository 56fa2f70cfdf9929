"""What fit promises: climb, skip what is not finite, stop early, keep the best, leave the rest alone."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.errors import DivergedError, UsageError
from latentia.learn.engine import batches

DIGITS = lt.load_data("digits")


def small(seed: int = 0, **options: object) -> lt.Model:
    return lt.models.vae(data=DIGITS, latent=4, hidden=(32,), seed=seed, **options)


def quick(model: lt.Model, *args: object, **options: object) -> lt.Run:
    return lt.fit(model, DIGITS, *args, **({"progress": False, "steps": 60, "valid_every": 20} | options))


def weights(model: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_fit_raises_the_validation_bound() -> None:
    run = quick(small(), steps=300)
    bounds = [r["bound"] for r in run.history if r["split"] == "valid"]
    assert bounds[-1] > bounds[0] + 5
    assert run.best_value == max(bounds)


def test_the_model_holds_the_best_weights() -> None:
    model = small()
    run = quick(model, lr=0.1, steps=200, patience=None)
    again = quick(small(), lr=0.1, steps=run.best_step, patience=None)
    assert torch.equal(weights(model), weights(again.model))


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    one, two, three = small(), small(), small()
    quick(one, seed=3), quick(two, seed=3), quick(three, seed=4)
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(three))


def test_fit_leaves_the_users_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    quick(small(), steps=5)
    assert torch.equal(before, torch.get_rng_state())


def test_an_epoch_shows_every_row_at_most_once_in_a_new_order() -> None:
    first = list(itertools.islice(batches(103, 10, seed=1, start=0, device=torch.device("cpu")), 20))
    for epoch in (first[:10], first[10:]):
        assert len(torch.cat(epoch).unique()) == 100
    assert not torch.equal(first[0], first[10])
    later = list(itertools.islice(batches(103, 10, seed=1, start=7, device=torch.device("cpu")), 13))
    assert all(torch.equal(a, b) for a, b in zip(first[7:], later, strict=True))


def test_steps_that_are_not_finite_are_skipped_and_counted() -> None:
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    x[17] = 1e30
    model = lt.models.vae(3, 2, hidden=(8,))
    run = lt.fit(model, x, steps=100, batch=20, progress=False)
    assert run.skipped == 10
    assert bool(torch.isfinite(weights(model)).all())


def test_skipped_steps_leave_any_optimiser_as_it_was() -> None:
    x = torch.full((40, 3), 1e30)
    for optimizer in ("adam", "adamw", "rmsprop", "sgd"):
        model = lt.models.vae(3, 2, hidden=(8,))
        before = weights(model)
        with pytest.raises(DivergedError, match="learning rate"):
            lt.fit(model, x, steps=10, batch=20, optimizer=optimizer, progress=False)
        assert torch.equal(before, weights(model))


def test_clipping_bounds_the_step() -> None:
    sizes = []
    for clip in (None, 1e-3):
        model = small()
        before = weights(model)
        quick(model, steps=1, optimizer="sgd", lr=1.0, clip=clip, valid_every=1)
        sizes.append(float((weights(model) - before).norm()))
    assert sizes[1] == pytest.approx(1e-3, rel=1e-2)
    assert sizes[0] > 1


def test_variational_em_updates_q_and_p_in_turn() -> None:
    model = small()
    q, p = [torch.cat([t.detach().flatten() for t in g.parameters()]) for g in (model.q, model.p)]
    quick(model, steps=1, alternate=True, valid_every=1)
    assert not torch.equal(q, torch.cat([t.detach().flatten() for t in model.q.parameters()]))
    assert torch.equal(p, torch.cat([t.detach().flatten() for t in model.p.parameters()]))
    q = torch.cat([t.detach().flatten() for t in model.q.parameters()])
    model = small()
    quick(model, steps=2, alternate=True, valid_every=2)
    assert torch.equal(q, torch.cat([t.detach().flatten() for t in model.q.parameters()]))
    assert not torch.equal(p, torch.cat([t.detach().flatten() for t in model.p.parameters()]))


def test_early_stopping_says_what_it_follows() -> None:
    run = quick(small(), lr=0.05, steps=5000, valid_every=5, patience=2)
    assert run.stopped == "patience"
    assert run.steps < 5000
    assert "elbo" in run.follows and f"{len(DIGITS.valid):,}" in run.follows


def test_keywords_reach_the_objective_and_the_value_stays_honest() -> None:
    seen = []

    def watched(p, q, values, noise, *, beta: Tensor | float = 1.0):
        seen.append(float(beta))
        return lt.elbo(p, q, values, noise, beta=beta)

    quick(small(), watched, steps=4, valid_every=4, beta=lt.linear_warmup(4, end=2.0))
    assert seen[1:5] == [0.5, 1.0, 1.5, 2.0]
    with pytest.raises(UsageError, match="did you mean 'beta'"):
        quick(small(), bete=2.0)


def test_weights_count_as_copies() -> None:
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    weight = torch.tensor([2.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    p = lt.Joint(x=lt.Normal(lt.Constant(3), scale="learnt"))
    weighted, copied = lt.Model(p), lt.Model(lt.Joint(x=lt.Normal(lt.Constant(3), scale="learnt")))
    options = {"steps": 200, "lr": 0.05, "progress": False}
    lt.fit(weighted, {"x": x, "weight": weight}, batch=6, **options)
    lt.fit(copied, x[[0, 0, 1, 3, 4, 5]], batch=6, **options)
    torch.testing.assert_close(weights(weighted), weights(copied), rtol=1e-4, atol=1e-5)


def test_likelihood_is_the_method_when_nothing_is_latent() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(1)) * 2 + 1
    model = lt.Model(lt.Joint(x=lt.Normal(lt.Constant(3), scale="learnt")))
    run = lt.fit(model, x, steps=500, lr=0.05, batch=500, progress=False)
    assert run.method == "likelihood"
    torch.testing.assert_close(model.p["x"].net.value.detach(), x.mean(0), atol=1e-3, rtol=0)
    estimate = lt.log_evidence(model, x)
    assert estimate.direction == "exact"
    assert run.history[-1]["bound"] == pytest.approx(estimate.mean, abs=1e-2)


def test_a_second_fit_is_refused_unless_it_is_a_warm_start() -> None:
    model = small()
    quick(model, steps=2, valid_every=2)
    with pytest.raises(UsageError, match="warm_start"):
        quick(model)
    assert quick(model, steps=2, valid_every=2, warm_start=True).steps == 2


def test_bf16_reaches_nearly_the_same_bound() -> None:
    bounds = []
    for precision in ("fp32", "bf16"):
        model = small()
        bounds.append(quick(model, steps=120, precision=precision).best_value)
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert bounds[1] == pytest.approx(bounds[0], abs=0.1)
    assert bounds[1] != bounds[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch": 10_000}, "larger than the 1,438 training rows|larger than the 1,43"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 5, "epochs": 5}, "not both"),
        ({"lr": -1.0}, "positive"),
        ({"optimizer": "adma"}, "unknown"),
        ({"schedule": "cosin"}, "unknown"),
        ({"precision": "fp8"}, "fp32"),
        ({"method": "magic"}, "unknown"),
        ({"method": "likelihood"}, "latent"),
        ({"resume": True}, "out="),
        ({"clip": -1.0}, "positive"),
        ({"report_every": 0}, "report_every must be at least 1"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"device": "bogus"}, "unknown"),
        ({"compile": "maybe"}, "auto"),
        ({"samples": 0}, "at least 1"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_a_sentence(
    options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        quick(small(), **options)


def test_data_that_the_likelihood_cannot_give_are_refused() -> None:
    with pytest.raises(ValueError, match="a Bernoulli needs"):
        lt.fit(lt.models.vae(3, 2, likelihood="bernoulli"), torch.randn(50, 3), progress=False)


def test_a_misspelt_variable_never_becomes_latent() -> None:
    with pytest.raises(ValueError, match="misspelt"):
        lt.fit(lt.models.vae(3, 2), {"X": torch.randn(50, 3)}, progress=False)


def test_a_bad_row_is_found_wherever_it_is() -> None:
    x = torch.zeros(10_000, 3)
    x[9_500, 1] = 7.0
    with pytest.raises(ValueError, match="to 7"):
        lt.fit(lt.models.vae(3, 2, likelihood="bernoulli"), x, progress=False)


def test_a_refused_fit_leaves_the_model_as_it_was() -> None:
    model = lt.models.vae(4, 2)
    with pytest.raises(ValueError, match="expects events of shape"):
        lt.fit(model, torch.randn(50, 3), progress=False)
    assert model.schema is None
    assert not model.fitted


def test_data_read_in_another_way_are_refused() -> None:
    model = small()
    with pytest.raises(UsageError, match="read another way"):
        lt.fit(model, lt.load_data("digits", binarise="threshold"), progress=False)


def test_validation_rows_without_any_finite_bound_mean_that_the_run_diverged() -> None:
    x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    data = lt.load_data(x, valid=torch.full((5, 3), 1e30), split=(1.0, 0.0, 0.0))
    with pytest.raises(DivergedError, match="finite bound"):
        lt.fit(lt.models.vae(3, 2, hidden=(8,)), data, steps=10, valid_every=5, progress=False)


def test_dropout_repeats_with_the_seed_and_rests_in_validation() -> None:
    def make() -> lt.Model:
        net = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 4))
        p = lt.Joint(z=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2, 3), given="z", scale="learnt"))
        return lt.Model(p, lt.Joint(z=lt.Normal(net, given="x", event=2)))

    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    state = make().state_dict()
    models = [make(), make()]
    before = torch.get_rng_state()
    for model in models:
        model.load_state_dict(state)
        lt.fit(model, x, steps=20, progress=False)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert not models[0].training


def test_each_group_of_parameters_keeps_its_own_learning_rate() -> None:
    model = small()
    groups = {"q": list(model.q.parameters()), "p": list(model.p.parameters())}
    before = weights(model.q), weights(model.p)

    def optimizer(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": groups["q"], "lr": 1e-3}, {"params": groups["p"], "lr": 0.0}])

    quick(model, steps=3, optimizer=optimizer, valid_every=3)
    assert not torch.equal(before[0], weights(model.q))
    assert torch.equal(before[1], weights(model.p))


def test_an_objective_may_learn_something_itself() -> None:
    class Baseline(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.level = torch.nn.Parameter(torch.zeros(()))

        def forward(self, p, q, values, noise, scale=1.0):
            bound = lt.elbo(p, q, values, noise)
            penalty = scale * (bound.value.detach() - self.level).square()
            return bound._replace(surrogate=bound.surrogate - penalty)

    objective = Baseline()
    run = quick(small(), objective, steps=50, lr=0.1, scale=0.5)
    assert run.objective == "Baseline"
    assert float(objective.level.detach()) < -1
