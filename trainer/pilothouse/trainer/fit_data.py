"""Encoded data within the limits of a supervised run and of its model."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pilothouse.errors import InvalidDataError
from pilothouse.models.load import CausalLM
from pilothouse.trainer.data.encode import Encoded, Item
from pilothouse.trainer.fit_config import FitConfig


def within_limits(
    encode: Callable[[], Encoded[Item]],
    config: FitConfig,
    model: CausalLM,
    files: Sequence[Path],
    *,
    what: str,
    section: str,
) -> Encoded[Item]:
    """Returns the records of some files, and logs how many the length limit touched.

    Args:
        encode: Reads and encodes.
        config: The run.
        model: What learns from them.
        files: For messages.
        what: ``rankings`` or ``demonstrations``.
        section: The run's section in the configuration.

    Raises:
        InvalidDataError: The limit would leave out more than half of the records, unless ``overlong`` is
            ``truncate``; or the run would take records that are longer than the model can.
    """
    named, limit, most = ", ".join(map(str, files)), config.max_sequence_tokens, model.spec.max_positions
    setting = f"{section}.max_sequence_tokens"
    try:
        found = encode()
    except InvalidDataError as error:
        raise InvalidDataError(f"{named}: {error} ({setting})") from None
    if min(found.longest, limit) > most:
        raise InvalidDataError(
            f"{named}: a record has {found.longest} tokens, and {config.model} takes {most} at most; set "
            f'{setting} to {most} and, so that no record is left out, {section}.overlong = "truncate"'
        )
    if config.overlong == "drop" and found.dropped > len(found.items):
        whole = f"{found.longest} would keep all" if found.longest <= most else f"{config.model} takes {most}"
        raise InvalidDataError(
            f"{named}: {found.dropped} of {found.dropped + len(found.items)} {what} exceed {setting}"
            f' = {limit} and would be left out; raise it ({whole}), or set {section}.overlong = "truncate", '
            "which cuts prompts at their start"
        )
    found.told(what)
    return found
