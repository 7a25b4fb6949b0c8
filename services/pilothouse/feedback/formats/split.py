"""Which prompts are held out: decided by the prompt alone, so that no later data move one."""

import json

from blake3 import blake3

from pilothouse.feedback.formats.options import Split
from pilothouse.feedback.records import PromptRecord

_BITS = 64


def messages_of(prompt: PromptRecord) -> tuple[tuple[str, str], ...]:
    """Returns a prompt as a conversation: a text is what the user says."""
    return prompt.messages or (("user", prompt.text),)


def prompt_digest(prompt: PromptRecord) -> bytes:
    """Returns the digest of what is asked; a text is the same as that text as the user's one message."""
    return blake3(json.dumps(messages_of(prompt)).encode()).digest()


def split_of(prompt: PromptRecord, held_out_percent: int) -> Split:
    """Returns the part that a prompt belongs to.

    A prompt that is held out at one percentage is held out at every larger one.

    Args:
        prompt: Only what is asked counts, not where it comes from.
        held_out_percent: Share of all prompts that is held out, 0 to 100.
    """
    number = int.from_bytes(prompt_digest(prompt)[: _BITS // 8], "little")
    return Split.HELD_OUT if number * 100 < held_out_percent << _BITS else Split.TRAIN
