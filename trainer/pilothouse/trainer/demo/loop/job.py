"""The closed loop on the tiny model with a simulated crowd: SFT, then two turns with its rankings."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilothouse.cli.output import null_for_nan
from pilothouse.client import FeedbackClient
from pilothouse.config import parse
from pilothouse.local import LocalStack
from pilothouse.models.text import TINY, TextCodec
from pilothouse.trainer.demo.loop.browser import browser_worker, find_browser
from pilothouse.trainer.demo.loop.crowd import Crowd, Member
from pilothouse.trainer.demo.material import Material, Sizes, write_material
from pilothouse.trainer.demo.recipe import TINY_DEMO
from pilothouse.trainer.demo.synthetic import make_reviews
from pilothouse.trainer.display import Display
from pilothouse.trainer.durable import read_rows, to_json, write_atomic
from pilothouse.trainer.evaluate import Evaluation, evaluate
from pilothouse.trainer.evaluation_config import EvaluationConfig
from pilothouse.trainer.fit_config import RewardModelConfig, SftConfig
from pilothouse.trainer.online.config import LoopConfig
from pilothouse.trainer.online.history import HISTORY
from pilothouse.trainer.online.loop import Loop
from pilothouse.trainer.online.turns import EVALUATION
from pilothouse.trainer.run_config import PpoRunConfig, ServicesConfig
from pilothouse.trainer.sft import train_sft
from pilothouse.trainer.stages import Stages

TURNS = 2
PAGE_RANKINGS = 60
"""Rankings that are given on the page, in a browser."""

_QUEUE = "loop"
_PROMPT_TOKENS, _NEW_TOKENS, _SEQUENCE_TOKENS = 5, 20, 48
_TASKS = 160
_SIZES = Sizes(
    demonstrations=1600,
    rankings=1,
    held_out_rankings=1,
    prompts=800,
    held_out_prompts=128,
    prompt_tokens=_PROMPT_TOKENS,
)
_CROWD = (
    *(Member(f"honest {number}", "honest", 100 + number) for number in range(5)),
    Member("careless", "random", 200),
    Member("always the first", "first", 201),
)
"""Who rank through the API: five honest raters and two bad ones."""

_REWARD_MODEL = {
    "batch_size": 8,
    "epochs": 3,
    "members": 2,
    "normalise_samples": 256,
    "max_sequence_tokens": _SEQUENCE_TOKENS,
    "optimiser": {"learning_rate": 1e-3, "schedule": "linear"},
}
_PPO = {
    "total_steps": 16,
    "epochs": 2,
    "minibatches": 2,
    "policy": {"learning_rate": 3e-4, "schedule": "linear"},
    "value": {"learning_rate": 1e-3, "schedule": "linear"},
    "kl": {"beta": 0.1},
}


@dataclass(frozen=True, slots=True)
class LoopResults:
    """What the demo leaves for its report."""

    turns: Sequence[Mapping[str, Any]]
    """Rows of the loop's history."""
    evaluations: list[Evaluation]
    """Of the SFT model, then of each turn's policy, on the same prompts with the same seeds."""
    page_rankings: int
    """Rankings given on the page."""
    quality: Mapping[str, Any]
    """What the feedback service measured in the end."""
    seconds: Mapping[str, float]


