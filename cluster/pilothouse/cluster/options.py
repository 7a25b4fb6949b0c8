"""Options that the commands share: which cluster, which namespace, which release."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from pilothouse.cluster.api import Api
from pilothouse.cluster.connect import connect
from pilothouse.cluster.identity import operator
from pilothouse.cluster.looking import Identity
from pilothouse.cluster.release import Release, find_release
from pilothouse.errors import ConfigError

JobName = Annotated[
    str | None, typer.Option("--job", metavar="NAME", help="One of several jobs; else the current one.")
]


@dataclass(frozen=True, slots=True)
class Where:
    """Which release is meant."""

    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", metavar="NAME", help="Namespace; else that of the context."),
    ] = None
    release: Annotated[
        str | None,
        typer.Option("--release", metavar="NAME", help="Helm release; else the only one."),
    ] = None
    context: Annotated[
        str | None,
        typer.Option("--context", metavar="NAME", help="Context of the kubeconfig; else the current one."),
    ] = None
    kubeconfig: Annotated[
        Path | None,
        typer.Option("--kubeconfig", metavar="FILE", help="Else KUBECONFIG, ~/.kube/config, the pod's."),
    ] = None

    def connect(self) -> Api:
        """Returns the cluster."""
        return connect(kubeconfig=self.kubeconfig, context=self.context, namespace=self.namespace)

    def find(self) -> tuple[Api, Release]:
        """Returns the cluster and the release in it.

        Raises:
            NotFoundError: There is none.
            ConfigError: It is not clear which one is meant.
        """
        api = self.connect()
        return api, find_release(api, self.release)


def located(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of `Where` in the place of its parameter ``where``."""
    hints = get_type_hints(command, include_extras=True)
    options = get_type_hints(Where, include_extras=True)

    @functools.wraps(command)
    def located_command(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in options}
        command(where=Where(**chosen), **given)

    own = inspect.signature(command).parameters
    kinds = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(name, kinds, default=each.default, annotation=hints[name])
        for name, each in own.items()
        if name != "where"
    ]
    parameters += [
        inspect.Parameter(name, kinds, default=None, annotation=hint) for name, hint in options.items()
    ]
    located_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    located_command.__annotations__ = {each.name: each.annotation for each in parameters}
    return located_command


@contextmanager
def identified(api: Api, release: Release) -> Iterator[Identity]:
    """Yields the operator's identity, or why there is none: what needs no call goes on without it."""
    with ExitStack() as stack:
        identity: Identity
        try:
            identity = stack.enter_context(operator(api, release))
        except ConfigError as error:
            identity = error
        yield identity
