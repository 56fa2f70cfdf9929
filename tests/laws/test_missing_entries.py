"""Missing entries: they leave log_prob, reach the encoder as features, and are refused by name otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import latentia as lt
from latentia.joint import MASK
from latentia.noise import Noise


def masked(x: Tensor, seen: Tensor) -> dict[str, Tensor]:
    return {"x": torch.where(seen, x, torch.zeros_like(x)), "x" + MASK: seen}


def test_missing_entries_leave_log_prob_and_reach_the_encoder_as_features() -> None:
    spy = lt.MLP(3, 4, missing=True)
    p = lt.Joint(z=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2, 3), given="z", scale=1.0))
    q = lt.Joint(z=lt.Normal(spy, given="x"))
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    seen = torch.tensor(
        [[True, True, False], [True, False, False], [False, False, False], [True, True, True]]
    )
    (features,) = q.parents("z", masked(x, seen))
    assert torch.equal(features, torch.cat([torch.where(seen, x, torch.zeros_like(x)), seen.float()], dim=1))
    (whole,) = q.parents("z", {"x": x})
    assert torch.equal(whole[:, 3:], torch.ones(4, 3))
    bound = lt.elbo(p, q, masked(x, seen), Noise(), samples=3)
    assert bound.direction == "lower" and bound.terms["reconstruction"][2] == 0
    torch.testing.assert_close(bound.value[3], lt.elbo(p, q, {"x": x}, Noise(), samples=3).value[3])


def test_image_masks_are_channels_for_a_convolution() -> None:
    q = lt.Joint(z=lt.Normal(lt.ConvEncoder((1, 4, 4), 4, channels=(2,), missing=True), given="x"))
    seen = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    (features,) = q.parents("z", masked(torch.ones(3, 1, 4, 4), seen))
    assert features.shape == (3, 2, 4, 4) and torch.equal(features[:, 1:], seen.float())


def test_a_net_built_without_missing_refuses_holes_by_name() -> None:
    model = lt.models.vae(event=3, latent=2, hidden=(4,))
    holes = np.array([[1.0, np.nan, 2.0], [0.0, 1.0, 2.0]])
    with pytest.raises(ValueError, match=r"'x' has missing .*q\(z \| x\) was built without missing=True"):
        model.log_evidence(holes)
    with pytest.raises(ValueError, match="would take the holes for zeros"):
        lt.elbo(model.p, model.q, masked(torch.ones(1, 3), torch.tensor([[True, False, True]])), Noise())
    whole = lt.models.vae(event=3, latent=2, hidden=(4,), missing=True)
    assert whole.log_evidence(holes, samples=5).isfinite().all()


def test_a_family_that_cannot_marginalise_says_so() -> None:
    class Pair(lt.Factor):
        def distribution(self, *parents: Tensor) -> torch.distributions.Distribution:
            (loc,) = self.parts(*parents)
            return torch.distributions.MultivariateNormal(loc, torch.eye(2), validate_args=False)

    p = lt.Joint(x=Pair(lt.Constant(2)))
    with pytest.raises(
        ValueError, match="Pair cannot marginalise missing entries: its event does not factorise"
    ):
        p.log_prob(masked(torch.zeros(1, 2), torch.tensor([[True, False]])))


def test_a_variable_missing_in_some_rows_is_latent_there_alone() -> None:
    p = lt.Joint(w=lt.StandardNormal(2), x=lt.Normal(lt.MLP(2, 3), given="w", scale=1.0))
    q = lt.Joint(w=lt.Normal(lt.MLP(3, 4), given="x"))
    x, w = (torch.randn(4, d, generator=torch.Generator().manual_seed(d)) for d in (3, 2))
    seen = torch.tensor([True, False, True, False])
    values = {"x": x, "w": torch.where(seen.unsqueeze(-1), w, torch.zeros_like(w)), "w" + MASK: seen}
    done = q.complete(values, Noise(1), samples=5)
    assert torch.equal(done.values["w"][:, seen], w[seen].expand(5, -1, -1))
    assert (done.log_q["w"][:, seen] == 0).all() and (done.log_q["w"][:, ~seen] != 0).all()
    mixed = lt.elbo(p, q, values, Noise(1), samples=5)
    latent = lt.elbo(p, q, {"x": x}, Noise(1), samples=5, analytic=False)
    torch.testing.assert_close(mixed.value[seen], p.log_prob({"x": x, "w": w})[seen])
    torch.testing.assert_close(mixed.value[~seen], latent.value[~seen])
    assert mixed.direction == "lower"
