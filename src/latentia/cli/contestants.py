"""Models as `latentia compare --models` names them: NAME:OPTION=VALUE:OPTION=VALUE, separated by commas."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from .._words import did_you_mean
from ..data import Data
from ..errors import UsageError
from .build import OWN_TO_MODELS, build_model, fit_arguments, model_function, objective_from
from .methods import method_of
from .settings import LISTS, Settings, checked, known_options, merged

OWN = ("steps", "epochs", "seed")  # what the comparison itself says
SEPARATOR = re.compile(r",(?=\s*[A-Za-z_])")  # no comma of a list of numbers, as in hidden=100,50
WORDS = {"true": True, "yes": True, "false": False, "no": False}


def parsed(text: str) -> dict[str, Settings]:
    """{what was typed: the settings of a fit} for each model named. Raises UsageError, with the nearest name,
    for unknown ones.
    """
    specs = [spec for part in SEPARATOR.split(text) if (spec := part.strip(" ,"))]
    if not specs:
        raise UsageError("--models names no model: such as --models ppca,vae")
    twice = next((spec for spec in specs if specs.count(spec) > 1), None)
    if twice is not None:
        raise UsageError(f"--models names {twice} twice")
    return {spec: _settings(spec) for spec in specs}


def contestants(specs: dict[str, Settings], data: Data) -> dict[str, Callable[[int], Any]]:
    """The models as `compare` takes them: functions of the seed."""
    return {spec: _builder(settings, data) for spec, settings in specs.items()}


def _builder(settings: Settings, data: Data) -> Callable[[int], Any]:
    def build(seed: int) -> tuple[Any, ...]:
        model = build_model(settings, data, seed)
        method = method_of(settings, model, settings["model"]["name"])
        objective, keywords = (None, settings["em"]) if method == "em" else objective_from(settings, model)
        return model, objective, {"method": method, **keywords, **fit_arguments(settings["fit"])}

    return build


def _settings(spec: str) -> Settings:
    """The settings of one model."""
    name, *options = re.split(r":(?=[^:]*=)", spec)  # a colon before an option: not that of module:function
    function, settings = model_function(name), merged()
    parameters = inspect.signature(function).parameters
    settings["model"]["name"] = name
    known = known_options()
    sections = {
        option: (section, option)
        for section in ("fit", "em", "objective")
        for option in known[section]
        if option not in ("name", *OWN)
    }
    sections["objective"] = ("objective", "name")
    own = [parameter for parameter in parameters if parameter not in OWN_TO_MODELS]
    sections |= {option: ("model", option) for option in own}
    for part in options:
        option, _, text = part.partition("=")
        option = option.strip().replace("-", "_")
        if option in OWN:
            raise UsageError(f"{spec}: {option} is the same for all: use --updates, --seconds or --seeds")
        if option not in sections:
            raise UsageError(f"{spec}: {name} has no option {option!r}{did_you_mean(option, sections)}")
        section, field = sections[option]
        settings[section][field] = _value(field, text.strip(), known[section].get(field))
    return settings


def _value(name: str, text: str, hint: Any) -> Any:
    """An option's value from text, by its type where that is known."""
    choices = [kind for kind in get_args(hint) if get_origin(kind) is Literal]
    if name in LISTS or choices or str in get_args(hint):
        return checked(name, text, hint)
    for kind in (int, float):
        try:
            return checked(name, kind(text), hint)
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
    return checked(name, WORDS.get(text.lower(), text), hint)
