"""Mixtures: their evidence is the sum over components, EM climbs it, unsuitable data are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.factors.covariances import Spherical, Tied
from latentia.factors.priors import Beta, Dirichlet
from latentia.joint import MASK

KINDS = ("number", "binary", 3, "count")
ROWS = 60


def table(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(2, (ROWS,), generator=generator)
    number = 4.0 * group + torch.randn(ROWS, generator=generator)
    binary = (torch.rand(ROWS, generator=generator) < 0.2 + 0.5 * group).float()
    category = torch.randint(3, (ROWS,), generator=generator) * group
    count = torch.poisson(1.0 + 5.0 * group, generator=generator)
    return torch.stack([number, binary, category.float(), count], -1).double()


def binary(*event: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    group = torch.randint(2, (ROWS, *(1 for _ in event)), generator=generator)
    return (torch.rand(ROWS, *event, generator=generator) < 0.3 + 0.4 * group).double()


MODELS: dict[str, tuple[Callable[[], lt.Model], Tensor]] = {
    "gaussian": (lambda: lt.models.gaussian_mixture(4, 3), table()),
    "gaussian_diagonal": (lambda: lt.models.gaussian_mixture(4, 3, covariance=lt.Diagonal()), table()),
    "gaussian_spherical": (lambda: lt.models.gaussian_mixture(4, 3, covariance=Spherical()), table()),
    "gaussian_tied": (lambda: lt.models.gaussian_mixture(4, 3, covariance=Tied()), table()),
    "gaussian_low_rank": (lambda: lt.models.gaussian_mixture(4, 3, covariance=lt.LowRank(1)), table()),
    "gaussian_image": (lambda: lt.models.gaussian_mixture((1, 2, 3), 3), binary(1, 2, 3)),
    "bernoulli": (lambda: lt.models.bernoulli_mixture(5, 3), binary(5)),
    "bernoulli_image": (lambda: lt.models.bernoulli_mixture((1, 2, 3), 3), binary(1, 2, 3)),
    "categorical": (lambda: lt.models.categorical_mixture(KINDS, 3), table()),
    "neural": (lambda: lt.models.neural_mixture(4, 3, likelihood=KINDS), table()),
    "neural_image": (
        lambda: lt.models.neural_mixture((1, 2, 3), 3, conv=True, channels=(4,), likelihood="bernoulli"),
        binary(1, 2, 3),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_evidence_is_the_sum_over_components(name: str) -> None:
    make, x = MODELS[name]
    model = make().double()
    with torch.no_grad():
        each = [model.p.log_prob({"x": x, "k": torch.full((ROWS,), k)}) for k in range(3)]
        torch.testing.assert_close(model.q.log_evidence({"x": x}), torch.stack(each).logsumexp(0))
    assert model.sample(5, seed=1).shape == (5, *x.shape[1:])


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "holes"])
@pytest.mark.parametrize("mapped", [False, True], ids=["ml", "map"])
@pytest.mark.parametrize("name", ["bernoulli", "bernoulli_image", "categorical"])
def test_em_never_decreases_the_evidence(name: str, mapped: bool, masked: bool) -> None:
    make, x = MODELS[name]
    model = make().double()
    values = {"x": x}
    if masked:
        values["x" + MASK] = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.8
    priors: dict[str, Any] = {"k": Dirichlet(1.5), "x": Beta(1.5, 2.0)} if mapped else {}
    if mapped and name == "categorical":
        priors["x"] = (Beta(1.5, 2.0), Dirichlet(1.2))
    objectives = []
    with torch.no_grad():
        for _ in range(25):
            found = model.q.expect(values)
            penalty = sum(float(model.p[v].log_prior(prior)) for v, prior in priors.items())
            objectives.append(found.log_evidence.sum().item() + penalty)
            states = found.values["k"]
            sums = {
                "k": model.p["k"].statistics(states, weight=found.weight),
                "x": model.p["x"].statistics(x, states, weight=found.weight, observed=values.get("x" + MASK)),
            }
            for variable, statistics in sums.items():
                model.p[variable].maximize(statistics, priors.get(variable))
    assert (np.diff(objectives) > -1e-9).all()
    assert objectives[-1] > objectives[0] + 1


def test_the_seed_decides() -> None:
    one, same, other = (lt.models.bernoulli_mixture(5, 3, seed=seed) for seed in (1, 1, 2))
    weights = [model.p["x"].net.weight for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def mixed() -> lt.data.Data:
    rows = table().numpy()
    letters = np.array(["a", "b", "c"])[rows[:, 2].astype(int)]
    columns = {"size": rows[:, 0], "ill": rows[:, 1], "site": letters, "visits": rows[:, 3]}
    pandas = pytest.importorskip("pandas")
    return lt.load_data(pandas.DataFrame(columns), types={"visits": "count"})


def test_the_kinds_of_columns_come_from_the_data() -> None:
    data = mixed()
    model = lt.models.categorical_mixture(components=2, data=data)
    assert model.p["x"].columns == ("number", "binary", 3, "count")
    assert model.log_evidence(data.test).shape == (len(data.test),)
    numbers = lt.load_data(table()[:, :1].numpy())
    assert lt.models.categorical_mixture(data=numbers).p["x"].columns == ("number",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lt.models.gaussian_mixture(4, 0), "at least 1 component"),
        (lambda: lt.models.categorical_mixture((3,), 0), "at least 1 component"),
        (lambda: lt.models.neural_mixture(4, 0), "at least 1 component"),
        (lambda: lt.models.gaussian_mixture(), "say the shape of one example"),
        (lambda: lt.models.gaussian_mixture((1, 4, 4), covariance=lt.Full()), "flatten the images"),
        (
            lambda: lt.models.gaussian_mixture(100_000, 50),
            "50 full covariances of 100,000 columns are 250,002,500,000 numbers: use Diagonal",
        ),
        (lambda: lt.models.categorical_mixture(), "say the kinds of the columns"),
        (lambda: lt.models.categorical_mixture(("numbers",)), "a column is 'number'"),
        (
            lambda: lt.models.gaussian_mixture(data=mixed()),
            r"numbers, and the data hold 'ill' \(binary\), 'site' \(category\), 'visits' \(count\): use cat",
        ),
        (lambda: lt.models.bernoulli_mixture(data=mixed()), r"'size' \(number\).*use categorical_mixture"),
        (
            lambda: lt.models.bernoulli_mixture(data=lt.load_data("digits")),
            r"takes zeros and ones, and the data hold pixels 0\.\.16: binarise them",
        ),
        (
            lambda: lt.models.gaussian_mixture(data=lt.load_data("digits", binarise="threshold")),
            "hold binarised pixels: use bernoulli_mixture",
        ),
        (lambda: lt.models.categorical_mixture(data=lt.load_data("digits")), "takes a table"),
    ],
)
def test_what_does_not_suit_is_refused(make: Callable[[], lt.Model], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_images_take_a_diagonal_covariance_and_tables_a_full_one() -> None:
    assert lt.models.gaussian_mixture(data=lt.load_data("digits")).p["x"].covariance == lt.Diagonal()
    assert lt.models.gaussian_mixture(data=lt.load_data("iris")).p["x"].covariance == lt.Full()
