"""Helmholtz machines and the categorical VAE: factors, evidence against brute force, codes, relaxations."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.evidence.enumeration import StateSum, summed_out
from latentia.factors.relaxed import Concrete, StraightThrough
from latentia.learn.options import usual_objective
from latentia.objectives import rws, wake_sleep

BENCHMARKS = Path(os.environ.get("LATENTIA_DATA", "../shared/data"))


def randomised(model: lt.Model, seed: int = 0) -> lt.Model:
    """In float64, every weight drawn anew."""
    model, generator = model.double(), torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def binary(rows: int, columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(rows, columns, generator=generator) < 0.4).double()


def brute_force(model: lt.Model, x: Tensor) -> Tensor:
    """log sum over all states of all latents of p(x, z), one state at a time."""
    supports = [model.p[name].support() for name in model.latent]
    log_joint = [
        model.p.log_prob({"x": x, **{n: s.expand(len(x), -1) for n, s in zip(model.latent, z, strict=True)}})
        for z in itertools.product(*supports)
    ]
    return torch.logsumexp(torch.stack(log_joint), 0)


def test_the_layers_are_those_of_the_equation() -> None:
    model = lt.models.helmholtz_machine(6, (4, 3, 2))
    assert model.p.equation() == "p(x, h1, h2, h3) = p(h3) p(h2 | h3) p(h1 | h2) p(x | h1)"
    assert model.q.equation("q") == "q(h3, h2, h1 | x) = q(h1 | x) q(h2 | h1) q(h3 | h2)"
    assert [model.p[name].event for name in ("h1", "h2", "h3")] == [(4,), (3,), (2,)]


@pytest.mark.parametrize("prior", ["learnt", "autoregressive"])
@pytest.mark.parametrize("layers", [(3,), (3, 2), (2, 3, 2)])
@pytest.mark.parametrize("hidden", [(), (5,)])
def test_exact_evidence_is_the_sum_over_all_states(
    layers: tuple[int, ...], prior: str, hidden: tuple[int, ...]
) -> None:
    model = randomised(
        lt.models.helmholtz_machine(5, layers, prior=prior, hidden=hidden, likelihood="bernoulli")
    )
    x = binary(7, 5)
    estimate = lt.log_evidence(model, x, "exact")
    torch.testing.assert_close(estimate.values, brute_force(model, x), rtol=1e-12, atol=1e-12)
    assert estimate.direction == "exact"
    assert torch.equal(model.log_evidence(x), estimate.values), "exact where possible"


def test_pieces_of_states_and_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(lt.models.helmholtz_machine(4, (5, 3), likelihood="bernoulli"))
    x = binary(9, 4)
    whole = StateSum(model.p, model.latent)({"x": x})
    monkeypatch.setattr("latentia.evidence.enumeration.ENTRIES", 20)
    monkeypatch.setattr("latentia.evidence.enumeration.ROWS", 2)
    pieces = StateSum(model.p, model.latent)({"x": x})
    torch.testing.assert_close(pieces, whole, rtol=1e-12, atol=1e-12)


def test_the_exact_probabilities_of_all_x_sum_to_one() -> None:
    model = randomised(lt.models.helmholtz_machine(6, (4, 3), likelihood="bernoulli"))
    every = model.p["x"].support()
    assert math.isclose(float(lt.log_evidence(model, every, "exact").values.exp().sum()), 1.0, rel_tol=1e-12)


def test_holes_and_labels_are_summed_over_exactly() -> None:
    model = randomised(lt.models.helmholtz_machine(3, (2, 2), likelihood="bernoulli", missing=True))
    x, seen = binary(4, 3), torch.tensor([True, False, True])
    holed = torch.where(seen, x, torch.nan)
    both = torch.stack([x.clone().index_fill_(1, torch.tensor([1]), float(v)) for v in (0, 1)])
    parts = torch.stack([lt.log_evidence(model, one, "exact").values for one in both])
    found = lt.log_evidence(model, holed, "exact").values
    torch.testing.assert_close(found, torch.logsumexp(parts, 0), rtol=1e-12, atol=1e-12)
    h1 = torch.tensor([[0.0, 1.0]] * 4, dtype=torch.float64)
    given = lt.log_evidence(model, {"x": x, "h1": h1}, "exact").values
    states = model.p["h2"].support()
    log_joint = torch.stack([model.p.log_prob({"x": x, "h1": h1, "h2": s.expand(4, -1)}) for s in states])
    torch.testing.assert_close(given, torch.logsumexp(log_joint, 0), rtol=1e-12, atol=1e-12)


def test_the_importance_bound_agrees_with_the_exact_evidence() -> None:
    model = randomised(lt.models.helmholtz_machine(5, (3, 2), likelihood="bernoulli"))
    x = binary(6, 5)
    exact, bound = (lt.log_evidence(model, x, method, 5000) for method in ("exact", "importance"))
    assert abs(exact.mean - bound.mean) < 4.3 * bound.mc_error + abs(float(bound.bias.mean()))


def test_more_than_20_bits_are_refused_by_number() -> None:
    model = lt.models.helmholtz_machine(5, (12, 9), likelihood="bernoulli")
    with pytest.raises(ValueError, match=r"512 of 'h2' x 4,096 of 'h1'.*2,097,152 states.*at most 1,048,576"):
        lt.log_evidence(model, binary(2, 5).float(), "exact")
    with pytest.raises(ValueError, match=r"'h1' cannot be enumerated.*2\^200 values.*method='importance'"):
        lt.log_evidence(lt.models.helmholtz_machine(5), binary(2, 5).float(), "exact")
    assert lt.log_evidence(model, binary(2, 5).float(), samples=10).direction == "lower"


def test_terms_are_summed_out_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    terms = [torch.randn(shape, generator=generator) for shape in ((3, 1, 1), (3, 4, 1), (1, 4, 5))]
    (found,) = summed_out(terms, [0, 1])
    torch.testing.assert_close(
        found.reshape(-1), torch.logsumexp(terms[0] + terms[1] + terms[2], (0, 1)), rtol=1e-5, atol=1e-5
    )


def test_a_categorical_vae_sums_over_all_codes() -> None:
    model = randomised(lt.models.categorical_vae(4, 2, 3, hidden=(6,), likelihood="bernoulli"))
    x = binary(5, 4)
    torch.testing.assert_close(
        lt.log_evidence(model, x, "exact").values, brute_force(model, x), rtol=1e-12, atol=1e-12
    )
    assert model.p["z"].support().shape == (9, 2)
    codes = model.encode(x)
    assert codes.shape == (5, 2)
    torch.testing.assert_close(codes, model.posterior(x).base_dist.probs.argmax(-1))
    assert model.decode(codes).shape == (5, 4)


def test_a_vector_of_codes_is_its_codes_one_by_one() -> None:
    factor = lt.Categorical(lt.MLP(2, 6), given="z", classes=3, event=2).double()
    z = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value = torch.tensor([[0, 2], [1, 1], [2, 0], [0, 0]])
    logits = factor.net(z).reshape(4, 2, 3).log_softmax(-1)
    expected = logits.gather(-1, value.unsqueeze(-1)).squeeze(-1).sum(-1)
    torch.testing.assert_close(factor.log_prob(value, z), expected)
    hot = factor.coding.encode(value)
    assert hot.shape == (4, 6)
    torch.testing.assert_close(hot.reshape(4, 2, 3).argmax(-1), value)
    torch.testing.assert_close(factor.coding.encode(hot.reshape(4, 2, 3)), hot)
    seen = torch.tensor([[True, False]] * 4)
    assert factor.coding.spread(seen).tolist() == [[True] * 3 + [False] * 3] * 4
    assert factor.coding.spread(seen[:, 0]).tolist() == [[True] * 6] * 4


def test_counting_codes_of_a_vector_is_maximum_likelihood() -> None:
    factor = lt.Categorical(3, event=2)
    value = torch.tensor([[0, 2], [0, 2], [1, 2], [0, 1]])
    factor.maximize(factor.statistics(value, weight=torch.ones(4)))
    found = factor.distribution().base_dist.probs
    torch.testing.assert_close(found, torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.25, 0.75]]))
    assert factor.free_parameters == 4


def test_the_autoregressive_prior_is_a_product_of_conditionals() -> None:
    factor = lt.AutoregressiveBernoulli(3).double()
    torch.nn.init.normal_(factor.weight, generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(factor.bias, generator=torch.Generator().manual_seed(1))
    h = factor.support()
    assert math.isclose(float(factor.log_prob(h).detach().exp().sum()), 1.0, rel_tol=1e-12)
    log_p = torch.zeros(8, dtype=torch.float64)
    for d in range(3):
        logit = factor.bias[d] + h[:, :d] @ factor.weight[d, :d]
        log_p = log_p + torch.where(h[:, d] > 0, logit.sigmoid().log(), (-logit).sigmoid().log())
    torch.testing.assert_close(factor.log_prob(h), log_p)
    assert factor.free_parameters == 6
    with pytest.raises(ValueError, match="holds values from -1 to -1"):
        factor.check("h", -torch.ones(1, 3))


def test_visible_units_start_at_the_log_odds_of_the_data() -> None:
    x = torch.tensor([[1.0, 0.0, 1.0]] * 6 + [[0.0, 0.0, 1.0]] * 2)
    data = lt.load_data(x.numpy(), split=(1.0, 0.0, 0.0))
    model = lt.models.helmholtz_machine(data=data, layers=(2,))
    expected = torch.log(torch.tensor([7 / 3, 1 / 9, 9 / 1]))
    torch.testing.assert_close(model.p["x"].net.layers[-1].bias.detach(), expected)


@pytest.mark.parametrize("relaxation, kind", [("concrete", Concrete), ("straight_through", StraightThrough)])
def test_a_relaxed_q_is_trained_by_the_elbo(relaxation: str, kind: type) -> None:
    x = binary(40, 5).float()
    for model in (
        lt.models.helmholtz_machine(5, (3, 2), relaxation=relaxation, likelihood="bernoulli"),
        lt.models.categorical_vae(5, 2, 3, hidden=(4,), relaxation=relaxation, likelihood="bernoulli"),
    ):
        assert all(isinstance(model.q[name], kind) for name in model.q)
        assert usual_objective(model) is lt.elbo
        before = {name: p.detach().clone() for name, p in model.q.named_parameters()}
        lt.fit(model, x, steps=5, progress=False)
        assert all(not torch.equal(p, before[name]) for name, p in model.q.named_parameters())
        assert lt.log_evidence(model, x).direction == "exact"


def test_without_an_objective_discrete_latents_are_trained_by_rws() -> None:
    x = binary(40, 5).float()
    model = lt.models.helmholtz_machine(5, (3,), likelihood="bernoulli")
    assert usual_objective(model) is rws
    assert usual_objective(model, ("h1",)) is lt.elbo, "what is summed over needs no draws"
    assert lt.fit(model, x, steps=3, progress=False).objective == "rws"
    mixed = lt.Joint(k=lt.Categorical(lt.MLP(5, 2), given="x"), z=lt.Normal(lt.MLP(5, 4), given="x", event=2))
    p = lt.Joint(k=lt.Categorical(2), z=lt.StandardNormal(2), x=lt.Bernoulli(lt.MLP(4, 5), given=("k", "z")))
    assert usual_objective(lt.Model(p, mixed)) is lt.elbo
    with pytest.raises(ValueError, match=r"q draws 'k' from Categorical.*enumerate 'k'"):
        lt.fit(lt.Model(p, mixed), x, steps=3, progress=False)


def test_codes_dreams_and_reconstructions_of_binary_latents() -> None:
    x = binary(30, 5).float()
    model = lt.models.helmholtz_machine(5, (4, 3), prior="autoregressive", likelihood="bernoulli")
    lt.fit(model, x, wake_sleep, steps=20, progress=False)
    means = model.encode(x)
    with torch.no_grad():
        h1 = model.q["h1"].net(x).sigmoid()
        h2 = model.q["h2"].net(h1).sigmoid()
        decoded = model.p["x"].net(h1).sigmoid()
    torch.testing.assert_close(means, {"h1": h1, "h2": h2})
    assert bool(((model.sample(50) == 0) | (model.sample(50) == 1)).all())
    torch.testing.assert_close(model.reconstruct(x), decoded)
    torch.testing.assert_close(model.decode(means), decoded)


def test_an_upper_layer_is_encoded_at_the_mean_of_the_lower_one() -> None:
    model = randomised(lt.models.helmholtz_machine(5, (3, 2), likelihood="bernoulli"))
    x, states = binary(6, 5), model.p["h1"].support()
    with torch.no_grad():
        for parameter in model.q["h2"].parameters():
            parameter.mul_(3)
        mean = model.q["h1"].net(x).sigmoid()
        mean_field = model.q["h2"].net(mean).sigmoid()
        weights = torch.stack([model.q["h1"].log_prob(h.expand(6, -1), x) for h in states], 1).exp()
        marginal = weights @ model.q["h2"].net(states).sigmoid()
    found = model.encode(x)["h2"]
    torch.testing.assert_close(found, mean_field, rtol=1e-12, atol=1e-12)
    assert (found - marginal).abs().max() > 0.02, "it is not E[h2 | x]"
    activities = lt.diagnostics.activity(model, x)
    torch.testing.assert_close(activities["h2"], mean_field.var(0, correction=0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"layers": ()}, r"at least 1 layer of at least 1 unit"),
        ({"layers": (4, 0)}, r"layers=\(4, 0\)"),
        ({"prior": "flat"}, "prior 'flat' is unknown: use 'learnt', 'autoregressive'"),
        ({"relaxation": "gumbel"}, "relaxation 'gumbel' is unknown: use 'none', 'concrete'"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lt.models.helmholtz_machine(5, **options)


def test_continuous_data_are_refused_by_a_binary_layer() -> None:
    model = lt.models.helmholtz_machine(3, (2,), likelihood="bernoulli")
    with pytest.raises(ValueError, match=r"a Bernoulli needs \[0, 1\]: use a Normal likelihood, or binarise"):
        lt.fit(model, torch.randn(20, 3), steps=2, progress=False)
    with pytest.raises(ValueError, match="at least 1 code of 2 classes"):
        lt.models.categorical_vae(3, 2, 1)


def test_a_saved_machine_gives_the_same_evidence(tmp_path: Path) -> None:
    for model in (
        lt.models.helmholtz_machine(4, (3, 2), prior="autoregressive", likelihood="bernoulli"),
        lt.models.categorical_vae(4, 2, 3, likelihood="bernoulli"),
    ):
        x = binary(3, 4).float()
        again = lt.load_model(model.save(tmp_path / "model"))
        assert torch.equal(lt.log_evidence(again, x).values, lt.log_evidence(model, x).values)
