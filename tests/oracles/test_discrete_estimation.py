"""Maximum likelihood of discrete families and of tables is counting, and MAP is the maximum: in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.factor import LARGEST_SUPPORT, Factor, NotEnumerableError
from latentia.factors.columns import columns_outputs
from latentia.factors.priors import Beta, Dirichlet

STATES, ROWS = 3, 40
KINDS = ("number", "binary", 4, "count", "number")
Make = Callable[[torch.nn.Module, str | tuple[str, ...]], Factor]
FAMILIES: dict[str, tuple[int, Make, object]] = {
    "categorical": (4, lambda net, given: lt.Categorical(net, given), Dirichlet(1.7)),
    "categorical_by_code": (
        4,
        lambda net, given: lt.Categorical(net, given),
        Dirichlet((1.0, 2.0, 1.5, 3.0)),
    ),
    "bernoulli": (5, lambda net, given: lt.Bernoulli(net, given), Beta(2.0, 1.3)),
    "columns": (
        columns_outputs(KINDS),
        lambda net, given: lt.Columns(net, given, columns=KINDS),
        (Dirichlet(1.7), Beta(2.0, 1.3)),
    ),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


def codes(*shape: int, high: int, seed: int = 0) -> Tensor:
    return torch.randint(high, shape, generator=generator(seed))


def built(family: str, table: bool) -> Factor:
    outputs, make, _ = FAMILIES[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = lt.Table(STATES, outputs) if table else lt.Constant(outputs)
        factor = make(net, "k" if table else ()).double()
    factor.bind([0] if table else [])
    return factor


def rows(family: str) -> tuple[Tensor, Tensor]:
    """Some values of the family and a mask of them."""
    if family.startswith("categorical"):
        return codes(ROWS, high=4), uniform(ROWS, seed=5) < 0.7
    if family == "bernoulli":
        return (uniform(ROWS, 5) < 0.4).double(), uniform(ROWS, 5, seed=5) < 0.7
    number = 5 + 3 * torch.randn(ROWS, 2, generator=generator(), dtype=torch.float64)
    binary, category = (uniform(ROWS) < 0.3).double(), codes(ROWS, high=4).double()
    count = torch.poisson(4 * uniform(ROWS, seed=1), generator=generator())
    value = torch.stack([number[:, 0], binary, category, count, number[:, 1] / 10], -1)
    return value, uniform(ROWS, 5, seed=5) < 0.7


PARENTS: dict[str, tuple[tuple[Tensor, ...], Tensor]] = {
    "root": ((), uniform(ROWS)),
    "observed": ((codes(ROWS, high=STATES),), uniform(ROWS)),
    "enumerated": ((torch.arange(STATES).unsqueeze(-1),), uniform(STATES, ROWS)),
    "with_another_lead": ((torch.arange(STATES).reshape(-1, 1, 1),), uniform(STATES, 2, ROWS)),
}


def expected_log_likelihood(
    factor: Factor, value: Tensor, parents: tuple[Tensor, ...], weight: Tensor, observed: Tensor | None
) -> Tensor:
    return (weight * factor.log_prob(value, *parents, observed=observed)).sum()


def maximised(factor: Factor, prior: object | None = None, **given: object) -> dict[str, Tensor]:
    value, parents = given.pop("value"), given.pop("parents")
    statistics = factor.statistics(value, *parents, **given)
    assert all(part.dtype == torch.float64 for part in statistics.values())
    factor.maximize(statistics, prior)
    return statistics


def assert_stationary(objective: Tensor, factor: Factor) -> None:
    for gradient in torch.autograd.grad(objective, list(factor.parameters()), allow_unused=True):
        if gradient is not None:
            torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-7, rtol=0)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "holes"])
@pytest.mark.parametrize("with_prior", [False, True], ids=["ml", "map"])
@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_maximize_is_the_maximum(family: str, parent: str, with_prior: bool, masked: bool) -> None:
    parents, weight = PARENTS[parent]
    factor = built(family, table=parent != "root")
    value, mask = rows(family)
    prior = FAMILIES[family][2] if with_prior else None
    given = {"value": value, "parents": parents, "weight": weight, "observed": mask if masked else None}

    def objective() -> Tensor:
        log_likelihood = expected_log_likelihood(factor, **given)
        return log_likelihood if prior is None else log_likelihood + factor.log_prior(prior)

    assert factor.has_closed_form
    before = objective().item()
    maximised(factor, prior, **given)
    best = objective()
    assert best.item() > before
    assert_stationary(best, factor)
    parameters = list(factor.parameters())
    moves = [1e-2 * torch.randn(p.shape, generator=generator(9), dtype=p.dtype) for p in parameters]
    for parameter, move in zip(parameters, moves, strict=True):
        parameter.data += move
    assert objective().item() < best.item()


@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_add_up_over_chunks(family: str, parent: str) -> None:
    parents, weight = PARENTS[parent]
    factor = built(family, table=parent != "root")
    value, mask = rows(family)
    whole = factor.statistics(value, *parents, weight=weight, observed=mask)
    chunks = []
    for part in (slice(0, 13), slice(13, 14), slice(14, ROWS)):
        own = tuple(p if p.shape[-1] == 1 else p[..., part] for p in parents)
        chunks.append(factor.statistics(value[part], *own, weight=weight[..., part], observed=mask[part]))
    for name, total in whole.items():
        torch.testing.assert_close(sum(chunk[name] for chunk in chunks), total, rtol=1e-12, atol=1e-12)


def test_a_categorical_is_counted() -> None:
    value, _ = rows("categorical")
    parents, weight = PARENTS["observed"]
    factor = built("categorical", table=True)
    maximised(factor, value=value, parents=parents, weight=weight)
    counts = np.zeros((STATES, 4))
    np.add.at(counts, (parents[0].numpy(), value.numpy()), weight.numpy())
    expected = counts / counts.sum(1, keepdims=True)
    np.testing.assert_allclose(factor.net.weight.detach().exp().numpy(), expected, rtol=1e-12, atol=2e-12)


def test_mixing_weights_are_the_average_responsibilities() -> None:
    factor = lt.Categorical(STATES).double()
    weight = uniform(STATES, ROWS)
    weight = weight / weight.sum(0)
    maximised(factor, value=torch.arange(STATES).unsqueeze(-1), parents=(), weight=weight)
    torch.testing.assert_close(factor.net.value.detach().exp(), weight.mean(1), rtol=1e-12, atol=0)


def test_bernoulli_probabilities_are_weighted_means_of_observed_entries() -> None:
    value, mask = rows("bernoulli")
    parents, weight = PARENTS["enumerated"]
    factor = built("bernoulli", table=True)
    maximised(factor, value=value, parents=parents, weight=weight, observed=mask)
    x, seen, w = value.numpy(), mask.numpy(), weight.numpy()
    expected = (w @ (x * seen)) / (w @ seen)
    np.testing.assert_allclose(factor.net.weight.detach().sigmoid().numpy(), expected, rtol=1e-12)


def test_columns_are_averages_and_one_scale_about_them() -> None:
    value, _ = rows("columns")
    parents, weight = PARENTS["enumerated"]
    factor = built("columns", table=True)
    maximised(factor, value=value, parents=parents, weight=weight)
    x, w = value.numpy(), weight.numpy()
    means = (w @ x) / w.sum(1, keepdims=True)
    hot = np.eye(4)[x[:, 2].astype(int)]
    table = factor.net.weight.detach()
    np.testing.assert_allclose(table[:, [0, 7]].numpy(), means[:, [0, 4]], rtol=1e-12)
    np.testing.assert_allclose(table[:, 1].sigmoid().numpy(), means[:, 1], rtol=1e-12)
    np.testing.assert_allclose(table[:, 2:6].exp().numpy(), (w @ hot) / w.sum(1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(factor.distribution(torch.arange(STATES)).mean[:, 3].detach(), means[:, 3])
    squares = (w[:, :, None] * (x - means[:, None]) ** 2).sum((0, 1)) / w.sum()
    np.testing.assert_allclose(factor.scale.detach().numpy(), np.sqrt(squares[[0, 4]]), rtol=1e-9)


def test_a_scale_far_from_zero_is_exact_once_the_means_are_there() -> None:
    x = 1e6 + uniform(ROWS, 1)
    factor = lt.Columns(lt.Constant(1), columns=("number",)).double()
    for _ in range(2):
        maximised(factor, value=x, parents=(), weight=torch.ones(ROWS))
    np.testing.assert_allclose(factor.net.value.item(), x.mean().item(), rtol=1e-15)
    np.testing.assert_allclose(factor.scale.item(), np.std(x.numpy()), rtol=1e-8)


def test_two_enumerated_variables_are_counted_together() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        factor = lt.Categorical(lt.Table(3, 4), given="a").double()
    factor.bind([0])
    weight = uniform(3, 4, ROWS)
    a, b = torch.arange(3).reshape(3, 1, 1), torch.arange(4).reshape(1, 4, 1)
    maximised(factor, value=b, parents=(a,), weight=weight)
    together = weight.sum(-1)
    torch.testing.assert_close(factor.net.weight.detach().exp(), together / together.sum(1, keepdim=True))
    assert_stationary(expected_log_likelihood(factor, b, (a,), weight, None), factor)


def test_an_enumerated_value_of_an_observed_parent_is_counted() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        factor = lt.Categorical(lt.Table(3, 4), given="y").double()
    factor.bind([0])
    weight, y = uniform(4, ROWS), codes(ROWS, high=3)
    value = torch.arange(4).unsqueeze(-1)
    maximised(factor, value=value, parents=(y,), weight=weight)
    assert_stationary(expected_log_likelihood(factor, value, (y,), weight, None), factor)


def test_an_enumerated_binary_vector_is_counted() -> None:
    factor = lt.Bernoulli(lt.Constant(3)).double()
    value, weight = factor.support().unsqueeze(1), uniform(8, ROWS)
    maximised(factor, value=value, parents=(), weight=weight)
    expected = (weight.sum(1) @ value.squeeze(1)) / weight.sum()
    torch.testing.assert_close(factor.net.value.detach().sigmoid(), expected)


def test_images_are_counted_entry_by_entry() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        factor = lt.Bernoulli(lt.Table(STATES, (1, 2, 3)), given="k").double()
    factor.bind([0])
    value = (uniform(ROWS, 1, 2, 3) < 0.5).double()
    parents, weight = PARENTS["enumerated"]
    maximised(
        factor, value=value, parents=parents, weight=weight, observed=uniform(ROWS, 1, 2, 3, seed=2) < 0.6
    )
    mask = uniform(ROWS, 1, 2, 3, seed=2) < 0.6
    assert_stationary(expected_log_likelihood(factor, value, parents, weight, mask), factor)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_state_without_weight_keeps_its_parameters(family: str) -> None:
    value, _ = rows(family)
    parents, weight = PARENTS["enumerated"]
    weight = weight.clone()
    weight[1] = 0
    factor = built(family, table=True)
    before = factor.net.weight.detach().clone()
    maximised(factor, value=value, parents=parents, weight=weight)
    after = factor.net.weight.detach()
    assert torch.equal(after[1], before[1])
    assert bool(after.isfinite().all()) and not torch.equal(after[0], before[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_parameters_stay(family: str) -> None:
    value, _ = rows(family)
    parents, weight = PARENTS["enumerated"]
    factor = built(family, table=True).requires_grad_(False)
    before = {name: p.clone() for name, p in factor.named_parameters()}
    maximised(factor, value=value, parents=parents, weight=weight)
    assert all(torch.equal(p, before[name]) for name, p in factor.named_parameters())
    assert factor.free_parameters == 0


def test_uniform_logits_stay_uniform() -> None:
    factor = lt.Categorical(STATES, logits="uniform").double()
    maximised(factor, value=torch.arange(STATES).unsqueeze(-1), parents=(), weight=uniform(STATES, ROWS))
    assert factor.has_closed_form and not factor.net.value.any()


def test_values_never_seen_stay_possible() -> None:
    never = lt.Categorical(3).double()
    maximised(never, value=torch.zeros(5, dtype=torch.int64), parents=(), weight=torch.ones(5))
    torch.testing.assert_close(never.log_prob(torch.arange(3)).exp().detach().sum(), torch.ones(()).double())
    assert -28 < never.log_prob(torch.tensor(2)).item() < -27
    always = lt.Bernoulli(lt.Constant(2))
    maximised(always, value=torch.tensor([[1.0, 0.0]]), parents=(), weight=torch.ones(1))
    assert bool(always.net.value.isfinite().all())
    assert always.log_prob(torch.tensor([1.0, 0.0])).item() == pytest.approx(0, abs=1e-11)
    columns = lt.Columns(lt.Constant(4), columns=("number", "count", 2), floor=1e-2).double()
    maximised(columns, value=torch.zeros(3, 3), parents=(), weight=torch.ones(3))
    assert float(columns.scale.detach()) == pytest.approx(1e-2, rel=1e-5)
    assert bool(columns.log_prob(torch.zeros(1, 3)).isfinite().all())


def test_only_tables_of_one_discrete_parent_have_a_closed_form() -> None:
    p = lt.Joint(
        k=lt.Categorical(3),
        b=lt.Bernoulli(lt.Constant(3)),
        x=lt.Bernoulli(lt.Table(3, 2), given="k"),
        y=lt.Bernoulli(lt.Table(3, 2), given="b"),
        z=lt.Bernoulli(lt.MLP(3, 2), given="k"),
    )
    closed = {name: p[name].has_closed_form for name in p}
    assert closed == {"k": True, "b": True, "x": True, "y": False, "z": False}
    with pytest.raises(TypeError, match="only as a root with Constant or with a Table"):
        p["z"].log_prior(Beta(2, 2))


@pytest.mark.parametrize(
    ("family", "prior", "message"),
    [
        ("categorical", Beta(2, 2), "conjugate prior of a Categorical is a Dirichlet"),
        ("bernoulli", Dirichlet(2), "conjugate prior of a Bernoulli is a Beta"),
        ("columns", "flat", "priors of Columns are a Dirichlet"),
    ],
)
def test_other_priors_are_refused(family: str, prior: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        built(family, table=False).log_prior(prior)


def test_a_prior_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="2 concentrations, and there are 4 codes"):
        built("categorical", table=False).log_prior(Dirichlet((1.0, 2.0)))


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: lt.Categorical(5), 5),
        (lambda: lt.Bernoulli(lt.Constant((1, 2, 2), value=0.3)), 16),
        (lambda: lt.Bernoulli(lt.Constant(1, value=0.3), event=()), 2),
    ],
)
def test_support_holds_every_value_once(make: Callable[[], Factor], size: int) -> None:
    factor = make().double()
    support = factor.support()
    assert support.shape == (size, *factor.event)
    assert len(torch.unique(support, dim=0)) == size
    factor.check("x", support)
    torch.testing.assert_close(factor.log_prob(support).exp().sum().item(), 1.0)


def test_binary_support_counts() -> None:
    support = lt.Bernoulli(lt.Constant(3)).support()
    assert [tuple(row) for row in support.int().tolist()] == list(itertools.product((0, 1), repeat=3))
    assert support.dtype == torch.float32 and lt.Categorical(4).support().dtype == torch.int64


@pytest.mark.parametrize(
    ("event", "size"), [(20, None), (21, "2,097,152"), ((1, 28, 28), r"2\^784"), (20_000, r"2\^20000")]
)
def test_a_support_too_large_is_refused_before_it_is_built(event: int, size: str | None) -> None:
    factor = lt.Bernoulli(lt.Constant(event))
    if size is None:
        assert len(factor.support()) == LARGEST_SUPPORT
        return
    with pytest.raises(NotEnumerableError, match=f"has {size} values, and at most 1,048,576 are enumerated"):
        factor.support()


def test_columns_are_not_enumerated() -> None:
    with pytest.raises(NotEnumerableError, match="cannot be enumerated"):
        lt.Columns(lt.Constant(2), columns=("number", "binary")).support()


@pytest.mark.parametrize("masked", [False, True])
def test_enumerated_bernoulli_log_prob_is_the_sum_over_entries(masked: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        factor = lt.Bernoulli(lt.Table(STATES, (1, 2, 3)), given="k").double()
    factor.bind([0])
    value = uniform(ROWS, 1, 2, 3)
    mask = uniform(ROWS, 1, 2, 3, seed=1) < 0.5 if masked else None
    together = factor.log_prob(value, torch.arange(STATES).unsqueeze(-1), observed=mask)
    each = [factor.log_prob(value, torch.full((ROWS,), k), observed=mask) for k in range(STATES)]
    torch.testing.assert_close(together, torch.stack(each), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: lt.Categorical(4), 3),
        (lambda: lt.Categorical(4, logits="uniform"), 0),
        (lambda: lt.Categorical(lt.Table(3, 4), given="k"), 9),
        (lambda: lt.Bernoulli(lt.Table(3, 4), given="k"), 12),
        (lambda: lt.Columns(lt.Table(3, 8), given="k", columns=KINDS), 3 * 7 + 2),
        (lambda: lt.Categorical(lt.MLP(3, 4), given="z"), 16),
    ],
)
def test_free_parameters_are_those_that_count(make: Callable[[], Factor], count: int) -> None:
    assert make().free_parameters == count
