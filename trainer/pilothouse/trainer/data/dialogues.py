"""Dialogues written as one text, as in Anthropic's hh-rlhf: "Human:" and "Assistant:" open turns in turn."""

import re
from typing import Literal

from pilothouse.trainer.data.messages import Chat, common_chat

Dialogues = Literal["auto", "text"]
"""Dialogues in one text are read as conversations, or are texts like any other."""

_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def parse_dialogue(text: str) -> Chat | None:
    """Returns the messages of a dialogue; None for a text that is none.

    A dialogue begins with ``Human:`` and has a turn of the assistant; every later turn stands after an empty
    line. Blanks around a message belong to the format. Successive turns of one speaker are one message,
    because chat templates want speakers to alternate.
    """
    turns = list(_TURN.finditer(text))
    if not turns or turns[0].start() != 0:
        return None
    names = [turn[1] for turn in turns]
    if names[0] != "Human" or "Assistant" not in names:
        return None
    ends = [turn.start() for turn in turns[1:]] + [len(text)]
    chat: list[tuple[str, str]] = []
    for turn, end in zip(turns, ends, strict=True):
        role, content = _ROLES[turn[1]], text[turn.end() : end].strip()
        if chat and chat[-1][0] == role:
            content = f"{chat.pop()[1]}\n\n{content}".strip()
        chat.append((role, content))
    return tuple(chat)


def last_answers(chosen: Chat, rejected: Chat) -> tuple[Chat, str, str] | None:
    """Returns what two dialogues share, and the answer with which each of them ends.

    None where they differ in more than the assistant's last message, or where that is empty: then they are
    no two answers to one prompt. hh-rlhf has a few such pairs.
    """
    prompt = common_chat(chosen, rejected)
    ends = [dialogue[len(prompt) :] for dialogue in (chosen, rejected)]
    if any(len(end) != 1 or end[0][0] != "assistant" or not end[0][1] for end in ends):
        return None
    return prompt, ends[0][0][1], ends[1][0][1]
