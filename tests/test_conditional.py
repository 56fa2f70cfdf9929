"""impute, condition and marginal as a user meets them: data units, kinds of input, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch import Tensor

import latentia as lt
from latentia.exact import NotExactError
from latentia.factors import BayesianNormal

pd = pytest.importorskip("pandas")
NAN = math.nan
NAMES = ["sepal length", "sepal width", "petal length", "petal width"]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Iris in units of its own: one column a thousand times as large, another far from zero."""
    table = pd.DataFrame(load_iris().data, columns=NAMES)
    return table * [1000, 1, 1, 1] + [0, 0, 0, 1e4]


@pytest.fixture(scope="module")
def model(frame: pd.DataFrame) -> lt.Model:
    """A mixture fitted to all of iris, standardised, without holes."""
    data = lt.load_data(frame, standardise=True, split=(1, 0, 0))
    model = lt.models.gaussian_mixture(data=data, components=2)
    lt.fit(model, data, steps=20, tol=1e-4, progress=False)
    return model


def tensor(frame: pd.DataFrame | pd.Series) -> Tensor:
    return torch.from_numpy(np.array(frame))


def holed(frame: pd.DataFrame, rows: int = 40) -> pd.DataFrame:
    gone = np.random.default_rng(0).random((rows, 4)) < 0.3
    gone[0] = True
    return frame[:rows].mask(gone)


def test_a_data_frames_holes_are_filled_in_its_own_units(frame: pd.DataFrame, model: lt.Model) -> None:
    x = holed(frame)
    filled = lt.impute(model, x)
    given = tensor(x)
    seen = ~given.isnan()
    assert filled.dtype == torch.float64
    assert torch.equal(filled[seen], given[seen])
    assert filled.isfinite().all()
    truth = tensor(frame[:40])
    scale = tensor(frame.std())
    assert ((filled - truth) / scale)[~seen].square().mean() < 0.5
    assert torch.allclose(filled[0], lt.marginal(model, NAMES).mean, rtol=1e-6)
    shuffled = x[NAMES[::-1]].assign(other=1)
    assert torch.equal(lt.impute(model, shuffled), filled)
    assert torch.allclose(lt.impute(model, x.to_numpy()), filled, rtol=1e-12)
    one = x[3:4].assign(**{"sepal length": NAN})
    conditional = lt.condition(model, one)
    places = tensor(one.isna())[0].nonzero().flatten()
    assert torch.allclose(conditional.mean[0], lt.impute(model, one)[0, places], rtol=1e-9)


def test_densities_are_of_the_datas_units(frame: pd.DataFrame, model: lt.Model) -> None:
    marginal = lt.marginal(model, ["petal width", "sepal length"])
    x = tensor(frame[["petal width", "sepal length"]])
    line = torch.linspace(1e4 - 3, 1e4 + 6, 2001, dtype=torch.float64)
    width = lt.marginal(model, "petal width")
    assert torch.trapezoid(width.log_prob(line[:, None]).exp(), line) == pytest.approx(1, abs=1e-6)
    joint = lt.marginal(model, [0, 1, 2, 3])
    whole = tensor(frame)
    evidence = lt.log_evidence(model, frame).values.double()
    assert torch.allclose(joint.log_prob(whole), evidence, atol=2e-3)
    others = frame.assign(**{"sepal width": NAN, "petal length": NAN})
    conditional = lt.condition(model, others).log_prob(whole[:, 1:3])
    assert torch.allclose(conditional + marginal.log_prob(x), joint.log_prob(whole), atol=1e-8)


def test_rows_read_before_and_paths_are_filled_too(
    frame: pd.DataFrame, model: lt.Model, tmp_path: pytest.TempPathFactory
) -> None:
    x = holed(frame)
    expected = lt.impute(model, x)
    path = tmp_path / "holes.csv"
    x.to_csv(path, index=False)
    assert torch.equal(lt.impute(model, path), expected)
    data = lt.load_data(x[1:], standardise=True, split=(1, 0, 0))
    own = lt.models.gaussian_mixture(data=data, components=1)
    lt.fit(own, data, steps=5, progress=False)
    kept = x.to_numpy()[data.train.rows + 1]
    filled = lt.impute(own, data.train)
    assert filled.dtype == torch.float32
    assert np.allclose(filled.numpy()[~np.isnan(kept)], kept[~np.isnan(kept)], rtol=1e-6)
    assert torch.allclose(filled.double(), lt.impute(own, kept), rtol=1e-6)


