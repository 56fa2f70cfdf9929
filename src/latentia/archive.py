"""Save and load: a model as a folder of weights, a constructor expression and a model card.

    model.safetensors   the weights, and the array arguments of the expression
    config.json         format, versions, sha256 of the weights, schema, and the model as an expression
    README.md           the model card

No pickle is written or read, and nothing is imported by a name found in a file.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from . import __version__
from ._expression import ARGUMENT, Reader, Writer
from ._files import atomic_write_all
from .errors import ArchiveError
from .exact import Exact
from .joint import Joint
from .model import Model

FORMAT = 1
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".ckpt")


def save(model: Model, folder: str | Path, *, about: str = "") -> Path:
    """Write the model folder, file by file atomically, and return its path.

    about: a paragraph for the model card, such as what the model was fitted to. A model that holds classes
    of the user's own is saved without its expression, and a UserWarning says how to load it (see
    `foreign_parts`). Raises OSError when the disk is full; what was in the folder is then still there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    expression, arguments, foreign = _expression(model)
    weights, aliases = _written_once(model.state_dict())
    content = to_bytes({**weights, **arguments}, {"format": "pt"})
    config = {
        "format": FORMAT,
        "latentia": __version__,
        "torch": torch.__version__,
        "sha256": hashlib.sha256(content).hexdigest(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "fitted": model.fitted,
        "expression": expression,
        "foreign": foreign,
        "aliases": aliases,
        "schema": None if model.schema is None else model.schema.to_dict(),
    }
    text = json.dumps(config, indent=1, allow_nan=False) + "\n"
    card = _card(model, foreign, about)
    atomic_write_all(folder, {WEIGHTS: content, CONFIG: text.encode(), CARD: card.encode()})
    if foreign:
        warnings.warn(_way_back(folder, foreign), UserWarning, stacklevel=2)
    return folder


def load_model(folder: str | Path, into: Model | None = None) -> Model:
    """The model that `save` wrote, with its schema, on the CPU.

    into: a model built as the saved one was; its weights and schema are replaced, and it is returned. Needed
    for models that hold classes of the user's own.

    Raises ArchiveError, a sentence, where a file is missing or damaged, the format is newer than this
    version's, the folder holds a pickle, a constructor is unknown, or the weights do not fit. `into` is then
    unchanged.
    """
    folder = Path(folder)
    if into is not None and not isinstance(into, Model):
        raise TypeError(f"into must be a Model, got {type(into).__name__}")
    config = _read_config(folder)
    _refuse_pickles(folder)
    tensors = _read_weights(folder, config)
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(ARGUMENT)}
    aliases = _aliases(config, weights, folder)
    schema = _read_schema(config, folder)
    model = _built(config, tensors, folder) if into is None else into
    _fill(model, {**weights, **{name: weights[first] for name, first in aliases.items()}}, config, folder)
    if into is None:
        _tie(model, aliases)
    model.schema = schema
    model.fitted = bool(config.get("fitted", False))
    return model


def foreign_parts(model: Model) -> list[str]:
    """The classes in a model that are a user's own: an archive names them and never imports them."""
    return _expression(model)[2]


def _expression(model: Model) -> tuple[dict[str, Any] | None, dict[str, Tensor], list[str]]:
    """The model's expression with its array arguments, or None with the foreign classes that prevent one."""
    writer = Writer()
    expression = {"p": writer.write(model.p), "q": writer.write(model.q)}
    if type(model) is not Model:
        writer.foreign.insert(0, f"{type(model).__module__}.{type(model).__qualname__}")
    if not writer.foreign and not _leads_back(expression, writer.tensors, model):
        writer.foreign.append("a part that was changed after it was made")
    if writer.foreign:
        return None, {}, writer.foreign
    return expression, {name: tensor.cpu().contiguous() for name, tensor in writer.tensors.items()}, []


