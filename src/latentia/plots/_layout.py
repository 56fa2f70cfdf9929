"""A layered layout for small directed graphs: parents above children, few crossings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

Edge = tuple[str, str]
Point = tuple[float, float]


def layered(names: Sequence[str], edges: Iterable[Edge], extra: Iterable[Edge] = ()) -> dict[str, Point]:
    """A place for each node: layers one apart, downwards from 0, and nodes of a layer one apart.

    edges   the acyclic graph that orders the layers: a parent stands above its children
    extra   edges of nodes outside that graph: such a node stands between its neighbours' layers, to the side
    """
    edges, extra = list(edges), list(extra)
    inside = [name for name in names if any(name in edge for edge in edges)] or list(names[:1])
    depth = _depths(inside, edges)
    layers = [[name for name in inside if depth[name] == d] for d in range(max(depth.values()) + 1)]
    _untangle(layers, edges)
    place: dict[str, Point] = {}
    for d, layer in enumerate(layers):
        for i, name in enumerate(layer):
            place[name] = (i - (len(layer) - 1) / 2, -float(d))
    for name in names:
        if name not in place:
            near = [place[a if b == name else b] for a, b in extra if name in (a, b) and (a in place or b in place)]
            y = sum(p[1] for p in near) / len(near) if near else 0.0
            taken = [x for x, other in place.values() if abs(other - y) < 0.7]
            place[name] = (max(taken, default=-1.0) + 1.0, y)
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
            best = min(
                itertools.permutations(layer), key=lambda order: _length(_places([order]), _places(layers), edges)
            )
            layer[:] = best


def _places(layers: Iterable[Sequence[str]]) -> dict[str, float]:
    return {name: i - (len(layer) - 1) / 2 for layer in layers for i, name in enumerate(layer)}


def _centre(name: str, place: Mapping[str, float], edges: Sequence[Edge]) -> float:
    near = [place[b if a == name else a] for a, b in edges if name in (a, b)]
    return sum(near) / len(near) if near else place[name]


def _length(order: Mapping[str, float], place: Mapping[str, float], edges: Sequence[Edge]) -> float:
    """The summed sideways length of the edges when a layer is ordered so."""
    moved = {**place, **order}
    return sum(abs(moved[a] - moved[b]) for a, b in edges)


def obstructed(edge: Edge, place: Mapping[str, Point]) -> bool:
    """Whether the straight line between two nodes passes close by a third."""
    (ax, ay), (bx, by) = place[edge[0]], place[edge[1]]
    length = (bx - ax) ** 2 + (by - ay) ** 2
    for name, (x, y) in place.items():
        if name in edge or length == 0:
            continue
        along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length
        apart = (x - ax - along * (bx - ax)) ** 2 + (y - ay - along * (by - ay)) ** 2
        if 0 < along < 1 and apart < 0.35**2:
            return True
    return False
