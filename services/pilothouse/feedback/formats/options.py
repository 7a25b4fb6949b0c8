"""What an export is asked for."""

import re
from dataclasses import dataclass
from enum import StrEnum

from pilothouse.errors import InvalidRequestError

MAX_HELD_OUT_PERCENT = 90

_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


class Format(StrEnum):
    """Shape of the records."""

    RANKING = "ranking"
    """``prompt``, ``responses``, ``ranks`` and everything else that training uses."""
    PREFERENCE = "preference"
    """TRL: ``prompt``, ``chosen``, ``rejected``."""
    PREFERENCE_IMPLICIT = "preference-implicit"
    """TRL: ``chosen``, ``rejected``, both with the prompt."""
    UNPAIRED = "unpaired"
    """TRL: ``prompt``, ``completion``, ``label``."""
    DEMONSTRATION = "demonstration"
    """TRL: ``prompt``, ``completion``; what people wrote."""
    LABEL_STUDIO = "label-studio"
    """Tasks and annotations of Label Studio's ``Ranker``."""
    ARGILLA = "argilla"
    """Records of Argilla with a ranking question."""

    @property
    def is_json(self) -> bool:
        """Whether it is a JSON array, which its tool reads, and not a table."""
        return self in (Format.LABEL_STUDIO, Format.ARGILLA)


class FileFormat(StrEnum):
    """How tables are written."""

    JSONL = "jsonl"
    PARQUET = "parquet"


class Split(StrEnum):
    """Which part of the prompts."""

    ALL = "all"
    TRAIN = "train"
    HELD_OUT = "held-out"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Which records, in which shape."""

    format: Format
    file_format: FileFormat = FileFormat.JSONL
    """Label Studio and Argilla read JSON arrays: there it must stay ``jsonl``."""
    conversational: bool = False
    """Writes messages also where prompts are texts."""
    split: Split = Split.ALL
    held_out_percent: int = 0
    """Share of the prompts that is held out, 0 to 90."""
    licence: str = "unknown"
    """Of the data set, as its card says it: an SPDX or Hugging Face name."""

    def __post_init__(self) -> None:
        """Makes sure that the options go together.

        Raises:
            InvalidRequestError: They do not.
        """
        if not 0 <= self.held_out_percent <= MAX_HELD_OUT_PERCENT:
            raise InvalidRequestError(
                f"held_out_percent must be 0 to {MAX_HELD_OUT_PERCENT}, got {self.held_out_percent}"
            )
        if self.split is Split.HELD_OUT and not self.held_out_percent:
            raise InvalidRequestError("nothing is held out at held_out_percent 0; give a share above 0")
        if self.format.is_json and self.file_format is FileFormat.PARQUET:
            raise InvalidRequestError(f"{self.format} is always JSON; leave the file format at jsonl")
        if not _LICENCE.fullmatch(self.licence):
            raise InvalidRequestError(
                f"{self.licence[:80]!r} is no name of a licence; write one like cc-by-4.0"
            )
