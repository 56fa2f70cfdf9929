"""Energy and Frechet distances against scipy, closed forms, and their own definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import energy_distance as scipy_energy
from scipy.stats import kstest

from latentia.diagnostics import energy_distance, frechet_distance


def normals(rows: int, size: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_in_one_dimension_the_energy_distance_is_scipys_squared() -> None:
    x, y = normals(40, 1)[:, 0], 1.5 * normals(31, 1, seed=1)[:, 0] + 0.2
    found = energy_distance(x, y, permutations=0)
    assert found.value == pytest.approx(scipy_energy(x.numpy(), y.numpy()) ** 2, rel=1e-10)
    assert math.isnan(found.p_value)


def test_it_is_its_definition_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normals(20), normals(30, seed=1) + 0.3
    pairs = [(a.unsqueeze(1) - b).norm(dim=-1).mean() for a, b in ((x, y), (x, x), (y, y))]
    whole = energy_distance(x, y, permutations=99)
    assert whole.value == pytest.approx(float(2 * pairs[0] - pairs[1] - pairs[2]), rel=1e-10)
    monkeypatch.setattr("latentia.diagnostics.two_sample.LIVE", 120)
    parts = energy_distance(x, y, permutations=99)
    assert (parts.value, parts.p_value) == (pytest.approx(whole.value, rel=1e-12), whole.p_value)


def test_a_relabelling_is_the_distance_of_the_relabelled_samples() -> None:
    x, y = normals(6), normals(5, seed=1)
    found = energy_distance(x, y, permutations=1, seed=4)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(4))
    both = torch.cat([x, y])[order]
    assert found.null == pytest.approx(energy_distance(both[:6], both[6:], permutations=0).value, rel=1e-9)


def test_the_p_value_is_uniform_for_one_distribution_and_small_for_two() -> None:
    p = [
        energy_distance(normals(15, seed=s), normals(15, seed=1000 + s), permutations=99).p_value
        for s in range(150)
    ]
    assert kstest(np.array(p) - 0.005, "uniform").pvalue > 0.001
    different = energy_distance(normals(60), 1.5 * normals(60, seed=1))
    assert different.p_value < 0.01 and "the samples differ" in repr(different)
    same = energy_distance(normals(60), normals(60, seed=1))
    assert "no difference is seen" in repr(same)
    assert energy_distance(normals(9), normals(9)).value == 0.0


def test_a_large_common_offset_cancels() -> None:
    x, y = normals(20), normals(20, seed=1) + 0.5
    near, far = energy_distance(x, y), energy_distance(x + 1e6, y + 1e6)
    assert far.value == pytest.approx(near.value, rel=1e-5) and far.p_value == near.p_value


def test_the_frechet_distance_is_that_of_the_two_gaussians() -> None:
    x, y = normals(200), normals(150, seed=1) @ torch.diag(torch.tensor([2.0, 1.0, 0.5]).double()) + 1.0
    found = frechet_distance(x, y)
    a, b = np.cov(x.numpy().T), np.cov(y.numpy().T)
    mean = np.square(x.numpy().mean(0) - y.numpy().mean(0)).sum()
    assert found.value == pytest.approx(mean + np.trace(a + b - 2 * sqrtm(a @ b).real), rel=1e-8)
    assert frechet_distance(x, x).value == pytest.approx(0.0, abs=1e-9)
    moved = frechet_distance(x, x + torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64))
    assert moved.value == pytest.approx(25.0)
    assert not found.caution


def test_features_are_given_in_chunks_and_named() -> None:
    sizes = []

    def halves(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return images.flatten(1)[:, :2]

    x, y = torch.rand(25, 1, 20, 20), torch.rand(25, 1, 20, 20)
    found = frechet_distance(x, y, halves, chunk=10)
    assert sizes == [10, 10, 5] * 2 and found.width == 2 and "halves" in repr(found)
    plain = frechet_distance(x.flatten(1)[:, :2], y.flatten(1)[:, :2])
    assert found.value == pytest.approx(plain.value, rel=1e-5)
    assert "the values themselves" in repr(plain)


def test_too_few_rows_are_told() -> None:
    assert "ill-determined" in frechet_distance(normals(5), normals(5, seed=1)).caution


@pytest.mark.parametrize("distance", [energy_distance, frechet_distance])
def test_samples_that_cannot_be_compared_are_refused_in_words(distance: object) -> None:
    call = distance
    x = normals(10)
    with pytest.raises(ValueError, match="x must hold at least two rows"):
        call(x[:1], x)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"3.* and y .*2"):
        call(x, x[:, :2])  # type: ignore[operator]
    with pytest.raises(ValueError, match="y holds values that are not finite"):
        call(x, torch.where(x > 1, torch.nan, x))  # type: ignore[operator]


def test_raw_images_and_bad_features_are_refused() -> None:
    x = torch.rand(5, 1, 28, 28)
    with pytest.raises(ValueError, match="784 raw entries have no meaningful Gaussian: pass features="):
        frechet_distance(x, x)
    with pytest.raises(ValueError, match=r"features must give a tensor \[5, F\]"):
        frechet_distance(x, x, lambda images: images)
    with pytest.raises(ValueError, match="permutations must not be negative"):
        energy_distance(x, x, permutations=-1)
