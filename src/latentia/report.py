"""report.html: one self-contained file per run, with its pictures and its numbers."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._files import atomic_write
from .data.schema import spread
from .evidence import Estimate, log_evidence
from .evidence.criteria import aic, bic, free_parameters

if TYPE_CHECKING:
    from .data import Data, Rows
    from .model import Model
    from .plots import Display

SAMPLES = {"elbo": 20, "importance": 100}
ROWS = 250  # of which the evidence is estimated, unless estimates are given
CSS_INCH = 88  # pixels of the page to an inch of a picture

STYLE = """
:root { color-scheme: light dark;
  --paper: #fdfdfc; --ink: #1d1d1f; --quiet: #6a6a6e; --line: #dcdcd8; --card: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #17181a; --ink: #e6e6e3; --quiet: #a0a0a4; --line: #3a3b3e; --card: #ffffff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 3rem 1.25rem 4rem; max-width: 52rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 "Source Serif 4", Charter, "Bitstream Charter", Georgia, serif; }
h1, h2 { font-weight: 600; line-height: 1.2; }
h1 { font-size: 1.9rem; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
p, ul { margin: .5rem 0; }
ul { padding-left: 1.2rem; }
.lead, .note, figcaption { color: var(--quiet); }
.note, figcaption, table, pre { font-size: .9rem; }
.equation { font-style: italic; margin: .2rem 0; }
.warning { border-left: 3px solid #d55e00; padding-left: .8rem; }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; min-width: 60%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 1.1rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 400; }
td.number, th.number { text-align: right; white-space: nowrap; }
figure { margin: 1.6rem 0 2.4rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; padding: .5rem;
  background: var(--card); border-radius: 4px; }
figcaption { margin-top: .6rem; }
pre { overflow-x: auto; padding: .8rem 1rem; border: 1px solid var(--line); border-radius: 4px;
  font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; line-height: 1.45; }
footer { margin-top: 3rem; color: var(--quiet); font-size: .85rem; }
@media print { body { padding: 0; max-width: none; } figure { break-inside: avoid; } }
"""


def write_report(
    folder: str | Path,
    model: Model,
    data: Data,
    *,
    estimates: Sequence[Estimate] | None = None,
    rows: int = 5000,
    seed: int = 0,
) -> Path:
    """Write `folder`/report.html: the model, its evidence, its pictures, the data and the configuration.

    estimates  of the test rows' evidence. By default, where that is exact, the evidence of every split, with
               BIC and AIC of the training rows; else the ELBO (20 draws) and L_100 of at most 250 of them, or
               of validation or training rows where there are no test rows
    rows       at most so many are used for the pictures
    seed       of the noise in the estimates

    The file needs no other: pictures are inside, and nothing is fetched. It is written whole or not at all.
    Returns its path. Raises ImportError where matplotlib is not installed.
    """
    from . import __version__
    from .plots.run import caption_of, pictures, rows_to_show

    folder = Path(folder)
    split = next((name for name in ("test", "valid", "train") if len(data.splits[name])), "test")
    which = rows_to_show(data)[1]
    figures = [
        _figure(display, caption_of(name, display, which))
        for name, display in pictures(model, data, folder, rows).items()
    ]
    of, exact = "", model.q is None or model.q.exact
    some = data.splits[split][spread(len(data.splits[split]), ROWS)]
    criteria: list[str] = []
    names: Sequence[str] = ()
    if estimates is None and exact:
        names = [name for name, part in data.splits.items() if len(part)]
        estimates = [log_evidence(model, data.splits[name]) for name in names]
        criteria = _criteria(model, dict(zip(names, estimates, strict=True)))
    elif estimates is None:
        estimates = _estimates(model, some, seed)
        count, total = len(some), len(data.splits[split])
        part = f"all {count:,}" if count == total else f"{count:,} of {total:,}"
        of = f" Estimated on {part} {split} rows."
    title = f"{folder.resolve().name}: a model of {data.name}"
    body = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="lead">{_text(_summary(model, data))}</p>',
        *_model(model),
        "<h2>How probable the data are</h2>",
        *_evidence(estimates, model, of, names),
        *criteria,
        *([] if exact else _warning(model, some)),
        *_course(folder),
        "<h2>Pictures</h2>",
        *figures,
        "<h2>The data</h2>",
        *_data(data),
        *_configuration(folder),
        f"<footer>Made by Latentia {_text(__version__)}.</footer>",
    ]
    return _write(folder / "report.html", title, body)


def _write(path: Path, title: str, body: Iterable[str]) -> Path:
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>",
        f"<style>{STYLE}</style></head>",
        "<body>",
        *body,
        "</body></html>",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, "\n".join(lines).encode())
    return path


def _summary(model: Model, data: Data) -> str:
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    sizes = ", ".join(f"{len(rows):,} {name}" for name, rows in data.splits.items() if len(rows))
    return f"{count:,} parameters; rows: {sizes}."


def _model(model: Model) -> list[str]:
    """The two equations, and each factor in a row; an exact posterior has none of its own."""
    graphs = [("p", model.p), *([("q", model.q)] if model.q is not None else [])]
    lines = ["<h2>The model</h2>"]
    lines += [f'<p class="equation">{_text(graph.equation(symbol))}</p>' for symbol, graph in graphs]
    rows = []
    for symbol, graph in graphs:
        if graph.exact:
            continue
        for name in graph:
            factor = graph[name]
            given = f" | {', '.join(factor.given)}" if factor.given else ""
            net = type(factor.net).__name__ if factor.net is not None else ""
            shape = " × ".join(map(str, factor.event)) or "one value"
            rows.append([f"{symbol}({name}{given})", type(factor).__name__, shape, net])
    return [*lines, _table(["Factor", "Family", "Event", "Network"], rows)]


def _evidence(estimates: Sequence[Estimate], model: Model, of: str, splits: Sequence[str] = ()) -> list[str]:
    """The estimates in a table, with their errors, and in words. splits: those that exact ones are of."""
    if any(estimate.direction == "none" for estimate in estimates):
        return [f"<p>{_text(estimates[0].caution)}.</p>"]
    image = estimates[0].dimensions > 1 and len(model.p[model.observed[0]].event) == 3
    drawn = any(estimate.direction != "exact" for estimate in estimates)
    heads = [
        "Rows" if splits else "Estimate",
        "nats per example",
        "± rows",
        *(["± Monte Carlo"] if drawn else []),
        *(["bits per dimension"] if image else []),
        "What it is",
    ]
    rows = []
    for i, estimate in enumerate(estimates):
        name = f"{splits[i]}, {len(estimate.values):,}" if splits else estimate.name
        row = [name, f"{estimate.mean:,.3f}", _error(estimate.se)]
        row += [_error(estimate.mc_error)] if drawn else []
        rows.append([*row, *([f"{estimate.bits_per_dimension:.3f}"] if image else []), estimate.meaning])
    parts = [f"{name} {value:,.2f}" for estimate in estimates for name, value in _terms(estimate).items()]
    numbers = range(1, len(heads) - 1)
    units = f"In {estimates[0].units} units" + (
        f" ({model.schema.units})" if model.schema is not None and estimates[0].units == "data" else ""
    )
    note = (
        f"{units}; larger is better. The error over rows says what another sample of rows would change"
        f"{', the Monte Carlo error what another seed would' if drawn else ''}.{of}"
    )
    lines = [_table(heads, rows, numbers), f'<p class="note">{_text(note)}</p>']
    if parts:
        lines.append(f'<p class="note">Terms of the ELBO: {_text(", ".join(parts))}.</p>')
    return lines


def _criteria(model: Model, estimates: Mapping[str, Estimate]) -> list[str]:
    """BIC and AIC of the training rows."""
    trained = estimates.get("train")
    if trained is None or trained.direction != "exact" or any(model.p[n].is_bayesian for n in model.p):
        return []
    count = free_parameters(model.p)
    text = (
        f"BIC {bic(trained, count):,.1f} = -2 N mean log p(x) + k log N and AIC {aic(trained, count):,.1f} = "
        f"-2 N mean log p(x) + 2 k, of N = {len(trained.values):,} training rows and k = {count:,} free "
        f"parameters: lower is better, among models of the same rows."
    )
    return [f'<p class="note">{_text(text)}</p>']


def _terms(estimate: Estimate) -> dict[str, float]:
    """The terms of a bound, with what preprocessing adds to them."""
    terms = dict(estimate.terms)
    if {"reconstruction", "kl"} <= set(terms):
        rest = estimate.mean - (terms["reconstruction"] - terms["kl"])
        if abs(rest) > 1e-4 * max(1.0, abs(estimate.mean)):
            terms["log-Jacobian of preprocessing"] = rest
    return terms


def _estimates(model: Model, rows: Rows, seed: int) -> list[Estimate]:
    found = [log_evidence(model, rows, "elbo", SAMPLES["elbo"], seed=seed)]
    if found[0].direction == "lower":
        found.append(log_evidence(model, rows, "importance", SAMPLES["importance"], seed=seed))
    return found


def _warning(model: Model, rows: Rows) -> list[str]:
    from .diagnostics import collapse_warning

    sentence = collapse_warning(model, rows)
    return [f'<p class="warning">{_text(sentence)}</p>'] if sentence else []


def _course(folder: Path) -> list[str]:
    """How the run went, from metrics.jsonl."""
    from .learn import read_metrics
    from .plots.loss import em_objective

    history = read_metrics(folder)
    if not history:
        return []
    objective = em_objective(folder)
    if objective is not None:
        return _iterations(history, objective)
    last = history[-1]
    rows = [
        ["Steps", f"{last['step']:,} ({last['epoch']:,.1f} epochs)"],
        ["Time", f"{last['seconds']:,.1f} s"],
    ]
    train = [record for record in history if record["split"] == "train"]
    valid = [record for record in history if record["split"] == "valid" and math.isfinite(record["bound"])]
    if valid:
        best = max(valid, key=lambda record: float(record["bound"]))
        rows.append(
            [
                "Best validation bound",
                f"{best['bound']:,.3f} nats per example in model units, at step {best['step']:,}",
            ]
        )
    if train:
        rows.append(["Last training bound", f"{train[-1]['bound']:,.3f} nats per example in model units"])
        rows.append(["Speed", f"{train[-1]['examples_per_second']:,.0f} examples per second"])
        if train[-1]["skipped"]:
            rows.append(["Steps skipped", f"{train[-1]['skipped']:,}, as their gradient was not finite"])
    return ["<h2>The fit</h2>", _table(["", ""], rows)]


def _iterations(history: Sequence[Mapping[str, Any]], objective: str) -> list[str]:
    """How a run of EM went."""
    train = [record for record in history if record["split"] == "train"]
    best = max(float(record["bound"]) for record in train)
    rows = [
        ["Iterations of EM", f"{train[-1]['step']:,}"],
        ["Time", f"{history[-1]['seconds']:,.1f} s"],
        [f"Best {objective}", f"{best:,.3f} nats per training example in model units"],
        ["Speed", f"{train[-1]['examples_per_second']:,.0f} examples per second"],
    ]
    return ["<h2>The fit</h2>", _table(["", ""], rows)]


def _data(data: Data) -> list[str]:
    """The notes of the reader, and the columns of a table."""
    lines = ["<ul>", *(f"<li>{_text(note)}</li>" for note in data.notes), "</ul>"]
    for name, field in data.schema.fields.items():
        columns = getattr(field, "columns", None)
        if columns is None:
            continue
        rows = []
        for column in columns:
            levels = (
                ", ".join(map(str, column.levels[:8])) + (" ..." if len(column.levels) > 8 else "")
                if column.levels
                else ""
            )
            scaled = (
                f"(x − {column.shift:.4g}) / {column.scale:.4g}"
                if (column.shift, column.scale) != (0, 1)
                else ""
            )
            rows.append([column.name, column.kind, scaled or levels, "with holes" if column.missing else ""])
        heading = f"<p>The columns of {_text(name)}:</p>" if len(data.schema.fields) > 1 else ""
        lines += [heading, _table(["Column", "Kind", "As the model sees it", ""], rows)]
    return lines


def _configuration(folder: Path) -> list[str]:
    path = folder / "config.toml"
    if not path.exists():
        return []
    return ["<h2>Configuration</h2>", f"<pre>{_text(path.read_text(encoding='utf-8').strip())}</pre>"]


def _figure(display: Display, caption: str) -> str:
    """A picture inside the page, at the same scale as the others."""
    picture = base64.b64encode(display.image("png", "")).decode()
    width = round(display.size[0] * CSS_INCH)
    alt = _text(f"{display.title}. {caption}")
    return (
        f'<figure><img alt="{alt}" width="{width}" src="data:image/png;base64,{picture}">'
        f"<figcaption><strong>{_text(display.title)}.</strong> {_text(caption)}</figcaption></figure>"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table; the cells of the columns in `numbers` stand to the right."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        kinds = {i: ' class="number"' for i in numbers}
        return "".join(f"<{tag}{kinds.get(i, '')}>{_text(text)}</{tag}>" for i, text in enumerate(texts))

    head = f"<thead><tr>{cells('th', heads)}</tr></thead>" if any(heads) else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _error(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2g}"


def _text(value: object) -> str:
    return html.escape(str(value))
