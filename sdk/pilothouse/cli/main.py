"""``pilothouse``: the root command, and the one place where errors become a line and an exit status."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from pilothouse.cli.lazy import LazyGroup, missing_library
from pilothouse.errors import PilothouseError

_EPILOG = (
    "Exit status: 0 done; 1 a condition failed; 2 wrong usage, configuration, data or model; "
    "75 a service is unavailable, try again; 130 interrupted."
)

app = typer.Typer(
    cls=LazyGroup,
    invoke_without_command=True,
    rich_markup_mode="markdown",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; goes anywhere.")
    ] = False,
) -> None:
    """Reinforcement learning from human feedback, as separate gRPC services."""
    if version:
        import importlib.metadata

        sys.stdout.write(f"pilothouse {importlib.metadata.version('pilothouse')}\n")
    elif context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: Without the program's name; None for the process's own.

    Returns:
        The exit status, see `pilothouse.cli.exits.Exit`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    given, debug = _without_debug(given)
    try:
        result: Any = get_command(app).main(given, prog_name="pilothouse", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has left; without this the interpreter would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:  # before the command began
        return 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, status = _explain(error, given)
        sys.stderr.write(f"error: {message}\n")
        return status
    return result if isinstance(result, int) else 0


def _without_debug(given: list[str]) -> tuple[list[str], bool]:
    """Takes ``--debug`` out from anywhere before ``--``."""
    end = given.index("--") if "--" in given else len(given)
    kept = [word for word in given[:end] if word != "--debug"]
    return kept + given[end:], len(kept) < end


def _explain(error: Exception, given: list[str]) -> tuple[str, int]:
    """Returns one line that says what is wrong and what mends it, and the exit status."""
    from pilothouse.cli.exits import Exit, exit_of

    if isinstance(error, PilothouseError):
        return _one_line(str(error)), exit_of(error)
    if isinstance(error, typer.TyperException):
        command = _command(given) if _find(given) else ""
        return f"{_one_line(error.format_message())} (see `pilothouse {command}--help`)", Exit.USAGE
    if isinstance(error, typer.Abort):
        return "aborted", Exit.FAILED
    if isinstance(error, ModuleNotFoundError):
        source = f"pilothouse.{_extra_of(given)}"
        return missing_library(error, source, f"`pilothouse {_command(given).strip()}`"), Exit.USAGE
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", Exit.FAILED
    return (
        f"internal error, {type(error).__name__}: {_one_line(str(error))}; "
        "run it again with --debug and report the traceback",
        Exit.FAILED,
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _command(given: list[str]) -> str:
    """Returns the command's name and a space, or nothing."""
    return next((f"{word} " for word in given if not word.startswith("-")), "")


def _find(given: list[str]) -> Any:
    """Returns the command that was called; None for an unknown one."""
    group: Any = get_command(app)
    return group.commands.get(_command(given).strip())


def _extra_of(given: list[str]) -> str:
    """Returns the extra whose package provides the command that was called."""
    command = _find(given)
    parts = command.source.split(".") if command is not None else []
    return parts[1] if len(parts) > 1 and parts[0] == "pilothouse" else "all"


if __name__ == "__main__":
    sys.exit(main())