def _rebuilt(expression: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Model:
    with torch.random.fork_rng(devices=[]):
        reader = Reader(tensors)
        p, q = reader.read(expression["p"]), reader.read(expression["q"])
    if not isinstance(p, Joint) or not (q is None or isinstance(q, Joint | Exact)):
        raise ArchiveError("the model's expression is not a pair of Joints, or a Joint and its Exact")
    return Model(p, q)


def _leads_back(expression: Mapping[str, Any], tensors: Mapping[str, Tensor], model: Model) -> bool:
    """Whether the expression builds a model with the same weights, names and shapes."""
    try:
        again = _rebuilt(expression, tensors)
    except ValueError:
        return False
    one, other = ({name: t.shape for name, t in m.state_dict().items()} for m in (again, model))
    return one == other


def _written_once(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state with tensors that share their memory written once, and {other name: name} for the rest."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in state.items():
        key = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and key in seen:
            aliases[name] = seen[key]
        else:
            seen[key] = name
            kept[name] = tensor.detach().to("cpu", copy=True).contiguous()
    return kept, aliases


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ArchiveError(f"{folder} is not a folder: there is no model")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            inner = folder / "model"
            hint = f"; a model is in {inner}" if (inner / name).is_file() else ""
            raise ArchiveError(f"{folder} holds no {name}, so it is no model folder{hint}")
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{folder / CONFIG} is damaged: it is not JSON ({error})") from error
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise ArchiveError(f"{folder / CONFIG} is not a model's: it does not state its format")
    if config["format"] > FORMAT:
        raise ArchiveError(
            f"{folder} has format {config['format']}, written by latentia {config.get('latentia')}, and this "
            f"version ({__version__}) reads formats up to {FORMAT}: update latentia"
        )
    return config


def _refuse_pickles(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (path.suffix.lower() in PICKLES or _begins_as_pickle(path)):
            raise ArchiveError(
                f"{path} looks like a pickle, which can run any code when read: a folder that holds one "
                f"is not loaded. Remove it if you trust the rest"
            )


def _begins_as_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(4)
    return head == b"PK\x03\x04" or (len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5)


def _read_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    content = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(content).hexdigest() != config.get("sha256"):
        raise ArchiveError(f"{folder / WEIGHTS} is damaged: its sha256 is not the one that {CONFIG} states")
    try:
        return dict(from_bytes(content))
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArchiveError(f"{folder / WEIGHTS} is damaged: {error}") from error


def _aliases(config: Mapping[str, Any], weights: Mapping[str, Tensor], folder: Path) -> dict[str, str]:
    aliases = config.get("aliases", {})
    if not isinstance(aliases, dict) or not all(first in weights for first in aliases.values()):
        raise ArchiveError(f"{folder / CONFIG} is damaged: its aliases name weights that are not there")
    return aliases


def _read_schema(config: Mapping[str, Any], folder: Path) -> Any:
    if config.get("schema") is None:
        return None
    from .data import Schema

    try:
        return Schema.from_dict(config["schema"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArchiveError(f"{folder / CONFIG} is damaged: its schema cannot be read ({error})") from error


def _built(config: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> Model:
    if config.get("expression") is None:
        foreign = config.get("foreign")
        raise ArchiveError(_way_back(folder, foreign if isinstance(foreign, list) else []))
    try:
        return _rebuilt(config["expression"], tensors)
    except (TypeError, KeyError, ValueError, RecursionError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(
            f"{folder / CONFIG} is damaged: its expression builds no model ({error})"
        ) from error


def _fill(model: Model, weights: Mapping[str, Tensor], config: Mapping[str, Any], folder: Path) -> None:
    """Put the weights into the model, which takes their floating-point types."""
    state = model.state_dict()
    for fault, names in (
        ("lacks", sorted(state.keys() - weights.keys())),
        ("has, beyond those of the model,", sorted(weights.keys() - state.keys())),
    ):
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ArchiveError(f"the weights do not fit the model: {folder} {fault} {shown}")
    for name, tensor in state.items():
        if tensor.shape != weights[name].shape:
            raise ArchiveError(
                f"the weights do not fit the model: {name} has shape {tuple(weights[name].shape)} in "
                f"{folder} and {tuple(tensor.shape)} in the model"
            )
    dtype = getattr(torch, str(config.get("dtype")), None)
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        model.to(dtype)
    for name, tensor in model.state_dict(keep_vars=True).items():
        tensor.data = weights[name].to(tensor.device, copy=True)


def _tie(model: Model, aliases: Mapping[str, str]) -> None:
    """Make parameters that were one when the model was saved one again."""
    for name, first in aliases.items():
        module, _, leaf = name.rpartition(".")
        owner = model.get_submodule(module)
        if leaf in owner._parameters:
            setattr(owner, leaf, model.get_parameter(first))


def _way_back(folder: Path, foreign: list[str]) -> str:
    parts = ", ".join(map(str, foreign))
    return (
        f"{folder} holds the weights of a model with parts that are not latentia's ({parts}), and nothing is "
        f"imported by a name in a file: build it as before, then load_model({str(folder)!r}, into=model)"
    )


def _card(model: Model, foreign: list[str], about: str) -> str:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    lines = ["---", "library_name: latentia", "tags: [latentia, latent-variable-model]", "---", ""]
    lines += [f"# A model of {', '.join(model.observed)}", "", *([about, ""] if about else []), "```"]
    lines += [model.p.equation("p"), *([] if model.q is None else [model.q.equation("q")]), "```", ""]
    lines += [f"- {parameters:,} parameters, {str(model.dtype).removeprefix('torch.')}"]
    for graph, symbol in ((model.p, "p"), (model.q, "q")):
        if not isinstance(graph, Joint):
            continue
        for name in graph:
            factor = graph[name]
            given = f" | {', '.join(factor.given)}" if factor.given else ""
            lines += [f"- {symbol}({name}{given}): {type(factor).__name__}, event {factor.event}"]
    if model.schema is not None:
        lines += [f"- data: {', '.join(model.schema.fields)}; densities are in {model.schema.units}"]
    fitted = "fitted" if model.fitted else "not fitted"
    lines += [f"- {fitted}, latentia {__version__}, torch {torch.__version__}"]
    load = "load_model(folder, into=model)  # model: built as before" if foreign else "load_model(folder)"
    return "\n".join([*lines, "", "```python", "import latentia as lt", "", f"model = lt.{load}", "```", ""])
