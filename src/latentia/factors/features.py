"""Features f(x, z) of log-linear models, over all x of a support at once.

X values of the support, D entries of each, Z states of the parent, F features, P = D (D - 1) / 2 pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .._words import did_you_mean
from ..factor import NotEnumerableError

LARGEST_TABLE = 2**26  # numbers in a table of features, or of probabilities: 256 MiB in float32
CHUNK = 2**20  # features that are held at once where no table is built
NAMES = ("unary", "pairwise")

FeatureFunction = Callable[..., Tensor]


class Features(nn.Module):
    """What a log-linear model needs of its features: `size`, F, `states`, Z, and four maps.

    They are linear in weights and counts, which are given in the type of the features.
    """

    size: int
    states: int

    def logits(self, weights: Tensor) -> Tensor:
        """w . f(x, z), `[X, Z]`, for weights `[F]`."""
        raise NotImplementedError

    def sums(self, counts: Tensor) -> Tensor:
        """sum_x sum_z counts_xz f(x, z), `[F]`, for counts `[X, Z]`: the adjoint of `logits`."""
        raise NotImplementedError

    def covariance(self, p: Tensor, n: Tensor) -> Tensor:
        """sum_z n_z Cov[f(X, z)], `[F, F]`, X distributed as p(x | z), `[X, Z]`."""
        raise NotImplementedError

    def at(self, place: Tensor, codes: Tensor) -> Tensor:
        """f(x, z) for x at a place in the support, `[*, F]`; places and codes broadcast."""
        raise NotImplementedError


class FeatureTable(Features):
    """Features listed one by one, `[X, Z, F]`."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table, persistent=False)
        self.states, self.size = table.shape[1:]

    def logits(self, weights: Tensor) -> Tensor:
        return self.table @ weights

    def sums(self, counts: Tensor) -> Tensor:
        return counts.flatten() @ self.table.flatten(0, 1)

    def covariance(self, p: Tensor, n: Tensor) -> Tensor:
        means = torch.einsum("xz,xzf->zf", p, self.table)
        total = self.table.new_zeros(self.size, self.size)
        rows = max(1, CHUNK // (self.states * self.size))
        for part, q in zip(torch.split(self.table, rows), torch.split(n * p, rows), strict=True):
            spread = ((part - means) * q.sqrt().unsqueeze(-1)).flatten(0, 1)
            total += spread.T @ spread
        return total

    def at(self, place: Tensor, codes: Tensor) -> Tensor:
        return self.table[place, codes]


class NamedFeatures(Features):
    """Features by name, of values with D numbers each; no table of them is built.

    "unary"     x_d 1[z = k]: D for each state. Of binary columns, they alone make a Bernoulli for each z
    "pairwise"  x_d x_e for d < e, the same in all states: what the columns share beyond z

    The weights are those of "unary", state by state, then those of "pairwise". Raises ValueError for an
    unknown name, one that comes twice, or none at all.
    """

    x: Tensor  # [X, D]
    pairs: Tensor  # [2, P], P = 0 without "pairwise"

    def __init__(self, names: str | Sequence[str], x: Tensor, states: int) -> None:
        super().__init__()
        names = _names(names)
        entries = x.shape[1]
        pairs = torch.triu_indices(entries, entries, 1, device=x.device)
        self.register_buffer("x", x, persistent=False)
        self.register_buffer("pairs", pairs if "pairwise" in names else pairs[:, :0], persistent=False)
        self.unary = entries if "unary" in names else 0
        self.size, self.states = states * self.unary + self.pairs.shape[1], states
        if not self.size:
            raise ValueError("there are no pairs of one column: use the features 'unary'")

    def logits(self, weights: Tensor) -> Tensor:
        own, shared = self._split(weights)
        square = self.x.shape[1], self.x.shape[1]
        coupling = weights.new_zeros(square).index_put(tuple(self.pairs), shared)
        return self.x[:, : self.unary] @ own.T + ((self.x @ coupling) * self.x).sum(-1, keepdim=True)

    def sums(self, counts: Tensor) -> Tensor:
        first, second = self.pairs
        joint = self.x.T @ (self.x * counts.sum(-1, keepdim=True))
        return torch.cat([(counts.T @ self.x[:, : self.unary]).flatten(), joint[first, second]])

    def covariance(self, p: Tensor, n: Tensor) -> Tensor:
        q, (_, shared) = n * p, self._split(self.sums(n * p))
        total = p.new_zeros(self.size, self.size)
        middle = shared / n.sum()  # centring by it leaves little to cancel
        mean, off = p.T @ self.x[:, : self.unary], p.new_zeros(self.states, len(shared))
        start = self.states * self.unary
        own = [slice(z * self.unary, (z + 1) * self.unary) for z in range(self.states)]
        rows = max(1, CHUNK // (self.unary + len(shared)))
        parts = (torch.split(whole, rows) for whole in (self.x, p, q))
        for x, p_x, q_x in zip(*parts, strict=True):
            pairs = self._pairs(x) - middle
            off += p_x.T @ pairs
            total[start:, start:] += pairs.T @ (pairs * q_x.sum(-1, keepdim=True))
            for z, place in enumerate(own):
                spread = x[:, : self.unary] - mean[z]
                weighed = (spread * q_x[:, z : z + 1]).T
                total[place, place] += weighed @ spread
                total[place, start:] += weighed @ pairs
        total[start:, start:] -= off.T @ (off * n.unsqueeze(-1))
        total[start:, :start] = total[:start, start:].T
        return total

    def at(self, place: Tensor, codes: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(place.shape, codes.shape)  # type: ignore[no-untyped-call]
        x = self.x[place].expand(*shape, -1)
        chosen = nn.functional.one_hot(codes, self.states).to(x).expand(*shape, -1)
        own = (chosen.unsqueeze(-1) * x[..., : self.unary].unsqueeze(-2)).flatten(-2)
        return torch.cat([own, self._pairs(x)], dim=-1)

    def _pairs(self, x: Tensor) -> Tensor:
        first, second = self.pairs
        return x[..., first] * x[..., second]

    def _split(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        own, shared = weights.tensor_split((self.states * self.unary,))
        return own.reshape(self.states, self.unary), shared


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple, from "unary,pairwise" too. Raises ValueError for one that is none, or a repeat."""
    names = tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else tuple(given)
    for name in names:
        if name not in NAMES:
            hint = did_you_mean(str(name), NAMES) or f": there are {', '.join(NAMES)}"
            raise ValueError(f"there are no features {name!r}{hint}")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"features need a name or more, each once, got {', '.join(names) or 'none'}")
    return names


def features(names: str | Sequence[str], support: Tensor, classes: int) -> NamedFeatures:
    """Features by name, of values `[X, *event]` and `classes` states: "unary" and "pairwise".

    `.at(place, codes)` gives them as numbers, `.logits(w)` and `.sums(counts)` what they are for.
    """
    x = support.reshape(len(support), -1)
    return NamedFeatures(names, x if x.is_floating_point() else x.to(torch.get_default_dtype()), classes)


def features_of(
    given: Tensor | FeatureFunction | str | Sequence[str], support: Tensor, states: int | None, root: bool
) -> Features:
    """Features as `LogLinear` is given them, of a support `[X, *event]` and Z states; a root factor has one.

    Raises ValueError for another shape, numbers that are not finite or an unknown name, NotEnumerableError
    for too large a table, before it is built.
    """
    if root and states not in (None, 1):
        raise ValueError(f"states={states} needs a parent: say given='z'")
    if not isinstance(given, str | Sequence) and hasattr(given, "__array__"):
        given = torch.as_tensor(given)
    if isinstance(given, Tensor):
        table = _checked(given, len(support), *([] if root else [states]))
        _refuse_large(table.numel(), len(support), *table.shape[1:])
        return _tabulated(table, support, root)
    if not root and (states is None or states < 1):
        raise ValueError(f"say how many states the parent has with states=, at least 1; got {states}")
    count = 1 if root or states is None else states
    _refuse_large(len(support) * count, len(support), count)
    if not callable(given):
        return features(given, support, count)
    codes = [] if root else [torch.arange(count, device=support.device)]
    one = _checked(given(support[:1], *(code[:1] for code in codes)), 1, *([] if root else [1]))
    _refuse_large(len(support) * count * one.shape[-1], len(support), count, one.shape[-1])
    table = _checked(given(support, *codes), len(support), *([] if root else [count]))
    return _tabulated(table, support, root)


def _tabulated(table: Tensor, support: Tensor, root: bool) -> FeatureTable:
    table = table.detach().to(device=support.device, dtype=torch.get_default_dtype())
    return FeatureTable(table.unsqueeze(1) if root else table)


def _checked(table: object, *sizes: int | None) -> Tensor:
    """Raise unless the features are finite numbers `[*sizes, F]`; a size of None may be any."""
    if not isinstance(table, Tensor):
        raise TypeError(f"features must be a tensor, got {type(table).__name__}")
    shape = tuple(table.shape)
    if len(shape) != len(sizes) + 1 or any(a not in (None, b) for a, b in zip(sizes, shape, strict=False)):
        letters = [("Z" if size is None else f"{size:,}") for size in sizes]
        names = "X, Z, F" if len(sizes) == 2 else "X, F"
        raise ValueError(
            f"features must have the shape [{names}], here [{', '.join(letters)}, F], and have {list(shape)}"
        )
    if 0 in shape:
        raise ValueError(f"there must be at least one feature, and the features have shape {list(shape)}")
    if not bool(table.isfinite().all()):
        raise ValueError("features must be finite numbers, and some are not")
    return table


def _refuse_large(size: int, *sides: int) -> None:
    if size > LARGEST_TABLE:
        raise NotEnumerableError(
            f"{' x '.join(f'{side:,}' for side in sides)} = {size:,} numbers (values x states x features) "
            f"are more than the {LARGEST_TABLE:,} that are kept: use fewer columns or states, or features by "
            f"name, which need no table of their own"
        )
