"""Tasks to rank: the answers of several policies to the same prompts."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from blake3 import blake3

from pilothouse.client.feedback_types import AnswerSource, FeedbackAnswer, FeedbackTask
from pilothouse.client.policy_codec import chat_message
from pilothouse.client.types import Chat, Completion, SamplingParams
from pilothouse.errors import InvalidRequestError

MAX_ANSWERS = 9
"""Most answers of a task."""

_PROMPTS_AT_ONCE, _TASKS_AT_ONCE = 16, 64
_NUMBERED = re.compile(r"prompt (\d+) (.*)", re.DOTALL)


class Answers(Protocol):
    """Samples completions, as `pilothouse.client.PolicyClient` does."""

    def generate(
        self, prompts: Any, sampling: SamplingParams | None = None, *, n: int, seeds: Sequence[int]
    ) -> list[Completion]:
        """Returns ``n`` completions of every prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringPolicy:
    """One of the policies that answer."""

    name: str
    """What is stored as the model; raters never see it."""
    client: Answers
    sampling: SamplingParams = field(default_factory=SamplingParams)
    n: int = 1
    """Answers to each prompt."""


def sample_tasks(
    prompts: Sequence[str | Chat],
    policies: Sequence[AnsweringPolicy],
    *,
    queue: str,
    seed: int = 0,
    source: str = "",
    places: Sequence[str] = (),
) -> Iterator[FeedbackTask]:
    """Yields one task for each prompt to which the policies gave at least two different answers.

    Blank answers are left out, and such with a NUL character, which databases do not take.
    A task's id follows from its queue, its prompt and its answers: what was sampled twice is added once.

    Args:
        prompts: Texts or conversations.
        policies: Who answers. Answer j of policy i to prompt p depends on (seed, i, p, j), the weights, and
            how often the prompt has come before.
        queue: Where the tasks are for; the same answers may be asked about in several queues.
        seed: Of the samples.
        source: Where the prompts come from, for people.
        places: Where each prompt stands, for messages; without them its number, from 1.

    Raises:
        InvalidRequestError: The policies give fewer than 2 or more than 9 answers together, or a message of
            a conversation is none, or a policy refuses a prompt.
        UnavailableError: A policy cannot be reached.
    """
    total = sum(policy.n for policy in policies)
    times: Counter[str] = Counter()
    seen: set[str] = set()
    if not 2 <= total <= MAX_ANSWERS:
        raise InvalidRequestError(f"{total} answers to a prompt; people rank 2 to {MAX_ANSWERS}")
    for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
        part = prompts[start : start + _PROMPTS_AT_ONCE]
        turns = [_turn(times, prompt) for prompt in part]
        answers: list[list[FeedbackAnswer]] = [[] for _ in part]
        for place, policy in enumerate(policies):
            with _located(places[start:] or [f"prompt {start + row + 1}" for row in range(len(part))]):
                for row, found in enumerate(_answers(part, turns, policy, place, seed)):
                    answers[row] += found
        for prompt, found in zip(part, answers, strict=True):
            different = {answer.text: answer for answer in reversed(found) if _can_be_ranked(answer.text)}
            if len(different) >= 2:
                identity = task_id(queue, prompt, list(different))
                if identity in seen:
                    continue  # the same prompt again, and the same answers
                seen.add(identity)
                yield FeedbackTask(
                    id=identity,
                    prompt=prompt,
                    answers=tuple(reversed(different.values())),
                    source=source,
                )


def task_id(queue: str, prompt: str | Chat, texts: Sequence[str]) -> str:
    """Returns the id that follows from a task's content, whatever the order of the answers."""
    return blake3(repr((queue, _plain(prompt), sorted(texts))).encode()).hexdigest(length=16)


def in_parts(tasks: Iterable[FeedbackTask]) -> Iterator[list[FeedbackTask]]:
    """Yields tasks, as many at a time as one call of ``FeedbackClient.add_tasks`` is given."""
    rest = iter(tasks)
    while part := list(islice(rest, _TASKS_AT_ONCE)):
        yield part


def _answers(
    prompts: Sequence[str | Chat], turns: Sequence[int], policy: AnsweringPolicy, place: int, seed: int
) -> list[list[FeedbackAnswer]]:
    """Returns the policy's answers to each prompt."""
    seeds = [_seed(seed, place, prompt, turn) for prompt, turn in zip(prompts, turns, strict=True)]
    kinds = {isinstance(prompt, str) for prompt in prompts}
    if len(kinds) > 1:
        raise InvalidRequestError("texts and conversations are mixed; sample them one after the other")
    found = policy.client.generate(list(prompts), policy.sampling, n=policy.n, seeds=seeds)
    answers: list[list[FeedbackAnswer]] = [[] for _ in prompts]
    for completion in found:
        row = completion.prompt_index
        answers[row].append(_answer(completion, policy, seeds[row]))
    return answers


@contextmanager
def _located(places: Sequence[str]) -> Iterator[None]:
    """Names the place of a prompt that a policy refuses by its number in the request."""
    try:
        yield
    except InvalidRequestError as error:
        found = _NUMBERED.match(str(error))
        if found is None or int(found[1]) >= len(places):
            raise
        raise InvalidRequestError(f"{places[int(found[1])]}: the prompt {found[2]}") from None


def _answer(completion: Completion, policy: AnsweringPolicy, seed: int) -> FeedbackAnswer:
    last = completion.version_spans[-1] if completion.version_spans else None
    return FeedbackAnswer(
        text=completion.text,
        source=AnswerSource(
            model=policy.name,
            run=f"epoch-{last.epoch}" if last else "",
            version=last.version if last else 0,
            temperature=policy.sampling.temperature,
            seed=seed + completion.sample_index,
        ),
    )


def _can_be_ranked(text: str) -> bool:
    return bool(text.strip()) and "\0" not in text


def _turn(times: Counter[str], prompt: str | Chat) -> int:
    """Returns how often the prompt has come before: each time it gets other answers."""
    key = repr(_plain(prompt))
    times[key] += 1
    return times[key] - 1


def _seed(seed: int, place: int, prompt: str | Chat, turn: int) -> int:
    digest = blake3(repr((seed, place, _plain(prompt), turn)).encode()).digest(length=8)
    return int.from_bytes(digest, "little") >> 2  # room for the sample's index in a signed number


def _plain(prompt: str | Chat) -> object:
    """Returns a prompt as one value, in whichever form its messages came."""
    if isinstance(prompt, str):
        return prompt
    return [(message.role, message.content) for message in map(chat_message, prompt)]
