"""From settings to data, a model and what `fit` is told; a user's own functions by `module:function`."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from .. import __version__, models, objectives
from .._words import did_you_mean
from ..data import Data, load_data
from ..data.kinds import parse_types
from ..data.named import NAMES
from ..data.raw import RawTable, table_from_array
from ..data.readers import read
from ..errors import DataError, UsageError
from ..factors import Diagonal, Full, LowRank, Spherical, Tied
from ..learn import fit
from ..learn.fit_em import ITERATIONS, em_work
from ..learn.options import make_plan, name_of, usual_objective
from ..model import Model
from ..schedules import exponential_decay, linear_warmup
from .options import EMOptions
from .settings import VERSION, Settings

if TYPE_CHECKING:
    from ..factors.normal import Covariance

OWN_TO_MODELS = ("data", "event", "seed", "columns", "support")
OWN_TO_OBJECTIVES = ("p", "q", "values", "noise")
OWN_TO_FIT = ("resume", "overwrite", "warm_start", "progress")
NUMBERS = ("steps", "batch", "valid_every", "checkpoint_every", "patience")
READ = ("key", "types", "label", "split", "binarise", "standardise")
COVARIANCES: dict[str, Covariance] = {
    "diagonal": Diagonal(),
    "full": Full(),
    "spherical": Spherical(),
    "tied": Tied(),
}


def located(source: str) -> str:
    """A path made absolute, so that a run finds its data from any folder; a name, or what is not there,
    as is.
    """
    path = Path(source).expanduser()
    return str(path.absolute()) if source not in NAMES and path.exists() else source


def data_from(settings: Settings, seed: int) -> Data:
    """The data of a run, in its splits. Raises UsageError where no source is named."""
    options = settings["data"]
    if "source" not in options:
        raise UsageError(
            "say which data to use: a name that `latentia data` lists, or a path; latentia fit digits"
        )
    given = {name: options[name] for name in READ if name in options}
    if "columns" in options:
        given["types"] = {**unwanted(options), **parse_types(options.get("types"))}
    files = {name: options[name] for name in ("valid", "test") if name in options}
    return load_data(options["source"], seed=seed, **given, **files)


def unwanted(options: Mapping[str, Any]) -> dict[str, str]:
    """{column: "ignored"} for each column of the source that `columns` leaves out; the label is no column.

    Raises DataError for a column that the source does not have, and for a source that is no table.
    """
    wanted = list(options["columns"])
    value = next(iter(next(iter(read(options["source"], options.get("key")).parts.values())).values.values()))
    if not isinstance(value, RawTable):
        if value.ndim != 2:
            raise DataError(f"--columns chooses columns of a table, and {options['source']} is none")
        value = table_from_array(value, str(options["source"]))
    for name in wanted:
        if name not in value.columns:
            raise DataError(f"{value.where} has no column {name!r}{did_you_mean(name, value.columns)}")
    left = [name for name in value.columns if name not in wanted and name != options.get("label")]
    return dict.fromkeys(left, "ignored")


def model_function(name: str) -> Callable[..., Any]:
    """One of the library's model functions, or a user's own by `module:function`."""
    if ":" in name:
        return own_function(name, "--model")
    if name not in models.__all__:
        hint = did_you_mean(name, models.__all__) or ": `latentia models` lists them"
        raise UsageError(f"there is no model {name!r}{hint}")
    function: Callable[..., Any] = getattr(models, name)
    return function


def objective_function(name: str) -> Callable[..., Any]:
    """One of the library's objectives, or a user's own function or nn.Module by `module:function`."""
    if ":" in name:
        found = own_function(name, "--objective")
        return found() if inspect.isclass(found) and issubclass(found, nn.Module) else found
    plain = {word: getattr(objectives, word) for word in objectives.__all__}
    known = {word: found for word, found in plain.items() if inspect.isfunction(found)} | objectives.LEARNT
    if name not in known:
        hint = did_you_mean(name, known) or f": there are {', '.join(sorted(known))}, and module:function"
        raise UsageError(f"there is no objective {name!r}{hint}")
    return known[name]


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
        raise UsageError(f"{flag} {spec}: no module {module_name!r} is in {here} or installed") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"{flag} {spec}: {module_name!r} is no module's name") from error
    finally:
        sys.path.remove(here)
    found = getattr(module, attribute, None)
    if not callable(found):
        public = [name for name, value in vars(module).items() if callable(value) and name[0] != "_"]
        hint = did_you_mean(attribute, public)
        raise UsageError(f"{flag} {spec}: {module_name} has no function {attribute!r}{hint}")
    own: Callable[..., Any] = found
    return own


def build_model(settings: Settings, data: Data, seed: int) -> Model:
    """The model that the settings ask for, built on the data.

    Of a function's parameters, `data` (or `event`) and `seed` are passed where it has them. Raises
    UsageError for an option that it does not take.
    """
    given = dict(settings["model"])
    name = given.pop("name", "vae")
    function = model_function(name)
    parameters = inspect.signature(function).parameters
    check_keywords(f"model {name}", parameters, given, own=OWN_TO_MODELS)
    shared: dict[str, Any] = {"data": data, "seed": seed}
    if "data" not in parameters:
        shared["event"] = data.event_shape
    arguments = {key: value for key, value in shared.items() if key in parameters}
    chosen = {key: argument(key, value) for key, value in given.items()}
    try:
        made = function(**arguments, **chosen)
    except TypeError as error:
        if "covariance" not in chosen or ":" in name:
            raise
        raise UsageError(f"--covariance {given['covariance']} does not suit {name}: {error}") from error
    if not isinstance(made, Model):
        raise UsageError(f"{name} returned {type(made).__name__}; a model function returns a latentia.Model")
    return made


def argument(name: str, value: Any) -> Any:
    """A setting as the model functions take it; "columns", the kinds of the columns, is what the data say."""
    if name == "covariance" and isinstance(value, str):
        return covariance(value)
    if name == "likelihood" and value == "columns":
        return None
    return tuple(value) if isinstance(value, list) else value


def covariance(text: str) -> Covariance:
    """One of COVARIANCES by name, or low-rank:RANK."""
    kind, _, rank = text.lower().replace("_", "-").partition(":")
    if kind in ("low-rank", "lowrank") and rank.isdecimal():
        return LowRank(int(rank))
    if rank or kind not in COVARIANCES:
        hint = did_you_mean(kind, COVARIANCES)
        raise UsageError(
            f"covariance is {', '.join(COVARIANCES)} or low-rank:RANK, such as low-rank:3; got {text!r}{hint}"
        )
    return COVARIANCES[kind]


def covariance_name(value: object) -> str:
    """How a covariance is asked for."""
    if isinstance(value, LowRank):
        return f"low-rank:{value.rank}"
    return next(name for name, one in COVARIANCES.items() if one == value)


def objective_from(settings: Settings, model: Model) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The objective, one that learns something itself made for the model, and the keywords that `fit` hands
    it. Raises UsageError for an option that it does not take.
    """
    function, given = _asked(settings, model)
    if "temperature" in given and isinstance(given["temperature"], str):
        start, end, steps = given["temperature"].split(":")
        given["temperature"] = exponential_decay(float(start), float(end), int(steps))
    if function not in objectives.LEARNT.values():
        return function, given
    own = [name for name in inspect.signature(function).parameters if name in given]
    return function(model, **{name: given.pop(name) for name in own}), given


