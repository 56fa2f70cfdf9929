"""Help teaches, starts at once, and mistakes in what is typed are told with the nearest name."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import Cli

COMMANDS = (
    "fit",
    "evaluate",
    "compare",
    "sample",
    "reconstruct",
    "embed",
    "score",
    "impute",
    "plot",
    "models",
    "data",
)
HEAVY = ("torch", "sklearn", "scipy", "matplotlib", "pandas", "pyarrow", "PIL", "numpy")


def loaded_by(code: str) -> set[str]:
    """Which heavy modules a fresh interpreter holds after running this code."""
    probe = f"import sys\n{code}\nprint('loaded', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stdout.strip().splitlines()[-1].split()[1:])


def test_help_is_a_tour_of_every_command(cli: Cli) -> None:
    done = cli("--help")
    assert done.code == 0
    for command in COMMANDS:
        assert f"latentia {command}" in done.out or command in ("models", "data")
        assert f"│ {command}" in done.out
    assert "Exit codes" in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_that_names_it(cli: Cli, command: str) -> None:
    done = cli(command, "--help")
    assert done.code == 0
    assert f"latentia {command}" in done.out.partition("Examples:")[2] or command in ("models", "data")
    assert "Examples:" in done.out


def test_no_arguments_show_the_tour(cli: Cli) -> None:
    done = cli()
    assert (done.code, done.err) == (0, "")
    assert "A tour" in done.out


def test_version(cli: Cli) -> None:
    assert cli("--version").out.startswith("latentia 0.")


def test_help_answers_in_well_under_half_a_second() -> None:
    """In processor time, which other work on the machine does not change."""
    times = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run([sys.executable, "-m", "latentia", "--help"], capture_output=True, check=True)
        after = os.times()
        times.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
        assert b"A tour" in done.stdout
    assert min(times) < 0.5


def test_help_and_import_load_nothing_heavy() -> None:
    assert loaded_by("from latentia.cli import main\nmain(['fit', '--help'])") == set()
    assert loaded_by("import latentia") == set()


def test_torch_is_imported_with_sleeping_threads() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    code = (
        "import os\nfrom latentia.cli import main\nmain(['--version'])\nprint(os.environ['OMP_WAIT_POLICY'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split()[-1] == "PASSIVE"


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["evaluat", "runs/x"], 'Did you mean "evaluate"?'),
        (["fit", "digits", "--latnet", "3"], "Did you mean --latent?"),
        (["fit", "digits", "--binarise", "treshold"], 'Did you mean "threshold"?'),
        (["fit", "digits", "--latent", "many"], 'unable to convert "many" into int'),
        (["fit", "digits", "--model", "vea"], "did you mean 'vae'?"),
        (["fit", "digits", "--objective", "ebo"], "did you mean 'elbo'?"),
        (["fit", "digits", "--hidden", "a,b"], "hidden must be whole numbers"),
        (
            ["fit", "digits", "--covariance", "low-rank"],
            "covariance is diagonal, full, spherical, tied or low-rank:RANK",
        ),
        (["fit", "digits", "--schedule", "5=x"], "schedule must be constant"),
        (["fit", "digits", "--objective", "iwae", "--beta", "2"], "objective iwae has no option 'beta'"),
        (["fit", "digits", "--objective", "iwae", "--warmup", "2"], "objective iwae has no beta to warm up"),
        (["fit", "digits", "--model", "linear_vae", "--conv"], "model linear_vae has no option 'conv'"),
        (["evaluate"], "RUN requires an argument"),
        (["evaluate", "runs/nowhere"], "there is no run or model folder runs/nowhere"),
        (["fit"], "say which data to use"),
    ],
)
def test_a_usage_error_is_one_sentence_with_the_nearest_name(cli: Cli, argv: list[str], hint: str) -> None:
    done = cli(*argv)
    assert done.code == 2
    assert done.sentence.startswith("latentia: ")
    assert hint in done.sentence
    assert "Traceback" not in done.err
    assert done.out == ""


def test_debug_shows_where_an_error_arose(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTIA_DEBUG", "1")
    done = cli("fit", "digits", "--model", "vea")
    assert done.code == 2
    assert "Traceback" in done.err


def test_models_lists_every_model_with_its_equation(cli: Cli) -> None:
    import latentia as lt

    done = cli("models")
    assert done.code == 0
    for name in lt.models.__all__:
        assert name in done.out
    assert "p(z) p(x | z)" in done.out


def test_data_says_which_files_are_looked_for_and_where(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LATENTIA_DATA", raising=False)
    done = cli("data")
    assert done.code == 0
    for word in ("digits", "iris", "embedded", "mnist", "train-images-idx3-ubyte", "$LATENTIA_DATA/mnist"):
        assert word in done.out
