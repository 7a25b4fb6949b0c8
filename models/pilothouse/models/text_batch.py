"""Prompts and responses that came as text, made into sequences within the limits of whoever scores them."""

from collections.abc import Sequence

from pilothouse.errors import InvalidRequestError
from pilothouse.models.text import Joined, TextCodec


def join_all(
    codec: TextCodec,
    prompts: Sequence[str],
    responses: Sequence[str],
    *,
    unfinished: bool,
    max_text_bytes: int,
    max_sequence_tokens: int,
    max_request_tokens: int,
) -> list[Joined]:
    """Returns one sequence per row; the first row over a limit ends the work.

    Args:
        codec: The model's tokenizer.
        prompts: One a row, each of at least one token, so that every response token has one before it.
        responses: One a row.
        unfinished: The responses go on; else each ends in EOS.
        max_text_bytes: Longest prompt or response in UTF-8 bytes.
        max_sequence_tokens: Longest prompt and response together.
        max_request_tokens: Most tokens of all rows together.

    Raises:
        InvalidRequestError: There are no rows, unequal numbers, or a row is outside the limits.
    """
    if len(prompts) != len(responses):
        raise InvalidRequestError(
            f"{len(prompts)} prompts, {len(responses)} responses; send one of each a row"
        )
    if not prompts:
        raise InvalidRequestError("the request has no texts; send at least one prompt and response")
    rows: list[Joined] = []
    left = max_request_tokens
    for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        _check_bytes(index, prompt, response, max_text_bytes)
        row = codec.join(prompt, response, unfinished=unfinished)
        _check_tokens(index, row, max_sequence_tokens)
        left -= len(row.tokens)
        if left < 0:
            raise InvalidRequestError(
                f"the texts have more than {max_request_tokens} tokens; send fewer at a time"
            )
        rows.append(row)
    return rows


def _check_bytes(index: int, prompt: str, response: str, most: int) -> None:
    for name, text in (("prompt", prompt), ("response", response)):
        size = len(text.encode())
        if size > most:
            raise InvalidRequestError(f"{name} {index} has {size} bytes; at most {most} are read")


def _check_tokens(index: int, row: Joined, most: int) -> None:
    if row.prompt_length == 0:
        raise InvalidRequestError(f"prompt {index} has no tokens; every prompt needs at least one")
    if len(row.tokens) > most:
        raise InvalidRequestError(
            f"prompt and response {index} have {len(row.tokens)} tokens; at most {most} are served, so "
            "shorten them"
        )
