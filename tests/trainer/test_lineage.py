"""Lineages of real, tiny runs: SFT, reward model from an export, PPO, and a second generation of both."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from tests.trainer.loop.conftest import Cluster, Watcher
from typer.testing import CliRunner

from pilothouse.config import parse
from pilothouse.errors import InvalidDataError, NotFoundError
from pilothouse.feedback.formats.exporting import export
from pilothouse.feedback.formats.options import ExportOptions, Format, Split
from pilothouse.feedback.quality.intervals import Estimate
from pilothouse.feedback.records import AnswerRecord, PromptRecord, RankingRecord, Source
from pilothouse.models.export import export_reward_model
from pilothouse.models.load import load_causal_lm, parameters_by_name, state_digest
from pilothouse.models.reward_files import ensemble_version, file_digest, read_manifest
from pilothouse.reward.backends.combine import Combination
from pilothouse.trainer.config import OptimiserConfig, RewardModelConfig, SftConfig
from pilothouse.trainer.control import RunControl, StopSignals
from pilothouse.trainer.ensemble import train_ensemble
from pilothouse.trainer.lineage import trace
from pilothouse.trainer.lineage_command import lineage
from pilothouse.trainer.lineage_ledger import experience
from pilothouse.trainer.lineage_nodes import (
    BaseModel,
    Ensemble,
    Missing,
    Ppo,
    RewardModel,
    Seen,
    Sft,
    Untrained,
)
from pilothouse.trainer.lineage_scorers import COMBINATIONS
from pilothouse.trainer.lineage_tree import tree
from pilothouse.trainer.ppo_run import prepared
from pilothouse.trainer.reward_model import train_reward_model
from pilothouse.trainer.run_config import PpoRunConfig
from pilothouse.trainer.run_dir import RunDir
from pilothouse.trainer.sft import train_sft

ALPHA = {"alpha": Estimate(0.7, 0.6, 0.8)}
TINY_FIT = {"batch_size": 8, "max_sequence_tokens": 32, "tensorboard": False}
LEARNING = OptimiserConfig(learning_rate=1e-3)


def _records(version: int) -> list[RankingRecord]:
    """Twelve tasks, each ranked by two people, answered by weights of one version."""
    found = []
    for task in range(12):
        answers = tuple(
            AnswerRecord(text=text, source=Source(model="policy", run="r", version=version))
            for text in (" good", " bad", " long")
        )
        for rater in ("otter", "heron"):
            found.append(
                RankingRecord(
                    id=f"{task}-{rater}",
                    task=f"task-{task}",
                    queue="loop",
                    prompt=PromptRecord(text=f" film {task} was"),
                    answers=answers,
                    ranks=(1, 3, 2),
                    order=(0, 1, 2),
                    rater=rater,
                    submitted_at=1.7e9 + task,
                )
            )
    return found


def _export(folder: Path, version: int) -> Path:
    options = ExportOptions(format=Format.RANKING, split=Split.ALL)
    made = export(_records(version), [], options, agreement=ALPHA)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(made.manifest)
    for file in made.files:
        (folder / file.name).write_bytes(b"".join(file.chunks))
    return folder / "data.jsonl"


def _sft(root: Path) -> Path:
    data = root / "demonstrations.jsonl"
    data.write_text("".join(json.dumps({"text": f" the film {word}"}) + "\n" for word in ("a", "b")) * 8)
    values = {"data": (data,), "output": root / "sft", "optimiser": LEARNING, **TINY_FIT}
    train_sft(SftConfig.model_validate(values))
    return root / "sft" / "model"


def _reward_model(root: Path, name: str, model: Path, data: Path, **changes: Any) -> Path:
    values = {"model": str(model), "data": (data,), "evaluation_data": (data,), "output": root / name}
    more: dict[str, Any] = {"optimiser": LEARNING, "normalise_samples": 16, **TINY_FIT}
    config = RewardModelConfig.model_validate(values | more | changes)
    (train_reward_model if config.members == 1 else train_ensemble)(config)
    return root / name / "model"


def _ppo(root: Path, name: str, model: Path, value: Path | None, version: str, reference: str) -> Path:
    prompts = root / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"the film {word} was"}) + "\n" for word in "abcdefg"))
    values = {
        "total_steps": 2,
        "epochs": 1,
        "model": str(model),
        "value_model": "" if value is None else str(value),
        "policy": {"learning_rate": 1e-3},
        "run": {"name": name, "folder": root, "checkpoint_every_steps": 1, "tensorboard": False},
        "rollout": {"prompts": [prompts], "prompts_per_step": 4, "max_new_tokens": 4},
    }
    config = parse(PpoRunConfig, values, section="ppo")
    cluster = Cluster()
    cluster.reward.version, cluster.reference.digest = version, reference
    control = RunControl(name, "ppo", 2)
    with (
        RunDir(root / name) as run_dir,
        prepared(config, run_dir, cluster.clients, control, StopSignals(control), Watcher()) as loop,
    ):
        return loop.run().checkpoint


def _digest(model: Path) -> str:
    return state_digest(parameters_by_name(load_causal_lm(model).model))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SFT → reward model from an export → PPO → second reward model → PPO from the first one's checkpoint."""
    root = tmp_path_factory.mktemp("project")
    sft = _sft(root)
    first = _reward_model(root, "reward-1", sft, _export(root / "snapshot-1", 0))
    reference = _digest(sft)
    start = _ppo(root, "ppo-1", sft, first, read_manifest(first).version, reference) / "policy"
    second = _reward_model(root, "reward-2", sft, _export(root / "snapshot-2", 2), seed=1)
    export_reward_model(second, root / "reward-2" / "onnx")
    _ppo(root, "ppo-2", start, second, read_manifest(root / "reward-2" / "onnx").version, reference)
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil, at the place of the original: paths in settings are absolute."""
    kept = tmp_path / "kept"
    shutil.copytree(made, kept)
    return made


@pytest.fixture(autouse=True)
def _restore(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    yield
    if "project" in request.fixturenames:
        made = request.getfixturevalue("made")
        shutil.rmtree(made)
        shutil.copytree(tmp_path / "kept", made)


def _newest(run: Path) -> Ppo:
    found = trace(run)
    assert isinstance(found, Ppo)
    return found


def _scorer(run: Ppo) -> RewardModel:
    [scoring] = run.rewards
    assert isinstance(scoring.model, RewardModel)
    return scoring.model


def test_two_generations_are_named_completely(made: Path) -> None:
    second = _newest(made / "ppo-2" / "checkpoints" / "step_00000002")
    assert (second.checkpoint, second.step, second.version) == ("step_00000002", 2, 2)
    assert second.problems == ()
    assert second.experience is not None
    assert (second.experience.samples, second.experience.policy_versions) == (8, 2)
    assert (second.experience.first_version, second.experience.last_version) == ((1, 0), (1, 1))
    assert second.experience.prompts == 7
    assert second.reference.folder == str(made / "sft" / "model")
    scorer = _scorer(second)
    assert scorer.folder == str(made / "reward-2" / "model")
    assert second.rewards[0].how == f"{made / 'reward-2' / 'onnx'} has this version and is its export"
    assert (scorer.seed, scorer.problems) == (1, ())
    assert isinstance(scorer.policy, Sft)
    assert isinstance(scorer.policy.policy, BaseModel)
    assert scorer.policy.policy.digest is not None

    first = second.policy
    assert isinstance(first, Ppo)
    assert (first.folder, first.checkpoint) == (str(made / "ppo-1"), "step_00000002")
    assert _scorer(first).version == read_manifest(made / "reward-1" / "model").version
    assert isinstance(first.policy, Seen)
    assert isinstance(second.value_model, Seen)


def test_a_reward_model_names_its_snapshot_labels_and_whose_answers_they_judge(made: Path) -> None:
    model = trace(made / "reward-2" / "model")
    assert isinstance(model, RewardModel)
    assert model.labels == {"rankings": 24, "pairs": 72, "prompts": 12, "raters": 2, "weight": 24.0}
    assert model.accuracy is not None
    training, held_out = model.data
    assert (training.part, training.state, held_out.part) == ("training", "as trained", "held-out")
    snapshot = training.snapshot
    manifest = json.loads((made / "snapshot-2" / "manifest.json").read_text())
    assert snapshot is not None
    assert snapshot.digest == manifest["digest"]
    assert (snapshot.counts["rankings"], snapshot.counts["raters"], snapshot.counts["tasks"]) == (24, 2, 12)
    assert (snapshot.first_submitted_at, snapshot.last_submitted_at) == (1.7e9, 1.7e9 + 11)
    assert snapshot.agreement["alpha"]["value"] == 0.7
    assert [asdict(one) for one in training.policies] == [
        {"model": "policy", "run": "r", "version": 2, "answers": 36}
    ]


def test_a_policy_folder_a_checkpoint_and_its_run_have_one_lineage(made: Path) -> None:
    run = made / "ppo-1"
    checkpoint = run / "checkpoints" / "step_00000002"
    assert trace(run) == trace(checkpoint) == trace(checkpoint / "policy")
    earlier = _newest(run / "checkpoints" / "step_00000001")
    assert earlier.experience is not None
    assert (earlier.step, earlier.experience.samples) == (1, 4)


def test_without_its_manifest_a_file_is_still_known_by_the_card(project: Path) -> None:
    (project / "snapshot-1" / "manifest.json").unlink()
    model = trace(project / "reward-1")
    assert isinstance(model, RewardModel)
    assert (model.data[0].state, model.data[0].snapshot) == ("as trained", None)
    assert model.labels is not None


def test_a_tampered_file_is_named_and_its_snapshot_is_still_the_one_trained_on(project: Path) -> None:
    data = project / "snapshot-1" / "data.jsonl"
    trained = file_digest(data)
    data.write_text(data.read_text().replace(" good", " evil"))
    model = trace(project / "reward-1")
    assert isinstance(model, RewardModel)
    file = model.data[0]
    assert (file.state, file.trained_digest, file.policies) == ("changed", trained, ())
    assert file.snapshot is not None
    assert any("not those that were trained on" in problem for problem in file.problems)


def test_a_manifest_of_another_export_vouches_for_nothing(project: Path) -> None:
    shutil.copy(project / "snapshot-2" / "manifest.json", project / "snapshot-1" / "manifest.json")
    model = trace(project / "reward-1")
    assert isinstance(model, RewardModel)
    assert (model.data[0].state, model.data[0].snapshot) == ("as trained", None)
    assert any("other bytes" in problem for problem in model.data[0].problems)


def test_an_edited_manifest_vouches_for_nothing(project: Path) -> None:
    file = project / "snapshot-1" / "manifest.json"
    body = json.loads(file.read_text())
    body["files"][0]["size_bytes"] += 1
    file.write_text(json.dumps(body))
    model = trace(project / "reward-1")
    assert isinstance(model, RewardModel)
    assert model.data[0].snapshot is None
    assert any("was edited" in problem for problem in model.data[0].problems)


def test_a_deleted_file_keeps_its_digest_and_its_snapshot(project: Path) -> None:
    (project / "snapshot-1" / "data.jsonl").unlink()
    model = trace(project / "reward-1")
    assert isinstance(model, RewardModel)
    assert (model.data[0].state, model.data[0].digest) == ("missing", None)
    assert model.data[0].snapshot is not None


def test_what_was_moved_is_named_as_missing(project: Path) -> None:
    (project / "reward-1").rename(project.parent / "elsewhere")
    (project / "sft").rename(project.parent / "gone")
    try:
        run = _newest(project / "ppo-1")
    finally:
        shutil.rmtree(project.parent / "elsewhere")
        shutil.rmtree(project.parent / "gone")
    [scoring] = run.rewards
    assert isinstance(scoring.model, Missing)
    assert scoring.model.why == f"scored by version {scoring.version}; its files are not known here"
    assert isinstance(run.policy, Missing)
    assert isinstance(run.value_model, Missing)
    assert run.reference.folder is None
    assert len(run.reference.digest) == 64


def test_a_pruned_checkpoint_is_followed_through_its_run(project: Path) -> None:
    shutil.rmtree(project / "ppo-1" / "checkpoints" / "step_00000002")
    first = _newest(project / "ppo-2").policy
    assert isinstance(first, Ppo)
    assert first.problems == ("its checkpoint step_00000002 is not there any more",)
    assert (first.step, first.version) == (2, None)
    assert first.experience is not None
    assert first.experience.samples == 8
    assert _scorer(first).folder == str(project / "reward-1" / "model")
    with pytest.raises(NotFoundError, match="there is no folder"):
        trace(project / "ppo-1" / "checkpoints" / "step_00000002")


def test_a_broken_checkpoint_is_not_believed(project: Path) -> None:
    (project / "ppo-1" / "checkpoints" / "step_00000002" / "learner.json").write_text("{}")
    named = _newest(project / "ppo-1" / "checkpoints" / "step_00000002")
    assert "is not what was written" in named.problems[0]
    assert (named.step, named.version) == (2, None)
    newest = _newest(project / "ppo-1")
    assert (newest.checkpoint, len(newest.problems)) == ("step_00000001", 1)


def test_a_project_that_moved_as_a_whole_is_found_by_its_relative_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tmp_path / "before"
    before.mkdir()
    monkeypatch.chdir(before)
    Path("runs").mkdir()
    sft = _sft(Path("runs"))
    reward = _reward_model(Path("runs"), "reward", sft, _export(Path("data/snapshot"), 0))
    _ppo(Path("runs"), "ppo", sft, reward, read_manifest(reward).version, _digest(sft))
    monkeypatch.chdir(tmp_path)
    after = tmp_path / "after"
    before.rename(after)
    run = _newest(after / "runs" / "ppo")
    assert _scorer(run).folder == str(after / "runs" / "reward" / "model")
    assert _scorer(run).data[0].state == "as trained"
    assert run.reference.folder == str(after / "runs" / "sft" / "model")


def test_an_ensemble_is_recognised_by_its_members(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    _reward_model(root, "turn-1", Path("tiny"), _export(root / "snapshot", 1), members=2)
    folders = [root / "turn-1" / f"member-{number}" / "model" for number in (1, 2)]
    version = ensemble_version("mean_minus_std", 1.0, [read_manifest(one).version for one in folders])
    checkpoint = _ppo(root, "ppo", Path("tiny"), folders[0], version, _digest(Path("tiny")))
    run = _newest(checkpoint)
    ensemble = run.rewards[0].model
    assert isinstance(ensemble, Ensemble)
    assert (ensemble.version, ensemble.combination) == (version, "mean_minus_std")
    assert [one.folder for one in ensemble.members if isinstance(one, RewardModel)] == list(map(str, folders))
    assert [one.member for one in ensemble.members if isinstance(one, RewardModel)] == [1, 2]
    assert run.reference.folder == "tiny"
    alone = trace(root / "turn-1")
    assert isinstance(alone, Ensemble)
    assert (len(alone.members), alone.version) == (2, "")


def test_the_version_of_an_ensemble_is_the_reward_services() -> None:
    from pilothouse.reward.backends.composite import COMPOSITE, Composite

    class _Part:
        def __init__(self, version: str) -> None:
            self.name, self.weight, self.backend = "x", 1.0, self
            self.version = version

    for name in COMBINATIONS:
        combination = Combination(name, 0.5)  # type: ignore[arg-type]
        made = Composite([_Part("v1"), _Part("v2")], COMPOSITE, combination)  # type: ignore[list-item]
        factor = 0.5 if name == "mean_minus_std" else 0.0
        assert ensemble_version(name, factor, ["v1", "v2"]) == made.version


def test_a_reward_model_that_stands_alone_tells_what_its_card_says(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "reward-1" / "model", tmp_path / "copied")
    model = trace(tmp_path / "copied")
    assert isinstance(model, RewardModel)
    assert model.labels is not None
    assert isinstance(model.policy, Missing)
    assert (model.data[0].path, model.data[0].state) == ("data.jsonl", "missing")
    assert model.data[0].trained_digest == file_digest(made / "snapshot-1" / "data.jsonl")


def test_rules_are_no_missing_model(tmp_path: Path) -> None:
    run = _newest(_ppo(tmp_path, "ppo", Path("tiny"), None, "rules:abc", "d1"))
    assert run.rewards[0].model == Untrained(version="rules:abc")
    console = Console(width=200, record=True)
    console.print(tree(run))
    told = console.export_text()
    assert "a rule or program, no trained model rules:abc" in told
    assert run.value_model is None


def test_runs_that_name_each_other_end(project: Path) -> None:
    file = project / "sft" / "config.json"
    body = json.loads(file.read_text())
    file.write_text(json.dumps(body | {"model": str(project / "ppo-1")}))
    found = trace(project / "sft")
    assert isinstance(found, Sft)
    assert isinstance(found.policy, Ppo)
    assert isinstance(found.policy.policy, Seen)


def test_rewound_steps_do_not_count(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"event": "drawn", "draws": [[0, "p0", 1], [1, "p1", 2]]}]
    for step, name, version in ((1, "00000000.0", "v1"), (2, "00000001.0", "v2")):
        rows += [
            {"event": "generated", "samples": {name: [[1, step - 1, 4]]}},
            {"event": "scored", "reward_version": version, "samples": [name]},
            {"event": "trained", "step": step, "version": step - 1, "digest": "", "samples": [name]},
        ]
    rows.append({"event": "rewind", "step": 1, "next_draw": 1, "epoch": 2, "why": "resumed"})
    file = tmp_path / "ledger.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, versions, problems = experience(file, 2)
    assert found is not None
    assert (found.samples, found.prompts, versions) == (1, 1, ("v1",))
    assert problems == ["ledger.jsonl ends at step 1, the checkpoint is of step 2"]
    assert experience(tmp_path / "none.jsonl", 2)[0] is None


@pytest.mark.parametrize("make", [lambda folder: folder / "none", lambda folder: folder])
def test_what_is_no_run_is_refused_with_what_to_give(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises((NotFoundError, InvalidDataError), match="give the folder of a run"):
        trace(make(tmp_path))


def test_the_command_shows_a_tree_and_one_json_document(made: Path) -> None:
    app = typer.Typer()
    app.command()(lineage)
    shown = CliRunner().invoke(app, [str(made / "ppo-2")], catch_exceptions=False)
    assert shown.exit_code == 0
    for words in (
        "PPO, step 2",
        "24 rankings",
        "36 by policy version 2 of r",
        "described above",
        "base model",
    ):
        assert words in shown.stdout
    told = CliRunner().invoke(app, [str(made / "ppo-2"), "--json"], catch_exceptions=False)
    body = json.loads(told.stdout)
    assert body["rewards"][0]["model"]["kind"] == "reward-model"
    assert body["policy"]["rewards"][0]["model"]["data"][0]["snapshot"]["counts"]["rankings"] == 24
