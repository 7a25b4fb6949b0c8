"""``pilothouse cluster``: the operator's commands. docs/kubernetes-cli.md has each of them in `kubectl`."""

import typer

from pilothouse.cluster import look_commands, steer_commands, support_commands

cluster = typer.Typer(no_args_is_help=True, help="Watches and steers Pilothouse on Kubernetes.")

for _command in (
    support_commands.install_check,
    look_commands.status,
    support_commands.submit,
    look_commands.watch,
    look_commands.logs,
    steer_commands.pause,
    steer_commands.resume,
    steer_commands.stop,
    steer_commands.scale,
    steer_commands.rollback,
    support_commands.bundle,
):
    cluster.command()(_command)
