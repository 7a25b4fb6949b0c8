"""The state machine of the loop. A turn's states in their order; each leaves a folder of its own.

=============  ===========================================================================================
``collect``    the policy answers prompts, the answers are queued for people
``wait``       until enough new rankings have come in
``snapshot``   all rankings of now, as files: to train on, and held out by prompt
``candidate``  a reward model, or an ensemble, is trained on them
``compare``    candidate and serving model score the held-out rankings; live scores are compared meanwhile
``decide``     the candidate serves from now on, by a hot swap that drops no request, or is dropped
``gold``       a reward model of the held-out rankings alone, as a check that nothing is trained against
``improve``    PPO against the serving reward model, watched by guards
``measure``    the new policy on held-out prompts
=============  ===========================================================================================

A state that is done is not done again: a loop that was ended in the middle goes on there (`Stages`). What a
state depends on, its settings and every state before it, is part of its identity.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from pilothouse.client import FeedbackClient, RewardModelsClient
from pilothouse.errors import ConfigError
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import load_causal_lm, parameters_by_name, state_digest
from pilothouse.trainer.clients import Clients
from pilothouse.trainer.data.records import read_rankings
from pilothouse.trainer.display import Display, Line
from pilothouse.trainer.durable import append_rows
from pilothouse.trainer.evaluate import evaluate
from pilothouse.trainer.evaluation_config import EvaluationConfig
from pilothouse.trainer.fit_config import RewardModelConfig
from pilothouse.trainer.learner_files import POLICY
from pilothouse.trainer.online import candidates, collecting
from pilothouse.trainer.online.config import LoopConfig
from pilothouse.trainer.online.guards import GoldScores, Guards
from pilothouse.trainer.online.history import HISTORY, Standing
from pilothouse.trainer.online.inputs import STATES, like_rollouts, settings_of
from pilothouse.trainer.ppo_display import PpoLine
from pilothouse.trainer.ppo_run import run_ppo
from pilothouse.trainer.push_all import NewWeights
from pilothouse.trainer.reward_model import score_sequences
from pilothouse.trainer.run_config import PpoRunConfig
from pilothouse.trainer.stages import Outputs, Stage, Stages, identity

EVALUATION = "evaluation.json"
"""File of every judged response in the folder of ``measure``."""

READINGS = "guards.jsonl"
"""File of what the guards read, in the folder of ``improve``."""


class Turn:
    """One turn with people."""

    def __init__(
        self,
        config: LoopConfig,
        reward_model: RewardModelConfig,
        ppo: PpoRunConfig,
        display: Display,
        before: Standing,
    ) -> None:
        """Takes over where the turn before has left things; the other arguments are those of `Loop`."""
        self._config, self._reward_model, self._ppo, self._display = config, reward_model, ppo, display
        self._before = before
        self._number = before.turn + 1
        self._folder = config.folder / f"turn-{self._number}"
        self._stages = Stages(self._folder)
        self._done: dict[str, Stage] = {}
        self._identity = ""

    def run(self) -> Standing:
        """Runs every state that is not done yet, and returns where things stand then."""
        with ExitStack() as stack:
            self._clients = stack.enter_context(Clients.connected(self._ppo))
            timeout = self._ppo.services.call_timeout_seconds
            self._feedback = stack.enter_context(
                FeedbackClient(self._config.feedback, timeout_seconds=timeout)
            )
            self._models = stack.enter_context(
                RewardModelsClient(self._config.reward_models, timeout_seconds=timeout)
            )
            for state in STATES:
                self._do(state, getattr(self, f"_{state}"))
        return self._finish()

    def _do(self, state: str, work: Callable[[Path, Line], Outputs]) -> None:
        inputs = {
            "turn": self._number,
            "before": self._before.digest,
            "earlier": [[stage.digest, stage.outputs] for stage in self._done.values()][-1:],
            "settings": settings_of(state, self._config, self._reward_model, self._ppo),
        }
        self._identity = identity(state, inputs)
        with self._display.stage(f"turn {self._number}: {state}") as line:
            self._done[state] = self._stages.run(state, inputs, lambda folder: work(folder, line))

    def _collect(self, folder: Path, line: Line) -> Outputs:
        self._serve_policy(self._before.policy)
        collecting.prepare_queue(self._config, self._feedback)
        return collecting.collect(
            self._config,
            self._number,
            f"policy of turn {self._number - 1}",
            self._clients.policy,
            self._clients.reward,
            self._feedback,
            line.show,
            max_new_tokens=self._ppo.rollout.max_new_tokens,
        )

    def _wait(self, folder: Path, line: Line) -> Outputs:
        if page := self._feedback.page_address():
            line.say(f"people rank at {page}")
        collecting.wait(self._config, self._feedback, self._before.rankings, line.show)
        return {}

    def _snapshot(self, folder: Path, line: Line) -> Outputs:
        rankings = self._feedback.progress(self._config.queue).rankings
        taken = collecting.take(self._config, self._feedback, folder)
        return {"rankings": rankings, "manifests": list(taken.manifests)}

    def _candidate(self, folder: Path, line: Line) -> Outputs:
        # Of a name of its own: what serves may have come out of an earlier attempt at this turn.
        name = f"{candidates.PREFIX}{self._number}-{self._identity[:8]}"
        config = self._fit(self._config.models_folder / name, self._taken.train)
        models = candidates.train_candidate(config, line)
        return {"models": [str(model) for model in models]}

    def _compare(self, folder: Path, line: Line) -> Outputs:
        line.say("scoring held-out rankings")
        version = candidates.stage(
            self._config, self._candidates, self._reward_model.std_factor, self._models
        )
        verdict = candidates.compare(
            self._taken.held_out, self._config.model, version, self._clients.reward, self._models
        )
        return verdict.to_json()

    def _decide(self, folder: Path, line: Line) -> Outputs:
        found = self._done["compare"].outputs
        candidate, serving = found["candidate_version"], self._serving
        if serving == candidate:
            return {"promoted": True, "version": candidate, **found}  # decided before the loop was ended
        if serving != found["serving_version"]:
            line.say("another model serves since the comparison")
            found = self._compare(folder, line)
        least = found["serving_accuracy"]["mean"] + self._config.promotion_margin
        promoted = found["candidate_accuracy"]["mean"] >= least
        # Staged again: the reward service may have been restarted since.
        candidates.stage(self._config, self._candidates, self._reward_model.std_factor, self._models)
        if promoted:
            self._models.promote(candidate, expected_serving_version=serving)
        else:
            self._models.drop(candidate)
        line.say(
            f"{'promoted' if promoted else 'dropped'} {candidate[:12]}: right on "
            f"{found['candidate_accuracy']['mean']:.1%} of held-out pairs, serving {serving[:12]} on "
            f"{found['serving_accuracy']['mean']:.1%}"
        )
        return {"promoted": promoted, "version": candidate if promoted else serving, **found}

    def _gold(self, folder: Path, line: Line) -> Outputs:
        least = self._config.gold_min_rankings
        count = len(read_rankings(self._taken.held_out))
        if not least or count < least:
            return {"model": "", "rankings": count}
        config = self._fit(folder, self._taken.held_out).model_copy(
            update={"members": 1, "evaluation_data": ()}
        )
        [model] = candidates.train_candidate(config, line)
        return {"model": str(model), "rankings": count}

    def _improve(self, folder: Path, line: Line) -> Outputs:
        version = self._serving  # not what was decided, if an operator has gone back since
        value_model = self._before.value_model
        if version == self._done["decide"].outputs["candidate_version"]:
            value_model = str(self._candidates[0])
        config = self._ppo.model_copy(
            update={
                "model": self._before.policy,
                "value_model": value_model,
                "run": self._ppo.run.model_copy(update={"folder": folder.parent, "name": folder.name}),
            }
        )
        guards = Guards(self._config.guards, PpoLine(line), folder / READINGS, self._gold_scores())
        result = run_ppo(config, guards)
        if result.by_signal:
            raise KeyboardInterrupt
        alarms = [{"name": a.name, "step": a.step, "message": a.message} for a in guards.alarms]
        return {
            "policy": str(result.checkpoint / POLICY),
            "value_model": value_model,
            "reward_version": version,
            "steps": result.step,
            "alarms": alarms,
        }

    def _measure(self, folder: Path, line: Line) -> Outputs:
        line.say("answering held-out prompts")
        rollout = self._ppo.rollout
        if not self._config.held_out_prompts:
            raise ConfigError("loop.held_out_prompts names no file; give prompts that are not trained on")
        self._serve_policy(self._done["improve"].outputs["policy"])
        found = evaluate(
            EvaluationConfig(
                prompts=self._config.held_out_prompts,
                model=self._config.model,
                max_prompt_tokens=rollout.max_prompt_tokens,
                max_new_tokens=rollout.max_new_tokens,
                temperature=self._ppo.temperature,
                kl_temperature=self._ppo.temperature,
                seed=self._config.seed,
                services=self._ppo.services,
            )
        )
        found.write(folder / EVALUATION)
        return {
            name: asdict(found.interval(name))
            for name in ("score", "independent", "kl", "tokens", "finished")
        }

    def _finish(self) -> Standing:
        """Writes the turn into the history: from then on it is done."""
        improved = self._done["improve"].outputs
        standing = Standing(
            self._number,
            improved["policy"],
            improved["value_model"],
            self._done["snapshot"].outputs["rankings"],
            self._done["measure"].digest,
        )
        more = {
            "reward_version": improved["reward_version"],
            "promoted": self._done["decide"].outputs["promoted"],
            "finished_at": time.time(),
            "states": {name: dict(stage.outputs) for name, stage in self._done.items()},
            "seconds": {name: stage.seconds for name, stage in self._done.items()},
        }
        append_rows(self._config.folder / HISTORY, [asdict(standing) | more])
        return standing

    def _serve_policy(self, folder: str) -> None:
        """Makes sure that the policy service serves this policy: it may have been restarted."""
        model = load_causal_lm(folder).model
        tensors = parameters_by_name(model)
        served = self._clients.weights.states()
        if {state.digest for state in served} != {state_digest(tensors)}:
            arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
            epoch = max(max(state.epoch, state.fence) for state in served) + 1
            self._clients.weights.push(NewWeights(tensors=arrays, run="loop", epoch=epoch, version=1))

    def _fit(self, output: Path, data: Path) -> RewardModelConfig:
        """Returns the run of a reward model of this turn."""
        return like_rollouts(self._reward_model, self._config, self._ppo).model_copy(
            update={
                "model": self._config.model,
                "output": output,
                "data": (data,),
                "evaluation_data": (self._taken.held_out,),
                "seed": self._reward_model.seed + self._number - 1,
            }
        )

    def _gold_scores(self) -> GoldScores | None:
        folder = self._done["gold"].outputs["model"]
        if not folder:
            return None
        model = ScalarModel.load(Path(folder))
        return lambda sequences: score_sequences(model, sequences, self._reward_model.micro_batch_tokens)

    @property
    def _taken(self) -> collecting.Snapshot:
        stage = self._done["snapshot"]
        return collecting.Snapshot.inside(stage.folder, stage.outputs["manifests"])

    @property
    def _candidates(self) -> list[Path]:
        """Returns the folders of the members of this turn's candidate."""
        return [Path(model) for model in self._done["candidate"].outputs["models"]]

    @property
    def _serving(self) -> str:
        return self._models.models().serving.reward_version
