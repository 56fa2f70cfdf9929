"""What draws of a model leave as it was."""

from __future__ import annotations

import torch

import latentia as lt


def test_draws_have_the_precision_of_the_model_and_given_noise_stays() -> None:
    p = lt.Joint(z=lt.Bernoulli(lt.Constant(3)), x=lt.Bernoulli(lt.MLP(3, 4), given="z")).double()
    drawn = p.complete({}, lt.Noise(0), batch=2).values
    assert {value.dtype for value in drawn.values()} == {torch.float64}
    uniform = {"z.0": torch.rand(1, 2, 3).double(), "x.0": torch.rand(1, 2, 4).double()}
    before = {name: noise.clone() for name, noise in uniform.items()}
    p.complete({}, lt.GivenNoise(uniform), batch=2)
    assert all(torch.equal(uniform[name], before[name]) for name in uniform)
