"""Wake-sleep: p learns from what q infers, q learns from what p dreams.

S samples, B examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..exact import Inference
from ..joint import MASK, Completion, Joint, Values, average, names_given, total
from ..noise import Source, Under
from ._draws import has_draws, latent_in
from .bound import Bound
from .elbo import direction_of, elbo


def wake_sleep(
    p: Joint,
    q: Inference | None,
    values: Values,
    noise: Source,
    *,
    samples: int = 1,
    enumerate: Sequence[str] = (),
) -> Bound:
    """Both phases at once: the gradient of theta is the wake phase's, that of lambda the sleep phase's.

    samples    draws of z, and dreams, per example
    enumerate  discrete latents summed over exactly in the wake phase, by name

    A factor's gradient is made of its own value and parents alone, so updates are local to a layer. Strictly
    alternating phases are `fit(..., alternate=True)`. The value is the ELBO at the wake phase's draws; it is
    not what q climbs, which minimises KL(p(z | x) || q(z | x)) over dreams. Terms: "wake" and "sleep", the
    phases' objectives. With q = Exact(p) it is the ELBO, which is the log-evidence.

    Hinton, Dayan, Frey & Neal (1995), "The wake-sleep algorithm for unsupervised neural networks".
    """
    if not has_draws(q, values):
        return elbo(p, q, values, noise, samples=samples)
    with torch.no_grad():
        done = q.complete(values, noise, samples, enumerate=names_given(enumerate))
        log_q = average(total(done.log_q.values()), done.log_weight)
    wake = wake_phase(p, done)
    sleep = sleep_phase(p, q, values, noise, samples)
    value = wake.detach() - log_q
    return Bound(value, wake + sleep, {"wake": wake, "sleep": sleep}, direction_of(p, q, values))


def wake_phase(p: Joint, done: Completion) -> Tensor:
    """max_theta E_q(z | x)[log p(x, z)], at draws z ~ q(z | x) held fixed, `[B]`.

    It is supervised learning with the latents filled in. Hinton et al. (1995), eq. 7.
    """
    return average(p.log_prob(done.values), done.log_weight)


def sleep_phase(p: Joint, q: Joint, values: Values, noise: Source, samples: int = 1) -> Tensor:
    """max_lambda E_p(x, z)[log q(z | x)], at dreams (x, z) ~ p held fixed, `[B]`.

    Of `values` only inputs and masks matter: a row's dream lacks the entries that the row lacks. Raises
    ValueError for a q with parameters of each row, as no row dreams. Hinton et al. (1995), eq. 8.
    """
    if "row" in q.inputs:
        raise ValueError(
            "this q has parameters of each row, and a dream belongs to no row: use an encoder of the data, "
            "or rws with q_update='wake'"
        )
    others = set(q.variables) - set(latent_in(q, values))
    log_q = total(q.log_probs(dreams(p, q, values, noise, samples), without=others).values())
    return log_q.reshape(samples, -1).mean(0)


@torch.no_grad()
def dreams(p: Joint, q: Joint, values: Values, noise: Source, samples: int = 1) -> dict[str, Tensor]:
    """(x, z) ~ p(x, z | inputs), `[S B, *event]`, with the holes of each row's data in its dreams."""
    rows = {name: value for name, value in values.items() if name in p.inputs or name.endswith(MASK)}
    rows = {name: value.repeat(samples, *(1,) * (value.ndim - 1)) for name, value in rows.items()}
    dream = {name: value for name, value in rows.items() if name.removesuffix(MASK) in p.inputs}
    batch = samples * len(next(iter(values.values())))
    done = p.complete(dream, Under(noise, "dream"), batch=batch)
    dream |= {name: done.values[name].squeeze(0) for name in done.log_q}
    for name in q.inputs:
        observed = rows.get(name + MASK)
        if observed is not None and name in p:
            whole = (1,) * (dream[name].ndim - observed.ndim)
            seen = observed.reshape(*observed.shape, *whole)
            dream[name] = torch.where(seen, dream[name], torch.zeros_like(dream[name]))
            dream[name + MASK] = observed
    return dream
