"""Models with a log-linear factor: their evidence, EM, their files, and what is refused."""

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
from latentia.factors.lookup import binary_vectors
from latentia.joint import MASK

from .log_linear_factors import MADE, STATES, VALUES, made, numbers, products, states_first

BENCHMARKS = Path(os.environ.get("LATENTIA_DATA", "../shared/data"))


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


def test_the_posterior_of_listed_codes_is_over_the_codes() -> None:
    """A latent that takes the codes 3, 0, 5 and 1 has probability 0 of 2 and 4, and is told by its code."""
    c = made("codes")
    p = lt.Joint(z=lt.Categorical(3), c=c, x=lt.Normal(lt.Table(6, 4), given="c")).double()
    p["x"].net.weight.data.copy_(numbers(6, 4, seed=3))
    model, x = lt.Model(p, lt.Exact(p)), numbers(5, 2)
    log_z = p["z"].distribution().logits
    codes = c.support()
    log_c = torch.logsumexp(log_z.unsqueeze(0) + c.log_table(), 1)  # [X]
    log_x = torch.stack([p["x"].log_prob(x, torch.full((5,), int(code))) for code in codes], 1)
    expected = torch.zeros(5, 6, dtype=torch.float64)
    expected[:, codes] = torch.softmax(log_c + log_x, 1)
    found = model.q.distributions({"x": x})["c"]
    torch.testing.assert_close(found.probs, expected)
    assert torch.equal(model.encode(x)["c"], expected.argmax(1))
    drawn = found.sample((200,))
    assert set(drawn.flatten().tolist()) <= {0, 1, 3, 5}
    assert found.log_prob(drawn).isfinite().all()


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
