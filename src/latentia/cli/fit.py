"""latentia fit DATA: train a model and say what was learnt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .options import DataOptions, EMOptions, FitOptions, ModelOptions, ObjectiveOptions, Switch, flag

if TYPE_CHECKING:
    from .settings import Settings

EXAMPLES = """\
Examples:

  latentia fit digits --latent 16 --out runs/digits
  latentia fit mnist --conv --binarise dynamic --epochs 50 --precision bf16
  latentia fit houses.csv --types zip=ignored --hidden 100,50 --covariance full
  latentia fit digits --objective iwae --samples 50
  latentia fit nltcs.csv --model helmholtz_machine --layers 50,20 --objective wake_sleep
  latentia fit iris --model gaussian_mixture --components 3 --starts 5
  latentia fit digits --model ppca --latent 10
  latentia fit digits --model mine:wide_vae --objective mine:tempered

The last one takes wide_vae(data=..., latent=...) and tempered(p, q, values, noise, ...) of ./mine.py.

A config file holds the same options, in the sections [data], [model], [objective], [em] and [fit]; flags \
override it. RUN/config.toml is one, with every option as it was resolved."""


def run(
    data: Annotated[
        str | None,
        Parameter(
            help="A name that `latentia data` lists, or a path: CSV, Parquet, NPY, NPZ, IDX, pictures."
        ),
    ] = None,
    /,
    *,
    data_options: DataOptions = DataOptions(),  # noqa: B008 (frozen)
    model_options: ModelOptions = ModelOptions(),  # noqa: B008
    objective_options: ObjectiveOptions = ObjectiveOptions(),  # noqa: B008
    fit_options: FitOptions = FitOptions(),  # noqa: B008
    em_options: EMOptions = EMOptions(),  # noqa: B008
    out: Annotated[Path | None, flag("The run folder.", "runs/DATA", metavar="FOLDER")] = None,
    config: Annotated[
        Path | None, flag("Options from a TOML file; flags override it.", metavar="FILE")
    ] = None,
    resume: Annotated[Switch, Parameter(help="Go on with the run in --out.")] = False,
    overwrite: Annotated[Switch, Parameter(help="Replace the run in --out.")] = False,
    quiet: Annotated[Switch, Parameter(help="No notes and no progress.")] = False,
) -> None:
    """Fit a model to data.

    A model whose posterior is exact (mixtures, ppca, factor_analysis, log_linear) is fitted by
    expectation-maximisation, until log p(x) of the training rows no longer grows. Others are fitted by
    stochastic gradient ascent of a lower bound on log p(x), which stops when the validation bound no longer
    grows, and keeps the best weights. The run folder holds config.toml, metrics.jsonl, checkpoints/ and
    model/.
    """
    from .build import located
    from .settings import from_flags, merged, read_config

    flags = from_flags(
        data=data_options, model=model_options, objective=objective_options, em=em_options, fit=fit_options
    )
    if data is not None:
        flags["data"]["source"] = data
    settings = merged(read_config(config) if config is not None else {}, flags)
    out = out or Path("runs") / Path(settings["data"].get("source", "run")).stem
    for options in (flags["data"], settings["data"]):
        options |= {name: located(options[name]) for name in ("source", "valid", "test") if name in options}
    settings = claimed(out, settings, flags, config, resume=resume, overwrite=overwrite)
    train(settings, out, resume=resume, overwrite=overwrite, quiet=quiet)


def claimed(
    out: Path, settings: Settings, flags: Settings, config: Path | None, *, resume: bool, overwrite: bool
) -> Settings:
    """The settings for a run in this folder: its own with the flags over them when it is resumed.

    Raises UsageError for an existing run that is neither resumed nor to be replaced, and for one that is
    absent.
    """
    from ..errors import UsageError
    from .runs import recorded
    from .settings import merged, refuse_changes

    exists = (out / "config.toml").exists()
    if resume and overwrite:
        raise UsageError("--resume goes on and --overwrite starts anew: say one of them")
    if exists and not (resume or overwrite):
        raise UsageError(
            f"{out} holds a run already: add --resume to go on with it, --overwrite to replace it, or choose "
            f"another --out"
        )
    if not resume:
        return settings
    if config is not None:
        raise UsageError("--resume goes on with the options in the run folder: leave --config out")
    if not exists:
        raise UsageError(
            f"there is no run in {out} to resume: leave --resume out, or name its folder by --out"
        )
    old = recorded(out)
    refuse_changes(old, flags)
    return merged(old, flags)


def train(settings: Settings, out: Path, *, resume: bool, overwrite: bool, quiet: bool) -> None:
    """Read the data, build and announce the model, fit it, and show what was learnt.

    Names are looked up before the data are read, so that a misspelt one is told at once.
    """
    import warnings

    from ..archive import foreign_parts
    from ..errors import Interrupted
    from ..learn import fit
    from .build import (
        build_model,
        data_from,
        fit_arguments,
        model_function,
        objective_from,
        objective_function,
        resolved,
    )
    from .describe import announced, next_commands, unasked
    from .learnt import learnt
    from .methods import method_of
    from .output import say, show

    seed, name = settings["fit"].get("seed", 0), settings["model"].get("name", "vae")
    model_function(name)
    objective_function(settings["objective"].get("name", "elbo"))
    data = data_from(settings, seed)
    say("\n".join([f"Data: {data.name}", *(f"  {note}" for note in data.notes)]), quiet)
    model = build_model(settings, data, seed)
    method = method_of(settings, model, name)
    config = resolved(settings, data, model, method)
    objective, keywords = (None, config["em"]) if method == "em" else objective_from(config, model)
    say(announced(model, name, data, asked="likelihood" in settings["model"]), quiet)
    reason = "" if method == "em" or "name" in settings["objective"] else unasked(model, config["objective"])
    if reason:
        say(reason, quiet)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*parts that are not latentia's")
        try:
            run = fit(
                model,
                data,
                objective,
                out=out,
                resume=resume,
                overwrite=overwrite,
                progress=not quiet,
                config=config,
                **keywords,
                **fit_arguments(config["fit"]),
            )
        except Interrupted as error:
            way = f"{error}, such as latentia fit --out {out} --resume"
            raise Interrupted(way, error.exit_code - 128) from None
    own = foreign_parts(model)
    note = f"The model holds parts of your own ({', '.join(own)}): give the other commands --model {name}"
    show(learnt(run, data, config, [*run.notes, *([note] if own else [])]))
    say(next_commands(out, model, f" --model {name}" if own else ""), quiet)
