"""Which method fits a model, and which options belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .options import EMOptions, FitOptions

if TYPE_CHECKING:
    from ..model import Model

WORDS = {
    "em": "expectation-maximisation",
    "ascent": "gradient ascent",
    "likelihood": "gradient ascent",
}
SHARED = ("method", "steps", "checkpoint_every", "seed", "device")  # fit options of every method
EM_OPTIONS = tuple(field.name for field in fields(EMOptions))
ASCENT_OPTIONS = tuple(field.name for field in fields(FitOptions) if field.name not in SHARED)


def method_of(settings: Mapping[str, Mapping[str, Any]], model: Model, name: str) -> str:
    """The method asked for, or else em where the posterior is exact and no objective is named.

    Raises UsageError for a method that the model does not have, and for options of another method.
    """
    exact = model.q is not None and model.q.exact
    objective = settings["objective"].get("name")
    usual = "likelihood" if model.q is None else "em" if exact and objective is None else "ascent"
    method = str(settings["fit"].get("method", usual))
    if method == "em" and not exact:
        raise UsageError(
            f"--method em needs an exact posterior, and {name} has none: leave it out, or choose a mixture, "
            f"ppca, factor_analysis or log_linear"
        )
    if method == "likelihood" and model.q is not None:
        raise UsageError(
            f"--method likelihood is for models without latent variables, and {name} has "
            f"{', '.join(model.latent or model.q.variables)}: leave it out"
        )
    _refuse_others(settings, method, name, exact)
    return method


def _refuse_others(settings: Mapping[str, Mapping[str, Any]], method: str, name: str, exact: bool) -> None:
    """Raise UsageError for options of another method than this one."""
    if method == "em":
        given = [flag_of("objective", option) for option in settings["objective"]]
        given += [flag_of("fit", option) for option in settings["fit"] if option in ASCENT_OPTIONS]
        way = "leave it out, or add --method ascent"
    else:
        given = [flag_of("em", option) for option in settings["em"]]
        way = "leave it out, or say --method em" if exact else "leave it out"
    if given:
        other = "ascent" if method == "em" else "em"
        raise UsageError(
            f"{given[0]} is an option of {WORDS[other]}, and {name} is fitted by {WORDS[method]}: {way}"
        )


def flag_of(section: str, option: str) -> str:
    """An option as it is typed."""
    named = option == "name" and section in ("model", "objective")
    return f"--{section}" if named else f"--{option.replace('_', '-')}"


def forgotten(settings: dict[str, dict[str, Any]], method: str | None) -> None:
    """Drop what belonged to another method than the one that is now asked for."""
    if method is None or settings["fit"].get("method", method) == method:
        return
    settings["em" if method != "em" else "objective"].clear()
    for option in (*ASCENT_OPTIONS, "steps", "checkpoint_every"):
        settings["fit"].pop(option, None)
