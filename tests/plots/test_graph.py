"""The pair as a graph: its nodes and edges are the model's, and the layout keeps them apart."""

from __future__ import annotations

import itertools

import pytest

import latentia as lt
from latentia.plots import GraphDisplay
from latentia.plots._canvas import maths_name, unit_name
from latentia.plots._layout import bend, layered


def normal(inputs: int, outputs: int, given: str | tuple[str, ...]) -> lt.Normal:
    return lt.Normal(lt.MLP(inputs, 2 * outputs), given)


def semi_supervised() -> lt.Model:
    x = lt.Bernoulli(lt.MLP(15, 20), given=("y", "z"))
    p = lt.Joint(y=lt.Categorical(10), z=lt.StandardNormal(5), x=x)
    q = lt.Joint(y=lt.Categorical(lt.MLP(20, 10), given="x"), z=normal(30, 5, ("x", "y")))
    return lt.Model(p, q)


def conditional() -> lt.Model:
    p = lt.Joint(z=normal(3, 5, "y"), x=normal(8, 4, ("z", "y")))
    return lt.Model(p, lt.Joint(z=normal(7, 5, ("x", "y"))))


def test_nodes_and_edges_are_those_of_the_graphs() -> None:
    display = GraphDisplay.from_model(semi_supervised())
    assert display.nodes == {"y": "latent", "z": "latent", "x": "observed"}
    assert display.p_edges == [("y", "x"), ("z", "x")]
    assert display.q_edges == [("x", "y"), ("x", "z"), ("y", "z")]
    display = GraphDisplay.from_model(conditional())
    assert display.nodes == {"y": "input", "z": "latent", "x": "observed"}
    assert GraphDisplay.from_model(lt.models.autoencoder(event=4, latent=2)).nodes == {
        "z": "deterministic",
        "x": "observed",
    }


def test_p_is_solid_q_is_dashed_latent_is_white_observed_is_shaded() -> None:
    from matplotlib.patches import Ellipse, FancyArrowPatch, Polygon

    display = GraphDisplay.from_model(lt.models.vae(event=4, latent=2)).plot()
    arrows = [patch for patch in display.ax_.patches if isinstance(patch, FancyArrowPatch)]
    solid, dashed = (arrow.get_linestyle() for arrow in arrows)
    assert solid == "-" and dashed != "-"
    faces = [patch.get_facecolor()[:3] for patch in display.ax_.patches if isinstance(patch, Ellipse)]
    assert faces[0] == (1.0, 1.0, 1.0) and max(faces[1]) < 0.9
    assert "$N$" in [text.get_text() for text in display.ax_.texts]
    coder = GraphDisplay.from_model(lt.models.autoencoder(event=4, latent=2)).plot()
    assert sum(isinstance(patch, Polygon) for patch in coder.ax_.patches) == 1


@pytest.mark.parametrize("model", [semi_supervised(), conditional()], ids=["m2", "conditional"])
def test_parents_stand_above_their_children_and_nodes_apart(model: lt.Model) -> None:
    display = GraphDisplay.from_model(model)
    for parent, child in display.p_edges:
        assert display.place[parent][1] > display.place[child][1]
    for (ax, ay), (bx, by) in itertools.combinations(display.place.values(), 2):
        assert abs(ax - bx) > 0.7 or abs(ay - by) > 0.7


def test_an_arrow_bends_around_the_node_on_its_way() -> None:
    half = dict.fromkeys("yzx", 0.34)
    edges = [("y", "z"), ("z", "x"), ("y", "x")]
    place = layered(half, edges)
    rims = {name: (wide, 0.34) for name, wide in half.items()}
    assert bend(("y", "z"), place, rims) == 0
    assert bend(("y", "x"), place, rims) != 0


def test_crossings_are_avoided() -> None:
    half = dict.fromkeys(("a", "b", "c", "d"), 0.3)
    place = layered(half, [("a", "d"), ("b", "c")])
    assert (place["a"][0] < place["b"][0]) == (place["d"][0] < place["c"][0])


def test_names_become_mathematics() -> None:
    assert maths_name("z") == "z"
    assert maths_name("h12") == maths_name("h_12") == "h_{12}"
    assert maths_name("theta1") == r"\theta_{1}"
    assert maths_name("blood_pressure") == r"\mathrm{blood\_pressure}"
    assert unit_name("z", 3) == "$z_{3}$" and unit_name("z", None) == "$z$"
    assert unit_name("h1", 3) == "$(h_{1})_{3}$"


def test_long_equations_are_broken_into_lines() -> None:
    names = ["intelligence", "difficulty", "preparation", "attendance", "examination"]
    factors = {name: lt.StandardNormal(1) for name in names}
    display = GraphDisplay.from_model(lt.Model(lt.Joint(factors)))
    assert display.equations[0].count("\n") >= 1
    display.image()
