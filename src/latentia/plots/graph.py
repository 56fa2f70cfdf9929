"""The pair of graphs, drawn as the field draws it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..joint import Joint
from . import _canvas as canvas
from ._display import Display
from ._layout import Edge, bend, layered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

    from ..exact import Inference
    from ..model import Model

LOOKS = {
    "latent": "white: latent",
    "observed": "shaded: observed",
    "input": "square: an input, without a factor",
    "deterministic": "diamond: computed from its parents",
}
RADIUS, HALF_DIAMOND = 0.34, 0.30
SHADE = "#d4d4d4"
LINE = 64
BEND = 0.16  # of an arrow beside another


class GraphDisplay(Display):
    """p with solid arrows, q with dashed ones, over the same variables, in a plate of N rows.

    nodes     {name: kind}: "latent" (white), "observed" (shaded), "input" (a square), "deterministic"
              (a small diamond)
    p_edges   (parent, child) of the generative model
    q_edges   (parent, child) of the inference model
    equations   what the two are, in mathematical notation

    Raises ValueError for an unknown kind, and for an edge between nodes that are not there.
    """

    title = "The model"

    def __init__(
        self,
        nodes: Mapping[str, str],
        p_edges: Sequence[Edge],
        q_edges: Sequence[Edge] = (),
        equations: tuple[str, str] = ("$p$", "$q$"),
    ) -> None:
        for name, kind in nodes.items():
            if kind not in LOOKS:
                raise ValueError(f"{name!r} is of kind {kind!r}: use {', '.join(LOOKS)}")
        for edge in (*p_edges, *q_edges):
            for name in edge:
                if name not in nodes:
                    raise ValueError(f"the edge {edge[0]} -> {edge[1]} has no node {name!r}")
        self.nodes, self.p_edges, self.q_edges = dict(nodes), list(p_edges), list(q_edges)
        self.equations = equations
        self.place = layered({name: self._half_width(name) for name in nodes}, self.p_edges, self.q_edges)

    @classmethod
    def from_model(cls, model: Model) -> GraphDisplay:
        """The graphs of a model's p and q."""
        p, q = model.p, model.q
        nodes: dict[str, str] = {}
        for name in (*p.inputs, *p.variables, *(() if q is None else (*q.inputs, *q.variables))):
            nodes.setdefault(name, _kind(model, name))
        return cls(
            nodes,
            _edges(p),
            [] if q is None else _edges(q),
            (maths_equation(p, "p"), "" if q is None else maths_equation(q, "q")),
        )

    @property
    def size(self) -> tuple[float, float]:
        left, right, bottom, top = self._extent()
        lines = [_letters(line) for equation in self.equations for line in equation.split("\n")]
        return max(3.6, right - left + 0.2, 0.8 + 0.085 * max(lines)), top - bottom + 0.4 + 0.25 * len(lines)

    @property
    def caption(self) -> str:
        parts = [LOOKS[kind] for kind in LOOKS if kind in self.nodes.values()]
        arrows = "Solid arrows: the generative model p"
        arrows += "; dashed: the inference model q." if self.q_edges else "."
        return f"{arrows} {'; '.join(parts).capitalize()}. The plate repeats for each of N rows."

    def draw(self, ax: Axes) -> None:
        ax.set_axis_off()
        ax.set_aspect("equal", anchor="N")
        left, right, bottom, top = self._extent()
        ax.set_xlim(left, right)
        ax.set_ylim(bottom, top)
        self._draw_plate(ax)
        patches = {name: self._draw_node(ax, name) for name in self.nodes}
        both = {frozenset(edge) for edge in self.p_edges} & {frozenset(edge) for edge in self.q_edges}
        half = {name: (self._half_width(name), RADIUS) for name in self.nodes}
        for edge in self.p_edges:
            amount = bend(edge, self.place, half, BEND if frozenset(edge) in both else 0.0)
            self._draw_arrow(ax, patches, edge, amount, dashed=False)
        for edge in self.q_edges:
            amount = bend(edge, self.place, half, BEND)
            self._draw_arrow(ax, patches, edge, -amount if edge in self.p_edges else amount, dashed=True)
        self._draw_legend(ax)

    def _half_width(self, name: str) -> float:
        """Half the width of a node: a circle for short names, wider for long ones."""
        if self.nodes[name] == "deterministic":
            return HALF_DIAMOND
        return RADIUS if len(name) <= 3 else max(RADIUS, 0.14 + 0.052 * len(name))

    def _room(self, name: str) -> float:
        """Half the width of a node with its label, which stands beside a diamond."""
        label = 0.1 * len(name) if self.nodes[name] == "deterministic" and len(name) > 3 else 0.0
        return self._half_width(name) + label

    def _extent(self) -> tuple[float, float, float, float]:
        reach = [(x, y, max(self._room(name), 0.45)) for name, (x, y) in self.place.items()]
        return (
            min(x - half for x, _, half in reach) - 0.5,
            max(x + half for x, _, half in reach) + 0.5,
            min(y for _, y, _ in reach) - 0.85,
            max(y for _, y, _ in reach) + 0.6,
        )

    def _draw_plate(self, ax: Axes) -> None:
        from matplotlib.patches import FancyBboxPatch

        left, right, bottom, top = self._extent()
        ax.add_patch(
            FancyBboxPatch(
                (left + 0.15, bottom + 0.1),
                right - left - 0.3,
                top - bottom - 0.15,
                boxstyle="round,pad=0,rounding_size=0.12",
                fc="none",
                ec=canvas.GREY,
                lw=1.0,
            )
        )
        count = ax.text(right - 0.25, bottom + 0.18, "$N$", fontsize=12, color=canvas.INK, ha="right")
        count.set_math_fontfamily(canvas.MATHS)

    def _draw_node(self, ax: Axes, name: str) -> Patch:
        from matplotlib.patches import Ellipse, FancyBboxPatch, Polygon

        x, y = self.place[name]
        half = self._half_width(name)
        kind = self.nodes[name]
        patch: Patch
        if kind == "deterministic":
            corners = [(x - half, y), (x, y + half), (x + half, y), (x, y - half)]
            patch = Polygon(corners, closed=True)
        elif kind == "input":
            box = "round,pad=0,rounding_size=0.04"
            patch = FancyBboxPatch((x - half, y - 0.28), 2 * half, 0.56, boxstyle=box)
        else:
            patch = Ellipse((x, y), 2 * half, 2 * RADIUS)
        shaded = kind in ("observed", "input")
        patch.set(facecolor=SHADE if shaded else "white", edgecolor=canvas.INK, linewidth=1.2, zorder=3)
        ax.add_patch(patch)
        beside = kind == "deterministic" and len(name) > 3
        ax.text(
            x + half + 0.06 if beside else x,
            y,
            f"${canvas.maths_name(name)}$",
            fontsize=15 if len(name) <= 3 else 11,
            color=canvas.INK,
            ha="left" if beside else "center",
            va="center_baseline" if len(name) > 1 else "center",
            zorder=4,
            math_fontfamily=canvas.MATHS,
        )
        return patch

    def _draw_arrow(
        self, ax: Axes, patches: Mapping[str, Patch], edge: Edge, amount: float, dashed: bool
    ) -> None:
        from matplotlib.patches import FancyArrowPatch

        a, b = edge
        colour = canvas.VERMILLION if dashed else canvas.INK
        ax.add_patch(
            FancyArrowPatch(
                self.place[a],
                self.place[b],
                patchA=patches[a],
                patchB=patches[b],
                shrinkA=1.0,
                shrinkB=1.5,
                connectionstyle=f"arc3,rad={amount}",
                arrowstyle="-|>",
                mutation_scale=13,
                lw=1.3,
                ls=(0, (3.5, 2.2)) if dashed else "-",
                color=colour,
                zorder=2,
            )
        )

    def _draw_legend(self, ax: Axes) -> None:
        """The two equations, each behind a piece of its line."""
        from matplotlib.lines import Line2D

        lines = [(self.equations[0], canvas.INK, "-")]
        if self.q_edges:
            lines.append((self.equations[1], canvas.VERMILLION, "--"))
        handles = [Line2D([], [], color=colour, ls=dash, lw=1.3, label=text) for text, colour, dash in lines]
        made = ax.legend(
            handles=handles,
            frameon=False,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            fontsize=11,
            labelcolor=canvas.INK,
            handlelength=2.2,
        )
        for text in made.get_texts():
            text.set_math_fontfamily(canvas.MATHS)


