import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from typer.main import get_command

from pilothouse.cli.exits import Exit, exit_of
from pilothouse.cli.lazy import BUILT_IN, LazyCommand
from pilothouse.cli.main import app
from pilothouse.errors import (
    BY_REASON,
    ConfigError,
    DeadlineExceededError,
    KlBudgetError,
    QueueFullError,
    UnavailableError,
)

HEAVY = ("torch", "transformers", "onnxruntime", "numpy")


def modules_after(*arguments: str) -> set[str]:
    """Top-level modules that a command line has loaded, in a process of its own."""
    code = (
        "import json, sys; from pilothouse.cli.main import main; main(sys.argv[1:]);"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(json.loads(ran.stdout.splitlines()[-1]))


def commands() -> dict[str, LazyCommand]:
    root = get_command(app)
    return dict(root.commands)  # type: ignore[attr-defined]


def test_help_loads_neither_torch_nor_any_service() -> None:
    assert not modules_after("--help") & set(HEAVY)


@pytest.mark.parametrize("name", [*BUILT_IN, "train", "eval", "export", "demo"])
def test_help_of_a_command_loads_no_torch(name: str) -> None:
    assert not modules_after(name, "--help") & {"torch", "transformers", "onnxruntime"}


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_help(run: Run, name: str) -> None:
    ran = run(name, "--help")
    assert ran.status == 0
    assert f"pilothouse {name}" in ran.out


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_the_list_of_commands_says_what_their_help_says(name: str) -> None:
    command = commands()[name]
    assert command.load().help.splitlines()[0].strip() == command.short_help


def test_every_reading_command_has_json(run: Run) -> None:
    reading = [
        "status",
        "generate",
        "score",
        "logprobs",
        "doctor",
        "config show",
        "config check",
        "up",
        "down",
    ]
    for words in reading:
        assert "--json" in run(*words.split(), "--help").out, words


def test_no_arguments_show_the_help(run: Run) -> None:
    ran = run()
    assert ran.status == 0
    assert "Usage: pilothouse" in ran.out
    assert "75" in ran.out


def test_a_misspelt_command_gets_a_suggestion(run: Run) -> None:
    ran = run("generat", "x")
    assert ran.status == Exit.USAGE
    assert ran.err == "error: No such command 'generat'. Did you mean 'generate'? (see `pilothouse --help`)\n"


def test_an_unknown_option_is_a_usage_error_that_names_the_command(run: Run) -> None:
    ran = run("status", "--frob")
    assert ran.status == Exit.USAGE
    assert "--frob" in ran.err
    assert "(see `pilothouse status --help`)" in ran.err


def test_an_error_is_one_line_without_a_traceback(run: Run) -> None:
    ran = run("config", "show", "--config", "/nowhere.toml")
    assert ran.status == Exit.USAGE
    assert ran.err == "error: cannot read configuration file /nowhere.toml: No such file or directory\n"


def test_debug_shows_the_traceback_wherever_it_stands(run: Run) -> None:
    for words in (["--debug", "config", "check"], ["config", "check", "--debug"]):
        ran = run(*words, "--config", "/nowhere.toml")
        assert "Traceback" in ran.err
        assert ran.err.splitlines()[-1].startswith("error: cannot read")


def test_a_service_that_is_away_ends_with_75(run: Run) -> None:
    ran = run("generate", "x", "--target", "127.0.0.1:1", "--timeout", "0.5")
    assert ran.status == Exit.UNAVAILABLE
    assert "127.0.0.1:1" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(("host", "address"), [("::1", "[::1]:1"), ("127.0.0.1", "127.0.0.1:1")])
def test_a_configured_address_is_one_that_can_be_called(run: Run, host: str, address: str) -> None:
    settings = ("--set", f"policy.server.host={host}", "--set", "policy.server.port=1")
    ran = run("generate", "x", "--timeout", "0.5", *settings)
    assert ran.status == Exit.UNAVAILABLE
    assert address in ran.err


def test_interruption_ends_with_130(run: Run, install: Callable[[str, str, str], Path]) -> None:
    folder = install("pilothouse.commands", "wait", "theirs_wait:wait")
    (folder / "theirs_wait.py").write_text("def wait() -> None:\n    raise KeyboardInterrupt\n")
    assert run("wait").status == Exit.INTERRUPTED


def test_a_mistake_of_ours_is_called_that(run: Run, install: Callable[[str, str, str], Path]) -> None:
    folder = install("pilothouse.commands", "broken", "theirs_broken:broken")
    (folder / "theirs_broken.py").write_text("def broken() -> None:\n    raise ValueError('two\\nlines')\n")
    ran = run("broken")
    assert ran.status == Exit.FAILED
    assert ran.err == (
        "error: internal error, ValueError: two lines; run it again with --debug and report the traceback\n"
    )


def test_commands_of_other_packages_are_found(run: Run, install: Callable[[str, str, str], Path]) -> None:
    folder = install("pilothouse.commands", "sail", "theirs_sail:sail")
    (folder / "theirs_sail.py").write_text(
        'import sys\ndef sail(speed: int = 1) -> None:\n    """Sails."""\n    sys.stdout.write(str(speed))\n'
    )
    assert "Command of the package theirs-sail." in run("--help").out
    assert run("sail", "--speed", "7").out == "7"


def test_a_command_whose_extra_is_missing_says_how_to_get_it(
    run: Run, install: Callable[[str, str, str], Path], tmp_path: Path
) -> None:
    install("pilothouse.commands", "steer", "pilothouse.trainer.steering:steer")
    module = Path(str(__import__("pilothouse.trainer").trainer.__file__)).parent / "steering.py"
    assert not module.exists()
    ran = run("steer")
    assert ran.status == Exit.USAGE
    assert "'steer' cannot be loaded: No module named 'pilothouse.trainer.steering'" in ran.err


def test_a_missing_library_names_the_extra_that_has_it() -> None:
    from pilothouse.cli.lazy import missing_library

    error = ModuleNotFoundError("No module named 'torch'", name="torch")
    told = missing_library(error, "pilothouse.trainer.commands:train", "'train'")
    assert told == "'train' needs torch, which is not installed; pip install 'pilothouse[trainer]'"


def test_every_error_has_a_documented_exit_status() -> None:
    assert exit_of(ConfigError("x")) is Exit.USAGE
    assert exit_of(UnavailableError("x")) is Exit.UNAVAILABLE
    assert exit_of(QueueFullError("x")) is Exit.UNAVAILABLE
    assert exit_of(DeadlineExceededError("x")) is Exit.UNAVAILABLE
    assert exit_of(KlBudgetError("x")) is Exit.FAILED
    assert {exit_of(cls("x")) for cls in BY_REASON.values()} <= set(Exit)


def test_output_into_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m pilothouse.cli.main config schema | head -c 1"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert ran.stdout == "{"
    assert ran.stderr == ""


def test_version_is_told(run: Run) -> None:
    assert run("--version").out.startswith("pilothouse 0.")