def test_arrays_and_images_keep_their_type_and_shape() -> None:
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    x[:, :, 1] = NAN
    for model in (lt.models.ppca((1, 4, 4), 2), lt.models.gaussian_mixture((1, 4, 4), 3)):
        filled = lt.impute(model, x)
        assert (filled.shape, filled.dtype) == (x.shape, x.dtype)
        assert torch.equal(filled[~x.isnan()], x[~x.isnan()])
        assert lt.impute(model, x, draws=2).shape == (2, 6, 1, 4, 4)
        assert lt.condition(model, x).event_shape == (4,)
        assert lt.marginal(model, [0, 15]).event_shape == (2,)
    whole = x.nan_to_num()
    assert torch.equal(lt.impute(model, whole), whole)
    assert torch.equal(lt.impute(model, whole, draws=2), whole.expand(2, *whole.shape))


def test_the_model_and_the_global_generator_stay_as_they_are(model: lt.Model, frame: pd.DataFrame) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, schema = torch.get_rng_state(), model.schema
    lt.impute(model, holed(frame), draws=3)
    lt.marginal(model, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.schema is schema
    assert model.dtype == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_grey_values_of_a_bernoulli_are_not_rounded() -> None:
    model = lt.models.bernoulli_mixture(4, 2)
    grey = torch.tensor([[0.3, NAN, 0.9, 0.1]])
    binary = torch.tensor([[0.0, NAN, 1.0, 0.0]])
    assert 0 < lt.impute(model, grey)[0, 1] < 1
    assert lt.impute(model, binary)[0, 1] in (0, 1)
    assert 0 < lt.impute(model, binary, rounded=False)[0, 1] < 1


def support() -> Tensor:
    return torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])


def bayesian() -> lt.Model:
    p = lt.Joint(k=lt.Categorical(2), x=BayesianNormal(2, 3))
    return lt.Model(p, lt.Exact(p))


def two_variables() -> lt.Model:
    p = lt.Joint(
        k=lt.Categorical(2), x=lt.Normal(lt.Table(2, 4), given="k"), y=lt.Bernoulli(lt.Table(2, 1), given="k")
    )
    return lt.Model(p, lt.Exact(p, "k"))


MIXTURE = lt.models.gaussian_mixture(3, 2)
HOLE, OTHER = [NAN, 0.0, 1.0], [0.0, NAN, 1.0]


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (
            lambda: lt.impute(lt.models.vae(3, 2), torch.tensor([HOLE])),
            NotExactError,
            "needs the posterior in",
        ),
        (lambda: lt.condition(lt.models.vae(3, 2), torch.tensor([HOLE])), NotExactError, "q(z | x)"),
        (lambda: lt.marginal(lt.models.vae(3, 2), 0), NotExactError, "whose q is Exact"),
        (
            lambda: lt.impute(bayesian(), torch.tensor([HOLE])),
            NotExactError,
            "'x': BayesianNormal has dependent",
        ),
        (
            lambda: lt.condition(MIXTURE, torch.tensor([HOLE, OTHER])),
            ValueError,
            "row 1 has others than row 0",
        ),
        (lambda: lt.condition(MIXTURE, torch.zeros(2, 3)), ValueError, "nothing is missing"),
        (lambda: lt.impute(MIXTURE, torch.tensor([HOLE]), draws=0), ValueError, "at least 1, got 0"),
        (lambda: lt.impute(MIXTURE, torch.zeros(2, 4)), ValueError, "expected 3 columns, got 4"),
        (lambda: lt.marginal(MIXTURE, [0, 0]), ValueError, "different columns of one variable"),
        (lambda: lt.marginal(MIXTURE, []), ValueError, "different columns of one variable"),
        (
            lambda: lt.marginal(MIXTURE, 3),
            ValueError,
            "there is no column 3; there are x, and entries 0 to 2",
        ),
        (lambda: lt.marginal(two_variables(), ["x", "y"]), ValueError, "columns of one variable"),
        (
            lambda: lt.condition(two_variables(), {"x": [[NAN, 1.0]], "y": [[NAN]]}),
            ValueError,
            "holes in one variable, and x, y have some",
        ),
        (
            lambda: lt.impute(
                lt.models.log_linear(support=support()), torch.tensor([[0.0, 0, 0], [1, 1, NAN]])
            ),
            ValueError,
            "row 1: what was observed has probability 0",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused(call: Callable[[], object], kind: type, words: str) -> None:
    with pytest.raises(kind) as error:
        call()
    assert words in str(error.value)


def test_a_misspelt_column_is_recognised(model: lt.Model) -> None:
    with pytest.raises(ValueError, match="did you mean 'petal width'"):
        lt.marginal(model, "petal wdith")
