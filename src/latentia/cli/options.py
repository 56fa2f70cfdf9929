"""The options of `latentia fit`, in the four sections of a run's config.toml.

None means not given. What is then taken stands in the help, and in config.toml once the run is resolved.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

DATA = Group("Data", sort_key=2)
MODEL = Group("Model", sort_key=3)
OBJECTIVE = Group("Objective", sort_key=4)
FIT = Group("Learning", sort_key=5)
EM = Group("Expectation-maximisation", sort_key=6)


def flag(text: str, default: str = "", name: str | None = None, metavar: str | None = None) -> Parameter:
    """An option with its help; `default` is shown there, not applied."""
    return Parameter(name=name, help=text, show_default=default or False, metavar=metavar)


@Parameter(name="*", group=DATA)
@dataclass(frozen=True)
class DataOptions:
    """How DATA is read, split and preprocessed."""

    binarise: Annotated[
        Literal["threshold", "dynamic"] | None,
        flag("Show the model black and white pixels: cut at half, or drawn anew at each presentation."),
    ] = None
    standardise: Annotated[
        bool | None, flag("Scale the numbers of a table to mean 0 and standard deviation 1.", "yes for files")
    ] = None
    types: Annotated[
        str | None,
        flag(
            "Kinds of columns, where the inferred ones (printed) are wrong: age=number,id=ignored. The kinds "
            "are number, binary, count, category, ignored.",
            metavar="NAME=KIND,...",
        ),
    ] = None
    columns: Annotated[
        str | None, flag("Only these columns of a table; the others are ignored.", "all", metavar="NAME,...")
    ] = None
    label: Annotated[
        str | None, flag("A column that colours the plots and is not modelled.", metavar="COLUMN")
    ] = None
    split: Annotated[
        str | None, flag("Fractions of rows to train, validate and test on.", "0.8,0.1,0.1", metavar="A,B,C")
    ] = None
    valid: Annotated[str | None, flag("Validation rows from a file of their own.", metavar="FILE")] = None
    test: Annotated[str | None, flag("Test rows from a file of their own.", metavar="FILE")] = None
    key: Annotated[str | None, flag("Which array of an NPZ file.", metavar="NAME")] = None


@Parameter(name="*", group=MODEL)
@dataclass(frozen=True)
class ModelOptions:
    """p and q."""

    name: Annotated[
        str | None,
        flag(
            "A model that `latentia models` lists, or module:function, a function of your own, imported from "
            "this folder.",
            "vae",
            name="--model",
        ),
    ] = None
    components: Annotated[
        int | None, flag("Number of components of a mixture.", "8; mixture_of_factor_analysers: 5")
    ] = None
    concentration: Annotated[
        float | None,
        flag(
            "Of the Dirichlet prior of bayesian_gaussian_mixture, for each component: with a small one more "
            "of them stay empty.",
            "1 / components",
        ),
    ] = None
    layers: Annotated[
        str | None,
        flag(
            "Binary units in each layer of helmholtz_machine, the first nearest to the data.",
            "200",
            metavar="N,N",
        ),
    ] = None
    prior: Annotated[
        str | None,
        flag(
            "Of helmholtz_machine's top layer: learnt, or autoregressive (each unit given those before).",
            "learnt",
        ),
    ] = None
    relaxation: Annotated[
        str | None,
        flag(
            "Of the draws of helmholtz_machine and categorical_vae: none, concrete or straight_through.",
            "none; categorical_vae: concrete",
        ),
    ] = None
    classes: Annotated[
        int | None,
        flag(
            "Number of hidden classes of log_linear, or of values of each code of categorical_vae.",
            "2; categorical_vae: 10",
        ),
    ] = None
    features: Annotated[
        str | None,
        flag("Features of log_linear: unary, pairwise or both.", "unary,pairwise", metavar="NAME,NAME"),
    ] = None
    latent: Annotated[
        int | None,
        flag(
            "Number of latent dimensions, or of codes.",
            "16; ppca and the factor analysers: 2; categorical_vae: 20",
        ),
    ] = None
    hidden: Annotated[
        str | None,
        flag(
            "Sizes of the encoder's hidden layers, mirrored by the decoder; none makes both linear. Of "
            "helmholtz_machine, of each layer's networks.",
            "400; neural_mixture: 64; helmholtz_machine: none",
            metavar="N,N",
        ),
    ] = None
    conv: Annotated[bool | None, flag("Convolutional encoder and decoder, for images.")] = None
    channels: Annotated[
        str | None, flag("Channels of the convolutions; each halves the image.", "32,64", metavar="N,N")
    ] = None
    activation: Annotated[
        str | None, flag("Nonlinearity of the networks.", "relu; helmholtz_machine: tanh")
    ] = None
    likelihood: Annotated[
        str | None,
        flag(
            "p(x | z): bernoulli, normal (one learnt scale), normal_network (a scale per entry from the "
            "decoder) or columns (each by its kind).",
            "what suits the data",
        ),
    ] = None
    covariance: Annotated[
        str | None,
        flag(
            "Of a Gaussian mixture's components: full, diagonal, spherical or tied; of the noise of "
            "mixture_of_factor_analysers: diagonal or spherical; of a VAE's q(z | x): diagonal, full or "
            "low-rank:RANK.",
            "full for gaussian_mixture (diagonal for images), else diagonal",
        ),
    ] = None
    floor: Annotated[
        float | None,
        flag(
            "No standard deviation of a mixture, ppca or factor analysis is below it, after preprocessing.",
            "0.001",
        ),
    ] = None


@Parameter(name="*", group=OBJECTIVE)
@dataclass(frozen=True)
class ObjectiveOptions:
    """What gradient ascent climbs."""

    name: Annotated[
        str | None,
        flag(
            "elbo, iwae (importance weighted) or renyi; for discrete latents wake_sleep, rws (reweighted "
            "wake-sleep), reinforce, nvil, vimco, arm or disarm; or module:function of your own.",
            "elbo; rws where all latents are discrete",
            name="--objective",
        ),
    ] = None
    samples: Annotated[
        int | None,
        flag("Draws of z per example: S of the ELBO, K of IWAE.", "1; iwae, renyi and vimco: 5; rws: 10"),
    ] = None
    beta: Annotated[float | None, flag("Weight of the KL term.", "1")] = None
    warmup: Annotated[int | None, flag("Let beta grow from 0 over the first steps.", metavar="STEPS")] = None
    free_bits: Annotated[
        float | None, flag("Nats per latent dimension that cost nothing.", "0", metavar="NATS")
    ] = None
    gradient: Annotated[
        str | None,
        flag("Of elbo and iwae: standard, stl (sticking the landing) or, of iwae, dreg.", "standard"),
    ] = None
    alpha: Annotated[
        float | None, flag("Of renyi: 1 is the ELBO, 0 the importance-weighted bound.", "0.5")
    ] = None
    temperature: Annotated[
        str | None,
        flag(
            "Of relaxed draws (--relaxation); 1:0.3:5000 lets it fall from 1 to 0.3 over 5000 steps.",
            "0.667; straight_through: 1",
            metavar="TAU",
        ),
    ] = None
    q_update: Annotated[
        str | None, flag("What q learns from in rws: wake, sleep (dreams) or both.", "wake")
    ] = None
    baseline: Annotated[
        str | None,
        flag("Of reinforce: none, running_mean, network or leave_one_out (--samples 2 or more).", "none"),
    ] = None
    normalise: Annotated[
        bool | None, flag("Divide the learning signal of reinforce by its running deviation.")
    ] = None
    enumerate: Annotated[
        str | None,
        flag(
            "Of elbo, iwae, renyi, wake_sleep and rws: discrete latents that are summed over, not drawn: "
            "h1 or h1,h2.",
            metavar="NAME,NAME",
        ),
    ] = None


@Parameter(name="*", group=FIT)
@dataclass(frozen=True)
class FitOptions:
    """How it climbs."""

    method: Annotated[
        Literal["em", "ascent", "likelihood"] | None,
        flag(
            "em: expectation-maximisation, for models with an exact posterior. ascent: stochastic gradient "
            "ascent of --objective. likelihood: the same of log p(x), where nothing is latent.",
            "em where it can, unless --objective is given",
        ),
    ] = None
    steps: Annotated[
        int | None,
        flag("Length of the run in gradient steps; of EM, the most iterations.", "10000; em: 1000"),
    ] = None
    epochs: Annotated[int | None, flag("Or in passes over the training rows.")] = None
    batch: Annotated[int | None, flag("Rows per step.", "128, or all if fewer")] = None
    lr: Annotated[float | None, flag("Learning rate.", "0.001")] = None
    optimizer: Annotated[str | None, flag("adam, adamw, rmsprop or sgd.", "adam")] = None
    schedule: Annotated[
        str | None,
        flag(
            "Factor on the learning rate: constant, cosine, linear, or by step: 5000=0.3,8000=0.1.",
            "constant",
        ),
    ] = None
    clip: Annotated[float | None, flag("Largest norm of the gradient.", metavar="NORM")] = None
    patience: Annotated[
        int | None,
        flag("Stop after this many validations without a better bound; 0 never stops early.", "10"),
    ] = None
    valid_every: Annotated[
        int | None, flag("Steps between validations.", "an epoch, at least 100", metavar="STEPS")
    ] = None
    checkpoint_every: Annotated[
        int | None, flag("Steps between checkpoints.", "each validation; em: 10", metavar="STEPS")
    ] = None
    alternate: Annotated[
        bool | None, flag("Update q and p in turn: variational EM, or the phases of wake_sleep.")
    ] = None
    precision: Annotated[Literal["fp32", "bf16"] | None, flag("Arithmetic of the networks.", "fp32")] = None
    compile: Annotated[
        Literal["auto", "yes", "no"] | None, flag("Compile the step: auto does in long runs.", "auto")
    ] = None
    device: Annotated[str | None, flag("cpu, or cuda.", "cpu")] = None
    seed: Annotated[
        int | None, flag("Of the split, the starting weights, the order of rows and the noise.", "0")
    ] = None


@Parameter(name="*", group=EM)
@dataclass(frozen=True)
class EMOptions:
    """How expectation-maximisation begins and ends."""

    start: Annotated[
        Literal["kmeans", "random", "model"] | None,
        flag(
            "Where it begins: k-means clusters (principal axes, where a linear map is learnt), rows drawn at "
            "random, or the model's weights as they are.",
            "kmeans",
        ),
    ] = None
    starts: Annotated[int | None, flag("How often it begins anew; the best is kept.", "1")] = None
    tol: Annotated[
        float | None,
        flag("It has converged when the evidence per row changes by less, relative to its size.", "1e-07"),
    ] = None
    estep: Annotated[
        Literal["exact", "hard", "sampled"] | None,
        flag("Latents at their whole posterior, at its most probable point, or at a draw of it.", "exact"),
    ] = None
    climbs: Annotated[
        int | None, flag("L-BFGS iterations in an M-step without closed form (neural_mixture).", "20")
    ] = None
    chunk: Annotated[
        int | None, flag("Rows held at a time: bounds memory.", "by the model's size", metavar="ROWS")
    ] = None


RUN = Group("Which model, which rows", sort_key=1)

RunFolder = Annotated[Path, Parameter(name="RUN", help="A run folder or a model folder.")]
OtherData = Annotated[
    str | None,
    Parameter(
        name="DATA",
        help="Other data, a name or a path: all its rows.",
        show_default="a split of the run's own",
    ),
]
Switch = Annotated[bool, Parameter(negative="", show_default=False)]


@Parameter(name="*", group=RUN)
@dataclass(frozen=True)
class RunOptions:
    """What every command on a finished run takes."""

    model: Annotated[
        str | None,
        flag(
            "For a model with parts of your own: the module:function it was fitted with.",
            metavar="MODULE:FUNCTION",
        ),
    ] = None
    device: Annotated[str | None, flag("cpu, or cuda.", "cpu")] = None


@Parameter(name="*", group=RUN)
@dataclass(frozen=True)
class RowOptions:
    """Which rows to work on."""

    split: Annotated[
        Literal["train", "valid", "test"] | None, flag("Which split of the run's own data.", "test")
    ] = None
    rows: Annotated[
        int | None, flag("Only so many rows: the first, or in evaluate evenly spread.", "all", metavar="N")
    ] = None
    key: Annotated[str | None, flag("Which array of an NPZ file.", metavar="NAME")] = None
