"""Bidirectional Monte Carlo: log p(x) from below and from above, on data simulated from the model itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._compiling import Compile, pays
from .._door import in_model_units
from .._words import counted, did_you_mean
from ..joint import names_of
from ..noise import Noise
from .ais import Annealing, ais, executor, reverse_ais
from .estimate import Estimate
from .importance import Weighed
from .methods import evaluations_of, live_entries, path_start

if TYPE_CHECKING:
    from ..model import Model


@dataclass(frozen=True)
class Sandwich:
    """Bounds from both sides of the log-evidence of rows simulated from the model.

    lower, upper   Estimates of the same rows: annealed importance sampling forward, E[lower] <= log p, and
                   backward from the latents that made each row, E[upper] >= log p; `values` has each row's.
                   A row's backward chains all begin at its one z, so that the Monte Carlo error of `upper` is
                   given that z too
    x              the rows, in the data's units: a tensor for one variable, a dict for several. Given back to
                   `log_evidence` they tell how far its other methods are below `upper`
    """

    lower: Estimate
    upper: Estimate
    x: Any = None

    @property
    def gaps(self) -> Tensor:
        """upper - lower of each row, `[N]`."""
        return self.upper.values - self.lower.values

    @property
    def gap(self) -> float:
        """Mean of upper - lower, nats per example: no error of either is larger, on average."""
        return self.upper.mean - self.lower.mean

    @property
    def gap_error(self) -> float:
        """Standard error of the gap over the rows. NaN for one row."""
        difference = self.gaps.double()
        return float(difference.std()) / math.sqrt(len(difference)) if len(difference) > 1 else math.nan

    def __repr__(self) -> str:
        error = "" if math.isnan(self.gap_error) else f" +- {self.gap_error:.2g}"
        return (
            f"log p(x) of {counted(len(self.lower.values), 'row')} simulated from the model lies between "
            f"{self.lower.mean:.4f} (AIS, lower) and {self.upper.mean:.4f} (reverse AIS, upper) nats per "
            f"example: a gap of {self.gap:.4f}{error}, in {self.lower.units} units. So "
            f"far may this annealing be off on the model's own data, and on others as far as they are alike"
        )


def bdmc(
    model: Model,
    n: int = 100,
    *,
    chains: int = 16,
    start: str = "prior",
    seed: int = 0,
    inputs: Mapping[str, Any] | None = None,
    compile: Compile = "auto",
    **annealing: Any,
) -> Sandwich:
    """Simulate n rows (z, x) ~ p and bound log p(x) of each from both sides.

    x comes with an exact draw of p(z | x), its own z, from which annealed importance sampling can be walked
    backward: the only way to an upper bound. On real data there is no such draw.

    start      "prior" or "q"
    inputs     `[n, ...]` by name, for a model with inputs
    compile    "auto" where that pays, as for minutes of work; see `log_evidence`
    annealing  distributions=, schedule=, leapfrogs= of Annealing

    Raises ValueError for a model without latents or without a density, for n < 1 and for unknown options.

    Grosse, Ghahramani & Adams (2015); Wu, Burda, Salakhutdinov & Grosse (2017), section 3.
    """
    if n < 1:
        raise ValueError(f"the number of simulated rows must be at least 1, got {n}")
    model.require_density()
    if not model.latent:
        raise ValueError(f"{model.p.equation()} has no latent variables: log p(x) is exact")
    for name in annealing:
        if name not in Annealing.__dataclass_fields__:
            raise ValueError(
                f"bdmc has no option {name!r}{did_you_mean(name, Annealing.__dataclass_fields__)}"
            )
    how, noise = Annealing(chains=chains, **annealing), Noise(seed, model.device, model.dtype)
    first = path_start(model, start)
    values, truth = simulated(model, n, noise, inputs)
    step = max(1, min(n, live_entries(model.device) // model.widest // chains))
    entries = 2.0 * n * chains * evaluations_of("ais", annealing) * model.widest
    execute = executor(model.p, first, chains, step) if pays(compile, model, entries) else None
    lower, upper, shift = [], [], []
    for begin in range(0, n, step):
        part = {name: value[begin : begin + step] for name, value in values.items()}
        own = {name: value[begin : begin + step] for name, value in truth.items()}
        with torch.no_grad():
            lower.append(ais(model.p, first, part, noise, how, execute))
            upper.append(reverse_ais(model.p, first, part, own, noise, how, execute))
        shift.append(_log_jacobian(model, part))
    jacobian = torch.cat(shift).cpu()
    return Sandwich(
        _estimate(model, lower, jacobian, "lower", how),
        _estimate(model, upper, jacobian, "upper", how),
        model._leave({name: values[name].cpu() for name in model.observed if name in values}),
    )


def simulated(
    model: Model, n: int, noise: Noise, inputs: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """n rows drawn from p, in model units: what a user would observe, and the latents that made them."""
    given = {name: in_model_units(model, name, value) for name, value in (inputs or {}).items()}
    missing = [name for name in model.p.inputs if name not in given]
    if missing:
        raise ValueError(f"{model.p.equation()} has inputs: pass inputs={{{missing[0]!r}: ...}}")
    for name, value in given.items():
        if len(value) != n:
            raise ValueError(f"{n} simulated rows need {n} values of {name!r}, got {len(value)}")
    with torch.no_grad():
        done = model.p.complete(given, noise, batch=n)
    drawn = {name: value[0] if name in done.log_q else value for name, value in done.values.items()}
    latents = {name for name in model.latent if model.p[name].has_density}
    known = {
        name: value for name, value in drawn.items() if name not in latents and name not in _computed(model)
    }
    return known, {name: drawn[name] for name in latents}


def _computed(model: Model) -> set[str]:
    return {name for name in model.p if not model.p[name].has_density}


def _log_jacobian(model: Model, values: Mapping[str, Tensor]) -> Tensor:
    observed = {name: values[name] for name in names_of(values) if name in model.p}
    size = len(next(iter(values.values())))
    if model.schema is None:
        return torch.zeros(size, device=model.device)
    return model.schema.log_jacobian(observed)


def _estimate(
    model: Model, parts: list[Weighed], jacobian: Tensor, direction: str, how: Annealing
) -> Estimate:
    value, error, bias, effective, k_hat = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return Estimate(
        values=value + jacobian,
        mc_errors=error,
        direction=direction,  # type: ignore[arg-type]
        method="ais" if direction == "lower" else "reverse AIS",
        samples=how.chains,
        units="model" if model.schema is None else "data",
        dimensions=sum(math.prod(model.p[name].event) for name in model.observed if name in model.p),
        effective=effective,
        bias=bias,
        k_hat=k_hat,
    )
