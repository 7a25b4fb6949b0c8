"""The demo's stages in order, from texts to the last evaluation. What is done is not done again."""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pilothouse.client import PolicyClient
from pilothouse.config import parse
from pilothouse.errors import VersionMixError
from pilothouse.models.export import export_reward_model
from pilothouse.models.load import load_causal_lm, parameters_by_name, state_digest
from pilothouse.models.text import TextCodec
from pilothouse.trainer.demo.material import Material, write_material
from pilothouse.trainer.demo.recipe import Recipe
from pilothouse.trainer.demo.results import EVALUATION_FILE, TITLES, Results
from pilothouse.trainer.demo.services import running
from pilothouse.trainer.display import Display, Line
from pilothouse.trainer.evaluate import evaluate
from pilothouse.trainer.evaluation_config import EvaluationConfig
from pilothouse.trainer.fit_config import RewardModelConfig, SftConfig
from pilothouse.trainer.learner_files import POLICY
from pilothouse.trainer.ppo_display import PpoLine
from pilothouse.trainer.ppo_run import run_ppo
from pilothouse.trainer.reward_model import train_reward_model
from pilothouse.trainer.run_config import PpoRunConfig, ServicesConfig
from pilothouse.trainer.sft import train_sft
from pilothouse.trainer.stages import Outputs, Stage, Stages

Work = Callable[[Path, Line], Outputs]


