"""The state machine on real services."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO

import pytest
from rich.console import Console
from tests.trainer.online.conftest import Place

from pilothouse.client import FeedbackClient, RewardModelsClient
from pilothouse.config import parse
from pilothouse.trainer.demo.loop.crowd import Crowd, Member
from pilothouse.trainer.display import Display, Line
from pilothouse.trainer.durable import read_rows
from pilothouse.trainer.fit_config import RewardModelConfig
from pilothouse.trainer.online.history import HISTORY
from pilothouse.trainer.online.loop import Loop
from pilothouse.trainer.online.turns import STATES
from pilothouse.trainer.run_config import PpoRunConfig

TASKS, TURNS = 12, 2


class InterruptingDisplay(Display):
    """A user who presses Ctrl-C when a state first begins, and again when it first tells of work."""

    def __init__(self) -> None:
        super().__init__(Console(file=StringIO()))
        self.begun: list[str] = []
        self.told: list[str] = []

    @contextmanager
    def stage(self, title: str, names: Sequence[str] = ()) -> Iterator[Line]:
        if title not in self.begun:
            self.begun.append(title)
            raise KeyboardInterrupt
        with super().stage(title, names) as line:
            yield InterruptingLine(line, title, self.told)


class InterruptingLine(Line):
    def __init__(self, line: Line, title: str, told: list[str]) -> None:
        self._line, self._name, self._seen = line, title, told

    def __call__(self, done: int, total: int, metrics: Mapping[str, float]) -> None:
        self._line(done, total, metrics)
        self._interrupt()

    def say(self, detail: str) -> None:
        self._line.say(detail)
        self._interrupt()

    def _interrupt(self) -> None:
        if self._name not in self._seen:
            self._seen.append(self._name)
            raise KeyboardInterrupt


@pytest.mark.timeout(300)
def test_a_loop_that_is_ended_before_and_in_its_states_goes_on_there_and_does_nothing_twice(
    place: Place,
) -> None:
    config = place.config(
        turns=TURNS, tasks_per_turn=TASKS, new_rankings=TASKS, oversample=2, gold_min_rankings=1
    )
    reward_model = parse(
        RewardModelConfig,
        {"members": 2, "normalise_samples": 16, "max_sequence_tokens": 64},
        section="reward_model",
    )
    ppo = parse(
        PpoRunConfig,
        {
            "total_steps": 2,
            "minibatches": 1,
            "rollout": {
                "prompts": config.prompts,
                "prompts_per_step": 8,
                "max_prompt_tokens": 16,
                "max_new_tokens": 8,
            },
            "services": place.services.model_dump(),
        },
        section="ppo",
    )
    display, interrupts = InterruptingDisplay(), 0
    crowd = [Member(f"honest {number}", "honest", number) for number in range(2)]
    with Crowd(crowd, config.queue, config.feedback):
        while True:
            try:
                standing = Loop(config, reward_model, ppo, display).run()
                break
            except KeyboardInterrupt:
                interrupts += 1

    assert display.begun == [f"turn {turn}: {state}" for turn in (1, 2) for state in STATES]
    assert {name.split(": ")[1] for name in display.told} > {
        "collect",
        "wait",
        "candidate",
        "improve",
        "measure",
    }
    assert interrupts == len(display.begun) + len(display.told)
    assert standing.turn == TURNS
    rows = list(read_rows(config.folder / HISTORY))
    assert [(row["turn"], row["rankings"]) for row in rows] == [(1, TASKS), (2, 2 * TASKS)]
    with FeedbackClient(config.feedback) as feedback:
        assert feedback.progress(config.queue).rankings == TURNS * TASKS
    promoted = [row["reward_version"] for row in rows if row["promoted"]]
    with RewardModelsClient(config.reward_models) as models:
        found = models.models()
        assert found.candidate is None
        assert not promoted or found.serving.reward_version == promoted[-1]
    for row in rows:
        states = row["states"]
        assert states["collect"] == {"prompts": 2 * TASKS, "tasks": TASKS, "added": TASKS}
        train, held_out = states["snapshot"]["manifests"]
        assert train["records"] + held_out["records"] == row["rankings"]
        assert states["improve"]["steps"] == 2
