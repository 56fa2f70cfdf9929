"""Log-linear models against sums over all values, automatic differentiation and the Bernoulli mixture."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.archive import foreign_parts
from latentia.factor import NotEnumerableError
from latentia.factors.features import FeatureTable, features
from latentia.factors.lookup import Lookup, binary_vectors
from latentia.factors.priors import Beta, GaussianPrior
from latentia.joint import MASK

BENCHMARKS = Path(os.environ.get("LATENTIA_DATA", "../shared/data"))
VALUES = torch.tensor([[0.0, 1.5], [2.0, 1.0], [0.0, 0.0], [1.0, 1.5], [2.0, 0.0]])
STATES = torch.arange(3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def products(x: Tensor, z: Tensor) -> Tensor:
    """x_1, x_2, x_1 x_2 and z x_1, for values `[X, 2]` and codes `[Z]`."""
    x, z = x.unsqueeze(1).expand(-1, len(z), -1), z.to(x).expand(len(x), -1)
    return torch.stack([x[..., 0], x[..., 1], x.prod(-1), z * x[..., 0]], dim=-1)


MADE: dict[str, Callable[[], lt.LogLinear]] = {
    "named": lambda: lt.LogLinear(("unary", "pairwise"), given="z", states=3, event=4),
    "unary": lambda: lt.LogLinear("unary", given="z", states=3, event=(2, 2)),
    "pairwise": lambda: lt.LogLinear(["pairwise"], given="z", states=3, event=3),
    "named of a list": lambda: lt.LogLinear("pairwise, unary", VALUES, "z", states=3),
    "table": lambda: lt.LogLinear(numbers(5, 3, 4), VALUES, given="z"),
    "array": lambda: lt.LogLinear(numbers(5, 3, 4).numpy(), VALUES, given="z"),
    "function": lambda: lt.LogLinear(products, VALUES, given="z", states=3),
    "codes": lambda: lt.LogLinear(numbers(4, 3, 2), torch.tensor([3, 0, 5, 1]), given="z"),
}


def made(name: str, seed: int = 1) -> lt.LogLinear:
    """A factor in float64 with weights at random."""
    factor = MADE[name]().double()
    factor.weights.data.copy_(numbers(len(factor.weights), seed=seed))
    return factor


def states_first(factor: lt.LogLinear) -> Tensor:
    return torch.arange(factor.states).unsqueeze(1)


@pytest.mark.parametrize("name", MADE)
def test_probabilities_sum_to_one_in_each_state(name: str) -> None:
    factor = made(name)
    p = factor.log_prob(factor.support(), states_first(factor)).exp()  # [Z, X]
    torch.testing.assert_close(p.sum(1), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(p.T, factor.log_table().exp(), rtol=1e-12, atol=0)


def test_log_prob_is_the_formula() -> None:
    factor = made("table")
    logits = (numbers(5, 3, 4).float().double() * factor.weights).sum(-1)
    expected = logits - logits.exp().sum(0).log()
    torch.testing.assert_close(factor.log_prob(VALUES, states_first(factor)), expected.T)


@pytest.mark.parametrize("name", MADE)
def test_the_gradient_is_features_minus_expected_features(name: str) -> None:
    factor = made(name)
    place, codes = torch.tensor([0, 3, 2, 0, 1]), torch.tensor([0, 1, 2, 2, 1])
    value = factor.support()[place]
    log_p = factor.log_prob(value, codes)
    automatic = [torch.autograd.grad(row, factor.weights, retain_graph=True)[0] for row in log_p]
    found = factor.gradient(value, codes)
    torch.testing.assert_close(found, torch.stack(automatic), rtol=1e-10, atol=1e-12)
    enumerated = factor.gradient(value, states_first(factor))
    torch.testing.assert_close(enumerated[codes, torch.arange(5)], found, rtol=0, atol=0)


def test_the_gradient_of_a_root() -> None:
    factor = lt.LogLinear(numbers(5, 2), VALUES).double()
    factor.weights.data.copy_(numbers(2))
    (automatic,) = torch.autograd.grad(factor.log_prob(VALUES).sum(), factor.weights)
    torch.testing.assert_close(factor.gradient(VALUES).sum(0), automatic)


def test_unary_features_are_a_bernoulli_for_each_class() -> None:
    factor, bernoulli = made("unary"), lt.Bernoulli(lt.Table(3, (2, 2)), given="z").double()
    bernoulli.net.weight.data.copy_(factor.weights.data.reshape(3, 4))
    value = binary_vectors((2, 2)).double()
    codes = torch.arange(16) % 3
    torch.testing.assert_close(factor.log_prob(value, codes), bernoulli.log_prob(value, codes))
    one, other = (f.mean(f.distribution(codes)) for f in (factor, bernoulli))
    torch.testing.assert_close(one, other)
    weight = torch.rand(3, 16, generator=generator(), dtype=torch.float64)
    for made_of in (factor, bernoulli):
        made_of.maximize(made_of.statistics(value, states_first(factor), weight=weight))
    torch.testing.assert_close(
        factor.weights.data.reshape(3, 4), bernoulli.net.weight.data, rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("name", ["named", "unary", "pairwise", "named of a list"])
def test_named_features_are_their_table(name: str) -> None:
    named = made(name).features
    place, codes = torch.arange(len(named.x)).unsqueeze(1), torch.arange(3)
    table = FeatureTable(named.at(place, codes))
    weights, counts = numbers(named.size), numbers(len(named.x), 3).exp()
    p = torch.softmax(numbers(len(named.x), 3, seed=2), 0)
    torch.testing.assert_close(named.logits(weights), table.logits(weights))
    torch.testing.assert_close(named.sums(counts), table.sums(counts))
    torch.testing.assert_close(named.covariance(p, counts.sum(0)), table.covariance(p, counts.sum(0)))


def objective(factor: lt.LogLinear, counts: Tensor) -> Tensor:
    return (counts * factor.log_table()).sum()


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("prior", [None, GaussianPrior(0.7)])
def test_maximize_matches_expected_features(name: str, prior: GaussianPrior | None) -> None:
    factor = made(name)
    weight = torch.rand(3, 40, generator=generator(), dtype=torch.float64)
    place = torch.randint(len(factor.lookup), (40,), generator=generator())
    statistics = factor.statistics(factor.support()[place], states_first(factor), weight=weight)
    counts = statistics["counts"]
    torch.testing.assert_close(counts.sum(0), weight.sum(1))
    before = objective(factor, counts) + (0 if prior is None else factor.log_prior(prior))
    factor.maximize(statistics, prior)
    after = objective(factor, counts) + (0 if prior is None else factor.log_prior(prior))
    assert after >= before
    expected = factor.features.sums(counts.sum(0) * factor.log_table().exp())
    pull = 0 if prior is None else factor.weights / prior.scale**2
    torch.testing.assert_close(expected + pull, factor.features.sums(counts), rtol=0, atol=1e-8 * 40)
    kept = factor.weights.detach().clone()
    factor.maximize(statistics, prior)
    torch.testing.assert_close(factor.weights.data, kept, rtol=1e-9, atol=1e-7)


def test_statistics_are_counts_and_add_up_over_chunks() -> None:
    factor = made("named")
    value = factor.support()[torch.randint(16, (30,), generator=generator())]
    weight = torch.rand(3, 30, generator=generator(), dtype=torch.float64)
    counts = torch.zeros(16, 3, dtype=torch.float64)
    for b in range(30):
        counts[int((value[b] * torch.tensor([8, 4, 2, 1])).sum())] += weight[:, b]
    halves = [
        factor.statistics(value[part], states_first(factor), weight=weight[:, part])["counts"]
        for part in (slice(0, 11), slice(11, None))
    ]
    torch.testing.assert_close(halves[0] + halves[1], counts)
    codes = torch.randint(3, (30,), generator=generator())
    labelled = factor.statistics(value, codes, weight=weight[0])["counts"]
    chosen = torch.nn.functional.one_hot(codes, 3) * weight[0].unsqueeze(1)
    as_weights = factor.statistics(value, states_first(factor), weight=chosen.T)["counts"]
    torch.testing.assert_close(labelled, as_weights)
    seen = torch.arange(30) % 2 == 0
    some = factor.statistics(value, states_first(factor), weight=weight, observed=seen)["counts"]
    rest = factor.statistics(value[seen], states_first(factor), weight=weight[:, seen])["counts"]
    torch.testing.assert_close(some, rest)


@pytest.mark.parametrize("name", ["named", "named of a list", "unary"])
def test_missing_entries_are_summed_out(name: str) -> None:
    factor = made(name)
    support = factor.support()
    value = support[torch.arange(24) % len(support)]
    seen = torch.rand(value.shape, generator=generator()) < 0.5
    holed = torch.where(seen, value, torch.zeros_like(value))
    agree = torch.stack([((support == v) | ~s).flatten(1).all(1) for v, s in zip(value, seen, strict=True)])
    brute = (agree.double() @ factor.log_table().exp()).log()  # [B, Z]
    log_p = factor.log_prob(holed, states_first(factor), observed=seen)
    torch.testing.assert_close(log_p, brute.T)
    one = factor.log_prob(holed, torch.arange(24) % 3, observed=seen)
    torch.testing.assert_close(one, brute[torch.arange(24), torch.arange(24) % 3])

    weight = torch.rand(3, 24, generator=generator(), dtype=torch.float64)
    counts = factor.statistics(holed, states_first(factor), weight=weight, observed=seen)["counts"]
    completions = agree.unsqueeze(-1) * factor.log_table().exp() / brute.exp().unsqueeze(1)  # [B, X, Z]
    torch.testing.assert_close(counts, torch.einsum("zb,bxz->xz", weight, completions))


def test_an_observed_entry_that_no_value_has_is_impossible() -> None:
    factor = made("named of a list")
    value, seen = torch.tensor([[7.0, 0.0], [1.0, 0.0]]), torch.tensor([[True, False], [True, True]])
    assert (factor.log_prob(value, torch.tensor([0, 1]), observed=seen) == -torch.inf).all()
    assert (factor.log_prob(value, torch.tensor([0, 1])) == -torch.inf).all()
    weight = torch.ones(2, dtype=torch.float64)
    counts = factor.statistics(value, torch.tensor([0, 1]), weight=weight, observed=seen)["counts"]
    assert (counts == 0).all()


def test_improbable_values_keep_their_weight() -> None:
    factor = made("unary")
    factor.weights.data.fill_(-2000.0)
    value, seen = torch.ones(1, 2, 2, dtype=torch.float64), torch.ones(1, 2, 2, dtype=torch.bool)
    seen[0, 0, 0] = False
    weight = torch.ones(3, 1, dtype=torch.float64)
    counts = factor.statistics(value, states_first(factor), weight=weight, observed=seen)["counts"]
    torch.testing.assert_close(counts.sum(0), torch.ones(3, dtype=torch.float64))
    assert factor.log_prob(value, states_first(factor), observed=seen).isfinite().all()


def test_features_that_never_occur_do_not_send_weights_to_infinity() -> None:
    table = torch.stack(
        [VALUES[:, :1] * 0, VALUES[:, :1], VALUES[:, :1], (VALUES[:, :1] == 1).float()], dim=-1
    )
    for dtype in (torch.float32, torch.float64):
        factor = lt.LogLinear(table.expand(-1, 2, -1), VALUES, given="z").to(dtype)
        counts = torch.tensor([[3, 1], [2, 0], [4, 2], [0, 0], [1, 1]], dtype=torch.float64)
        for _ in range(100):
            factor.maximize({"counts": counts})
        assert factor.weights.abs().max() < 40 and factor.log_table().isfinite().all()
        mean = factor.features.sums((counts.sum(0) * factor.log_table().exp()).to(dtype)).double()
        torch.testing.assert_close(
            mean, factor.features.sums(counts.to(dtype)).double(), rtol=1e-5, atol=1e-6
        )
        assert factor.free_parameters == 2
    factor.maximize({"counts": counts * torch.tensor([1.0, 0.0], dtype=torch.float64)})
    assert factor.log_table().isfinite().all()
    kept = factor.weights.detach().clone()
    factor.maximize({"counts": counts * 0})
    assert torch.equal(factor.weights, kept)


@pytest.mark.parametrize("start", [-800.0, 300.0])
def test_maximize_comes_back_from_far_away(start: float) -> None:
    factor = made("named")
    factor.weights.data.mul_(start)
    counts = torch.rand(16, 3, generator=generator(), dtype=torch.float64)
    factor.maximize({"counts": counts})
    expected = factor.features.sums(counts.sum(0) * factor.log_table().exp())
    torch.testing.assert_close(expected, factor.features.sums(counts), rtol=1e-7, atol=1e-7)


def test_frozen_weights_stay_and_other_priors_are_refused() -> None:
    factor = made("unary")
    counts = {"counts": torch.ones(16, 3, dtype=torch.float64)}
    with pytest.raises(TypeError, match="takes a GaussianPrior on its weights, got Beta"):
        factor.maximize(counts, Beta(2.0, 2.0))
    assert factor.log_prior(GaussianPrior(2.0)).item() == pytest.approx(
        -float(factor.weights.detach().square().sum()) / 8
    )
    kept = factor.weights.detach().clone()
    factor.requires_grad_(False).maximize(counts)
    assert torch.equal(factor.weights, kept) and factor.free_parameters == 0


def test_free_parameters_are_the_rank() -> None:
    assert [made(name).free_parameters for name in ("named", "unary", "pairwise")] == [18, 12, 3]
    doubled = torch.cat([numbers(5, 3, 2), numbers(5, 3, 2) * 1e-4, torch.ones(5, 3, 1)], dim=-1)
    assert lt.LogLinear(doubled, VALUES, given="z").free_parameters == 2


def test_codes_are_drawn_as_codes() -> None:
    factor = made("codes")
    codes = torch.tensor([0, 1, 2])
    assert factor.coding.classes == 6 and factor.event == ()
    best = factor.support()[factor.log_table().argmax(0)]
    assert torch.equal(factor.mean(factor.distribution(codes)), best)
    joint = lt.Joint(z=lt.Categorical(3), x=factor)
    drawn = lt.Model(joint).sample(50)["x"]
    assert drawn.dtype == torch.int64 and set(drawn.tolist()) <= {0, 1, 3, 5}
    torch.testing.assert_close(
        factor.distribution(codes).entropy(), -(factor.log_table().exp() * factor.log_table()).sum(0)
    )


@pytest.mark.parametrize(("columns", "levels"), [(3, 50), (30, 4), (120, 7)])
def test_every_value_is_found_and_no_other(columns: int, levels: int) -> None:
    pool = numbers(levels)
    listed = pool[torch.randint(levels, (400, columns), generator=generator())].unique(dim=0)
    listed = listed[torch.randperm(len(listed), generator=generator())]
    lookup = Lookup(listed)
    order = torch.randperm(len(listed), generator=generator(1))
    place, found = lookup(listed[order].reshape(-1, 1, columns))
    assert torch.equal(place.squeeze(1), order) and found.all()
    other = listed.clone()
    changed = torch.randint(columns, (len(listed),), generator=generator(2))
    rows = torch.arange(len(listed))
    other[rows, changed] = pool[torch.randint(levels, (len(listed),), generator=generator(3))]
    there = (other.unsqueeze(1) == listed).all(-1).any(1)
    assert torch.equal(lookup(other)[1], there)
    other[rows, changed] = torch.tensor([torch.nan, torch.inf, -9.0, 0.123]).double()[rows % 4]
    assert not lookup(other)[1].any()


def test_values_are_found_in_either_precision() -> None:
    factor = lt.LogLinear("unary", numbers(4, 2) / 3, "z", states=2)
    for one in (factor, factor.double()):
        for value in (numbers(4, 2) / 3, (numbers(4, 2) / 3).float()):
            assert one.log_prob(value, torch.tensor([0, 1, 1, 0])).isfinite().all()
            assert one.log_prob(value, torch.tensor([0, 1, 1, 0]), observed=value < 9).isfinite().all()


def nltcs() -> Tensor:
    path = BENCHMARKS / "nltcs.csv"
    if not path.exists():
        pytest.skip(f"nltcs.csv is not in $LATENTIA_DATA ({BENCHMARKS})")
    return torch.from_numpy(np.loadtxt(path, delimiter=",", skiprows=1)[:, :10])


def test_em_never_decreases_the_likelihood_on_nltcs() -> None:
    """Posteriors by enumeration, on ten columns; what pairs add to the Bernoulli mixture."""
    value, rows = nltcs().unique(dim=0, return_counts=True)
    ends = {}
    for names in (("unary",), ("unary", "pairwise")):
        p = lt.models.log_linear(10, 3, features=names).double().p
        x, z = p["x"], states_first(p["x"])
        log_z, reached = torch.full((3, 1), 1 / 3, dtype=torch.float64).log(), []
        for _ in range(12):
            with torch.no_grad():
                log_joint = log_z + x.log_prob(value, z)
            evidence = log_joint.logsumexp(0)
            reached.append(float((rows * evidence).sum() / rows.sum()))
            weight = (log_joint - evidence).exp() * rows
            log_z = (weight.sum(1, keepdim=True) / rows.sum()).log()
            x.maximize(x.statistics(value, z, weight=weight))
        assert (np.diff(reached) >= -1e-12).all(), reached
        ends[names] = reached[-1]
    assert ends["unary", "pairwise"] > ends["unary",] + 0.02


def test_the_evidence_of_a_model_is_the_sum_over_classes_and_holes() -> None:
    model = lt.models.log_linear(4, 3).double()
    x, seen = torch.eye(4, dtype=torch.float64), torch.ones(4, 4, dtype=torch.bool)
    seen[:, 1] = False
    log_z = model.p["z"].distribution().logits
    whole = (log_z.exp() @ model.p["x"].log_table().exp().T)[torch.tensor([8, 4, 2, 1])]
    torch.testing.assert_close(model.q.log_evidence({"x": x}), whole.log())
    without = (log_z.exp() @ model.p["x"].log_table().exp().T).reshape(2, 2, 2, 2).sum(1)
    holed = model.q.log_evidence({"x": x * seen, "x" + MASK: seen})
    expected = torch.stack([without[1, 0, 0], without[0, 0, 0], without[0, 1, 0], without[0, 0, 1]]).log()
    torch.testing.assert_close(holed, expected)
    assert model.p["x"].free_parameters == 18


def test_a_model_comes_back_from_a_small_file(tmp_path: Path) -> None:
    model = lt.models.log_linear(12, 4)
    again = lt.load_model(model.save(tmp_path / "model"))
    x = binary_vectors(12)[:5]
    assert torch.equal(again.p["x"].log_prob(x, STATES[:1]), model.p["x"].log_prob(x, STATES[:1]))
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 2000
    expression = json.loads((tmp_path / "model" / "config.json").read_text())["expression"]
    assert expression["p"]["kwargs"]["x"]["args"][0] == {"tuple": ["unary", "pairwise"]}
    own = lt.Model(lt.Joint(z=lt.Categorical(3), x=MADE["function"]()))
    assert len(foreign_parts(own)) == 1
    listed = lt.Model(lt.Joint(z=lt.Categorical(3), x=MADE["array"]()))
    again = lt.load_model(listed.save(tmp_path / "listed"))
    assert torch.equal(again.p["x"].features.table, listed.p["x"].features.table)


FUNCTION: dict[str, Any] = {"support": VALUES, "given": "z", "states": 3}


@pytest.mark.parametrize(
    ("build", "error", "sentence"),
    [
        (
            lambda: lt.LogLinear(lambda x, z: x, **FUNCTION),
            ValueError,
            r"shape \[X, Z, F\], here \[1, 1, F\], and have \[1, 2\]",
        ),
        (
            lambda: lt.LogLinear(lambda x, z: torch.zeros(1, 1, 4), **FUNCTION),
            ValueError,
            r"here \[5, 3, F\], and have \[1, 1, 4\]",
        ),
        (lambda: lt.LogLinear(lambda x, z: None, **FUNCTION), TypeError, "must be a tensor, got NoneType"),
        (
            lambda: lt.LogLinear(products, VALUES, "z"),
            ValueError,
            "how many states the parent has with states=",
        ),
        (lambda: lt.LogLinear(numbers(5, 3, 4), VALUES), ValueError, r"\[X, F\], here \[5, F\]"),
        (lambda: lt.LogLinear(numbers(5, 4), VALUES, "z"), ValueError, r"\[X, Z, F\], here \[5, Z, F\]"),
        (lambda: lt.LogLinear(numbers(5, 3, 4), VALUES, "z", states=2), ValueError, r"here \[5, 2, F\]"),
        (lambda: lt.LogLinear(numbers(5, 3, 0), VALUES, "z"), ValueError, "at least one feature"),
        (lambda: lt.LogLinear(numbers(5, 1, 1) / 0, VALUES, "z"), ValueError, "features must be finite"),
        (lambda: lt.LogLinear("unary", VALUES / 0, "z", states=2), ValueError, "support must be finite"),
        (lambda: lt.LogLinear("unary", VALUES[:0], "z", states=2), ValueError, "a value or more"),
        (
            lambda: lt.LogLinear("unary", VALUES[[0, 1, 0]], "z", states=2),
            ValueError,
            "rows 0 and 2 are both",
        ),
        (lambda: lt.LogLinear("unary", VALUES, "z", states=2, event=3), ValueError, r"\(2,\), and event= is"),
        (lambda: lt.LogLinear("unary", VALUES, ("z", "y"), states=2), ValueError, "one parent or none"),
        (lambda: lt.LogLinear("unary", VALUES, states=2), ValueError, "needs a parent"),
        (lambda: lt.LogLinear("unray", VALUES, "z", states=2), ValueError, "did you mean 'unary'"),
        (lambda: lt.LogLinear("unary,unary", VALUES, "z", states=2), ValueError, "each once"),
        (
            lambda: lt.LogLinear("pairwise", event=1, given="z", states=2),
            ValueError,
            "no pairs of one column",
        ),
        (lambda: lt.LogLinear("unary", given="z", states=2), ValueError, "support=, or say its shape"),
        (
            lambda: lt.models.log_linear(21),
            NotEnumerableError,
            r"21 binary columns have 2\^21 values, and at most 1,048,576",
        ),
        (
            lambda: lt.LogLinear("unary", torch.arange(2**20 + 1), "z", states=2),
            NotEnumerableError,
            "the support has 1,048,577 values, and at most 1,048,576",
        ),
        (
            lambda: lt.LogLinear(
                lambda x, z: x[:, None, :1].expand(-1, len(z), 4000), event=16, given="z", states=3
            ),
            NotEnumerableError,
            r"65,536 x 3 x 4,000 = 786,432,000 numbers .* more than the 67,108,864",
        ),
        (
            lambda: lt.LogLinear("unary", event=16, given="z", states=2000),
            NotEnumerableError,
            "65,536 x 2,000",
        ),
        (lambda: lt.models.log_linear(4, 0), ValueError, "at least 1 class, got classes=0"),
        (lambda: lt.models.log_linear(), ValueError, "event="),
        (
            lambda: lt.models.log_linear(data=lt.load_data(np.linspace(0, 1, 40).reshape(20, 2))),
            ValueError,
            "binary columns, and the data hold others",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(
    build: Callable[[], Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        build()


def test_values_outside_the_support_are_refused_with_their_row() -> None:
    factor = made("named of a list")
    with pytest.raises(ValueError, match=r"'x': row 1 holds \(1, 0.5\), which is none of the 5 values"):
        factor.check("x", torch.tensor([[2.0, 0.0], [1.0, 0.5]]))
    factor.check("x", VALUES)
    with pytest.raises(ValueError, match="no gradient at a value of probability 0"):
        factor.gradient(torch.tensor([[1.0, 0.5]]), torch.tensor([0]))
    with pytest.raises(TypeError, match="'z' as integer codes from 0 to 2"):
        factor.log_prob(VALUES[:1], torch.eye(3)[:1])


def test_features_by_name_of_any_support() -> None:
    found = features(("unary", "pairwise"), binary_vectors((2, 1)), 2).at(torch.tensor(3), torch.tensor(1))
    assert found.tolist() == [0, 0, 1, 1, 1]
