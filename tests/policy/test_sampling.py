"""Sampled frequencies against the exact distribution, and the streams of random numbers."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pilothouse.policy.sampling import BLOCK, Sampler, Sampling, WaitingTimes

CPU = torch.device("cpu")


@dataclass
class FakeRow:
    sampling: Sampling
    waiting_times: WaitingTimes
    produced: int = 0
    drawn: list[int] = field(default_factory=list)


def exact(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """Returns the distribution by the textbook: temperature, top-k, renormalise, top-p."""
    scaled = logits.astype(np.float64) / sampling.temperature
    shares = np.exp(scaled - scaled.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")
    if sampling.top_k:
        shares[order[sampling.top_k :]] = 0
        shares /= shares.sum()
    if sampling.top_p < 1:
        above = np.cumsum(shares[order]) - shares[order]
        shares[order[above >= sampling.top_p]] = 0
        shares /= shares.sum()
    return shares


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(temperature=1.7, top_k=40),
        Sampling(top_p=0.7),
        Sampling(temperature=0.8, top_k=100, top_p=0.9),
    ],
    ids=str,
)
@pytest.mark.parametrize("vocabulary", [300, BLOCK * 2, 2000])
def test_sampled_frequencies_pass_a_chi_square_test(sampling: Sampling, vocabulary: int) -> None:
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(vocabulary)) * 2
    expected = exact(logits.numpy(), sampling)
    rows = [FakeRow(sampling, WaitingTimes(seed, 3)) for seed in range(300)]
    sampler = Sampler(len(rows), vocabulary, CPU)
    counts = np.zeros(vocabulary, dtype=np.int64)
    for _ in range(60):
        drawn = sampler.draw(logits.repeat(len(rows), 1), rows)
        np.add.at(counts, drawn.token_ids, 1)
    assert counts[expected == 0].sum() == 0
    total = counts.sum()
    common = expected * total >= 5  # rarer tokens are counted together
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum()) * total
    if wanted[-1] < 5:
        observed[-2] += observed[-1]
        wanted[-2] += wanted[-1]
        observed, wanted = observed[:-1], wanted[:-1]
    assert stats.chisquare(observed, wanted).pvalue > 1e-4


def test_logprobs_are_after_temperature_and_before_cuts() -> None:
    logits = torch.randn(4, 700, generator=torch.Generator().manual_seed(0))
    settings_of_rows = [Sampling(), Sampling(temperature=2.0), Sampling(top_k=1), Sampling(temperature=0)]
    rows = [FakeRow(sampling, WaitingTimes(1, 0)) for sampling in settings_of_rows]
    drawn = Sampler(4, 700, CPU).draw(logits.clone(), rows)
    for index, sampling in enumerate(settings_of_rows):
        exact_logprobs = (logits[index].double() / (sampling.temperature or 1.0)).log_softmax(0)
        assert drawn.logprobs[index] == pytest.approx(float(exact_logprobs[drawn.token_ids[index]]), abs=1e-5)
    assert drawn.token_ids[2] == int(logits[2].argmax())
    assert drawn.token_ids[3] == int(logits[3].argmax())


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_stream_depends_on_seed_and_sample_only(seed: int, sample: int) -> None:
    one, same, other = (
        WaitingTimes(seed, sample),
        WaitingTimes(seed, sample),
        WaitingTimes(seed, sample + 1),
    )
    first, again, different = np.empty((3, 100))
    for stream, numbers in ((one, first), (same, again), (other, different)):
        stream.draw(numbers)
    np.testing.assert_array_equal(first, again)
    assert (first != different).any()
    assert (first >= 0).all()


def test_a_row_draws_the_same_beside_other_rows() -> None:
    logits = torch.randn(6, 1000, generator=torch.Generator().manual_seed(3))
    sampling = Sampling(temperature=0.9, top_p=0.95)
    mixed = [
        Sampling(temperature=0),
        Sampling(top_k=3),
        Sampling(),
        sampling,
        Sampling(temperature=3),
        sampling,
    ]
    crowd = [FakeRow(entry, WaitingTimes(index, 0)) for index, entry in enumerate(mixed)]
    together = Sampler(6, 1000, CPU).draw(logits.clone(), crowd)
    alone = Sampler(1, 1000, CPU).draw(logits[3:4].clone(), [FakeRow(sampling, WaitingTimes(3, 0))])
    assert alone.token_ids[0] == together.token_ids[3]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_without_a_distribution_are_told(bad: float) -> None:
    logits = torch.zeros(3, 600)
    logits[1, 7] = bad
    rows = [FakeRow(Sampling(), WaitingTimes(index, 0)) for index in range(3)]
    drawn = Sampler(3, 600, CPU).draw(logits, rows)
    assert drawn.finite == [True, False, True]


def test_extreme_logits_and_waiting_times_never_pick_an_impossible_token() -> None:
    class Edge(WaitingTimes):
        def __init__(self, value: float) -> None:
            self.value = value

        def draw(self, out: np.ndarray) -> None:
            out.fill(self.value)

    logits = torch.full((3, 520), -200.0)
    logits[:, 3] = 0.0
    logits[:, 519] = -80.0
    drawn = Sampler(3, 520, CPU).draw(
        logits, [FakeRow(Sampling(), Edge(value)) for value in (0.0, 1.0, 700.0)]
    )
    assert set(drawn.token_ids) <= {3, 519}


def test_last_bits_of_the_logits_change_no_draw() -> None:
    """A crowd's logits differ from those of a row alone by about 1e-5; a vocabulary has a long tail."""
    logits = torch.randn(50, 49_152, generator=torch.Generator().manual_seed(5)) * 3
    noise = torch.randn(50, 49_152, generator=torch.Generator().manual_seed(6)) * 1e-5
    alone, crowd = ([FakeRow(Sampling(), WaitingTimes(seed, 0)) for seed in range(50)] for _ in range(2))
    sampler, different = Sampler(50, 49_152, CPU), 0
    for _ in range(200):
        one = sampler.draw(logits.clone(), alone).tokens
        different += int((one != sampler.draw(logits + noise, crowd).tokens).sum())
    assert different <= 1  # of 10,000
