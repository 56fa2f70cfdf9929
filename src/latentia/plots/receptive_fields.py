"""What each binary latent unit does to the data: receptive fields, layer by layer.

U units of a layer; C channels, H height, W width; D columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..factors import AutoregressiveBernoulli, Bernoulli
from ..noise import Noise
from . import _canvas as canvas
from ._display import Display, DoesNotApply
from ._images import enlargement, mosaic, show
from ._values import Floats, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..model import Model

IMAGES, ACROSS = 40, 10  # fields of a layer that are shown as images, and in a row
UNITS, COLUMNS = 20, 30  # units and columns of a table shown
GAP = 3  # pixels of the picture between images
WIDTH, BESIDE, NAME = 6.4, 1.1, 0.3  # inches: the picture; its heading and caption; a layer's name
DREAMS = 2000  # draws of p whose mean the other units stand at


class ReceptiveFieldsDisplay(Display):
    """By how much each unit of a binary layer changes the mean of x, the strongest units of each layer first.

    fields   by layer, the one nearest to the data first, `[U, C, H, W]` or `[U, D]`: E[x | unit on] less
             E[x | unit off], after preprocessing
    columns  `[D]`, names of a table's columns
    """

    title = "Receptive fields"

    def __init__(self, fields: Mapping[str, ArrayLike], *, columns: Sequence[str] = ()) -> None:
        self.fields: dict[str, Floats] = {n: np.asarray(f, dtype=np.float64) for n, f in fields.items()}
        events = {field.shape[1:] for field in self.fields.values()}
        if len(events) != 1 or len(event := events.pop()) not in (1, 3):
            raise ValueError(
                f"fields must be [U, C, H, W] or [U, D] for each layer, got "
                f"{ {name: field.shape for name, field in self.fields.items()} }"
            )
        self.images = len(event) == 3
        self.columns = tuple(columns) or tuple(f"x{i}" for i in range(event[0]))
        if not self.images and len(self.columns) != event[0]:
            raise ValueError(f"columns must be [{event[0]}], as the fields have so many columns")

    @classmethod
    @torch.no_grad()
    def from_model(cls, model: Model, seed: int = 0) -> ReceptiveFieldsDisplay:
        """A unit on against off, the others of its layer at their mean under p, and so are the layers above;
        means are passed down through the layers below (mean field).

        Of one linear layer these are its weights through the sigmoid. Raises DoesNotApply for a model without
        binary latent vectors, or with inputs.
        """
        p = model.p
        layers = [n for n in reversed(model.latent) if isinstance(p[n], Bernoulli | AutoregressiveBernoulli)]
        layers = [name for name in layers if len(p[name].event) == 1]
        if not layers:
            raise DoesNotApply(f"{p.equation()} has no layer of binary latent units")
        if p.inputs:
            raise DoesNotApply(f"{p.equation()} has inputs, and so has what a unit does")
        view = view_of(model)
        dreams = p.complete({}, Noise(seed, model.device, model.dtype), batch=DREAMS).values
        averages = {name: dreams[name][0].to(model.dtype).mean(0) for name in layers}
        others = {name: dreams[name][0, :1] for name in model.latent if name not in averages}
        fields = {}
        for name in layers:
            size = p[name].event[0]
            switched = averages[name].repeat(2 * size, 1)
            unit = torch.arange(size)
            switched[unit, unit], switched[unit + size, unit] = 1.0, 0.0
            above = {n: averages[n].expand(2 * size, -1) for n in p.ancestors(name) if n in averages}
            fixed = {n: value.expand(2 * size, *value.shape[1:]) for n, value in others.items()}
            mean = _mean_of(model, view.name, {**fixed, **above, name: switched}).double().cpu()
            change = (mean[:size] - mean[size:]).numpy()
            shape = (size, *view.image) if view.image is not None else (size, -1)
            fields[name] = change.reshape(shape)
            if view.image is None:
                fields[name] = fields[name][:, list(view.places)]
        return cls(fields, columns=view.columns)

    @property
    def order(self) -> dict[str, list[int]]:
        """The units of each layer that are shown, the strongest first."""
        most = IMAGES if self.images else UNITS
        strengths = {
            name: np.square(field).reshape(len(field), -1).sum(1) for name, field in self.fields.items()
        }
        return {name: np.argsort(-s, kind="stable")[:most].tolist() for name, s in strengths.items()}

    @property
    def places(self) -> list[int]:
        """The columns of a table that are shown: those that units change most, in their order."""
        total = sum((np.square(field).sum(0) for field in self.fields.values()), np.zeros(len(self.columns)))
        return sorted(np.argsort(-total, kind="stable")[:COLUMNS].tolist())

    @property
    def size(self) -> tuple[float, float]:
        rows = [len(units) for units in self.order.values()]
        if not self.images:
            names = max(len(self.columns[i]) for i in self.places)
            each = max(1.6, 0.17 * max(rows)) + 0.5 + 0.06 * min(names, 30)
            return max(WIDTH, 1.6 + 0.3 * len(self.places)), 0.5 + each * len(rows)
        inches = WIDTH / (ACROSS * self._cell[1])  # of a pixel
        return WIDTH, BESIDE + NAME * len(rows) + sum(self._heights) * inches

    @property
    def caption(self) -> str:
        counts = {name: (len(units), len(self.fields[name])) for name, units in self.order.items()}
        shown = ", ".join(
            f"{few} of {all_} units of {name}" if few < all_ else f"{all_} units of {name}"
            for name, (few, all_) in counts.items()
        )
        columns = ""
        if not self.images and len(self.places) < len(self.columns):
            columns = f" The {len(self.places)} of {len(self.columns)} columns that they change most."
        return (
            f"{shown}, the strongest first: how the mean of x changes, after preprocessing, when the unit is "
            f"on and not off, red up and blue down, the other units of its layer at their mean under p, and "
            f"means passed down through the layers below. Each layer has its own scale, beside its name."
            f"{columns}"
        )

    @property
    def _heights(self) -> list[float]:
        """Of each layer's panel without its name: of images in pixels, so that those of all layers have one
        size.
        """
        if not self.images:
            return [1.0 for _ in self.fields]
        return [-(len(units) // -ACROSS) * self._cell[0] - GAP for units in self.order.values()]

    @property
    def _cell(self) -> tuple[int, int]:
        """Height and width of an image and the gap beside it, in pixels of the picture."""
        height, width = next(iter(self.fields.values())).shape[2:]
        times = enlargement(height, width)
        return height * times + GAP, width * times + GAP

    def draw(self, ax: Axes) -> None:
        order = self.order
        panels = canvas.panels(ax, len(order), 1, self.title, self._heights)
        for name, panel in zip(order, panels, strict=True):
            units = order[name]
            fields = self.fields[name][units]
            most = float(np.abs(fields).max()) or 1.0
            if self.images:
                self._draw_images(panel, fields / most)
            else:
                self._draw_table(panel, name, units, fields[:, self.places] / most)
            label = canvas.maths_name(name)
            canvas.title(panel, f"${label}$, colours to ±{most:.2g}", canvas.NORMAL)

    def _draw_images(self, ax: Axes, fields: Floats) -> None:
        show(ax, mosaic(coloured(fields), min(ACROSS, len(fields)), (0.0, 1.0), gap=GAP))
        ax.set_xlim(-0.5, ACROSS * self._cell[1] - GAP - 0.5)  # few units are no larger than many
        ax.set_anchor("NW")

    def _draw_table(self, ax: Axes, name: str, units: Sequence[int], fields: Floats) -> None:
        ax.imshow(fields, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        names = [self.columns[i][:30] for i in self.places]
        ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
        for text in ax.get_xticklabels():
            text.set(parse_math=False, rotation_mode="anchor")
        ax.set_yticks(range(len(units)), [str(unit) for unit in units])
        canvas.style(ax, None, f"unit of {name}", maths=False)
        ax.tick_params(length=0, labelsize=canvas.SMALL - 1)
        for spine in ax.spines.values():
            spine.set_visible(False)


def coloured(fields: Floats) -> Floats:
    """Changes in [-1, 1], `[U, 1, H, W]`, as red and blue, `[U, 3, H, W]`; those of colours as they are."""
    from matplotlib import colormaps

    shifted: Floats = (fields + 1) / 2
    if fields.shape[1] == 3:
        return shifted
    colours: Floats = colormaps["RdBu_r"](shifted[:, 0])[..., :3]
    return np.moveaxis(colours, -1, 1)


def _mean_of(model: Model, observed: str, known: Mapping[str, Tensor]) -> Tensor:
    """The mean of an observed variable in model units, means passed down from what is known."""
    values = dict(known)
    for name in model.p.variables:
        if name in values or (name != observed and name not in model.p.ancestors(observed)):
            continue
        factor, parents = model.p[name], model.p.parents(name, values)
        if factor.has_density:
            values[name] = factor.mean(factor.distribution(*parents))
        else:
            values[name] = factor.value(*parents)  # type: ignore[operator]
    return values[observed]
