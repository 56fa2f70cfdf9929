"""log p(x) summed over every state of discrete latents, layer by layer.

K states of a latent, B rows; `*lead` holds a dimension for the states of each latent, in ancestral order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..factor import NotEnumerableError
from ..joint import MASK, Joint, along, total

ENTRIES = 2**21  # numbers of one layer, over states or over states and rows, that live at a time
ROWS = 500  # that share what is computed of a state


class StateSum:
    """log p(x) = log sum_h p(h) p(x | h) of a p whose latents are all discrete.

    What no row changes, such as p(h1) = sum_h2 p(h1 | h2) p(h2), is summed once, and each latent out of the
    factors that name it alone: bucket elimination, Dechter (1999). States, and rows, are taken in pieces.

    latents: the variables to sum over. Raises NotEnumerableError for more than 2^20 states together, or a
    latent that is not discrete.
    """

    def __init__(self, p: Joint, latents: Sequence[str]) -> None:
        try:
            self.states = p.states(latents)
        except NotEnumerableError as error:
            raise NotEnumerableError(
                f"log p(x) cannot be summed exactly: {error}. To bound it use method='importance'"
            ) from None
        self.p = p
        values = p.computed({name: along(self.states, name) for name in self.states})
        closed = [name for name in self.states if set(p[name].given) <= set(values)]
        self.others = [name for name in p.variables if p[name].has_density and name not in closed]
        self.left = [name for name in self.states if self._touched(name)]
        gone = [place for place, name in enumerate(self.states) if name not in self.left]
        with torch.no_grad():
            terms = [self._led(p.log_prob_of(name, values)) for name in closed]
            self.known = summed_out(terms, gone)

    def __call__(self, batch: Mapping[str, Tensor]) -> Tensor:
        """log p(x), `[B]`, of values without the latents."""
        rows = len(next(iter(batch.values())))
        widest = max(math.prod(self.p[name].event) for name in self.others)
        name = max(self.left, key=lambda latent: len(self.states[latent]), default=None)
        others = math.prod(len(self.states[latent]) for latent in self.left if latent != name)
        count = 1 if name is None else len(self.states[name])
        size = min(rows, ROWS)
        piece = min(count, max(1, ENTRIES // (max(widest, size) * others)))
        return torch.cat(
            [
                self._rows({key: value[start : start + size] for key, value in batch.items()}, name, piece)
                for start in range(0, rows, size)
            ]
        )

    def _rows(self, batch: Mapping[str, Tensor], name: str | None, piece: int) -> Tensor:
        """log p(x) of some rows, the states of one latent taken in pieces."""
        places = [place for place, latent in enumerate(self.states) if latent in self.left]
        found: Tensor | None = None
        for start in range(0, 1 if name is None else len(self.states[name]), piece):
            chosen = slice(start, start + piece)
            states = {n: v[chosen] if n == name else v for n, v in self.states.items()}
            values = self.p.computed({**{n: along(states, n) for n in states}, **batch})
            terms = [self._led(self.p.log_prob_of(other, values)) for other in self.others]
            dim = None if name is None else list(self.states).index(name)
            terms += [
                term if dim is None or term.shape[dim] == 1 else term.narrow(dim, start, len(states[name]))  # type: ignore[index]
                for term in self.known
            ]
            part = total(summed_out(terms, places)).reshape(-1)
            found = part if found is None else torch.logaddexp(found, part)
        if found is None:
            raise ValueError("a sum over no states")
        return found.expand(len(next(iter(batch.values()))))

    def _touched(self, latent: str) -> bool:
        """Whether a factor that rows change depends on a latent."""
        return any(latent == other or latent in self.p.ancestors(other) for other in self.others)

    def _led(self, term: Tensor) -> Tensor:
        """A term as `[*lead, B or 1]`."""
        missing = len(self.states) + 1 - term.ndim
        return term.reshape(*(1,) * missing, *term.shape)


def summed_out(terms: Sequence[Tensor], places: Sequence[int]) -> list[Tensor]:
    """log sum exp of a sum of terms `[*lead, B or 1]` over some lead dimensions, as terms again.

    Each time the dimension whose terms together are smallest goes.
    """
    kept, left = list(terms), list(places)

    def touching(place: int) -> list[Tensor]:
        return [term for term in kept if term.shape[place] > 1]

    def cost(place: int) -> int:
        return math.prod(torch.broadcast_shapes(*(term.shape for term in touching(place))))  # type: ignore[no-untyped-call]

    while left:
        place = min(left, key=cost)
        left.remove(place)
        together = touching(place)
        if together:
            kept = [term for term in kept if term.shape[place] == 1]
            kept.append(torch.logsumexp(total(together), place, keepdim=True))
    return kept


def state_count(p: Joint, latents: Sequence[str]) -> int:
    """How many states the latents have together; 0 where one is not discrete, or they are too many to sum."""
    try:
        return math.prod(len(values) for values in p.states(latents).values()) if latents else 0
    except NotEnumerableError:
        return 0


def has_labels(batch: Mapping[str, Tensor], latents: Sequence[str]) -> bool:
    """Whether a latent was observed in some rows."""
    return any(name in batch or name + MASK in batch for name in latents)
