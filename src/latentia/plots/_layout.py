"""A layered layout for small directed graphs: parents above children, few crossings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

Edge = tuple[str, str]
Point = tuple[float, float]

BENDS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
MARGIN = 0.08  # inches between a node and an arrow that passes it


def layered(
    half: Mapping[str, float], edges: Iterable[Edge], extra: Iterable[Edge] = (), gap: Point = (1.0, 1.5)
) -> dict[str, Point]:
    """A place for the centre of each node, the first layer at height 0 and the others below.

    half    half the width of each node
    edges   the acyclic graph that orders the layers: a parent stands above its children
    extra   edges of nodes outside that graph: such a node stands between its neighbours' layers, to the side
    gap     between the rims of two nodes of a layer, and between the centres of two layers
    """
    names = list(half)
    edges, extra = list(edges), list(extra)
    inside = [name for name in names if any(name in edge for edge in edges)] or list(names[:1])
    depth = _depths(inside, edges)
    layers = [[name for name in inside if depth[name] == d] for d in range(max(depth.values()) + 1)]
    _untangle(layers, edges)
    place: dict[str, Point] = {}
    for d, layer in enumerate(layers):
        width = 2 * sum(half[name] for name in layer) + gap[0] * (len(layer) - 1)
        left = -width / 2
        for name in layer:
            place[name] = (left + half[name], -gap[1] * d)
            left += 2 * half[name] + gap[0]
    for name in names:
        if name not in place:
            others = [a if b == name else b for a, b in extra if name in (a, b)]
            near = [place[other][1] for other in others if other in place]
            y = sum(near) / len(near) if near else 0.0
            rims = [x + half[other] for other, (x, at) in place.items() if abs(at - y) < 0.7 * gap[1]]
            place[name] = (max(rims) + gap[0] + half[name] if rims else 0.0, y)
    return place


def _depths(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """The longest path to each node from a root; then roots sink to just above their first child."""
    depth = dict.fromkeys(names, 0)
    for _ in names:
        for parent, child in edges:
            depth[child] = max(depth[child], depth[parent] + 1)
    for name in names:
        children = [child for parent, child in edges if parent == name]
        if children and not any(child == name for _, child in edges):
            depth[name] = min(depth[child] for child in children) - 1
    return depth


def _untangle(layers: list[list[str]], edges: Sequence[Edge]) -> None:
    """Order each layer by the mean place of its neighbours, a few times over; then try small layers fully."""
    for _ in range(4):
        place = _places(layers)
        for layer in layers:
            own = {name: _centre(name, place, edges) for name in layer}
            layer.sort(key=own.__getitem__)
            place |= _places([layer])
    for layer in layers:
        if len(layer) <= 5:
            layer[:] = _shortest(layer, _places(layers), edges)


def _shortest(layer: Sequence[str], place: Mapping[str, float], edges: Sequence[Edge]) -> Sequence[str]:
    """The order of a layer with the smallest summed sideways length of the edges."""

    def length(order: Sequence[str]) -> float:
        moved = {**place, **_places([order])}
        return sum(abs(moved[a] - moved[b]) for a, b in edges)

    return min(itertools.permutations(layer), key=length)


def _places(layers: Iterable[Sequence[str]]) -> dict[str, float]:
    return {name: i - (len(layer) - 1) / 2 for layer in layers for i, name in enumerate(layer)}


def _centre(name: str, place: Mapping[str, float], edges: Sequence[Edge]) -> float:
    near = [place[b if a == name else a] for a, b in edges if name in (a, b)]
    return sum(near) / len(near) if near else place[name]


def bend(edge: Edge, place: Mapping[str, Point], half: Mapping[str, Point], least: float = 0.0) -> float:
    """How far an arrow bends to clear the other nodes: twice the height of its arc over its length.

    half: half the width and height of each node. The smallest bend of at least `least` that touches no node,
    or else the one that comes least close. Positive bends to the right, seen along the arrow.
    """
    choices = [least, *(sign * size for size in BENDS if size > least for sign in (1, -1))]
    clear = {choice: _clearance(edge, choice, place, half) for choice in choices}
    return next((choice for choice in choices if clear[choice] > 0), max(choices, key=clear.__getitem__))


def _clearance(edge: Edge, amount: float, place: Mapping[str, Point], half: Mapping[str, Point]) -> float:
    """How far the arc stays from the other nodes, in their radii; negative where it touches one."""
    (ax, ay), (bx, by) = place[edge[0]], place[edge[1]]
    middle = ((ax + bx) / 2 + amount * (by - ay), (ay + by) / 2 - amount * (bx - ax))
    nearest = 1.0
    for step in range(1, 20):
        t = step / 20
        x, y = (
            (1 - t) ** 2 * a + 2 * t * (1 - t) * m + t**2 * b
            for a, m, b in zip((ax, ay), middle, (bx, by), strict=True)
        )
        for name, (nx, ny) in place.items():
            if name not in edge:
                wide, high = half[name]
                nearest = min(nearest, math.hypot((x - nx) / (wide + MARGIN), (y - ny) / (high + MARGIN)) - 1)
    return nearest
