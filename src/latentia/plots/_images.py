"""Images side by side in one mosaic, each pixel as it is.

N images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import _canvas as canvas
from ._values import Floats, Limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def limits_of(*arrays: Floats) -> Limits:
    """The intensities of black and white where none are known: the range of the values, [0, 1] at least."""
    finite = np.concatenate([array[np.isfinite(array)] for array in arrays])
    low, high = float(finite.min(initial=0.0)), float(finite.max(initial=1.0))
    return low, high


def mosaic(images: Floats, columns: int, limits: Limits, gap: int = 2) -> Floats:
    """Images `[N, C, H, W]` row by row as one `[height, width, 4]` of red, green, blue and opacity.

    Each pixel becomes a block of `enlargement` squared, `gap` lies between images. Gaps are transparent and
    missing pixels orange.
    """
    times = enlargement(*images.shape[2:])
    images = images.repeat(times, axis=2).repeat(times, axis=3)
    count, channels, height, width = images.shape
    low, high = limits
    scaled = np.clip((images - low) / (high - low or 1.0), 0, 1)
    pixels = np.moveaxis(np.repeat(scaled, 3, axis=1) if channels == 1 else scaled, 1, -1)
    pixels = np.where(np.isnan(pixels).any(-1, keepdims=True), np.array(canvas.HOLE), pixels)
    rows = -(-count // columns)
    out = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4))
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        out[top : top + height, left : left + width, :3] = image
        out[top : top + height, left : left + width, 3] = 1
    return out


def enlargement(height: int, width: int) -> int:
    """How often a pixel is repeated, so that the gaps between small images can be narrower than a pixel."""
    return max(1, -(-32 // min(height, width)))


def show(ax: Axes, picture: Floats) -> None:
    """A mosaic, without interpolation and without axes."""
    ax.imshow(picture, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
