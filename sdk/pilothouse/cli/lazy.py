"""Commands that are imported when they run, so that ``--help`` is instant and extras stay optional."""

import importlib
import importlib.metadata
import inspect
from collections.abc import Callable
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from pilothouse.errors import ConfigError

GROUP = "pilothouse.commands"
"""Entry-point group of commands: ``name = "module:function"``, or a ``typer.Typer``."""

# Rich's own markup would swallow "[sft]" in a help text.
_HELP_MARKUP: Final = "markdown"
_COMPLETION = ("install_completion", "show_completion")

BUILT_IN: dict[str, tuple[str, str]] = {
    "up": ("pilothouse.cli.stack:up", "Starts the services on this machine."),
    "down": ("pilothouse.cli.stack:down", "Stops the services that `up` started."),
    "status": ("pilothouse.cli.stack:status", "Shows the services that `up` started."),
    "generate": ("pilothouse.cli.generate:generate", "Samples completions from the policy."),
    "score": ("pilothouse.cli.score:score", "Scores responses with the reward service."),
    "logprobs": ("pilothouse.cli.logprobs:logprobs", "Returns the log-probabilities of given responses."),
    "reward": (
        "pilothouse.cli.reward_models:app",
        "Stages, compares and promotes the reward service's models.",
    ),
    "feedback": (
        "pilothouse.cli.feedback.command:app",
        "Collects people's judgements: queues, tasks, raters, quality, data.",
    ),
    "config": ("pilothouse.cli.configuration:app", "Shows and checks the configuration."),
    "doctor": ("pilothouse.cli.doctor.command:doctor", "Finds what is wrong here, and what mends it."),
}
"""Commands of the SDK: name → where it is, first line of its help."""

KNOWN_HELP = {
    "train": "Trains a model: SFT, reward model, online PPO.",
    "eval": "Measures a model on held-out prompts.",
    "export": "Exports a reward model to ONNX and checks it against the original.",
    "lineage": "Names the reward models, data and policies behind a checkpoint.",
    "cluster": "Watches and steers Pilothouse on Kubernetes.",
    "loop": "Lets people rank, learns from it, and goes on: the closed loop.",
    "demo": "Runs the whole loop, from people's data to a report.",
}
"""First help line of Pilothouse's own commands by entry point; others are described by their package."""


class LazyCommand(TyperCommand):
    """Stands in help and completion for a command that is not imported yet."""

    def __init__(self, name: str, source: str, help_line: str, package: str = "") -> None:
        super().__init__(name, callback=None, help=help_line, short_help=help_line)
        self.source = source
        self.package = package

    def load(self) -> Any:
        """Imports the command.

        Raises:
            ConfigError: Its package is not installed or misses a library.
        """
        module, _, attribute = self.source.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise ConfigError(missing_library(error, self.source, f"'{self.name}'")) from error
        return as_command(found, str(self.name))


class LazyGroup(TyperGroup):
    """The root command: built-in commands and those of other packages."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (source, help_line) in BUILT_IN.items():
            self.add_command(LazyCommand(name, source, help_line))
        for entry in importlib.metadata.entry_points(group=GROUP):
            if entry.name in BUILT_IN:
                continue  # nobody can put something else under a name that people know
            package = entry.dist.name if entry.dist else entry.module
            help_line = KNOWN_HELP.get(entry.name, f"Command of the package {package}.")
            self.add_command(LazyCommand(entry.name, entry.value, help_line, package))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Imports a command at the moment it is called."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, LazyCommand) else command, rest


def as_command(found: Callable[..., Any] | typer.Typer, name: str) -> Any:
    """Returns a command for a function or an app.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(found, typer.Typer):
        found.rich_markup_mode = _HELP_MARKUP
        command: Any = get_command(found)
    elif inspect.isfunction(found):
        app = typer.Typer(add_completion=False, rich_markup_mode=_HELP_MARKUP)
        app.command(name)(found)
        command = get_command(app)
    else:
        raise ConfigError(
            f"command '{name}' is a {type(found).__name__}; an entry point in {GROUP} must name a "
            "function or a typer.Typer"
        )
    command.name = name
    # Completion is installed for the program, not for one of its commands.
    command.params = [param for param in command.params if param.name not in _COMPLETION]
    return command


def missing_library(error: ModuleNotFoundError, source: str, what: str) -> str:
    """Says which extra has what could not be imported.

    Args:
        error: The failed import.
        source: ``module:attribute`` that was being used.
        what: What the user asked for.
    """
    parts = source.partition(":")[0].split(".")
    ours = parts[0] == "pilothouse" and len(parts) > 1
    if not ours or (error.name or "").startswith("pilothouse"):
        return f"{what} cannot be loaded: {error}; reinstall the package that provides it"
    return f"{what} needs {error.name}, which is not installed; pip install 'pilothouse[{parts[1]}]'"