def _asked(settings: Settings, model: Model) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The objective's function and its options, checked."""
    given = dict(settings["objective"])
    name = given.pop("name", None) or usual_name(settings, model)
    function = objective_function(name)
    parameters = signature_of(function)
    if "warmup" in given and "warmup" not in parameters:
        if "beta" not in parameters:
            raise UsageError(f"objective {name} has no beta to warm up")
        end = given.get("beta", parameters["beta"].default)
        given["beta"] = linear_warmup(given.pop("warmup"), end=end)
    check_keywords(f"objective {name}", parameters, given, own=OWN_TO_OBJECTIVES)
    return function, given


def usual_name(settings: Settings, model: Model) -> str:
    """The objective that `fit` takes where none is named."""
    return name_of(usual_objective(model, settings["objective"].get("enumerate", ())))


def signature_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function, or of an nn.Module's forward; of an objective made for a model both."""
    if function in objectives.LEARNT.values():
        made = dict(inspect.signature(function).parameters)
        call = dict(inspect.signature(objectives.Reinforce.forward).parameters)
        return {name: one for name, one in {**made, **call}.items() if name not in ("self", "model")}
    return inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters


def resolved(settings: Settings, data: Data, model: Model, method: str) -> dict[str, Any]:
    """Every option as it stands, for config.toml: what was given, over the defaults of what takes it."""
    name = settings["model"].get("name", "vae")
    parameters = inspect.signature(model_function(name)).parameters
    options = {"name": name, **defaults(parameters, without=(*OWN_TO_MODELS, "missing"))}
    if ":" not in name:
        options |= _chosen_by_data(parameters, data, model)
    return {
        VERSION: __version__,
        "data": {**defaults(inspect.signature(load_data).parameters, without=("seed",)), **settings["data"]},
        "model": options | settings["model"],
        **(_resolved_em(settings) if method == "em" else _resolved_ascent(settings, data, model, method)),
    }


