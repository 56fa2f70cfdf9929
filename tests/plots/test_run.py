"""All pictures of a run, and its report."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

import latentia as lt
from latentia.plots import pictures, plot_run
from latentia.report import write_report

from .conftest import Case

ALL = [
    *("loss", "graph", "reconstructions", "samples", "latent_plane", "latent_scatter", "kl_per_dimension"),
    "aggregate_posterior",
]


@pytest.mark.parametrize("name", ["digits", "iris"])
def test_a_run_gets_all_its_pictures(name: str, request: pytest.FixtureRequest) -> None:
    case: Case = request.getfixturevalue(name)
    written = plot_run(case.folder, case.model, case.data)
    assert written == [case.folder / "plots" / f"{picture}.png" for picture in ALL]
    assert sorted((case.folder / "plots").iterdir()) == sorted(written)
    for path in written:
        pixels = imread(path)
        assert min(pixels.shape[:2]) > 300 and np.ptp(pixels[..., :3]) > 0.5


def test_every_picture_has_a_caption_in_sentences(digits: Case) -> None:
    for display in pictures(digits.model, digits.data, digits.folder).values():
        assert display.title and display.caption[-1] == "." and "$" not in display.caption


def test_pictures_that_do_not_apply_are_left_out() -> None:
    data = lt.load_data({"x": torch.rand(30, 4)})
    coder = lt.models.autoencoder(data=data, latent=1, hidden=(4,))
    assert list(pictures(coder, data)) == ["graph", "reconstructions", "latent_scatter"]
    density = lt.Model(lt.Joint(x=lt.Normal(lt.Constant(8), event=4)))
    assert list(pictures(density, data)) == ["graph", "samples"]


def test_rows_may_be_given_alone_and_are_limited(iris: Case) -> None:
    found = pictures(iris.model, iris.data.train, rows=10)
    assert len(found["latent_scatter"].codes) == 10  # type: ignore[attr-defined]


def test_where_test_rows_are_few_all_rows_are_shown_and_it_is_said(iris: Case) -> None:
    found = pictures(iris.model, iris.data)
    assert len(found["latent_scatter"].codes) == 150  # type: ignore[attr-defined]


class Page(HTMLParser):
    """The page's tags, with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report(digits: Case) -> Path:
    return write_report(digits.folder, digits.model, digits.data)


def test_the_report_is_one_file_that_fetches_nothing(report: Path, digits: Case) -> None:
    assert report == digits.folder / "report.html"
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert not re.search(r"https?://|@import|url\(", text)
    assert {tag for tag, _ in page.found}.isdisjoint({"script", "link", "iframe", "a"})
    images = [attrs for tag, attrs in page.found if tag == "img"]
    assert len(images) == len(ALL)
    assert all(str(attrs["src"]).startswith("data:image/png;base64,") and attrs["alt"] for attrs in images)


def test_the_report_holds_the_numbers(report: Path, digits: Case) -> None:
    text = Page(report.read_text(encoding="utf-8")).text
    assert "p(x, z) = p(z) p(x | z)" in text and "q(z | x)" in text
    elbo = lt.log_evidence(digits.model, digits.data.test, "elbo", samples=20)
    for expected in (f"{elbo.mean:,.3f}", "L_100", "a lower bound on log p(x)", "pixels 0..16", "bits per"):
        assert expected in text
    assert all(note in text for note in digits.data.notes)
    assert 'objective = "elbo"' in text and f"at step {digits.run.best_step}" in text


def test_given_estimates_are_reported(digits: Case, tmp_path: Path) -> None:
    estimate = lt.log_evidence(digits.model, digits.data.valid[:20], samples=7)
    text = write_report(tmp_path / "x", digits.model, digits.data, estimates=[estimate]).read_text("utf-8")
    assert "L_7" in text and f"{estimate.mean:,.3f}" in text and "ELBO" not in Page(text).text


def test_text_from_outside_is_escaped(tmp_path: Path) -> None:
    lines = ["a <b>,c & d", *(f"{i / 7:.3f},{i % 5 + 0.5 * i:.2f}" for i in range(60))]
    source = tmp_path / "<script>.csv"
    source.write_text("\n".join(lines))
    data = lt.load_data(source)
    model = lt.models.vae(data=data, latent=2, hidden=(4,))
    text = write_report(tmp_path / "run <i>", model, data).read_text("utf-8")
    assert "<script" not in text and "<b>" not in text and "<i>" not in text
    assert "a &lt;b&gt;" in text and "c &amp; d" in text


def test_a_model_without_evidence_gets_a_report_that_says_so(tmp_path: Path) -> None:
    data = lt.load_data({"x": torch.rand(30, 4)})
    model = lt.models.autoencoder(data=data, latent=2, hidden=(4,))
    text = write_report(tmp_path, model, data).read_text("utf-8")
    assert "no evidence" in text and "lower bound" not in text
