"""Eager and compiled run the same step; where nothing can be compiled the run goes on eagerly and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch._inductor.config
from torch.distributions import Distribution

import latentia as lt


def fitted(compile: bool) -> lt.Run:
    data = lt.load_data("digits")
    model = lt.models.vae(data=data, latent=4, hidden=(32,), activation="tanh")
    return lt.fit(
        model,
        data,
        steps=30,
        valid_every=10,
        patience=None,
        compile=compile,
        beta=lt.linear_warmup(20),
        progress=False,
    )


def test_the_compiled_step_is_the_eager_step() -> None:
    validate = Distribution._validate_args
    eager, compiled = fitted(False), fitted(True)
    assert (eager.executor, compiled.executor) == ("eager", "compiled"), compiled.notes
    for a, b in zip(eager.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    bounds = [[r["bound"] for r in run.history if r["split"] == "valid"] for run in (eager, compiled)]
    torch.testing.assert_close(torch.tensor(bounds[0]), torch.tensor(bounds[1]), rtol=1e-4, atol=1e-3)
    assert Distribution._validate_args is validate


def test_without_a_compiler_the_run_is_eager_and_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    data = lt.load_data("iris")
    with torch._inductor.config.patch({"cpp.cxx": (str(tmp_path / "no-compiler"),)}):
        run = lt.fit(lt.models.vae(data=data, latent=2), data, steps=3, compile=True, progress=False)
    assert run.executor == "eager"
    (line,) = run.notes
    assert line.startswith("the step runs eagerly, since it could not be compiled")
    assert "\n" not in line


def test_families_without_given_noise_run_eagerly() -> None:
    class Laplace(lt.Factor):
        def __init__(self, net: torch.nn.Module, given: str) -> None:
            super().__init__(net, given, parameters=2)

        def distribution(self, *parents: torch.Tensor) -> Distribution:
            loc, raw = self.parts(*parents, count=2)
            laplace = torch.distributions.Laplace(
                loc, torch.nn.functional.softplus(raw) + 1e-3, validate_args=False
            )
            return torch.distributions.Independent(laplace, 1, validate_args=False)

    p = lt.Joint(z=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2, 3), given="z", scale="learnt"))
    model = lt.Model(p, lt.Joint(z=Laplace(lt.MLP(3, 4), given="x")))
    run = lt.fit(model, torch.randn(64, 3), steps=5, compile=True, progress=False)
    assert run.executor == "eager"
    assert "draws its own random numbers" in run.notes[0]
