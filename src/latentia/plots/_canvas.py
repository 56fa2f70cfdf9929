"""Figures and axes in one quiet style, with colours that colour-blind readers tell apart."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

INK, GREY, PALE = "#222222", "#767676", "#d9d9d9"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"  # Okabe & Ito (2008)
HOLE = (0.90, 0.62, 0.0)  # a pixel that is missing: orange, which no grey is
CLASSES = (  # Tol (2021), the muted scheme in its order, and black
    *("#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee"),
    *("#882255", "#44aa99", "#999933", "#aa4499", "#222222"),
)
SMALL, NORMAL, LARGE = 8.0, 9.0, 11.0
MATHS = "cm"
HEADING, PAD = 0.3, 0.07  # inches above panels, and around axes
GREEK = re.compile(
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|upsilon|phi|chi"
    "|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega"
)


def new_axes(width: float, height: float) -> Axes:
    """Axes in a new figure, in inches. Raises ImportError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as missing:
        raise ImportError('pictures need matplotlib: pip install "latentia[plot]"') from missing
    layout = ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD)
    return Figure(figsize=(width, height), layout=layout).add_subplot()


def figure_of(ax: Axes) -> Figure:
    """The whole figure in which `ax` stands."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("these axes belong to no figure any more")
    return figure


def panels(
    ax: Axes, count: int, columns: int, heading: str = "", heights: Sequence[float] | None = None
) -> list[Axes]:
    """`count` axes in a grid of so many columns, below a heading, in the place of `ax`, which is hidden.

    heights: those of the grid's rows in proportion; equal by default.

    Raises ValueError for axes that were not made by `subplots` or `add_subplot`.
    """
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError("this picture divides its axes into panels: pass axes made by subplots")
    ax.set_axis_off()
    rows, figure = -(-count // columns), figure_of(ax)
    grid = place.subgridspec(rows, columns, height_ratios=heights)
    if heading:
        ax.text(0, 1, heading, transform=ax.transAxes, va="top", fontsize=LARGE, color=INK)
        height = place.get_position(figure).height * figure.get_figheight()
        below = place.subgridspec(2, 1, height_ratios=(HEADING, height - HEADING))[1]
        grid = below.subgridspec(rows, columns, height_ratios=heights)
    return [figure.add_subplot(grid[i // columns, i % columns]) for i in range(count)]


def title(ax: Axes, text: str, size: float = LARGE) -> None:
    """The title of the picture, or of a panel, above its left edge."""
    ax.set_title(text, loc="left", fontsize=size, color=INK, math_fontfamily=MATHS)


def style(ax: Axes, x: str | None = None, y: str | None = None, maths: bool = True) -> None:
    """Labels and thin axes on two sides. maths: whether $...$ in the labels is mathematics."""
    for label, write in ((x, ax.set_xlabel), (y, ax.set_ylabel)):
        if label is None:
            continue
        size = NORMAL + 3 if maths and label.startswith("$") and label.endswith("$") else NORMAL
        write(label, fontsize=size, color=INK, parse_math=maths, math_fontfamily=MATHS)
    ax.tick_params(labelsize=SMALL, colors=GREY, length=3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(GREY)
        ax.spines[side].set_linewidth(0.8)


def legend(ax: Axes, outside: bool = False, maths: bool = False, heading: str | None = None) -> Legend:
    """A legend without a border, where it hides least, or to the right of the axes."""
    place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if outside else {"loc": "best"}
    made = ax.legend(
        fontsize=SMALL, labelcolor=INK, title=heading, title_fontsize=SMALL, edgecolor="none", **place
    )
    for text in (*made.get_texts(), made.get_title()):
        text.set_parse_math(maths)
        text.set_math_fontfamily(MATHS)
    return made


def class_colours(count: int) -> list[str]:
    """As many different colours as there are classes."""
    if count <= len(CLASSES):
        return list(CLASSES[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["viridis"](i / (count - 1))) for i in range(count)]


def write_caption(ax: Axes, text: str) -> None:
    """A caption below the figure, as wide as it is."""
    figure = figure_of(ax)
    width = round(figure.get_figwidth() * 16.5)
    lines = textwrap.fill(text, width)
    figure.supxlabel(
        lines,
        x=0.01,
        ha="left",
        fontsize=SMALL,
        color=GREY,
        parse_math=False,
        linespacing=1.35,
    )


def maths_name(name: str) -> str:
    """A variable's name in mathematical notation, without dollars: z, h_{1}, \\theta, \\mathrm{age}."""
    match = re.fullmatch(r"([A-Za-z]+?)_?(\d*)", name)
    if match is None or not (len(match[1]) == 1 or GREEK.fullmatch(match[1])):
        return rf"\mathrm{{{_escaped(name)}}}"
    letter = match[1] if len(match[1]) == 1 else rf"\{match[1]}"
    return rf"{letter}_{{{match[2]}}}" if match[2] else letter


def _escaped(text: str) -> str:
    special = {"\\": r"\backslash ", "^": r"\wedge ", " ": r"\ ", "~": r"\sim "}
    return "".join(special.get(c, rf"\{c}" if c in "_%$#&{}" else c) for c in text)


def unit_name(name: str, index: int | None) -> str:
    """A latent unit in mathematical notation, with dollars: $z_{3}$, counted from 0 as in code."""
    inner = maths_name(name)
    if index is None:
        return f"${inner}$"
    return f"${inner}_{{{index}}}$" if "_" not in inner else f"$({inner})_{{{index}}}$"
