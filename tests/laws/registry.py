"""Every family and every net, with each option: the laws run on all. A new factor is one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import constraints

import latentia as lt
from latentia.testing import FactorCase

CODES = torch.tensor([0, 2, 1, 1])
RELAXED = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.1, 0.8, 0.1]])


@dataclass(frozen=True)
class FactorEntry:
    """A factor to be made under a fixed seed, its parents, and its entries' supports where it does not say.

    exempt: the laws that do not apply to it.
    """

    make: Callable[[], lt.Factor]
    parents: Sequence[Tensor | int | tuple[int, ...]] = ()
    support: Sequence[constraints.Constraint] | None = None
    exempt: Sequence[str] = ()

    def factor(self, seed: int = 0) -> lt.Factor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.make()

    def case(self) -> FactorCase:
        return FactorCase(self.factor(), self.parents, support=self.support)


@dataclass(frozen=True)
class NetEntry:
    """A net with the shapes of its inputs without the batch; integer codes are given as tensors."""

    make: Callable[[], nn.Module]
    inputs: Sequence[tuple[int, ...] | Tensor]
    output: tuple[int, ...]

    def net(self, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.make().double()

    def values(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(1)
        return [
            given
            if isinstance(given, Tensor)
            else torch.randn(4, *given, generator=generator, dtype=torch.float64)
            for given in self.inputs
        ]


def normal(outputs: int | tuple[int, ...], **options: object) -> Callable[[], lt.Factor]:
    return lambda: lt.Normal(lt.MLP(3, outputs, hidden=(6,), activation="tanh"), given="z", **options)


def log_linear() -> lt.Factor:
    factor = lt.LogLinear(("unary", "pairwise"), given="k", states=3, event=2)
    factor.weights.data.normal_()
    return factor


def autoregressive_bernoulli() -> lt.Factor:
    factor = lt.AutoregressiveBernoulli(3)
    for parameter in factor.parameters():
        parameter.data.normal_()
    return factor


def bayesian_normal(covariance: object, event: int | tuple[int, ...] = 2) -> Callable[[], lt.Factor]:
    def make() -> lt.Factor:
        factor = lt.BayesianNormal(3, event, covariance=covariance, degrees=6.0)
        values = torch.randn(60, *factor.event) + torch.randn(factor.event)
        factor.maximize(factor.statistics(values, torch.arange(60) % 3, weight=torch.ones(60)))
        return factor

    return make


UNTRAINED = ["check_gradients_reach_every_parameter"]
WITHOUT_NOISE = ["check_noise_is_an_input"]
BAYESIAN = [*UNTRAINED, *WITHOUT_NOISE]
WITHOUT_DENSITY = [
    "check_density_integrates",
    "check_samples_follow_log_prob",
    "check_masks",
    "check_noise_is_an_input",
]
COLUMNS = [constraints.real, constraints.boolean, constraints.integer_interval(0, 2)]

FACTORS: dict[str, FactorEntry] = {
    "standard_normal": FactorEntry(lambda: lt.StandardNormal(2), exempt=UNTRAINED),
    "standard_normal_image": FactorEntry(lambda: lt.StandardNormal((1, 1, 2)), exempt=UNTRAINED),
    "normal_fixed_scale": FactorEntry(normal(2, scale=0.5), [3]),
    "normal_fixed_scales": FactorEntry(normal(2, scale=torch.tensor([0.5, 2.0])), [3]),
    "normal_learnt_softplus": FactorEntry(normal(2, scale="learnt"), [3]),
    "normal_learnt_exp": FactorEntry(normal(2, scale="learnt", link="exp"), [3]),
    "normal_network_softplus": FactorEntry(normal(4), [3]),
    "normal_network_exp": FactorEntry(normal(4, link="exp", floor=0.1), [3]),
    "normal_scalar": FactorEntry(normal(2, event=()), [3]),
    "normal_image": FactorEntry(normal((2, 1, 2)), [3]),
    "normal_of_two_parents": FactorEntry(lambda: lt.Normal(lt.MLP(7, 4), given=("z", "y")), [3, (2, 2)]),
    "normal_root": FactorEntry(lambda: lt.Normal(lt.Constant(4, value=0.3))),
    "normal_table": FactorEntry(lambda: lt.Normal(lt.Table(3, 4), given="k"), [CODES]),
    "normal_table_relaxed": FactorEntry(lambda: lt.Normal(lt.Table(3, 4), given="k"), [RELAXED]),
    "normal_full": FactorEntry(normal(5, covariance=lt.Full()), [3]),
    "normal_full_root": FactorEntry(lambda: lt.Normal(lt.Constant(5, value=0.4), covariance=lt.Full())),
    "normal_spherical": FactorEntry(normal(3, covariance=lt.Spherical()), [3]),
    "normal_spherical_table": FactorEntry(
        lambda: lt.Normal(lt.Table(3, 3), given="k", covariance=lt.Spherical(), link="exp"), [CODES]
    ),
    "normal_tied": FactorEntry(normal(2, covariance=lt.Tied()), [3]),
    "normal_tied_table": FactorEntry(
        lambda: lt.Normal(lt.Table(3, 2), given="k", covariance=lt.Tied(), floor=0.1), [CODES]
    ),
    "normal_full_table": FactorEntry(
        lambda: lt.Normal(lt.Table(3, 5), given="k", covariance=lt.Full()), [CODES]
    ),
    "normal_low_rank": FactorEntry(normal(6, covariance=lt.LowRank(1)), [3]),
    "normal_low_rank_exp": FactorEntry(normal(8, covariance=lt.LowRank(2), link="exp"), [3]),
    "linear_normal": FactorEntry(lambda: lt.LinearNormal(2, 3), [3]),
    "linear_normal_image": FactorEntry(
        lambda: lt.LinearNormal((1, 2, 1), 3, covariance=lt.Diagonal(), floor=0.1), [3]
    ),
    "linear_normal_states": FactorEntry(
        lambda: lt.LinearNormal(2, 3, ("k", "z"), states=3, covariance=lt.Diagonal()), [CODES, 3]
    ),
    "linear_normal_relaxed": FactorEntry(
        lambda: lt.LinearNormal(2, 3, ("k", "z"), states=3),
        [RELAXED, 3],
        exempt=["check_maximum_likelihood"],
    ),
    "bernoulli_root": FactorEntry(lambda: lt.Bernoulli(lt.Constant(3, value=-0.4))),
    "bernoulli_scalar": FactorEntry(lambda: lt.Bernoulli(lt.MLP(3, 1), given="z", event=()), [3]),
    "bernoulli": FactorEntry(lambda: lt.Bernoulli(lt.MLP(3, 4), given="z"), [3]),
    "bernoulli_image": FactorEntry(
        lambda: lt.Bernoulli(lt.ConvDecoder(3, (1, 2, 3), channels=(4,)), given="z"), [3]
    ),
    "categorical_root": FactorEntry(lambda: lt.Categorical(4)),
    "categorical_uniform": FactorEntry(lambda: lt.Categorical(4, logits="uniform"), exempt=UNTRAINED),
    "categorical": FactorEntry(lambda: lt.Categorical(lt.MLP(3, 4), given="z"), [3]),
    "categorical_table": FactorEntry(lambda: lt.Categorical(lt.Table(3, 5), given="k"), [CODES]),
    "categorical_vector": FactorEntry(
        lambda: lt.Categorical(lt.MLP(3, 6), given="z", classes=3, event=2), [3]
    ),
    "categorical_vector_root": FactorEntry(lambda: lt.Categorical(3, event=2)),
    "categorical_vector_table": FactorEntry(
        lambda: lt.Categorical(lt.Table(3, 6), given="k", event=2), [CODES]
    ),
    "autoregressive_bernoulli": FactorEntry(
        autoregressive_bernoulli, support=[constraints.boolean] * 3, exempt=["check_masks"]
    ),
    "concrete": FactorEntry(lambda: lt.Concrete(lt.Bernoulli(lt.MLP(3, 4), given="z")).eval(), [3]),
    "concrete_categorical": FactorEntry(
        lambda: lt.Concrete(lt.Categorical(lt.MLP(3, 4), given="z"), temperature=0.5).eval(), [3]
    ),
    "straight_through": FactorEntry(
        lambda: lt.StraightThrough(lt.Bernoulli(lt.Table(3, 2), given="k")).eval(), [CODES]
    ),
    "straight_through_vector": FactorEntry(
        lambda: lt.StraightThrough(lt.Categorical(lt.MLP(3, 6), given="z", event=2)).eval(), [3]
    ),
    "columns": FactorEntry(
        lambda: lt.Columns(lt.MLP(3, 5), given="z", columns=("number", "binary", 3)),
        [3],
        support=COLUMNS,
        exempt=WITHOUT_NOISE,
    ),
    "columns_counts": FactorEntry(
        lambda: lt.Columns(lt.MLP(3, 2), given="z", columns=("count", "number")),
        [3],
        support=[constraints.nonnegative_integer, constraints.real],
        exempt=WITHOUT_NOISE,
    ),
    "log_linear": FactorEntry(log_linear, [CODES]),
    "bayesian_categorical": FactorEntry(lambda: lt.BayesianCategorical(3, [0.5, 2.0, 1.0]), exempt=UNTRAINED),
    "bayesian_normal_full": FactorEntry(bayesian_normal(lt.Full()), [CODES], exempt=BAYESIAN),
    "bayesian_normal_tied": FactorEntry(bayesian_normal(lt.Tied()), [CODES], exempt=BAYESIAN),
    "bayesian_normal_diagonal": FactorEntry(
        bayesian_normal(lt.Diagonal(), (1, 1, 2)), [CODES], exempt=BAYESIAN
    ),
    "bayesian_normal_spherical": FactorEntry(bayesian_normal(lt.Spherical()), [CODES], exempt=BAYESIAN),
    "deterministic": FactorEntry(
        lambda: lt.Deterministic(lt.MLP(3, (1, 2, 2)), given="z"), [3], exempt=WITHOUT_DENSITY
    ),
}

NETS: dict[str, NetEntry] = {
    "linear": NetEntry(lambda: lt.MLP(3, 2), [(3,)], (2,)),
    "mlp": NetEntry(lambda: lt.MLP(3, 2, hidden=(5, 4), activation="silu"), [(3,)], (2,)),
    "mlp_of_images": NetEntry(lambda: lt.MLP((1, 3, 2), (2, 3, 1), hidden=(5,)), [(1, 3, 2)], (2, 3, 1)),
    "mlp_of_two": NetEntry(lambda: lt.MLP(5, 2, hidden=(4,), activation="tanh"), [(3,), (2,)], (2,)),
    "conv_encoder": NetEntry(lambda: lt.ConvEncoder((1, 8, 8), 3, channels=(4, 6)), [(1, 8, 8)], (3,)),
    "conv_encoder_odd": NetEntry(lambda: lt.ConvEncoder((2, 9, 7), 3, channels=(4, 6)), [(2, 9, 7)], (3,)),
    "conv_decoder": NetEntry(lambda: lt.ConvDecoder(3, (1, 8, 8), channels=(4, 6)), [(3,)], (1, 8, 8)),
    "conv_decoder_odd": NetEntry(
        lambda: lt.ConvDecoder(5, (2, 9, 7), channels=(4, 6)), [(3,), (2,)], (2, 9, 7)
    ),
    "table": NetEntry(lambda: lt.Table(3, 4), [CODES], (4,)),
    "table_of_images": NetEntry(lambda: lt.Table(3, (2, 2, 1)), [CODES], (2, 2, 1)),
    "constant": NetEntry(lambda: lt.Constant((2, 3)), [], (2, 3)),
}
