"""Settings of a run: flags over a TOML file, checked, and written back resolved.

A run's settings are `{section: {option: value}}` with the sections data, model, objective, em and fit. In a
TOML file an option stands in its section, or above all sections under the name of its flag.
"""

from __future__ import annotations

import tomllib
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .._words import did_you_mean
from ..errors import UsageError
from .methods import forgotten
from .options import DataOptions, EMOptions, FitOptions, ModelOptions, ObjectiveOptions

Settings = dict[str, dict[str, Any]]

SECTIONS: dict[str, type] = {
    "data": DataOptions,
    "model": ModelOptions,
    "objective": ObjectiveOptions,
    "em": EMOptions,
    "fit": FitOptions,
}
OPEN = ("model", "objective")  # sections that also take the arguments of a user's own function
VERSION = "latentia"  # the entry that says which version wrote a file


def numbers_of(kind: type) -> Callable[[str], list[Any]]:
    """A reader of "400,200"; "none" is the empty list."""

    def read(text: str) -> list[Any]:
        return [kind(part) for part in text.split(",")] if text.strip().lower() not in ("", "none") else []

    return read


def names_in(text: str) -> list[str]:
    """The names in "a, b,c"."""
    return [name.strip() for name in text.split(",") if name.strip()]


LISTS: dict[str, tuple[Callable[[str], list[Any]], str]] = {
    "hidden": (numbers_of(int), "whole numbers, such as 400,200"),
    "layers": (numbers_of(int), "whole numbers, such as 200,200"),
    "enumerate": (names_in, "names of latent variables, such as h1,h2"),
    "channels": (numbers_of(int), "whole numbers, such as 32,64"),
    "columns": (names_in, "names of columns, such as age,height"),
    "features": (names_in, "names of features, such as unary,pairwise"),
    "split": (numbers_of(float), "three fractions, such as 0.8,0.1,0.1"),
}
NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def known_options() -> dict[str, dict[str, Any]]:
    """{section: {option: its type}}; the data section also holds the source."""
    known = {
        section: {name: hint for name, hint in get_type_hints(options).items()}
        for section, options in SECTIONS.items()
    }
    known["data"] = {"source": str | None, **known["data"]}
    return known


def from_flags(**options: Any) -> Settings:
    """The settings that were given as flags: `from_flags(model=ModelOptions(latent=2))`."""
    return {
        section: {
            field.name: checked(field.name, value, None)
            for field in fields(given)
            if (value := getattr(given, field.name)) is not None
        }
        for section, given in options.items()
    }


def read_config(path: Path, strict: bool = True) -> Settings:
    """The settings in a TOML file. Raises UsageError for a file that is none, and for unknown or
    ill-typed options.

    strict=False leaves unknown options aside: those of a run that was made in Python.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"there is no config file {path}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}") from error
    known, settings = known_options(), {section: dict[str, Any]() for section in SECTIONS}
    content.pop(VERSION, None)
    for name, value in content.items():
        if name in SECTIONS and isinstance(value, Mapping):
            given = {(name, option.replace("-", "_")): setting for option, setting in value.items()}
        elif strict:
            given = {_place(name, known, path): value}
        else:
            continue
        for (section, option), setting in given.items():
            if option in settings[section]:
                raise UsageError(f"{path} gives {option} twice")
            if option in known[section]:
                setting = checked(option, setting, known[section][option], f" in {path}")
            elif section not in OPEN and not strict:
                continue
            elif section not in OPEN:
                hint = did_you_mean(option, known[section])
                raise UsageError(f"{path}: [{section}] has no option {option!r}{hint}")
            settings[section][option] = setting
    return settings


def _place(name: str, known: Mapping[str, Mapping[str, Any]], path: Path) -> tuple[str, str]:
    """The section and option of a flag's name that stands above the sections."""
    wanted = name.replace("-", "_")
    flags = {"data": ("data", "source"), "model": ("model", "name"), "objective": ("objective", "name")}
    flags |= {
        option: (section, option)
        for section, options in known.items()
        for option in options
        if option not in ("name", "source")
    }
    if wanted not in flags:
        raise UsageError(f"{path} has an unknown option {name!r}{did_you_mean(wanted, [*flags, *SECTIONS])}")
    return flags[wanted]


def checked(name: str, value: Any, hint: Any, where: str = "") -> Any:
    """A value of the right type: lists from "400,200", a schedule from "5000=0.1"; UsageError for another."""
    if name in LISTS:
        read, what = LISTS[name]
        try:
            return read(value if isinstance(value, str) else ",".join(map(str, value)))
        except (ValueError, TypeError) as error:
            raise UsageError(f"{name}{where} must be {what}; got {value!r}") from error
    if name == "schedule" and isinstance(value, str) and "=" in value:
        return _piecewise(value)
    if name == "temperature":
        return _temperature(value, where)
    if (name in ("schedule", "types") and isinstance(value, Mapping)) or hint is None:
        return value
    allowed = [choice for choice in get_args(hint) if choice is not types.NoneType]
    if get_origin(allowed[0]) is Literal:
        choices = get_args(allowed[0])
        if value not in choices:
            hint = did_you_mean(str(value), choices)
            raise UsageError(f"{name}{where} is one of {', '.join(choices)}; got {value!r}{hint}")
        return value
    kind = allowed[0]
    fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{name}{where} must be {NAMES[kind]}; got {value!r}")
    return value


def _temperature(value: Any, where: str) -> float | str:
    """A number, or START:END:STEPS as it is."""
    parts = str(value).split(":")
    try:
        numbers = [float(part) for part in parts]
        if len(parts) == 1:
            return numbers[0]
        if len(parts) == 3:
            int(parts[2])
            return str(value)
    except ValueError:
        pass
    raise UsageError(
        f"temperature{where} must be a number such as 0.5, or one that falls, such as 1:0.3:5000 (from 1 to "
        f"0.3 over 5000 steps); got {value!r}"
    )


def _piecewise(text: str) -> dict[str, float]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {str(int(step)): float(factor) for step, factor in pairs}
    except ValueError as error:
        raise UsageError(
            f"schedule must be constant, cosine, linear, or factors by step such as 5000=0.3,8000=0.1; "
            f"got {text!r}"
        ) from error


def merged(*layers: Settings) -> Settings:
    """Later layers over earlier ones; a later length, in steps or epochs, replaces an earlier one, and with
    another method what belonged to the earlier one is forgotten.
    """
    result: Settings = {section: {} for section in SECTIONS}
    for layer in layers:
        forgotten(result, layer.get("fit", {}).get("method"))
        for section, options in result.items():
            given = layer.get(section, {})
            for one, other in (("steps", "epochs"), ("epochs", "steps")):
                if one in given:
                    options.pop(other, None)
            options |= given
    return result


def refuse_changes(
    old: Settings, new: Settings, sections: Iterable[str] = ("data", "model", "objective", "em")
) -> None:
    """Raise UsageError where a resumed run is asked to be another one."""
    for section in sections:
        for option, value in new.get(section, {}).items():
            before = old.get(section, {}).get(option)
            if before != value:
                shown = section if option == "name" else option
                raise UsageError(
                    f"cannot resume: {shown} was {before} and is now {value}; leave it out, or name another "
                    f"--out"
                )
