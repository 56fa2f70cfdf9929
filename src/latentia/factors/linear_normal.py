"""LinearNormal: a linear map of a Gaussian latent variable plus noise, as in PPCA and factor analysis.

D entries of an event, M latent dimensions, K states, B examples, L lead indices; `[K?, ...]`: with states.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .._recorded import recorded
from ..factor import Affine, Factor, Moments
from ..noise import BoundNoise
from ._regression import regression, weighted_sums
from .covariances import low_rank_parameters
from .gaussian import DiagonalNormal, IndependentNormal
from .normal import LEARNT_RATE, SMALLEST_EXCESS, Diagonal, Spherical
from .normal_estimation import floor_troubles
from .principal import PrincipalAxes, principal_axes_of


@recorded
class LinearNormal(Factor):
    """p(x | z) = N(W z + b, R), with R = sigma^2 I or diag(psi); given (k, z), W_k, b_k and R_k.

    outputs     D, or an event shape of D entries
    latent      M, how many entries the parent z has
    given       the name of z; with states, those of k and z: ("k", "z")
    covariance  R: Spherical(), as in probabilistic PCA, or Diagonal(), as in factor analysis
    states      K, how many codes k has, each with parameters of its own: a mixture of factor analysers
    floor       no standard deviation in R is below it (in the value's own units)

    It starts with a mean of 0 and variances of 1, half of which is noise.

    Raises ValueError for sizes below 1, a floor that is not positive, or another number of parents; TypeError
    for another covariance. Tipping & Bishop (1999); Rubin & Thayer (1982); Ghahramani & Hinton (1996).
    """

    def __init__(
        self,
        outputs: int | Sequence[int],
        latent: int,
        given: str | Sequence[str] = "z",
        *,
        covariance: Spherical | Diagonal = Spherical(),  # noqa: B008 (frozen)
        states: int | None = None,
        floor: float = 1e-3,
    ) -> None:
        super().__init__(given=given, event=outputs)
        if latent < 1 or (states is not None and states < 1):
            raise ValueError(f"latent and states must be at least 1, got latent={latent}, states={states}")
        if not (math.isfinite(floor) and floor > 0):
            raise ValueError(f"the noise's floor must be positive, got {floor}: without noise is no density")
        if not isinstance(covariance, Spherical | Diagonal):
            raise TypeError(f"the noise of a LinearNormal is Spherical() or Diagonal(), got {covariance}")
        if len(self.given) != (1 if states is None else 2):
            expected = "one parent, as given='z'" if states is None else "two parents, as given=('k', 'z')"
            raise ValueError(
                f"LinearNormal with states={states} has {expected}, got {', '.join(self.given) or 'none'}"
            )
        self.latent, self.states, self.covariance, self.floor = latent, states, covariance, floor
        self.takes_codes = states is not None
        self.entries = math.prod(self.event)
        lead = () if states is None else (states,)
        self.weight = nn.Parameter(torch.empty(*lead, self.entries, latent))
        self.bias = nn.Parameter(torch.empty(*lead, self.entries))
        scales = 1 if isinstance(covariance, Spherical) else self.entries
        self.raw_scale = nn.Parameter(torch.empty(*lead, scales))
        self.random_start(torch.zeros(self.entries), torch.ones(self.entries))

    @property
    def scale(self) -> Tensor:
        """The noise's standard deviation, exp(raw) above the floor: `[K?, 1]` or `[K?, D]`."""
        return torch.exp(LEARNT_RATE * self.raw_scale) + self.floor

    def distribution(self, *parents: Tensor) -> Distribution:
        *codes, z = parents
        weight, bias, scale = self._chosen(*codes)
        loc = self._location(weight, bias, z)
        if loc.dtype in (torch.bfloat16, torch.float16):
            loc = loc.float()
        normal = DiagonalNormal(self._shaped(loc), self._shaped(scale))
        return IndependentNormal(normal, len(self.event), validate_args=False)

    def transform(self, noise: BoundNoise, distribution: Distribution) -> Tensor:
        base = distribution.base_dist  # type: ignore[attr-defined]
        return base.loc + base.scale * noise(self.event, "normal")  # type: ignore[no-any-return]

    def affine(self, *parents: Tensor | None) -> Affine | None:
        """W `[D, M]`, b and the noise's standard deviations, of the event's shape; with the codes of k
        `[*lead, B or 1]`, that before each. Where z is known, W z + b is the offset and there are no weights.
        """
        *given, z = parents
        codes = [code for code in given if code is not None]
        if len(codes) < len(given):
            return None
        weight, bias, scale = self._chosen(*codes)
        if z is not None:
            bias = self._location(weight, bias, z)
        weights = (weight,) if z is None else ()
        return Affine(weights, self._shaped(bias), self._shaped(scale.expand(bias.shape)))

    def _chosen(self, *codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """W, b and the scale: of all, or by the codes `[*lead, B]`, of which equal ones are chosen once."""
        parameters = (self.weight, self.bias, self.scale)
        if not codes:
            return parameters
        (code,) = codes
        if code.is_floating_point():
            weight, bias, scale = (torch.tensordot(code, parameter, 1) for parameter in parameters)
        else:
            if code.ndim and code.stride(-1) == 0:
                code = code[..., :1]
            weight, bias, scale = (parameter[code] for parameter in parameters)
        return weight, bias, scale

    def _location(self, weight: Tensor, bias: Tensor, z: Tensor) -> Tensor:
        """W z + b, `[*lead, B, D]`."""
        if z.shape[-1] != self.latent:
            raise ValueError(
                f"LinearNormal was built for {self.given[-1]!r} of {self.latent} entries, got {z.shape[-1]}"
            )
        if weight.ndim == 2:
            return nn.functional.linear(z, weight, bias)
        if weight.shape[-3] == 1:
            return z @ weight.squeeze(-3).mT + bias
        return (weight @ z.unsqueeze(-1)).squeeze(-1) + bias

    def _shaped(self, entries: Tensor) -> Tensor:
        """`[..., D]` as `[..., *event]`, or `[..., 1]` as ones that broadcast with it."""
        event = self.event if entries.shape[-1] == self.entries else (1,) * len(self.event)
        return entries.reshape(*entries.shape[:-1], *event)

    @property
    def has_closed_form(self) -> bool:
        return True

    def statistics(
        self,
        value: Tensor | Moments,
        *parents: Tensor | Moments,
        weight: Tensor,
        observed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """For each state, with u = (z, 1), d = x - b, and expectations over z given what was observed of x:

        latent  sum w E[u u^T], `[K or 1, 1, M + 1, M + 1]`; with holes `[K or 1, D, M + 1, M + 1]`, for each
                entry over the rows in which it was seen
        cross   sum w d E[u]^T, `[K or 1, D, M + 1]`
        square  sum w d^2, `[K or 1, D]`

        z is Moments, or a plain tensor `[*lead, B, M]` where it was observed or drawn. Raises TypeError for a
        value that was not observed, or codes that are not integers.
        """
        if isinstance(value, Moments):
            raise TypeError(
                f"{self.given[-1]!r} and its child are both latent: LinearNormal has a closed form "
                f"for observed values only"
            )
        *codes, z = parents
        lead, rows = weight.shape[:-1], weight.shape[-1]
        x = value.reshape(-1, self.entries).double()
        seen = None
        if observed is not None:
            mask = observed.reshape(len(observed), -1)
            if mask.shape[1] == 1:
                weight = weight * mask.squeeze(1)
            else:
                seen = mask.double()
        mean, covariance = z if isinstance(z, Moments) else (z, None)
        mean = _flat(mean.double(), lead, 2).expand(-1, rows, -1)
        if covariance is not None and covariance.ndim == 2:
            covariance = covariance.unsqueeze(0)  # one for all
        spread = None if covariance is None else _flat(covariance.double(), lead, 3)
        size, states = self.latent + 1, self.states or 1
        regressions = self.entries if seen is not None else 1
        result = {
            "latent": x.new_zeros(states, regressions, size, size),
            "cross": x.new_zeros(states, self.entries, size),
            "square": x.new_zeros(states, self.entries),
        }
        centres = self.bias.detach().double().reshape(states, -1)
        for state, place, part in self._parts(codes, weight.double(), lead):
            difference = x - centres[state]
            own = None if spread is None else spread[place]
            for name, total in weighted_sums(difference, mean[place], own, part, seen).items():
                result[name][state] += total
        return result

    def _parts(
        self, codes: Sequence[Tensor | Moments], weight: Tensor, lead: Sequence[int]
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Each state that occurs, at each place of the flattened lead, with its rows' weights `[B]`."""
        weight = weight.reshape(-1, weight.shape[-1])
        if not codes:
            yield from ((0, place, part) for place, part in enumerate(weight))
            return
        code = codes[0]
        if isinstance(code, Moments) or code.is_floating_point():
            raise TypeError(f"LinearNormal has a closed form for integer codes of {self.given[0]!r} only")
        code = _flat(code, lead, 1)
        for place, part in enumerate(weight):
            for state in torch.unique(code[place]).tolist():
                yield state, place, part * (code[place] == state)

    @torch.no_grad()
    def maximize(self, statistics: Mapping[str, Tensor], prior: object | None = None) -> None:
        """The weighted regression of x on (z, 1), and then the noise: what it leaves over.

        (W, b) = (sum w x E[u]^T) (sum w E[u u^T])^-1, psi = sum w E[(x - W z - b)^2] / sum w by entry;
        sigma^2 averages it over the entries. A state, or an entry, without weight keeps its parameters, as
        frozen ones do. Of a singular regression's solutions the one of least norm is taken. Raises TypeError
        for a prior.

        Tipping & Bishop (1999), eqs. 27-28; Ghahramani & Hinton (1996), eqs. 14-15.
        """
        if prior is not None:
            raise TypeError(f"LinearNormal takes no prior, got {prior}")
        m = self.latent
        latent, cross, square = (statistics[name] for name in ("latent", "cross", "square"))
        count = latent[..., m, m]  # [K, 1 or D]
        share = 1 / count.where(count > 0, torch.ones_like(count))
        centring = share if self.bias.requires_grad else torch.zeros_like(share)
        z, x = latent[..., :m, m], cross[..., m]
        zz = latent[..., :m, :m] - centring[..., None, None] * z.unsqueeze(-1) * z.unsqueeze(-2)
        xz = cross[..., :m] - (centring * x).unsqueeze(-1) * z
        xx = square - centring * x.square()

        weight, bias, raw = (self._by_state(p) for p in (self.weight, self.bias, self.raw_scale))
        slope = weight.double()
        if self.weight.requires_grad:
            found = regression(xz, zz, latent.diagonal(dim1=-2, dim2=-1)[..., :m])
            slope = torch.where((count > 0).unsqueeze(-1), found, slope)
            weight.copy_(slope)
        if self.bias.requires_grad:
            bias.add_(centring * (x - (slope * z).sum(-1)))
        if self.raw_scale.requires_grad:
            left = xx - 2 * (slope * xz).sum(-1)
            left = left + (torch.einsum("kdm,kdmn->kdn", slope, zz) * slope).sum(-1)
            count = count.expand(left.shape)
            if isinstance(self.covariance, Spherical):
                left, count = left.sum(-1, keepdim=True), count.sum(-1, keepdim=True)
            variance = left / count.where(count > 0, torch.ones_like(count))
            raw.copy_(torch.where(count > 0, self._raw(variance), raw))

    @property
    def free_parameters(self) -> int:
        """For each state D of b and, of W W^T + R, D M - M (M - 1) / 2 of W, as a rotation of z changes
        nothing, and 1 or D of the noise; no more than the D (D + 1) / 2 of any covariance.
        """
        rank = self.latent if self.weight.requires_grad else 0
        noise = self.raw_scale.shape[-1] if self.raw_scale.requires_grad else 0
        means = self.entries if self.bias.requires_grad else 0
        return (self.states or 1) * (means + low_rank_parameters(self.entries, rank, noise))

    @torch.no_grad()
    def random_start(self, mean: Tensor, variance: Tensor, generator: torch.Generator | None = None) -> None:
        """b = mean; the variance of each entry is half noise and half W W^T, with W random.

        mean, variance: `[D]`, or `[K, D]` by state. generator: torch's global one where it is None.
        """
        device = self.weight.device if generator is None else generator.device
        random = torch.randn(self.weight.shape, generator=generator, device=device).to(self.weight)
        half = (variance.to(self.bias) / 2).expand(self.bias.shape)
        weight = random * (half / self.latent).sqrt().unsqueeze(-1)
        self._set(weight, mean.expand(self.bias.shape), self._raw(half))

    @torch.no_grad()
    def set_axes(self, axes: PrincipalAxes, state: int | None = None) -> None:
        """PPCA's maximum likelihood as the parameters, or as those of one state.

        With Diagonal noise it is a start for EM: the same W, and psi the variances that W leaves over. Raises
        ValueError for axes of other sizes, and where a state is lacking or there is none.
        """
        if axes.weight.shape != self.weight.shape[-2:]:
            raise ValueError(
                f"axes of shape {tuple(axes.weight.shape)} do not fit {self.entries} entries and "
                f"{self.latent} latent dimensions"
            )
        if (state is None) != (self.states is None) or not 0 <= (state or 0) < (self.states or 1):
            raise ValueError(f"LinearNormal with states={self.states} has no state {state} to be set")
        place = 0 if state is None else state
        left = axes.variance - axes.weight.square().sum(-1)
        noise = axes.noise.reshape(1) if isinstance(self.covariance, Spherical) else left
        self._set(axes.weight, axes.mean, self._raw(noise), slice(place, place + 1))

    def start(self, x: Tensor, weight: Tensor | None = None) -> None:
        """Set each state to the principal axes of the rows x `[N, *event]`, weighed by `weight` `[K, N]`.

        weight is `[N]` without states. A state without weight keeps its parameters. Raises ValueError where M
        is not below D.
        """
        rows = x.flatten(1)
        if weight is None:
            return self.set_axes(principal_axes_of(rows, self.latent))
        weights = weight.reshape(-1, len(rows))
        for state, part in enumerate(weights):
            held = part > 0
            if held.any():
                axes = principal_axes_of(rows[held], self.latent, part[held])
                self.set_axes(axes, None if self.states is None else state)

    @torch.no_grad()
    def troubles(self, name: str) -> list[str]:
        """Which components have noise at the floor."""
        at_floor = self.scale.double() <= (1 + 1e-6) * self.floor
        return floor_troubles(name, at_floor.reshape(self.states or 1, -1).any(1), self.floor)

    def _by_state(self, parameter: Tensor) -> Tensor:
        """The parameter `[K or 1, ...]`, as a view that can be written to."""
        return parameter.detach() if self.states is not None else parameter.detach().unsqueeze(0)

    def _set(self, weight: Tensor, bias: Tensor, raw: Tensor, states: slice | None = None) -> None:
        """Write the parameters, or those of some states; frozen ones stay."""
        for parameter, found in ((self.weight, weight), (self.bias, bias), (self.raw_scale, raw)):
            if parameter.requires_grad:
                place = parameter if states is None else self._by_state(parameter)[states]
                place.copy_(found)

    def _raw(self, variance: Tensor) -> Tensor:
        """The raw scale of a noise of this variance, or of the floor; of its mean, if one is for all."""
        if variance.shape[-1] != self.raw_scale.shape[-1]:
            variance = variance.mean(-1, keepdim=True)
        above = variance.clamp(min=0).sqrt() - self.floor
        return above.clamp(min=SMALLEST_EXCESS * self.floor).log() / LEARNT_RATE

    def extra_repr(self) -> str:
        states = "" if self.states is None else f", states={self.states}"
        return f"{super().extra_repr()}, latent={self.latent}, {self.covariance}{states}"


def _flat(tensor: Tensor, lead: Sequence[int], own: int) -> Tensor:
    """`[*lead, B, ...]`, whose last `own` dimensions are its own, with one lead dimension: `[L, B, ...]`."""
    shape = tensor.shape[tensor.ndim - own :]
    return tensor.expand(*lead, *shape).reshape(math.prod(lead), *shape)
