"""From settings to data, a model and an objective; a user's own functions by `module:function`."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .. import models, objectives
from ..data import Data, load_data
from ..data._hint import did_you_mean, shortened
from ..data.named import NAMES
from ..errors import UsageError
from ..factors import Diagonal, Full, LowRank
from ..model import Model
from ..schedules import linear_warmup
from .settings import Settings

if TYPE_CHECKING:
    from ..factors.normal import Covariance

READ = ("key", "types", "label", "split", "binarise", "standardise")


def located(source: str) -> str:
    """A named set as it is, a path made absolute, so that a run finds its data from any folder."""
    return source if source in NAMES else str(Path(source).expanduser().absolute())


def data_from(settings: Settings, seed: int) -> Data:
    """The data of a run, in its splits. Raises UsageError where no source is named."""
    options = settings["data"]
    if "source" not in options:
        raise UsageError("say which data to use: a name that `latentia data` lists, or a path, such as latentia fit digits")
    given = {name: options[name] for name in READ if name in options}
    files = {name: options[name] for name in ("valid", "test") if name in options}
    return load_data(options["source"], seed=seed, **given, **files)


def model_function(name: str) -> Callable[..., Any]:
    """One of the library's model functions, or a user's own by `module:function`."""
    if ":" in name:
        return own_function(name, "--model")
    if name not in models.__all__:
        raise UsageError(f"there is no model {name!r}{did_you_mean(name, models.__all__)}: `latentia models` lists them")
    function: Callable[..., Any] = getattr(models, name)
    return function


def objective_function(name: str) -> Callable[..., Any]:
    """One of the library's objectives, or a user's own function or nn.Module by `module:function`."""
    if ":" in name:
        found = own_function(name, "--objective")
        return found() if inspect.isclass(found) and issubclass(found, nn.Module) else found
    known = [word for word in objectives.__all__ if inspect.isfunction(getattr(objectives, word))]
    if name not in known:
        raise UsageError(f"there is no objective {name!r}{did_you_mean(name, known)}: there are {', '.join(known)}, and module:function")
    function: Callable[..., Any] = getattr(objectives, name)
    return function


def own_function(spec: str, flag: str) -> Callable[..., Any]:
    """`module:function`, imported from the current folder or from what is installed."""
    module_name, _, attribute = spec.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module_name.partition(".")[0]:
            raise
        raise UsageError(f"{flag} {spec}: there is no module {module_name!r} in {here} or installed") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{flag} {spec}: {module_name!r} is no module's name") from error
    finally:
        sys.path.remove(here)
    found = getattr(module, attribute, None)
    if not callable(found):
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UsageError(f"{flag} {spec}: {module_name} has no function {attribute!r}{did_you_mean(attribute, public)}")
    own: Callable[..., Any] = found
    return own


def build_model(settings: Settings, data: Data, seed: int) -> tuple[Model, dict[str, Any]]:
    """The model, and its section with every option as resolved.

    Of a function's parameters, `data` (or `event`) and `seed` are passed where it has them. Raises UsageError for an option
    that it does not take.
    """
    given = dict(settings["model"])
    name = given.pop("name", "vae")
    function = model_function(name)
    parameters = inspect.signature(function).parameters
    check_keywords(f"model {name}", parameters, given, own=("data", "event", "seed"))
    if "likelihood" in parameters and given.get("likelihood") is None:
        given["likelihood"] = default_likelihood(data)
    shared: dict[str, Any] = {"data": data, "seed": seed}
    if "data" not in parameters:
        shared["event"] = data.event_shape
    arguments = {key: value for key, value in shared.items() if key in parameters}
    made = function(**arguments, **{key: argument(key, value) for key, value in given.items()})
    if not isinstance(made, Model):
        raise UsageError(f"{name} returned {type(made).__name__}; a model function returns a latentia.Model")
    return made, {"name": name, **defaults(parameters, without=(*shared, "event", "missing")), **given}


def argument(name: str, value: Any) -> Any:
    """A setting as the model functions take it."""
    if name == "covariance" and isinstance(value, str):
        return covariance(value)
    return tuple(value) if isinstance(value, list) else value


def covariance(text: str) -> Covariance:
    """diagonal, full or low-rank:RANK."""
    kind, _, rank = text.lower().replace("_", "-").partition(":")
    if kind in ("low-rank", "lowrank") and rank.isdecimal():
        return LowRank(int(rank))
    if rank or kind not in ("diagonal", "full"):
        raise UsageError(f"covariance is diagonal, full or low-rank:RANK, such as low-rank:3; got {text!r}")
    return Diagonal() if kind == "diagonal" else Full()


def default_likelihood(data: Data) -> str:
    """The likelihood that suits the data. Raises UsageError for a table of several kinds, which these models have none for."""
    found = data.schema.likelihood
    if found == "columns":
        columns = getattr(data.schema.fields[data.schema.main], "columns", ())
        others = [column for column in columns if column.kind != "number"]
        kinds = shortened([f"{column.name} ({column.kind})" for column in others], 5)
        remedy = ",".join(f"{c.name}={'ignored' if c.kind == 'category' else 'number'}" for c in others[:5])
        raise UsageError(
            f"the columns are of several kinds, and the models here have one likelihood for all of them; no numbers are "
            f"{kinds or 'these codes'}. Say {'--types ' + remedy if remedy else 'which columns to leave out'}, or --likelihood "
            f"normal to take codes for numbers"
        )
    return found


def objective_from(settings: Settings) -> tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]:
    """The objective, the keywords that `fit` hands it, and its section as resolved."""
    given = dict(settings["objective"])
    name = given.pop("name", "elbo")
    function = objective_function(name)
    call = function.forward if isinstance(function, nn.Module) else function
    parameters = inspect.signature(call).parameters
    if "warmup" in given and "beta" not in parameters:
        raise UsageError(f"objective {name} has no beta to warm up")
    keywords = {key: value for key, value in given.items() if key != "warmup" or "warmup" in parameters}
    check_keywords(f"objective {name}", parameters, keywords, own=("p", "q", "values", "noise"))
    resolved = {"name": name, **defaults(parameters, without=("p", "q", "values", "noise")), **given}
    if "warmup" in given and "warmup" not in parameters:
        keywords["beta"] = linear_warmup(given["warmup"], end=resolved.get("beta", 1.0))
    return function, keywords, resolved


def check_keywords(
    what: str, parameters: Mapping[str, inspect.Parameter], given: Mapping[str, Any], own: tuple[str, ...]
) -> None:
    """Raise UsageError, with the nearest name, for an option that a function does not take."""
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    takes = [name for name in parameters if name not in own]
    for name in given:
        if name not in takes:
            raise UsageError(
                f"{what} has no option {name!r}{did_you_mean(name, takes) or '; it takes ' + (', '.join(takes) or 'none')}"
            )


def defaults(parameters: Mapping[str, inspect.Parameter], without: tuple[str, ...]) -> dict[str, Any]:
    """The defaults of a signature that a TOML file can hold."""
    found = {}
    for name, parameter in parameters.items():
        value = parameter.default
        if isinstance(value, Diagonal):
            value = "diagonal"
        if name not in without and isinstance(value, bool | int | float | str | list | tuple):
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def fit_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fit section as `fit` takes it."""
    arguments = dict(options)
    if arguments.get("patience") == 0:
        arguments["patience"] = None
    arguments["compile"] = {"yes": True, "no": False, "auto": "auto"}[arguments.get("compile", "auto")]
    schedule = arguments.get("schedule")
    if isinstance(schedule, Mapping):
        arguments["schedule"] = {int(step): float(factor) for step, factor in schedule.items()}
    return arguments