def _chosen_by_data(parameters: Mapping[str, inspect.Parameter], data: Data, model: Model) -> dict[str, Any]:
    """The options of a model that it chooses by the data where they are not given."""
    found: dict[str, Any] = {}
    if "likelihood" in parameters:
        found["likelihood"] = data.schema.likelihood
    if "covariance" in parameters and parameters["covariance"].default is None:
        found["covariance"] = covariance_name(model.p[model.observed[0]].covariance)
    return found


def _resolved_em(settings: Settings) -> dict[str, Any]:
    """The sections of a run of expectation-maximisation."""
    own = [field.name for field in fields(EMOptions)]
    known = inspect.signature(em_work).parameters
    return {
        "em": {**defaults({name: known[name] for name in own}, without=()), **settings["em"]},
        "fit": {"method": "em", "steps": ITERATIONS, "seed": 0, **settings["fit"]},
    }


def _resolved_ascent(settings: Settings, data: Data, model: Model, method: str) -> dict[str, Any]:
    """The sections of a run of gradient ascent."""
    objective = settings["objective"].get("name") or usual_name(settings, model)
    options = defaults(inspect.signature(fit).parameters, without=OWN_TO_FIT) | settings["fit"]
    numbers = {number: fit_arguments(options).get(number) for number in NUMBERS}
    plan = make_plan(len(data.train), report_every=None, epochs=options.pop("epochs", None), **numbers)
    options |= {number: getattr(plan, number) for number in NUMBERS if number != "patience"}
    return {
        "objective": {
            "name": objective,
            **defaults(signature_of(objective_function(objective)), without=OWN_TO_OBJECTIVES),
            **settings["objective"],
        },
        "fit": {"method": method, **options},
    }


def check_keywords(
    what: str, parameters: Mapping[str, inspect.Parameter], given: Mapping[str, Any], own: tuple[str, ...]
) -> None:
    """Raise UsageError, with the nearest name, for an option that a function does not take."""
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    takes = [name for name in parameters if name not in own]
    for name in given:
        if name not in takes:
            hint = did_you_mean(name, takes) or f"; it takes {', '.join(takes) or 'none'}"
            raise UsageError(f"{what} has no option {name!r}{hint}")


def defaults(parameters: Mapping[str, inspect.Parameter], without: tuple[str, ...]) -> dict[str, Any]:
    """The defaults of a signature that a TOML file can hold."""
    found = {}
    for name, parameter in parameters.items():
        value = parameter.default
        if value in COVARIANCES.values():
            value = covariance_name(value)
        if name not in without and isinstance(value, bool | int | float | str | list | tuple):
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def fit_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fit section as `fit` takes it."""
    arguments = dict(options)
    if arguments.get("patience") == 0:
        arguments["patience"] = None
    if "compile" in arguments:
        arguments["compile"] = {"yes": True, "no": False, "auto": "auto"}[arguments["compile"]]
    schedule = arguments.get("schedule")
    if isinstance(schedule, Mapping):
        arguments["schedule"] = {int(step): float(factor) for step, factor in schedule.items()}
    return arguments
