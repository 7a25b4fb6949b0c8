"""What raters send, from the page's script as JSON or from a plain form, as one value of the store."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from pilothouse.errors import InvalidRequestError
from pilothouse.feedback.codec import Decoder, name
from pilothouse.feedback.records import MAX_ANSWERS
from pilothouse.feedback.store.submissions import (
    Content,
    DemonstrationContent,
    RankingContent,
    Said,
    SkipContent,
)

_MAX_SECONDS = 86_400.0


class Correction(BaseModel):
    """A better text for an answer."""

    model_config = ConfigDict(strict=True, extra="forbid")

    place: int
    """Of the answer as shown, from 0."""
    text: str


class Submission(BaseModel):
    """What the script posts; one of ``ranks``, ``text`` and ``reason``."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: str = Field(min_length=8, max_length=64)
    """Made by the browser and kept with the draft: sent again, it is the same submission."""
    assignment: str = Field(max_length=64)
    ranks: list[int] | None = Field(default=None, max_length=MAX_ANSWERS)
    unsafe: list[int] = Field(default=[], max_length=MAX_ANSWERS)
    corrections: list[Correction] = Field(default=[], max_length=MAX_ANSWERS)
    text: str | None = None
    reason: str | None = Field(default=None, max_length=32)
    comment: str = ""
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class Named(BaseModel):
    """Names what a request is about."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str = Field(max_length=64)


def said(body: Submission, rater: str, texts: Decoder) -> Said:
    """Returns a submission for the store.

    Raises:
        InvalidRequestError: A text is too long, or it is not one of ranking, written answer and skip.
    """
    return Said(
        id=name(body.id, "id"),
        assignment=body.assignment,
        rater=rater,
        content=_content(body, texts),
        comment=_text(texts, body.comment, "the comment"),
        seconds=min(body.seconds, _MAX_SECONDS),
    )


def from_form(form: Mapping[str, str]) -> Submission:
    """Returns what a plain form says, as if the script had sent it.

    Raises:
        InvalidRequestError: An answer has no rank.
    """
    if not 8 <= len(form.get("id", "")) <= 64 or len(form.get("assignment", "")) > 64:
        raise InvalidRequestError("this form is incomplete; reload the page and try again")
    body = Submission(id=form["id"], assignment=form.get("assignment", ""), comment=form.get("comment", ""))
    if "reason" in form:
        return body.model_copy(update={"reason": form["reason"]})
    if "text" in form:
        return body.model_copy(update={"text": form["text"]})
    places = [place for place in range(MAX_ANSWERS) if f"rank-{place}" in form]
    try:
        ranks = [int(form[f"rank-{place}"]) for place in places]
    except ValueError:
        raise InvalidRequestError("an answer has no rank; go back and give one to each") from None
    return body.model_copy(
        update={
            "ranks": ranks,
            "unsafe": [place for place in places if f"unsafe-{place}" in form],
            "corrections": [
                Correction(place=place, text=form[f"correction-{place}"])
                for place in places
                if form.get(f"correction-{place}", "").strip()
            ],
        }
    )


def _content(body: Submission, texts: Decoder) -> Content:
    if sum(part is not None for part in (body.ranks, body.text, body.reason)) != 1:
        raise InvalidRequestError("send one of ranks, text and reason; reload the page and try again")
    if body.reason is not None:
        return SkipContent(reason=body.reason)
    if body.text is not None:
        return DemonstrationContent(text=_text(texts, body.text, "the written answer"))
    return RankingContent(
        ranks=tuple(body.ranks or ()),
        unsafe=tuple(body.unsafe),
        corrections={
            correction.place: _text(texts, correction.text, "a correction") for correction in body.corrections
        },
    )


def _text(texts: Decoder, text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{what} holds half a character; remove it") from None
    return texts.text(text, what)