class LoopJob:
    """The demo in one run directory; called again, it goes on."""

    def __init__(self, folder: Path, seed: int, display: Display, *, browser: bool) -> None:
        self._folder, self._seed, self._display, self._browser = folder, seed, display, browser
        self._stages = Stages(folder)

    def run(self) -> LoopResults:
        """Runs everything that is not done yet.

        Raises:
            ConfigError: There is no browser.
            PilothouseError: A part failed; the message says why.
            KeyboardInterrupt: Ended by the user; what was done is kept.
        """
        if self._browser:
            find_browser()
        with self._display.stage("SFT", ("loss",)) as line:
            sft = self._stages.run(
                "sft", {"seed": self._seed, "sft": TINY_DEMO.sft}, lambda into: self._sft(into, line)
            )
        policy, page = str(sft.folder / "model"), list[int]()
        with self._services(policy) as (stack, services):
            with self._display.stage("before") as line:
                before = self._stages.run(
                    "before", {"sft": sft.digest}, lambda into: self._evaluate(into, policy, services)
                )
            loop = Loop(*self._settings(policy, stack, services), self._display)
            with self._crowd(stack, page) as crowd:
                loop.run()
            for error in crowd.errors:
                raise error
            with FeedbackClient(stack["feedback"]) as feedback:
                quality = feedback.quality(_QUEUE)
        rows = list(read_rows(self._folder / "loop" / HISTORY))
        folders = [self._folder / "loop" / f"turn-{row['turn']}" / "measure" for row in rows]
        seconds = {"SFT": sft.seconds, "before": before.seconds}
        for row in rows:
            seconds |= {f"turn {row['turn']}: {name}": spent for name, spent in row["seconds"].items()}
        return LoopResults(
            rows,
            [Evaluation.read(folder / EVALUATION) for folder in [before.folder, *folders]],
            self._count_page(len(page)),
            {
                "alpha": null_for_nan(quality.alpha),
                "pair_agreement": null_for_nan(quality.pair_agreement),
                "suspected": {
                    each.pseudonym: list(each.suspicions) for each in quality.raters if each.suspicions
                },
            },
            seconds,
        )

    def _sft(self, folder: Path, line: Any) -> dict[str, Any]:
        write_material(
            make_reviews(2400, self._seed), _SIZES, TextCodec.load(TINY), folder / "material", self._seed
        )
        material = self._material
        settings = TINY_DEMO.sft | {
            "model": TINY,
            "output": folder,
            "seed": self._seed,
            "data": (material.demonstrations,),
            "max_sequence_tokens": 24,
        }
        return dict(train_sft(parse(SftConfig, settings, section="sft"), line))

    def _evaluate(self, folder: Path, policy: str, services: ServicesConfig) -> dict[str, Any]:
        found = evaluate(
            EvaluationConfig(
                prompts=(self._material.prompts_held_out,),
                model=policy,
                max_new_tokens=_NEW_TOKENS,
                temperature=1.0,
                seed=self._seed,
                services=services,
            )
        )
        found.write(folder / EVALUATION)
        return {"version": list(found.version)}

    @contextmanager
    def _services(self, policy: str) -> Iterator[tuple[Mapping[str, str], ServicesConfig]]:
        models = self._folder / "reward-models"
        models.mkdir(parents=True, exist_ok=True)
        settings = {
            "policy.model": policy,
            "policy.max_sequence_tokens": _SEQUENCE_TOKENS,
            "policy.max_running": 64,
            "reference.model": policy,
            # Until people have ranked, a rule serves: nobody has been asked yet what is good.
            "reward.backend": "rules",
            "reward.rule.kind": "length",
            "reward.rule.unit": "words",
            "reward.rule.minimum": 4,
            "reward.rule.maximum": 12,
            "reward.tokenizer": policy,
            "reward.models_folder": str(models),
            "reward.batching.across_requests": False,
            "reward.shadow.percent": 20,
            "feedback.database": f"sqlite:///{self._folder / 'feedback.db'}",
        }
        overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        services = ("policy", "reward", "reference", "feedback")
        folder = self._folder / "services"
        folder.mkdir(parents=True, exist_ok=True)
        with LocalStack(overrides=overrides, services=services, folder=folder) as stack:
            targets = dict(stack.targets)
            four = {name: targets[name] for name in ("policy", "weights", "reward", "reference")}
            yield targets, ServicesConfig.model_validate(four)

    def _settings(
        self, policy: str, targets: Mapping[str, str], services: ServicesConfig
    ) -> tuple[LoopConfig, RewardModelConfig, PpoRunConfig]:
        material = self._material
        loop = LoopConfig(
            folder=self._folder / "loop",
            model=policy,
            prompts=(material.prompts,),
            held_out_prompts=(material.prompts_held_out,),
            turns=TURNS,
            queue=_QUEUE,
            instructions="Which review praises the film most?",
            overlap=2,
            tasks_per_turn=_TASKS,
            temperatures=(1.0,),
            answers_per_temperature=4,
            new_rankings=2 * _TASKS,
            held_out_percent=25,
            models_folder=self._folder / "reward-models",
            feedback=targets["feedback"],
            reward_models=targets["reward-models"],
            seed=self._seed,
        )
        reward_model = parse(RewardModelConfig, _REWARD_MODEL | {"seed": self._seed}, section="reward_model")
        ppo = _PPO | {
            "seed": self._seed,
            "rollout": {
                "prompts": (material.prompts,),
                "prompts_per_step": 64,
                "max_prompt_tokens": 16,
                "max_new_tokens": _NEW_TOKENS,
            },
            "run": {"checkpoint_every_steps": 8, "keep_last": 1},
            "services": services.model_dump(),
        }
        return loop, reward_model, parse(PpoRunConfig, ppo, section="ppo")

    def _crowd(self, targets: Mapping[str, str], page: list[int]) -> Crowd:
        ended = threading.Event()
        workers = []
        if self._browser:
            member = Member("honest, on the page", "honest", 300)
            workers.append(
                browser_worker(member, _QUEUE, targets["feedback"], PAGE_RANKINGS, lambda: ended, page)
            )
        crowd = Crowd(_CROWD, _QUEUE, targets["feedback"], workers)
        ended = crowd.ended
        return crowd

    def _count_page(self, new: int) -> int:
        """Returns how many rankings were given on the page, by earlier calls too."""
        file = self._folder / "page-rankings.json"
        total = new + (json.loads(file.read_text()) if file.exists() else 0)
        write_atomic(file, to_json(total))
        return total

    @property
    def _material(self) -> Material:
        return Material.inside(self._folder / "sft" / "material")
