"""Display: what all pictures share. The constructor takes numbers, `plot` draws them.

Figures are made without pyplot: no backend is chosen, no global state is touched.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from .._files import atomic_write
from . import _canvas as canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 160


class DoesNotApply(ValueError):
    """This model, or these data, have nothing that the picture could show."""


class Display(ABC):
    """A picture. After `plot` its axes are `ax_` and its figure is `figure_`."""

    title: ClassVar[str]
    ax_: Axes
    figure_: Figure

    @property
    @abstractmethod
    def caption(self) -> str:
        """What is shown, in whole sentences."""

    @property
    @abstractmethod
    def size(self) -> tuple[float, float]:
        """Width and height, in inches, of a figure of its own."""

    @abstractmethod
    def draw(self, ax: Axes) -> None:
        """Draw into `ax`; a picture of several panels divides the place where `ax` stands."""

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw into `ax`, or into a new figure, and return the display itself.

        Raises ImportError where matplotlib is not installed.
        """
        ax = canvas.new_axes(*self.size) if ax is None else ax
        self.draw(ax)
        self.ax_, self.figure_ = ax, canvas.figure_of(ax)
        return self

    def save(self, path: str | Path, caption: str | None = None) -> Path:
        """Draw a figure of its own and write it, by the ending of `path`: .png, .svg, .pdf.

        caption: the text below the picture; the display's own by default, "" for none. The file is written
        whole or not at all. Raises ValueError for an ending that matplotlib does not know.
        """
        path = Path(path)
        content = self.image(path.suffix.removeprefix(".") or "png", caption)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)
        return path

    def image(self, kind: str = "png", caption: str | None = None) -> bytes:
        """The picture, in a figure of its own, as the bytes of a file of this kind."""
        ax = canvas.new_axes(*self.size)
        self.draw(ax)
        text = self.caption if caption is None else caption
        if text:
            canvas.write_caption(ax, text)
        return _bytes(canvas.figure_of(ax), kind)

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows."""
        return _bytes(self.figure_, "png") if hasattr(self, "figure_") else None


def _bytes(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, metadata={"Software": None} if kind == "png" else None)
    return buffer.getvalue()
