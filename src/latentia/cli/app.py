"""The app: its tour, its commands, and what becomes of errors."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Group

from .. import __version__
from ..errors import LatentiaError
from . import compare, data, embed, evaluate, fit, impute, models, plot, reconstruct, sample, score
from .register import register

TOUR = """\
Latent-variable models: fit hidden causes to data, and learn honestly how probable the data are.

A tour, on handwritten digits that come with it:

  latentia fit digits --latent 16 --out runs/digits
      fits a variational autoencoder: p(x, z) = p(z) p(x | z), and q(z | x)
  latentia evaluate runs/digits
      bounds log p(x) of digits it never saw, with errors: the ELBO and L_1000
  latentia compare digits
      fits several models alike, and tells which makes new digits the most probable
  latentia sample runs/digits -n 64 --out new.png
      draws z from p(z) and shows the digits they stand for
  latentia reconstruct runs/digits --out pairs.png
      shows digits, and below them what is left of each after q(z | x), p(x | z)
  latentia embed runs/digits --out codes.csv
      writes the code of each row, the mean of q(z | x)
  latentia score runs/digits --out scores.csv
      writes log p(x) of each row: the least probable are the oddest
  latentia plot runs/digits
      draws all of it, and gathers it in one report.html

Mixtures, PPCA and the other models with an exact posterior give log p(x) itself, with BIC and AIC; \
latentia models lists them all:

  latentia fit iris --model gaussian_mixture --components 3 --out runs/iris
  latentia evaluate runs/iris

In place of digits, your own data: a path to CSV, Parquet, NPY, NPZ or IDX files, or to a folder of \
pictures. The kinds of a table's columns are inferred, printed, and yours to correct:

  latentia fit houses.csv --types zip=ignored --out runs/houses
  latentia score runs/houses new_houses.csv --out odd.csv

Where the posterior is exact, as in mixtures and factor analysis, holes are filled from the rest of a row:

  latentia fit houses.csv --model categorical_mixture --out runs/houses
  latentia impute runs/houses houses.csv --out filled.csv

A run can be repeated to the last bit, varied, and resumed after an interruption:

  latentia fit --config runs/digits/config.toml --out runs/again
  latentia fit --config runs/digits/config.toml --beta 4 --out runs/beta4
  latentia fit --out runs/digits --resume

Each command explains itself: latentia fit --help."""

EXITS = """\
Exit codes: 0 fine; 1 internal error or disk full; 2 usage; 3 bad data; 4 bad or untrusted model file; \
5 diverged; 130, 143 interrupted, with the state saved. LATENTIA_DEBUG=1 shows where an error arose.
"""

app = App(
    name="latentia",
    help=TOUR,
    help_format="plaintext",
    help_epilogue=EXITS,
    version=f"latentia {__version__}",
    suppress_keyboard_interrupt=False,
    group_commands=Group("Commands", sort_key=0),
    group_arguments=Group("Arguments", sort_key=0),
    group_parameters=Group("Options", sort_key=7),
)
COMMANDS = (fit, evaluate, compare, sample, reconstruct, embed, score, impute, plot, models, data)
for order, command in enumerate(COMMANDS, start=1):
    register(app, command.run, command.__name__.rpartition(".")[2], order, command.EXAMPLES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (default: the program's own) and return its exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported: idle threads sleep
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot write ≥ shows ?
    try:
        app(argv, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except BaseException as error:
        if os.environ.get("LATENTIA_DEBUG", "0") not in ("", "0"):
            traceback.print_exc()
        return told(error)
    return 0


def told(error: BaseException) -> int:
    """Say in one sentence what went wrong, and return the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    code, sentence = judged(error)
    print(f"latentia: {sentence}", file=sys.stderr)
    return code


def judged(error: BaseException) -> tuple[int, str]:
    """The exit code and the sentence of an error."""
    text = " ".join(str(error).split())
    if isinstance(error, CycloptsError):
        command = " ".join(["latentia", *(error.command_chain or ())])
        return 2, f"{text} See {command} --help."
    if isinstance(error, LatentiaError):
        return error.exit_code, text
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {error.filename}" if error.filename else ""
        return 1, (
            f"the disk is full{where}. What was written before is whole: free some space and go on with the "
            f"same command (a fit with --resume)"
        )
    if isinstance(error, OSError):
        return 1, text
    if isinstance(error, ValueError):
        return 2, text
    if isinstance(error, ImportError) and "latentia[" in text:  # an extra that is not installed
        return 1, text
    kind = type(error).__name__
    return 1, f"internal error ({kind}{': ' + text if text else ''}); LATENTIA_DEBUG=1 shows where it arose"