def _kind(model: Model, name: str) -> str:
    for graph in (model.p, model.q):
        if graph is not None and name in graph and not graph[name].has_density:
            return "deterministic"
    if name in model.latent:
        return "latent"
    if name in model.p:
        return "observed"
    return "latent" if model.q is not None and name in model.q else "input"


def _edges(joint: Inference) -> list[Edge]:
    if not isinstance(joint, Joint):
        return [(seen, name) for name in joint for seen in joint.inputs]
    return [(parent, name) for name in joint.variables for parent in joint[name].given]


def maths_equation(joint: Inference, symbol: str) -> str:
    """The product as `Joint.equation` writes it, in mathematical notation, with dollars, in lines."""
    if not isinstance(joint, Joint):
        posterior = rf"({_listed(joint.variables)}{_given(joint.inputs)})"
        return rf"${symbol}\,{posterior} = p\,{posterior}$"
    given = _given(joint.inputs)
    head = rf"{symbol}\,({_listed(reversed(joint.variables))}{given})"
    parts = []
    for name in joint.variables:
        factor = joint[name]
        if factor.has_density:
            parts.append(rf"{symbol}\,({canvas.maths_name(name)}{_given(factor.given)})")
        else:
            parts.append(rf"[{canvas.maths_name(name)} = f({_listed(factor.given)})]")
    if parts == [head]:
        return f"${head}$"
    lines = [f"{head} ="]
    for part in parts:
        if _letters(lines[-1]) + _letters(part) > LINE:
            lines.append("")
        lines[-1] += rf"\;{part}"
    return "\n".join(f"${line}$" for line in lines)


def _letters(maths: str) -> int:
    """About how many letters wide a formula is."""
    return len(re.sub(r"\\(mathrm|[,;])|[{}$\\_ ]", "", maths.replace(r"\_", "-")))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(canvas.maths_name(name) for name in names)


def _given(names: Sequence[str]) -> str:
    return rf"\mid {_listed(names)}" if names else ""
