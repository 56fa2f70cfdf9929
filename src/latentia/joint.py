"""Joint: an ordered product of factors, p(x_1 ... x_J | inputs) = prod_j p(x_j | parents_j).

S samples, B examples; a value is `[*lead, B, *event]` and a log probability `[*lead, B]`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ._completion import Completion, Densities, average, total
from ._recorded import recorded
from ._states import along, lead_of, where_latent, where_observed
from ._words import did_you_mean, shortened
from .codings import Coding
from .factor import LARGEST_SUPPORT, CannotMarginaliseError, Factor, NotEnumerableError
from .noise import BoundNoise, Source

__all__ = [
    "MASK",
    "RESERVED",
    "Completion",
    "Densities",
    "Joint",
    "Values",
    "along",
    "average",
    "is_latent",
    "names_given",
    "names_of",
    "total",
    "where_observed",
]

RESERVED = ("row", "weight")
MASK = ".observed"

Values = Mapping[str, Tensor]


@recorded
class Joint(nn.Module):
    """An ordered product of factors over named variables.

        p = Joint(z=StandardNormal(20), x=Bernoulli(decoder, given="z"))      p(x, z) = p(z) p(x | z)

    Keyword order is ancestral order; a dict is accepted too, so that any text can be a name. A parent without
    a factor is an input, as y in p(x, z | y). Raises ValueError for a factor that stands before its parent,
    for a reserved name and for an empty product.
    """

    exact = False  # as a q it is an approximation

    def __init__(self, factors: Mapping[str, Factor] | None = None, /, **named: Factor) -> None:
        super().__init__()
        named = {**(factors or {}), **named}
        if not named:
            raise ValueError("a Joint needs at least one factor, such as Joint(z=StandardNormal(2))")
        for name, factor in named.items():
            if name in RESERVED or name.endswith(MASK):
                raise ValueError(f"{name!r} is a reserved name: a variable cannot be called so")
            if not isinstance(factor, Factor):
                raise TypeError(f"{name!r} must be a Factor, got {type(factor).__name__}")
        self.variables = tuple(named)
        self.factors = nn.ModuleList(named.values())
        self._by_name = dict(named)
        self._codings = {name: f.coding for name, f in named.items() if f.coding is not None}
        for name, factor in named.items():
            self._check_parents(name, factor)
            factor.bind([self._feature_dims(v, factor) if v in named else None for v in factor.given])
        parents = (parent for factor in named.values() for parent in factor.given)
        self.inputs = tuple(dict.fromkeys(parent for parent in parents if parent not in named))

    def _check_parents(self, name: str, factor: Factor) -> None:
        place = self.variables.index(name)
        for parent in factor.given:
            if parent in self.variables[place:]:
                fault = f"define {parent!r} before {name!r}"
                if parent == name:
                    fault = "a variable cannot be its own parent"
                raise ValueError(f"p({name} | {', '.join(factor.given)}): {fault}")

    def _feature_dims(self, parent: str, factor: Factor) -> int:
        coded = self[parent].coding is not None and not factor.takes_codes
        return 1 if coded else len(self[parent].event)

    def __getitem__(self, name: str) -> Factor:
        if name not in self._by_name:
            raise KeyError(f"no factor for {name!r}; there are {', '.join(self.variables)}")
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    def know(self, codings: Mapping[str, Coding]) -> None:
        """Tell how nets see inputs that are not given to them as they are, such as integer codes."""
        known = {name: coding for name, coding in codings.items() if name in self.inputs}
        self._codings = known | self._codings

    def descendants(self, name: str) -> set[str]:
        """The variables that depend on `name`, directly or through others."""
        found: set[str] = set()
        for child in self.variables:
            if {name, *found} & set(self[child].given):
                found.add(child)
        return found

    def ancestors(self, name: str) -> set[str]:
        """The variables that `name` depends on, directly or through others."""
        return {other for other in self.variables if name in self.descendants(other)}

    def parents(self, name: str, values: Values) -> tuple[Tensor, ...]:
        """The parents of `name` as its net takes them: codes one-hot, masks beside values where it asks."""
        factor = self[name]
        return tuple(self.feature(name, parent, values) for parent in factor.given)

    def feature(self, name: str, parent: str, values: Values) -> Tensor:
        """One parent of `name` as its net takes it."""
        factor = self[name]
        if parent not in values:
            raise ValueError(f"p({name} | {', '.join(factor.given)}) needs {parent!r}, which has no value")
        value, observed = values[parent], values.get(parent + MASK)
        if parent == "row":
            return value
        dims = len(self[parent].event) if parent in self._by_name else value.ndim - 1
        coding = None if factor.takes_codes else self._codings.get(parent)
        if coding is not None:
            value, dims = coding.encode(value).to(_dtype(factor)), 1
            observed = None if observed is None else coding.spread(observed)
        elif not value.is_floating_point() and not factor.takes_codes:
            raise ValueError(
                f"{parent!r} holds integer codes of an unknown number of classes: give it a Categorical "
                f"factor, or pass it as a one-hot vector"
            )
        if factor.missing:
            seen = torch.ones_like(value) if observed is None else _spread(observed, value, dims)
            return torch.cat([value, seen], dim=value.ndim - dims)
        if observed is not None:
            raise ValueError(
                f"{parent!r} has missing entries, and the net of {name!r} was built without missing=True: "
                f"it would take the holes for zeros"
            )
        return value

    def log_probs(self, values: Values, without: Iterable[str] = ()) -> dict[str, Tensor]:
        """log p(v | parents) of each variable with a density, `[*lead, B]` in nats.

        Absent Deterministic nodes are computed. Raises ValueError when a variable has neither a value nor a
        computation.
        """
        values = self.computed(values)
        skipped = set(without)
        result = {}
        for name in self.variables:
            factor = self[name]
            if not factor.has_density or name in skipped:
                continue
            if name not in values:
                raise ValueError(
                    f"{name!r} has no value: it is latent, and nothing fills it in. Give the Model a q with "
                    f"a factor for it, or data that hold it"
                )
            result[name] = self.log_prob_of(name, values)
        return result

    def log_prob_of(self, name: str, values: Values, expected: bool = False) -> Tensor:
        """log p(v | parents) of one variable, `[*lead, B]` in nats; missing entries are left out.

        expected: its expectation over the posterior of parameters that have one.
        """
        parents, observed = self.parents(name, values), values.get(name + MASK)
        log_prob = self[name].expected_log_prob if expected else self[name].log_prob
        try:
            return log_prob(values[name], *parents, observed=observed)
        except CannotMarginaliseError as error:
            raise CannotMarginaliseError(f"{name!r} has missing entries, and {error}") from None

    def log_prob(self, values: Values) -> Tensor:
        """log p(variables | inputs) = sum_j log p(x_j | parents_j), `[*lead, B]` in nats."""
        return total(self.log_probs(values).values())

    def computed(self, values: Values) -> dict[str, Tensor]:
        """The values with each absent Deterministic node evaluated, as far as its parents are there."""
        result = dict(values)
        for name in self.variables:
            factor = self[name]
            if factor.has_density or name in result:
                continue
            if all(parent in result for parent in factor.given):
                result[name] = factor.value(*self.parents(name, result))  # type: ignore[operator]
        return result

    def complete(
        self,
        values: Values,
        noise: Source,
        samples: int = 1,
        batch: int | None = None,
        enumerate: Sequence[str] = (),
    ) -> Completion:
        """Fill in the variables absent from `values`, by S draws in ancestral order or by enumeration.

        A variable whose mask `v.observed` has one entry per row is latent in the rows where it is False:
        where(observed, value, draw), and log q counts only there; enumerated, its weight is one-hot(value)
        where it was observed. batch: B, needed where nothing is given. enumerate: names of discrete
        variables, each given a lead dimension of its own. Raises NotEnumerableError for one that is not
        discrete.
        """
        if not isinstance(samples, int) or samples < 1:
            raise ValueError(f"samples must be a whole number, at least 1, got {samples}")
        filled = dict(values)
        size = len(next(iter(filled.values()))) if filled else batch
        if size is None:
            raise ValueError("nothing is observed: say how many examples to draw with batch=")
        log_q = Densities()
        log_weight: Tensor | float = -math.log(samples)
        distributions: dict[str, Distribution] = {}
        states = self._states_of_latents(enumerate, filled) if enumerate else {}
        lead = (*(len(states[name]) for name in states), samples)
        for name in self.variables:
            factor, observed = self[name], filled.get(name + MASK)
            if not is_latent(name, filled) or (name in filled and not factor.has_density):
                continue
            parents = self.parents(name, filled)
            if not factor.has_density:
                filled[name] = factor.value(*parents)  # type: ignore[operator]
                continue
            if name in states:
                label = filled.get(name)
                filled[name] = along(states, name, samples=1).expand(
                    *lead_of(states, name), size, *factor.event
                )
                log_p = factor.log_prob(filled[name], *parents)
                weight = log_p
                if label is not None and observed is not None:
                    weight = where_observed(observed, filled[name], label, log_p)
                    log_p = where_latent(observed, log_p)
                    del filled[name + MASK]
                log_q.add(name, log_p)
                log_weight = log_weight + weight
                continue
            depends = self.ancestors(name) & {*states} if states else set()
            own_lead = (*(len(states[other]) if other in depends else 1 for other in states), samples)
            drawn = factor.draw(BoundNoise(noise, name, (*own_lead, size)), *parents)
            if observed is None:
                filled[name] = drawn.value
                log_q.add(name, drawn.log_prob)
                if drawn.distribution is not None:
                    distributions[name] = drawn.distribution
                continue
            known = filled[name]
            if drawn.value.is_floating_point() and not known.is_floating_point():  # a relaxed draw of codes
                known = nn.functional.one_hot(known, drawn.value.shape[-1]).to(drawn.value)
            seen = _spread(observed, drawn.value, drawn.value.ndim - len(own_lead) - 1) > 0
            filled[name] = torch.where(seen, known, drawn.value)
            del filled[name + MASK]
            log_q.add(name, partial(where_latent, observed, drawn.log_prob()))
        if isinstance(log_weight, Tensor):
            log_weight = log_weight.expand(*lead, size)
        return Completion(filled, log_weight, log_q, distributions, tuple(states))

    def _states_of_latents(self, enumerate: Sequence[str], values: Values) -> dict[str, Tensor]:
        self._require_variables(enumerate)
        try:
            return self.states([name for name in enumerate if is_latent(name, values)])
        except NotEnumerableError as error:
            raise NotEnumerableError(f"{error}; what is left out of enumerate= is drawn") from None

    def states(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Every value of each of the variables, `[K, *event]`, in ancestral order.

        Raises NotEnumerableError where they are too many, of one variable or of all together.
        """
        wanted = set(names)
        self._require_variables(wanted)
        supports = {}
        for name in self.variables:
            if name in wanted:
                try:
                    supports[name] = self[name].support()
                except NotEnumerableError as error:
                    raise NotEnumerableError(f"{name!r} cannot be enumerated: {error}") from None
        count = math.prod([len(value) for value in supports.values()])
        if count > LARGEST_SUPPORT:
            sizes = " x ".join(f"{len(value):,} of {name!r}" for name, value in supports.items())
            raise NotEnumerableError(
                f"{sizes} are {count:,} states together, and at most {LARGEST_SUPPORT:,} are enumerated: use "
                f"an inference model, q = Joint(...), that draws some of them"
            )
        return supports

    def _require_variables(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self:
                held = shortened([repr(own) for own in self.variables])
                hint = did_you_mean(name, self.variables)
                raise ValueError(f"{name!r} cannot be enumerated: it is none of the variables {held}{hint}")

    def equation(self, symbol: str = "p") -> str:
        """The product as the lectures write it: `p(x, z | y) = p(z) p(x | y, z)`."""
        given = f" | {', '.join(self.inputs)}" if self.inputs else ""
        head = f"{symbol}({', '.join(reversed(self.variables))}{given})"
        parts = []
        for name in self.variables:
            factor = self[name]
            if factor.has_density:
                parts.append(f"{symbol}({name}{' | ' + ', '.join(factor.given) if factor.given else ''})")
            else:
                parts.append(f"[{name} = f({', '.join(factor.given)})]")
        body = " ".join(parts)
        return head if body == head else f"{head} = {body}"

    def __repr__(self) -> str:
        nodes = [(name, self[name]) for name in self.variables]
        lines = [f"  {name}: {type(factor).__name__}({factor.extra_repr()})" for name, factor in nodes]
        return "\n".join([self.equation(), *lines])


def is_latent(name: str, values: Values) -> bool:
    """Whether a variable is absent from `values`, in all rows or, by a mask `[B]`, in some."""
    observed = values.get(name + MASK)
    return name not in values or (observed is not None and observed.ndim == 1)


def _spread(observed: Tensor, like: Tensor, dims: int) -> Tensor:
    """A mask `[B]` or `[B, *event]` as floats of the shape of `like`, whose event has `dims` dimensions."""
    if observed.ndim == 1 and dims:
        observed = observed.reshape(*observed.shape, *(1,) * dims)
    dtype = like.dtype if like.is_floating_point() else torch.get_default_dtype()
    return observed.expand(like.shape).to(dtype)


def _dtype(factor: Factor) -> torch.dtype:
    """The floating-point type in which the factor computes."""
    return next((p.dtype for p in factor.parameters()), torch.get_default_dtype())


def names_given(names: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several, as a tuple."""
    return (names,) if isinstance(names, str) else tuple(names)


def names_of(values: Sequence[str] | Values) -> list[str]:
    """The variables' names among the keys of `values`: without masks and reserved names."""
    return [name for name in values if name not in RESERVED and not name.endswith(MASK)]
