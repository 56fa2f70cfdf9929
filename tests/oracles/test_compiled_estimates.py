"""Compiled estimators give what the eager ones give, from the same draws; without a compiler they say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import latentia as lt


def model() -> lt.Model:
    return lt.models.vae(16, 2, hidden=(8,), activation="tanh", likelihood="bernoulli", seed=0)


def rows(count: int = 6) -> torch.Tensor:
    return (torch.rand(count, 16, generator=torch.Generator().manual_seed(0)) < 0.4).float()


@pytest.mark.parametrize(
    ("method", "samples", "how"),
    [("importance", 40, {}), ("ais", 4, {"distributions": 6, "leapfrogs": 2})],
)
def test_compiled_and_eager_estimates_are_the_same(method: str, samples: int, how: dict[str, Any]) -> None:
    one, other = (
        lt.log_evidence(model(), rows(), method, samples, rows_per_batch=2, compile=compile, **how)
        for compile in (False, True)
    )
    torch.testing.assert_close(one.values, other.values, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(one.mc_errors, other.mc_errors, rtol=1e-2, atol=1e-3)


def test_without_a_compiler_an_estimate_is_eager_and_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    eager = lt.log_evidence(model(), rows(), "importance", 40, rows_per_batch=2, compile=False)
    with (
        torch._inductor.config.patch({"cpp.cxx": (str(tmp_path / "no-compiler"),)}),
        pytest.warns(UserWarning, match=r"^not compiled \([^\n]+\): it runs as it is, slower$"),
    ):
        found = lt.log_evidence(model(), rows(), "importance", 40, rows_per_batch=2, compile=True)
    assert torch.equal(found.values, eager.values)
