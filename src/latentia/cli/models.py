"""latentia models: what there is to fit."""

from __future__ import annotations

EXAMPLES = """\
Examples:

  latentia fit digits --model linear_vae
  latentia fit digits --model mine:wide_vae

The last one takes the function wide_vae(data=..., latent=...) of ./mine.py."""


def run() -> None:
    """List the models, with their equations."""
    import inspect

    from .. import models
    from .output import facts, show

    lines = []
    for name in models.__all__:
        text = inspect.getdoc(getattr(models, name)) or ""
        lines.append((name, " ".join(text.partition("\n\n")[0].split())))
    show(facts("", lines), "", "Also module:function of your own: a function that returns a latentia.Model.")
