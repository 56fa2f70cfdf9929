"""RUN, the run or model folder that commands are given: its model and its data."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .._words import counted
from ..archive import load_model
from ..data import Data, Image, Rows
from ..data.schema import spread
from ..errors import ArchiveError, DataError, UsageError
from ..model import Model
from .build import build_model, data_from, located
from .options import RunOptions
from .settings import Settings, merged, read_config


@dataclass(frozen=True)
class Opened:
    """A model with what is known of the run that fitted it; `run` is None for a bare model folder."""

    folder: Path
    run: Path | None
    model: Model
    settings: Settings

    @property
    def seed(self) -> int:
        return int(self.settings["fit"].get("seed", 0))

    def data(self) -> Data:
        """The run's own data in its splits. Raises DataError where they are not those the model was
        fitted to.
        """
        if "source" not in self.settings["data"]:
            raise UsageError(
                f"{self.folder} does not say which data it was fitted to: name some, as in "
                f"latentia evaluate {self.folder} DATA"
            )
        data = data_from(self.settings, self.seed)
        if self.model.schema is not None and data.schema != self.model.schema:
            raise DataError(
                f"{self.settings['data']['source']} is not what {self.folder} was fitted to: its columns, "
                f"levels or scaling have changed"
            )
        return data

    @property
    def is_exact(self) -> bool:
        """Whether log p(x) has a closed form."""
        return self.model.q is None or self.model.q.exact

    @property
    def is_image(self) -> bool:
        """Whether the data are images, for which bits per dimension are usual."""
        schema = self.model.schema
        field = None if schema is None else schema.fields[schema.main]
        return isinstance(field, Image) or (field is not None and len(field.event) == 3)


@dataclass(frozen=True)
class Chosen:
    """Rows to work on, and how to name them; `of` so many, where they stand for more."""

    rows: Rows
    source: str
    split: str | None
    of: int | None = None

    def __str__(self) -> str:
        where = self.source if self.split is None else f"{self.source}, {self.split} split"
        part = "" if self.of in (None, len(self.rows)) else f" of {self.of:,}"
        return f"{where}, {counted(len(self.rows), 'row')}{part}"

    def thinned(self, count: int | None) -> Chosen:
        """At most `count` of the rows, evenly spread: files may be sorted, and the first rows alike."""
        total = len(self.rows)
        return self if count is None else replace(self, rows=self.rows[spread(total, count)], of=total)


def open_run(folder: Path, options: RunOptions, data: str | None = None) -> Opened:
    """The model in a run folder or a model folder, on the device asked for.

    A model with a user's own parts is built anew by --model, from the run's data (or `data`), and then
    filled. Raises UsageError where there is no folder, or no model in it yet; ArchiveError for a damaged
    one.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no run or model folder {folder}")
    run, model_folder, settings = None, folder, merged()
    if not (folder / "config.json").exists() and any(
        (folder / part).exists() for part in ("config.toml", "model")
    ):
        run, model_folder = folder, folder / "model"
        settings = recorded(folder)
        if not model_folder.exists():
            raise UsageError(
                f"{folder} holds no model yet: its fit was not finished. Go on with "
                f"latentia fit --out {folder} --resume"
            )
    if options.model is None:
        try:
            model = load_model(model_folder)
        except ArchiveError as error:
            if not has_own_parts(model_folder):
                raise
            own = settings["model"].get("name", "MODULE:FUNCTION")
            raise ArchiveError(f"{error}. On the command line: add --model {own}") from error
    else:
        settings = merged(settings, {"model": {"name": options.model}})
        if data is not None and "source" not in settings["data"]:
            settings["data"]["source"] = located(data)
        built = build_model(settings, data_from(settings, int(settings["fit"].get("seed", 0))), 0)
        model = load_model(model_folder, into=built)
    if options.device is not None:
        if options.device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError("no CUDA device is available: use --device cpu")
        model.to(options.device)
    return Opened(folder, run, model, settings)


def has_own_parts(model_folder: Path) -> bool:
    """Whether an archive says that it holds classes of a user's own."""
    try:
        return bool(json.loads((model_folder / "config.json").read_text("utf-8")).get("foreign"))
    except (OSError, ValueError, AttributeError):
        return False


def recorded(run: Path) -> Settings:
    """The settings in a run's config.toml; of a run made in Python only those that the command line knows."""
    path = run / "config.toml"
    return read_config(path, strict=False) if path.exists() else merged()


def choose(opened: Opened, data: str | None, split: str | None, key: str | None, limit: int | None) -> Chosen:
    """The rows to work on: all of DATA, or a split of the run's own (test, unless told otherwise)."""
    check_limit(limit)
    source = opened.settings["data"].get("source")
    if data is not None and split is not None and located(data) != source:
        raise UsageError(
            f"--split chooses a part of the run's own data ({source}); of {data} all rows are taken"
        )
    if data is not None and split is None:
        rows, name = read_rows(opened.model, data, key), Path(data).name
    else:
        split, own = split or "test", opened.data()
        rows, name = own.splits[split], own.name
        if len(rows) == 0:
            raise UsageError(f"the run has no {split} rows: choose another --split, or name other data")
    return Chosen(rows if limit is None else rows[:limit], name, split)


def every_split(opened: Opened, limit: int | None) -> list[Chosen]:
    """The rows of each split of the run's own data, or so many of each, evenly spread."""
    check_limit(limit)
    own = opened.data()
    whole = [Chosen(rows, own.name, split) for split, rows in own.splits.items() if len(rows)]
    return [one.thinned(limit) for one in whole]


def check_limit(limit: int | None) -> None:
    """Raise UsageError for no rows at all."""
    if limit is not None and limit < 1:
        raise UsageError(f"--rows must be at least 1, got {limit}")


def read_rows(model: Model, data: str, key: str | None) -> Rows:
    """All rows of a file or named set, by the model's schema. Raises UsageError where it has none."""
    if model.schema is None:
        raise UsageError("this model has no schema to read files by: use it in Python")
    return model.schema.rows(located(data), key)
