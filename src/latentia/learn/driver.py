"""What every method of fit shares: its rows, its run folder, its checkpoints, its end on a signal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._door import refuse_codes, rows_of, takes_row
from ..data import Data, Rows
from ..errors import Interrupted, UsageError
from ..model import Model
from . import checkpoint
from .ascent import Progress, Record
from .checkpoint import Engine
from .folder import append_metrics
from .progress_bar import progress_bar
from .run import Run
from .signals import noted_signals


@dataclass
class Work:
    """A method of fit made ready to run.

    steps     trains, and yields after every step the records it has to tell
    length    how many steps there may be
    way       the method in words
    finished  called at the end: may add notes to the run, or raise DivergedError
    """

    engine: Engine
    steps: Iterator[list[Record]]
    state: Progress
    run: Run
    settings: Mapping[str, Any]
    length: int
    checkpoint_every: int
    way: str
    finished: Callable[[], None]

    def describe(self) -> str:
        run = self.run
        return f"{self.way} of {run.objective}; it follows {run.follows}"


def drive(work: Work, show: bool) -> None:
    """Run a method: write what it tells, save its state, keep the best weights, end on signals."""
    engine, state, run, settings = work.engine, work.state, work.run, work.settings
    checkpoints = None if run.folder is None else run.folder / "checkpoints"
    best = checkpoint.load_best(checkpoints, state.best_step) if checkpoints is not None else None
    with noted_signals() as arrived, progress_bar(work.length, state.step, show) as tell:
        for records in work.steps:
            run.history += records
            if run.folder is not None:
                append_metrics(run.folder, records)
            if state.best_step == state.step:
                best = checkpoint.clone_state(engine.step_module)
                if checkpoints is not None:
                    checkpoint.save_best(checkpoints, best, state.step)
            due = state.step % work.checkpoint_every == 0 or state.stopped or arrived.signal is not None
            if due and checkpoints is not None:
                checkpoint.save_checkpoint(checkpoints, engine, state, settings)
            tell(state.step, records)
            if arrived.signal is not None and not state.stopped:
                rest = (
                    "there is no run folder to resume"
                    if checkpoints is None
                    else "the state is saved: resume"
                )
                raise Interrupted(f"interrupted after step {state.step:,}; {rest}", arrived.signal)
    if best is not None:
        engine.step_module.load_state_dict(best)
    run.steps, run.best_step, run.best_value = state.step, state.best_step, state.best_value
    run.stopped, run.skipped, run.seconds = state.stopped, state.skipped, state.seconds
    if state.unfinite:
        run.notes.append(
            f"{state.unfinite:,} validations gave a bound that is not finite; they were left out"
        )
    work.finished()


def training_rows(model: Model, data: Any) -> tuple[Rows, Rows | None, list[str]]:
    """Training and validation rows, checked against the graphs and the likelihood, and what to say of them.

    Raises UsageError where the model has another schema.
    """
    if isinstance(data, Data):
        train, valid = data.train, data.valid if len(data.valid) else None
    else:
        train, valid = rows_of(model, data, numbering=True), None
    if len(train) == 0:
        raise UsageError("there are no training rows")
    if model.schema is not None and model.schema != train.schema:
        raise UsageError(
            "the model was built for data read another way (other columns, scaling or binarisation): build "
            "a new model for these data, or read them as the others were"
        )
    notes = []
    if takes_row(model) and valid is not None:
        valid = None
        notes.append("q has a posterior for each training row and none for others: no validation")
    refuse_codes(model, train.schema)
    train, valid = rows_of(model, train), None if valid is None else rows_of(model, valid)
    pseudo = set()
    for rows in (train, valid):
        if rows is None:
            continue
        for start in range(0, len(rows), 8192):
            values = model.batch(rows, slice(start, start + 8192))
            for name in model.p:
                if name in values:
                    model.p[name].check(name, values[name])
                    pseudo |= set() if model.p[name].measures(values[name]) else {name}
    notes += [
        f"{name!r}: {type(model.p[name]).__name__} is no density of such values: no evidence"
        for name in pseudo
    ]
    return train, valid, notes


def restored(
    engine: Engine, folder: Path, settings: Mapping[str, Any], run: Run, fresh: Progress
) -> tuple[Progress, dict[str, Any]] | None:
    """The state of the newest checkpoint and its settings; None where there is none yet.

    fresh: a state of the method's own kind. Raises UsageError where that run was another one, or none of its
    checkpoints can be read.
    """
    found, damaged = checkpoint.load_checkpoint(folder / "checkpoints", engine, type(fresh))
    if damaged:
        run.notes.append(f"damaged and passed over: {', '.join(path.name for path in damaged)}")
    if found is None and damaged:
        raise UsageError(f"none of the checkpoints in {folder} can be read: start again with overwrite")
    if found is None:
        run.notes.append("there was no checkpoint yet: the run starts anew")
        return None
    state, old = found
    for name, value in settings.items():
        if old.get(name) != value:
            raise UsageError(f"cannot resume: {name} was {old.get(name)} and is now {value}")
    run.notes.append(f"resumed after step {state.step:,}")
    return state, old
