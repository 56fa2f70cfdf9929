"""latentia fit DATA: train a model and say what was learnt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from .options import DataOptions, FitOptions, ModelOptions, ObjectiveOptions, flag

if TYPE_CHECKING:
    from ..data import Data
    from ..learn import Run
    from ..model import Model

EXAMPLES = """\
Examples:

  latentia fit digits --latent 16 --out runs/digits
  latentia fit mnist --conv --binarise dynamic --epochs 50 --precision bf16
  latentia fit houses.csv --types zip=ignored --hidden 100,50 --covariance full
  latentia fit digits --objective iwae --samples 50
  latentia fit digits --model mine:wide_vae --objective mine:tempered

The last one takes the functions wide_vae(data=..., latent=...) and tempered(p, q, values, noise, ...) of ./mine.py.

A config file holds the same options, in the sections [data], [model], [objective] and [fit]; flags override it. \
RUN/config.toml is one, with every option as it was resolved."""


def run(
    data: Annotated[
        str | None,
        Parameter(help="A name that `latentia data` lists, or a path: CSV, Parquet, NPY, NPZ, IDX, a folder of pictures."),
    ] = None,
    /,
    *,
    data_options: DataOptions = DataOptions(),  # noqa: B008 (frozen)
    model_options: ModelOptions = ModelOptions(),  # noqa: B008
    objective_options: ObjectiveOptions = ObjectiveOptions(),  # noqa: B008
    fit_options: FitOptions = FitOptions(),  # noqa: B008
    out: Annotated[Path | None, flag("The run folder.", "runs/DATA", metavar="FOLDER")] = None,
    config: Annotated[Path | None, flag("Options from a TOML file; flags override it.", metavar="FILE")] = None,
    resume: Annotated[bool, Parameter(help="Go on with the run in --out.", negative="", show_default=False)] = False,
    overwrite: Annotated[bool, Parameter(help="Replace the run in --out.", negative="", show_default=False)] = False,
    quiet: Annotated[bool, Parameter(help="No notes and no progress.", negative="", show_default=False)] = False,
) -> None:
    """Fit a model to data.

    The method is stochastic gradient ascent of a lower bound on log p(x). It stops when the validation bound no longer grows, keeps the best weights, and writes a run folder: config.toml,
    metrics.jsonl, checkpoints/ and model/.
    """
    from .build import data_from, located
    from .output import say, show
    from .settings import from_flags, merged, read_config, refuse_changes

    flags = from_flags(data=data_options, model=model_options, objective=objective_options, fit=fit_options)
    if data is not None:
        flags["data"]["source"] = data
    for name in ("source", "valid", "test"):
        if name in flags["data"]:
            flags["data"][name] = located(flags["data"][name])
    settings = merged(read_config(config) if config is not None else {}, flags)
    out = out or Path("runs") / Path(settings["data"].get("source", "run")).stem
    if resume:
        old = resumed(out, config)
        refuse_changes(old, flags)
        settings = merged(old, flags)
    seed = settings["fit"].get("seed", 0)
    found = data_from(settings, seed)
    say("\n".join([f"Data: {found.name}", *(f"  {note}" for note in found.notes)]), quiet)
    trained, fitted = train(settings, found, out, resume=resume, overwrite=overwrite, quiet=quiet)
    show(learnt(trained, found, fitted))
    say(next_commands(out, trained.model), quiet)


def resumed(out: Path, config: Path | None) -> Any:
    """The settings of the run to go on with."""
    from ..errors import UsageError
    from .runs import recorded

    if config is not None:
        raise UsageError("--resume goes on with the options in the run folder: leave --config out")
    if not (out / "config.toml").exists():
        raise UsageError(f"there is no run in {out} to resume: leave --resume out, or name its folder with --out")
    return recorded(out)


def train(
    settings: Any, data: Data, out: Path, *, resume: bool, overwrite: bool, quiet: bool
) -> tuple[Run, list[str]]:
    """Build, announce and fit the model; its run, and notes on what came of it."""
    import inspect
    import warnings

    from .. import __version__
    from ..archive import foreign_parts
    from ..data import load_data
    from ..learn import fit
    from .build import build_model, defaults, fit_arguments, objective_from
    from .output import say
    from .settings import VERSION, known_options

    seed = settings["fit"].get("seed", 0)
    model, model_section = build_model(settings, data, seed)
    objective, keywords, objective_section = objective_from(settings)
    signature = defaults(inspect.signature(fit).parameters, without=("resume", "overwrite", "warm_start", "progress"))
    section = {**{k: v for k, v in signature.items() if k in known_options()["fit"]}, **settings["fit"]}
    section.setdefault("batch", min(128, len(data.train)))
    section |= {} if "epochs" in section else {"steps": section.get("steps", 10_000)}
    resolved = {
        VERSION: __version__,
        "data": {**defaults(inspect.signature(load_data).parameters, without=("seed",)), **settings["data"]},
        "model": model_section,
        "objective": objective_section,
        "fit": section,
    }
    say(announced(model, model_section, data, asked="likelihood" in settings["model"]), quiet)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*parts that are not latentia's")
        done = fit(
            model,
            data,
            objective,
            out=out,
            resume=resume,
            overwrite=overwrite,
            progress=not quiet,
            config=resolved,
            **keywords,
            **fit_arguments(section),
        )
    own = foreign_parts(model)
    notes = [f"The model holds parts of your own ({', '.join(own)}): give its other commands --model {model_section['name']}"]
    return done, notes if own else []


def announced(model: Model, section: dict[str, Any], data: Data, asked: bool) -> str:
    """The equations, the likelihood with its reason, and the size."""
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    lines = [f"Model: {section['name']}, {count:,} parameters", f"  {model.p.equation('p')}"]
    for name in () if model.q is None else model.q.variables:
        factor = model.q[name]  # type: ignore[index]
        shape = type(getattr(factor, "covariance", None)).__name__.removesuffix("NoneType")
        with_ = f" with {shape.lower()} covariance" if shape else ""
        lines.append(f"  q({name} | {', '.join(factor.given)}) is {type(factor).__name__}{with_}, event {list(factor.event)}")
    for name in model.observed:
        factor = model.p[name]
        scale = " with one learnt scale" if getattr(factor, "raw_scale", None) is not None else ""
        reason = "as asked" if asked else why(data)
        lines.append(f"  p({name} | {', '.join(factor.given)}) is {type(factor).__name__}{scale}: {reason}")
    return "\n".join(lines)


def why(data: Data) -> str:
    """Why the likelihood suits the data."""
    from ..data import Image

    binary = data.schema.likelihood == "bernoulli"
    field = data.schema.fields[data.schema.main]
    what = "the pixels" if isinstance(field, Image) else "the values"
    return f"{what} are 0 or 1" if binary else f"{what} are {'grey' if isinstance(field, Image) else 'numbers'}"


def learnt(run: Run, data: Data, notes: list[str]) -> Any:
    """The table of what was learnt."""
    from ..diagnostics import active_units, count_active
    from .output import facts

    model, rows = run.model, data.valid if len(data.valid) else data.train
    pairs = []
    if run.best_value is not None:
        shift = float(data.schema.log_jacobian(model.batch(rows, slice(None))).mean())
        inside = f" ({run.best_value:.3f} after preprocessing)" if shift else ""
        pairs.append(
            (
                "best validation bound",
                f"{run.best_value + shift:.3f} nats per row ({run.objective}), in {data.schema.units}{inside}",
            )
        )
        pairs.append(("at step", f"{run.best_step:,} of {run.steps:,}"))
    reason = {"patience": "no better bound for a while", "steps": "all steps done"}.get(run.stopped, run.stopped)
    pairs.append(("stopped", f"{reason}, after {run.seconds:.1f} s ({run.executor})"))
    if run.skipped:
        pairs.append(("skipped steps", f"{run.skipped:,}, whose gradients were not finite"))
    for name in model.observed:
        raw = getattr(model.p[name], "raw_scale", None)
        if raw is not None:
            scale = float(model.p[name].scale_of(raw.detach()))
            levels = getattr(data.schema.fields.get(name), "levels", 1)
            own = f"{scale * levels:.4g} of {levels:g} levels, " if levels != 1 else ""
            pairs.append((f"learnt scale of {name}", f"{own}{scale:.4g} after preprocessing"))
    if model.latent and all(model.q is not None and model.q[name].has_density for name in model.latent) and len(rows) > 1:
        used, units = count_active(active_units(model, rows))
        pairs.append(("active units", f"{used} of {units}, on {len(rows):,} {'validation' if rows is data.valid else 'training'} rows"))
    pairs += [("note", note) for note in notes]
    pairs.append(("run folder", str(run.folder)))
    return facts("What was learnt", pairs)


def next_commands(out: Path, model: Model) -> str:
    """What to try next."""
    ending = "png" if any(len(model.p[name].event) == 3 for name in model.observed) else "csv"
    commands = [f"latentia evaluate {out}", f"latentia sample {out} -n 64 --out samples.{ending}", f"latentia plot {out}"]
    if not model.latent:
        commands = [f"latentia reconstruct {out} --out reconstructions.{ending}", f"latentia embed {out} --out codes.csv"]
    return "\n".join(["", "Next:", *(f"  {command}" for command in commands)])
