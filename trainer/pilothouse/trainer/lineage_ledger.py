"""What a run's ledger says of the samples from which a checkpoint has learned."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pilothouse.trainer.durable import read_rows
from pilothouse.trainer.lineage_nodes import Experience

Version = tuple[int, int]


def experience(file: Path, step: int) -> tuple[Experience | None, tuple[str, ...], list[str]]:
    """Reads a ledger up to a checkpoint.

    Args:
        file: ``ledger.jsonl``.
        step: Of the checkpoint; samples of later steps do not count.

    Returns:
        What is behind the checkpoint (None without a ledger), the versions of the reward models that scored
        it, and what is wrong.
    """
    if not file.is_file():
        return None, (), [f"{file.name} is missing, so its samples cannot be counted"]
    reader, problems = _Reader(), list[str]()
    try:
        for row in read_rows(file):
            reader.read(row)
    except (ValueError, KeyError, TypeError) as error:
        problems.append(f"{file.name} cannot be read on: {error!r}")
    last = max(reader.trained, default=0)
    if last < step:
        problems.append(f"{file.name} ends at step {last}, the checkpoint is of step {step}")
    samples = [name for number, names in reader.trained.items() if number <= step for name in names]
    found = reader.experience(samples)
    return (
        found,
        tuple(dict.fromkeys(reader.rewards[name] for name in samples if name in reader.rewards)),
        problems,
    )


class _Reader:
    """Folds rows into what still counts. Samples that are drawn again have the same names."""

    def __init__(self) -> None:
        self.trained: dict[int, list[str]] = {}  # by step
        self.rewards: dict[str, str] = {}  # by sample
        self._prompts: dict[str, str] = {}  # by draw, as it stands in a sample's name
        self._versions: dict[str, set[Version]] = {}  # by sample

    def read(self, row: dict[str, Any]) -> None:
        match row["event"]:
            case "drawn":
                self._prompts.update({f"{number:08d}": str(prompt) for number, prompt, _seed in row["draws"]})
            case "generated":
                for name, spans in row["samples"].items():
                    self._versions[name] = {(int(epoch), int(version)) for epoch, version, _ in spans}
            case "scored":
                self.rewards.update(dict.fromkeys(row["samples"], str(row["reward_version"])))
            case "trained":
                self.trained[int(row["step"])] = list(row["samples"])
            case "rewind":
                self.trained = {step: names for step, names in self.trained.items() if step <= row["step"]}

    def experience(self, samples: Iterable[str]) -> Experience:
        names = list(samples)
        versions = sorted(set[Version]().union(*(self._versions.get(name, set()) for name in names)))
        return Experience(
            samples=len(names),
            prompts=len({self._prompts.get(name.partition(".")[0], name) for name in names}),
            policy_versions=len(versions),
            first_version=versions[0] if versions else None,
            last_version=versions[-1] if versions else None,
        )