class Job:
    """One demo in one run directory."""

    def __init__(self, folder: Path, recipe: Recipe, seed: int, display: Display) -> None:
        self._folder, self._recipe, self._seed, self._display = folder, recipe, seed, display
        self._stages = Stages(folder)
        self._done: dict[str, Stage] = {}
        self._running = ExitStack()
        self._services: ServicesConfig | None = None

    def run(self) -> Results:
        """Runs every stage that is not done yet and returns them all.

        Raises:
            PilothouseError: A stage failed; the message says why.
            KeyboardInterrupt: Ended by the user; what was done is kept.
        """
        recipe = self._recipe
        with self._running:
            self._do("material", asdict(recipe.sizes), self._make_material)
            self._do("sft", recipe.sft, self._sft, names=("loss", "eval_loss"))
            names = ("loss", "accuracy", "eval_accuracy")
            self._do("reward-model", recipe.reward_model, self._reward_model, names=names)
            self._do("export", {}, self._export)
            self._do("before", {}, self._evaluate, served=True)
            self._do("ppo", recipe.ppo, self._ppo, served=True)
            self._do("after", {}, self._evaluate_learned, served=True)
        return Results(self._done)

    def _do(
        self,
        name: str,
        settings: dict[str, Any],
        work: Work,
        *,
        names: Sequence[str] = (),
        served: bool = False,
    ) -> None:
        """Runs one stage; its inputs are its settings and everything before it."""
        earlier = [stage.digest for stage in self._done.values()][-1:]
        inputs = {"recipe": self._recipe.common, "seed": self._seed, "settings": settings, "earlier": earlier}
        with self._display.stage(TITLES[name], names) as line:
            waited = self._serve(line) if served and not self._stages.is_done(name, inputs) else 0.0
            stage = self._stages.run(
                name, inputs, lambda folder: {**work(folder, line), "services_seconds": waited}
            )
            line.say("done before" if stage.reused else "")
        self._done[name] = stage

    def _serve(self, line: Line) -> float:
        """Starts the services unless they run, and returns how many seconds that took.

        The policy starts from the SFT model, or from what PPO has left when only its evaluation is missing.
        """
        if self._services is not None:
            return 0.0
        line.say("starting the services")
        started, learned, recipe = time.monotonic(), self._done.get("ppo"), self._recipe
        services = running(
            self._folder / "services",
            policy=str(learned.outputs["policy"]) if learned else self._model("sft"),
            reference=self._model("sft"),
            reward=self._done["export"].folder / "onnx",
            max_sequence_tokens=recipe.max_review_tokens + recipe.max_new_tokens,
            rows=recipe.rows,
        )
        self._services = self._running.enter_context(services)
        return time.monotonic() - started

    def _make_material(self, folder: Path, line: Line) -> Outputs:
        def progress(done: int, total: int) -> None:
            line.show(done / 1e6, total / 1e6, "MB downloaded")

        model = self._recipe.model(progress)
        codec = TextCodec.load(model)
        reviews = self._recipe.reviews(codec, self._seed, progress)
        write_material(reviews, self._recipe.sizes, codec, folder, self._seed)
        return {"model": model, "reviews": len(reviews)}

    def _sft(self, folder: Path, line: Line) -> Outputs:
        config = self._fit(folder, self._recipe.sft) | {
            "model": self._done["material"].outputs["model"],
            "data": (self._material.demonstrations,),
            "evaluation_data": (self._material.demonstrations_held_out,),
        }
        metrics = train_sft(parse(SftConfig, config, section="sft"), line)
        shutil.rmtree(folder / "checkpoints")  # the model is there: nothing will go on from them
        return dict(metrics)

    def _reward_model(self, folder: Path, line: Line) -> Outputs:
        config = self._fit(folder, self._recipe.reward_model) | {
            "model": self._model("sft"),
            "data": (self._material.rankings,),
            "evaluation_data": (self._material.rankings_held_out,),
            "normalise_with": (self._material.prompts,),
            "max_new_tokens": self._recipe.max_new_tokens,
            "temperature": self._recipe.temperature,
        }
        # Scores are asked for longer sequences than were ranked: prompt and longest response.
        config["max_sequence_tokens"] = self._recipe.max_review_tokens + self._recipe.max_new_tokens
        result = train_reward_model(parse(RewardModelConfig, config, section="reward_model"), line)
        shutil.rmtree(folder / "checkpoints")
        return {"version": result.version}

    def _export(self, folder: Path, line: Line) -> Outputs:
        return asdict(export_reward_model(self._model("reward-model"), folder / "onnx"))

    def _evaluate(self, folder: Path, line: Line) -> Outputs:
        recipe = self._recipe
        config = EvaluationConfig(
            prompts=(self._material.prompts_held_out,),
            model=self._model("sft"),
            max_new_tokens=recipe.max_new_tokens,
            temperature=recipe.temperature,
            kl_temperature=recipe.temperature,
            seed=self._seed,
            services=self._services or ServicesConfig(),
        )
        found = evaluate(config)
        found.write(folder / EVALUATION_FILE)
        return {"version": list(found.version)}

    def _evaluate_learned(self, folder: Path, line: Line) -> Outputs:
        """Evaluates what PPO has left; a policy that was lost since then serves the SFT model again."""
        learned = load_causal_lm(self._done["ppo"].outputs["policy"])
        with PolicyClient((self._services or ServicesConfig()).policy) as policy:
            served = policy.model().digest
        if served != state_digest(parameters_by_name(learned.model)):
            raise VersionMixError(
                "the policy service was restarted and no longer serves what PPO has learned; run the demo "
                "again, it goes on from here"
            )
        return self._evaluate(folder, line)

    def _ppo(self, folder: Path, line: Line) -> Outputs:
        recipe, services = self._recipe, self._services or ServicesConfig()
        settings = dict(recipe.ppo)
        settings |= {
            "seed": self._seed,
            "model": self._model("sft"),
            "value_model": self._model("reward-model"),
            "temperature": recipe.temperature,
            "services": services.model_dump(),
            "run": {**settings["run"], "folder": folder.parent, "name": folder.name},
            "rollout": {
                **settings["rollout"],
                "prompts": (self._material.prompts,),
                "max_new_tokens": recipe.max_new_tokens,
            },
            "server": self._server,
        }
        result = run_ppo(parse(PpoRunConfig, settings, section="ppo"), PpoLine(line))
        if result.state == "stopped":
            raise KeyboardInterrupt
        return {"policy": str(result.checkpoint / POLICY), "steps": result.step}

    @property
    def _server(self) -> dict[str, Any]:
        """Returns where the trainer's own server says which ports it has, beside those of the services."""
        return {"port_file": self._folder / "services" / "trainer.port.json"}

    @property
    def _material(self) -> Material:
        return Material.inside(self._done["material"].folder)

    def _model(self, name: str) -> str:
        """Returns the model folder that a stage has made."""
        return str(self._done[name].folder / "model")

    def _fit(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        """Returns a supervised stage's settings."""
        longest = self._recipe.max_review_tokens
        return settings | {
            "output": folder,
            "seed": self._seed,
            "max_sequence_tokens": longest,
            "server": self._server,
        }
