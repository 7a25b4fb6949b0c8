from dataclasses import replace

import numpy as np
import pytest

from pilothouse.client import Completion, VersionSpan
from pilothouse.errors import VersionMixError
from pilothouse.trainer.data.encode import EncodedPrompt
from pilothouse.trainer.prompts import Draw
from pilothouse.trainer.samples import Answer, Sample, answers, as_batch, table_row


def sample(number: int, spans: tuple[VersionSpan, ...], reason: str = "stop_token") -> Sample:
    count = spans[-1].end
    draw = Draw(number, EncodedPrompt(f"p{number}", np.array([7, 8, 9], np.int32)), seed=1)
    tokens = np.arange(count, dtype=np.int32) + 20
    logprobs = -np.arange(1, count + 1, dtype=np.float32)
    completion = Completion(0, 0, tokens, logprobs, "text", reason, spans, 3)  # type: ignore[arg-type]
    return Sample(Answer(draw.sample_ids(1)[0], draw, completion), 0.5, "r1", logprobs - 1, "d1")


TWO_VERSIONS = (VersionSpan(2, 5, 0, 2), VersionSpan(2, 6, 2, 5))


def test_checklist_44_every_token_keeps_the_version_that_made_it() -> None:
    batch = as_batch([sample(0, TWO_VERSIONS), sample(1, (VersionSpan(2, 6, 0, 1),), "length")])
    assert batch.versions.tolist() == [5, 5, 6, 6, 6, 6]
    assert batch.epochs.tolist() == [2] * 6
    assert batch.staleness(6).tolist() == [1, 0]
    assert batch.finished.tolist() == [True, False]
    assert batch.sequences[0].tolist() == [7, 8, 9, 20, 21, 22, 23, 24]
    assert batch.sample_ids == ["00000000.0", "00000001.0"]


def test_checklist_42_behaviour_and_reference_logprobs_stay_apart() -> None:
    batch = as_batch([sample(0, TWO_VERSIONS)])
    assert batch.behaviour_logprobs.tolist() == [-1, -2, -3, -4, -5]
    assert batch.reference_logprobs.tolist() == [-2, -3, -4, -5, -6]


@pytest.mark.parametrize("change", [{"reward_version": "r2"}, {"reference_digest": "d2"}])
def test_a_batch_of_two_judges_is_refused(change: dict[str, str]) -> None:
    one = sample(0, TWO_VERSIONS)
    with pytest.raises(VersionMixError, match="judged"):
        as_batch([one, replace(one, **change)])  # type: ignore[arg-type]


def test_answers_go_to_the_draws_that_were_asked() -> None:
    draws = [sample(number, TWO_VERSIONS).answer.draw for number in (4, 5)]
    base = sample(4, TWO_VERSIONS).answer.completion
    completions = [replace(base, prompt_index=row, sample_index=index) for row in (0, 1) for index in (0, 1)]
    found = answers(draws, completions, 2)
    assert [answer.id for answer in found] == ["00000004.0", "00000004.1", "00000005.0", "00000005.1"]
    assert [answer.draw.number for answer in found] == [4, 4, 5, 5]


def test_a_row_of_the_samples_table_says_who_made_and_judged_it() -> None:
    row = table_row(3, sample(0, TWO_VERSIONS), "the film was")
    assert row["kl"] == 5.0
    assert row["policy_version"] == [[2, 5], [2, 6]]
    assert (row["query"], row["reward_version"], row["reference_digest"]) == ("the film was", "r1", "d1")
