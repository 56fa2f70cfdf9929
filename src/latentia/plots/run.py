"""All pictures of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ._display import Display, DoesNotApply
from ._values import some_rows
from .aggregate_posterior import AggregatePosteriorDisplay
from .components import ComponentsDisplay
from .graph import GraphDisplay
from .kl_per_dimension import KLDisplay
from .latent_plane import LatentPlaneDisplay
from .latent_scatter import LatentScatterDisplay
from .loss import LossDisplay
from .mixture import MixtureDisplay
from .receptive_fields import ReceptiveFieldsDisplay
from .reconstructions import ReconstructionDisplay
from .responsibilities import ResponsibilityDisplay
from .samples import SamplesDisplay
from .spectrum import SpectrumDisplay

if TYPE_CHECKING:
    from ..data import Data, Rows
    from ..learn import Run
    from ..model import Model

OF_ROWS = (
    "reconstructions",
    "mixture",
    "responsibilities",
    "latent_scatter",
    "kl_per_dimension",
    "aggregate_posterior",
)
PLOTTED = 1000  # rows whose posteriors are held against each other
FEW = 100  # test rows: below it, pictures show all rows


def rows_to_show(data: Data | Rows | Any) -> tuple[Any, str]:
    """The rows that pictures are of, and a sentence on them: the test rows, or all where those are few."""
    from ..data import Data, Rows

    if not isinstance(data, Data):
        return data, ""
    if len(data.test) >= FEW:
        return data.test, "These are test rows."
    parts = [rows for rows in (data.test, data.valid, data.train) if len(rows)]
    tensors = {name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors}
    labels = [part.labels for part in parts if part.labels is not None]
    together = torch.cat(labels) if len(labels) == len(parts) else None
    everything = Rows(data.schema, tensors, together, torch.cat([part.rows for part in parts]))
    return everything, "These are all rows, those of training among them."


def pictures(
    model: Model, data: Data | Rows | Any, run: Run | str | Path | None = None, rows: int = 5000
) -> dict[str, Display]:
    """The displays that apply to a model, its data and its run, by name.

    data   Data, of which the test rows are shown (all rows, where those are fewer than 100), or rows; at most
           `rows` of them are used
    run    a Run, or a run folder, for the learning curve
    """
    from ..data import Data

    x = some_rows(model, rows_to_show(data)[0], rows)
    trained = data.train if isinstance(data, Data) else x
    makers: dict[str, Callable[[], Display]] = {
        "graph": lambda: GraphDisplay.from_model(model),
        "components": lambda: ComponentsDisplay.from_model(model, x),
        "mixture": lambda: MixtureDisplay.from_model(model, x),
        "responsibilities": lambda: ResponsibilityDisplay.from_model(model, x),
        "spectrum": lambda: SpectrumDisplay.from_model(model, trained),
        "receptive_fields": lambda: ReceptiveFieldsDisplay.from_model(model),
        "reconstructions": lambda: ReconstructionDisplay.from_model(model, x),
        "samples": lambda: SamplesDisplay.from_model(model, x),
        "latent_plane": lambda: LatentPlaneDisplay.from_model(model, x),
        "latent_scatter": lambda: LatentScatterDisplay.from_model(model, x),
        "kl_per_dimension": lambda: KLDisplay.from_model(model, x),
        "aggregate_posterior": lambda: AggregatePosteriorDisplay.from_model(model, x, limit=PLOTTED),
    }
    if run is not None:
        makers = {"loss": lambda: LossDisplay.from_run(run, em=_bayesian(model)), **makers}
    found = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except DoesNotApply:
            continue
    return found


def plot_run(run_folder: str | Path, model: Model, data: Data | Rows | Any, rows: int = 5000) -> list[Path]:
    """Write every picture that applies into `run_folder`/plots as PNG, with captions; returns the files.

    Raises ImportError where matplotlib is not installed.
    """
    folder = Path(run_folder)
    found = pictures(model, data, folder, rows)
    which = rows_to_show(data)[1]
    return [
        display.save(folder / "plots" / f"{name}.png", caption_of(name, display, which))
        for name, display in found.items()
    ]


def _bayesian(model: Model) -> str | None:
    """What EM climbs where parameters have a posterior."""
    return "lower bound on log p" if any(model.p[name].is_bayesian for name in model.p) else None


def caption_of(name: str, display: Display, which: str) -> str:
    """The caption, with the rows that the picture is of."""
    return f"{display.caption} {which}".rstrip() if name in OF_ROWS else display.caption
