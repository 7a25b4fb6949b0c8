"""A lineage as a tree for people."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.text import Text
from rich.tree import Tree

from pilothouse.trainer.lineage_nodes import (
    BaseModel,
    DataFile,
    Ensemble,
    Missing,
    Origin,
    Ppo,
    RewardModel,
    Seen,
    Sft,
    Snapshot,
    Untrained,
)
from pilothouse.trainer.statistics import ends_told

_SHORT = 12  # digits of a digest
_MOST_POLICIES = 8
_WRONG = "yellow"


def tree(origin: Origin) -> Tree:
    """Returns the tree of a lineage."""
    top = Tree(_title(origin), guide_style="dim")
    _fill(top, origin)
    return top


def _title(origin: Origin) -> Text:
    match origin:
        case Ppo():
            version = "" if origin.version is None else f", version {origin.epoch}.{origin.version}"
            return _named(f"PPO, step {origin.step}{version}", origin.folder)
        case Sft():
            return _named("SFT", origin.folder)
        case RewardModel():
            member = f", member {origin.member}" if origin.member else ""
            return _named(f"reward model {_short(origin.version)}{member}", origin.folder)
        case Ensemble():
            how = f", {origin.combination}" if origin.combination else ""
            return _named(f"ensemble of {len(origin.members)}{how}", origin.folder)
        case BaseModel():
            return _named("base model", origin.folder)
        case Untrained():
            return _named("a rule or program, no trained model", origin.version)
        case Missing():
            return Text(f"missing: {origin.why}", style=_WRONG)
        case Seen():
            return Text.assemble(_named(origin.of, origin.folder), (" (described above)", "dim"))


def _fill(on: Tree, origin: Origin) -> None:
    """Adds what stands under a title."""
    match origin:
        case Ppo():
            _fill_ppo(on, origin)
        case Sft():
            _say(
                on, "trained", "" if origin.steps is None else f"{origin.steps} steps", f"seed {origin.seed}"
            )
            _add_data(on, origin.data)
            _hang(on, "started from", origin.policy)
        case RewardModel():
            _fill_reward_model(on, origin)
        case Ensemble():
            for member in origin.members:
                _hang(on, "member", member)
        case BaseModel():
            _say(on, "digest", origin.digest or "unknown")
        case Untrained() | Missing() | Seen():
            return
    _warn(on, origin.problems)


def _fill_ppo(on: Tree, run: Ppo) -> None:
    behind = run.experience
    if behind is not None:
        samples = f"{behind.samples} samples of {behind.prompts} prompts"
        _say(on, "learned from", samples, f"seed {run.seed}")
        if behind.first_version and behind.last_version:
            first, last = (
                f"{epoch}.{version}" for epoch, version in (behind.first_version, behind.last_version)
            )
            _say(on, "policy versions", f"{behind.policy_versions}, {first} to {last}")
    held = f" = {run.reference.folder}" if run.reference.folder else ", none of the models named here"
    _say(on, "held to", f"reference {_short(run.reference.digest)}{held}")
    _add_data(on, run.data)
    for scoring in run.rewards:
        _hang(on, f"scored by {_short(scoring.version)}", scoring.model, scoring.how)
    if run.value_model is not None:
        _hang(on, "value model from", run.value_model)
    _hang(on, "started from", run.policy)


def _fill_reward_model(on: Tree, model: RewardModel) -> None:
    if model.labels is not None:
        _say(on, "learned from", _counts(model.labels, ("rankings", "pairs", "prompts", "raters")))
    if model.accuracy is not None:
        ends = ends_told(model.accuracy, ".1%")
        _say(on, "held-out accuracy", f"{model.accuracy['mean']:.1%} ({ends})")
    _say(on, "trained", model.loss, "" if model.seed is None else f"seed {model.seed}")
    _add_data(on, model.data)
    _hang(on, "started from", model.policy)


def _add_data(on: Tree, files: Sequence[DataFile]) -> None:
    for file in files:
        state = (f" ({file.state})", _WRONG if file.problems else "dim")
        digest = f" {_short(file.digest)}" if file.digest else ""
        branch = on.add(Text.assemble((f"{file.part}: ", "dim"), (file.path, "cyan"), digest, state))
        if file.snapshot is not None:
            _add_snapshot(branch, file.snapshot)
        for who in file.policies[:_MOST_POLICIES]:
            run = f" of {who.run}" if who.run else ""
            _say(branch, "answers", f"{who.answers} by {who.model} version {who.version}{run}")
        if len(file.policies) > _MOST_POLICIES:
            _say(branch, "answers", f"of {len(file.policies) - _MOST_POLICIES} more; --json has all")
        _warn(branch, file.problems)


def _add_snapshot(on: Tree, snapshot: Snapshot) -> None:
    names = ("rankings", "corrections", "demonstrations", "raters", "tasks", "prompts")
    counts = {name: count for name, count in snapshot.counts.items() if count}
    queues = f"queues {', '.join(snapshot.queues)}" if snapshot.queues else ""
    _say(on, "snapshot", f"{_short(snapshot.digest)}, {snapshot.split}", _counts(counts, names), queues)
    if snapshot.first_submitted_at is not None and snapshot.last_submitted_at is not None:
        _say(on, "judged", f"{_time(snapshot.first_submitted_at)} to {_time(snapshot.last_submitted_at)}")
    for name, measure in snapshot.agreement.items():
        if measure["value"] is not None:
            _say(on, name, f"{measure['value']:.3f}")


def _hang(on: Tree, label: str, origin: Origin, how: str = "") -> None:
    """Adds something that is behind, under words that say what it was for, and how it was recognised."""
    branch = on.add(Text.assemble((f"{label}: ", "dim"), _title(origin)))
    if how:
        _say(branch, "recognised", how)
    _fill(branch, origin)


def _say(on: Tree, name: str, *parts: str) -> None:
    on.add(Text.assemble((f"{name}: ", "dim"), " · ".join(part for part in parts if part)))


def _warn(on: Tree, problems: Sequence[str]) -> None:
    for problem in problems:
        on.add(Text(problem, style=_WRONG))


def _named(what: str, folder: str) -> Text:
    return Text.assemble((f"{what} ", "bold"), (folder, "cyan"))


def _counts(counts: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in names if counts.get(name) is not None)


def _short(digest: str) -> str:
    return digest[: digest.find(":") + 1 + _SHORT]


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
