"""An evaluation as plain numbers for JSON; null where there is none."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from ..diagnostics import ACTIVE, Calibration, Gaps, Information, Reconstruction
from ..diagnostics._measured import Measured
from ..diagnostics.information import Quantity
from ..evidence import Estimate
from ..evidence.pareto import threshold
from .bounds import bias, effective, heavy_tails, is_drawn, terms_of
from .evaluation import quotable
from .measured import Evaluation, Told


def plain(found: Evaluation) -> dict[str, Any]:
    """All of it. What was not asked for is left out."""
    schema = found.opened.model.schema
    return {
        "run": str(found.opened.folder),
        "data": found.chosen.source,
        "split": found.chosen.split,
        "rows": len(found.chosen.rows),
        "units": None if schema is None else schema.units,
        "comparable": None if schema is None else schema.comparable,
        "quote": quotable(found),
        "best": found.best.name,
        "estimates": [_told(found, one) for one in found.told],
        **({} if found.criteria is None else {"criteria": asdict(found.criteria)}),
        **({} if not found.shares else {"components": _shares(found)}),
        "kl_per_dimension": {name: kl.tolist() for name, kl in found.kl.items()} or None,
        "activity": {name: variance.tolist() for name, variance in found.activity.items()} or None,
        "active_units": {n: int((v > ACTIVE).sum()) for n, v in found.activity.items()} or None,
        "warning": found.warning,
        **_requested(found),
    }


def _told(found: Evaluation, told: Told) -> dict[str, Any]:
    """A number on the chosen rows."""
    one = told.estimate
    return {
        "name": told.name,
        "method": told.method,
        "split": told.chosen.split,
        "rows": len(told.chosen.rows),
        **_estimate(one),
        "caution": one.caution or None,
        **({"terms": terms_of(one)} if one.direction != "exact" else {}),
        **(_annealing(found) if told.method == "ais" else {}),
        "bits_per_dimension": _number(one.bits_per_dimension) if found.opened.is_image else None,
    }


def _estimate(one: Estimate) -> dict[str, Any]:
    """A number with its errors; what draws alone have is left out where there are none."""
    found = {"mean": _number(one.mean), "se": _number(one.se), "direction": one.direction}
    if one.direction == "exact":
        return found
    found |= {"mc_error": _number(one.mc_error), "samples": one.samples}
    if not is_drawn(one):
        return found
    tails = _number(heavy_tails(one))
    return found | {
        "effective_sample_size": _number(effective(one)),
        "k_hat_high": tails,
        "k_hat_threshold": None if tails is None else threshold(one.samples),
        "bias": _number(bias(one)),
    }


def _annealing(found: Evaluation) -> dict[str, Any]:
    return {"annealing": asdict(found.plan.annealing) | {"start": found.plan.start}}


def _requested(found: Evaluation) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if found.simulated is not None:
        both = found.simulated
        told["simulated"] = {
            "rows": len(both.lower.values),
            "lower": _estimate(both.lower),
            "upper": _estimate(both.upper),
            "gap": both.gap,
            "gap_error": _number(both.gap_error),
            **_annealing(found),
        }
    if found.gaps is not None:
        told["gaps"] = _gaps(found.gaps)
    if found.calibration is not None:
        told["calibration"] = _calibration(found.calibration)
    if found.information is not None:
        told["information"] = _information(found.information)
    if found.reconstruction:
        told["reconstruction"] = {name: _reconstruction(one) for name, one in found.reconstruction.items()}
    return told


def _gaps(found: Gaps) -> dict[str, Any]:
    parts = ("best", "amortised", "approximation", "amortisation", "total")
    return {
        "rows": len(found.best.values),
        "family": type(found.family).__name__.lower(),
        "evidence": {"name": found.evidence.name, **_estimate(found.evidence)},
        **{name: _measured(getattr(found, name)) for name in parts},
        "direction": found.direction,
        "caution": found.caution or None,
    }


def _calibration(found: Calibration) -> dict[str, Any]:
    return {
        "passed": found.passed,
        "verdict": found.verdict,
        "simulations": found.simulations,
        "draws": found.draws,
        "level": found.level,
        "p_values": dict(zip(map(str, found.units), found.p_values.tolist(), strict=True)),
        "faults": {str(found.units[i]): found.fault(i) for i in found.failing},
    }


def _information(found: Information) -> dict[str, Any]:
    units = None if found.dimension_kl is None else zip(found.units, found.dimension_kl, strict=True)
    return {
        "kl": _quantity(found.kl),
        "mutual_information": _quantity(found.mutual_information),
        "marginal_kl": _quantity(found.marginal_kl),
        "total_correlation": _quantity(found.total_correlation),
        "dimension_kl": None if units is None else {str(unit): _quantity(one) for unit, one in units},
        "ceiling": found.ceiling,
        "bias": found.bias,
        "caution": found.caution or None,
    }


def _reconstruction(found: Reconstruction) -> dict[str, Any]:
    return {
        "squared": None if found.squared is None else _measured(found.squared),
        "cross_entropy": None if found.cross_entropy is None else _measured(found.cross_entropy),
        "columns": dict(found.columns),
        "units": found.units,
    }


def _measured(one: Measured) -> dict[str, float | None]:
    return {"mean": _number(one.mean), "mc_error": _number(one.mc_error), "se": _number(one.se)}


def _quantity(one: Quantity | None) -> dict[str, float | None] | None:
    return None if one is None else {"value": _number(one.value), "mc_error": _number(one.error)}


def _shares(found: Evaluation) -> dict[str, dict[str, list[float]]]:
    return {
        name: {"weights": weights.tolist(), "shares": shares.tolist()}
        for name, (weights, shares) in found.shares.items()
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
