"""Log-linear models against sums over all values, automatic differentiation and the Bernoulli mixture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.factors.features import FeatureTable, features
from latentia.factors.lookup import Lookup, binary_vectors
from latentia.factors.priors import Beta, GaussianPrior

from .log_linear_factors import MADE, VALUES, generator, made, numbers, states_first


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


def test_features_by_name_of_any_support() -> None:
    found = features(("unary", "pairwise"), binary_vectors((2, 1)), 2).at(torch.tensor(3), torch.tensor(1))
    assert found.tolist() == [0, 0, 1, 1, 1]
