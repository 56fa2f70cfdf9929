"""Rows: a split whole on one device, and the batches that are taken from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentia.data import Image, Rows, Schema, load_data
from latentia.data.fields import fixed_uniform


def image_rows(n: int = 200, binarise=None) -> Rows:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 1, 6, 6), dtype=np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 0, 1] = 0, 255
    return Schema({"x": Image((1, 6, 6), binarise=binarise)}).rows(pixels)


def test_images_are_stored_as_bytes_and_shown_in_the_unit_interval():
    rows = image_rows()
    assert rows.tensors["x"].dtype == torch.uint8
    value = rows.batch(slice(3, 9))["x"]
    assert (value.dtype, value.shape) == (torch.float32, (6, 1, 6, 6))
    torch.testing.assert_close(value * 255, rows.tensors["x"][3:9].float())


def test_every_way_to_choose_rows_agrees():
    rows = load_data("iris").train
    index = torch.tensor([5, 3, 3, 119])
    expected = rows.tensors["x"][index]
    assert torch.equal(rows.batch(index)["x"], expected)
    assert torch.equal(rows[index].batch()["x"], expected)
    assert torch.equal(rows[index].labels, rows.labels[index])
    assert torch.equal(rows[index].rows, rows.rows[index])
    mask = rows.labels == 1
    assert torch.equal(rows[mask].batch()["x"], rows.batch(mask)["x"])
    assert len(rows[-1]) == 1 and torch.equal(rows[-1].rows, rows.rows[-1:])
    assert len(rows[10:20]) == 10
    assert torch.equal(rows[np.array([1, 2])].rows, rows.rows[1:3])


def test_threshold_is_at_half():
    schema = Schema({"x": Image((1, 1, 4), levels=16.0, binarise="threshold")})
    rows = schema.rows(np.array([[[0, 8, 9, 16]]]))
    assert rows.batch()["x"].flatten().tolist() == [0, 0, 1, 1]


def test_dynamic_binarisation_is_drawn_anew_from_the_generator():
    rows = image_rows(binarise="dynamic")
    generator = torch.Generator().manual_seed(1)
    first, second = (rows.batch(slice(0, 50), generator)["x"] for _ in range(2))
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    assert torch.equal(first, rows.batch(slice(0, 50), torch.Generator().manual_seed(1))["x"])


@pytest.mark.parametrize("fixed", [True, False])
def test_dynamic_binarisation_follows_the_intensities(fixed):
    """The sum of 5,000 draws is within 5 standard deviations of the intensities' sum; 0 and 1 never miss."""
    pixels = np.tile(np.array([0, 13, 128, 240, 255], dtype=np.uint8), (5000, 1)).reshape(5000, 1, 1, 5)
    rows = Schema({"x": Image((1, 1, 5), binarise="dynamic")}).rows(pixels)
    drawn = rows.batch(generator=None if fixed else torch.Generator().manual_seed(0))["x"].flatten(1).double()
    p = torch.tensor([0, 13, 128, 240, 255], dtype=torch.float64) / 255
    deviation = (drawn.sum(0) - 5000 * p).abs()
    assert (deviation <= 5 * (5000 * p * (1 - p)).sqrt()).all()


def test_without_a_generator_a_row_is_the_same_in_every_batch():
    rows = image_rows(binarise="dynamic")
    whole = rows.batch()["x"]
    assert torch.equal(whole, rows.batch()["x"])
    index = torch.tensor([7, 150, 7, 3])
    assert torch.equal(rows.batch(index)["x"], whole[index])
    assert torch.equal(rows[index][1:].batch()["x"], whole[index][1:])


def test_the_fixed_uniforms_are_uniform_and_uncorrelated():
    uniform = fixed_uniform(torch.arange(2000), 50).double()
    assert uniform.min() >= 0 and uniform.max() < 1
    counts = torch.histc(uniform, 20, 0, 1)
    chi_squared = ((counts - 5000) ** 2 / 5000).sum()
    assert chi_squared < 60  # 19 degrees of freedom: exceeded by chance less than 4e-6
    centred = uniform - 0.5
    for shifted in (centred.roll(1, 0), centred.roll(1, 1)):
        assert abs((centred * shifted).mean()) * 12 < 5 / 100_000**0.5


def test_a_users_global_generator_is_never_touched():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    data = load_data("digits", binarise="dynamic", seed=7)
    data.train.batch()
    data.train.batch(generator=torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())


def test_to_moves_everything():
    data = load_data("iris").to("meta")
    assert {rows.device.type for rows in data.splits.values()} == {"meta"}
    assert data.train.labels.device.type == "meta" and data.train.tensors["x"].device.type == "meta"


def test_repr_is_short():
    assert repr(load_data("digits").test) == "Rows(180: x uint8 [180, 1, 8, 8], labelled)"
