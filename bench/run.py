"""``make bench``: us and the peers side by side, in turn, on equal work; writes bench/results/latest.json."""

import argparse
import json
import platform
import statistics
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench import feedback
from bench.compare import Row, interleave, speedup
from bench.limits import GemmFloor, linear_shapes, loopback_seconds
from bench.memory import PeakMemory
from bench.worker import ROOT, Worker
from bench.workload import requests
from pilothouse.trainer.demo.packages import smollm2_folder

PEER_PYTHON = ROOT / ".venvs/trl/bin/python"
RESULTS = ROOT / "bench/results/latest.json"
PARTIAL = RESULTS.with_name("partial.json")
"""Rows so far; becomes `RESULTS` when all are there, so that those were always measured together."""
PARTS = ["generate", "push", "ppo", "feedback"]
LOGPROB_TOLERANCE = 1e-4  # nats, float32
GENERATION = [(1, True, 1.2), (8, True, 1.5), (32, True, 1.5), (8, False, None), (32, False, None)]
PPO = [("equal", 1.25, 2), ("ragged", 1.5, 1)]
"""Profile, goal, and how many times ``--pairs`` it takes: a row near its goal takes more."""
MACHINE = f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total >> 30} GiB, {platform.machine()}"
console = Console(width=None if Console().is_terminal else 120)


def main() -> None:
    """Runs the chosen parts and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs of each row")
    arguments = parser.parse_args()
    rows = []
    for row in measure(arguments.parts, str(smollm2_folder()), arguments.pairs):
        rows.append(row)
        save(rows)  # row by row: what was measured survives an interruption
    whole = set(arguments.parts) == set(PARTS)
    written = PARTIAL.replace(RESULTS) if whole else PARTIAL
    show(rows)
    console.print(f"written to {written.relative_to(ROOT)}")


def measure(parts: Sequence[str], folder: str, pairs: int) -> Iterator[Row]:
    """Yields the rows of the chosen parts as they are measured."""
    if {"generate", "push"} & set(parts):
        with Worker("bench.ours.policy", folder) as ours:
            if "generate" in parts:
                floor = GemmFloor(linear_shapes(576, 192, 1536, 30, 49_152))
                with Worker("bench.peers.transformers_generate", folder, python=PEER_PYTHON) as peer:
                    for case in GENERATION:
                        # A run of one request is short, so that every disturbance shows.
                        yield generation(ours, peer, floor, *case, 3 * pairs if case[0] == 1 else pairs)
                del floor  # a gigabyte
            if "push" in parts:
                yield push(ours, pairs)
                yield gap(ours)
    if "feedback" in parts:
        yield from feedback.measure(pairs, console)
    if "ppo" in parts:
        for profile, goal, times in PPO:
            yield from ppo(folder, profile, goal, times * pairs)


def generation(
    ours: Worker, peer: Worker, floor: GemmFloor, count: int, ragged: bool, goal: float | None, pairs: int
) -> Row:
    """Useful tokens per second, sampling at temperature 1, end-of-sequence off."""
    name = f"generate-{count}-{'ragged' if ragged else 'equal'}"
    console.print(f"[dim]{name}[/dim]")
    work = requests(count, seed=count, ragged=ragged)
    case = {"count": count, "ragged": ragged, "seed": count}
    ours.call("run", **case)  # warm-up
    peer.call("run", **case)
    our_seconds, peer_seconds = interleave(
        lambda: ours.call("run", **case)["seconds"], lambda: peer.call("run", **case)["seconds"], pairs=pairs
    )
    ratio, interval = speedup(our_seconds, peer_seconds)
    tokens = work.response_tokens
    return Row(
        id=name,
        unit="tokens/s",
        ours=tokens / statistics.median(our_seconds),
        peer=tokens / statistics.median(peer_seconds),
        limit=tokens / floor.decode_seconds(work.response_lengths),
        ratio=ratio,
        interval=interval,
        parity=logprob_parity(ours, peer),
        goal=goal,
    )


def logprob_parity(ours: Worker, peer: Worker) -> str:
    """Compares our behaviour log-probs of the last run with the peer's plain forward passes.

    Raises:
        SystemExit: They differ: a speed would mean nothing.
    """
    sample = ours.call("sequences")
    behaviour = sample.pop("logprobs")
    oracle = peer.call("logprobs", **sample)
    worst = max(
        abs(a - b)
        for mine, theirs in zip(behaviour, oracle, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )
    if worst > LOGPROB_TOLERANCE:
        raise SystemExit(
            f"parity failed: log-probs differ by {worst:.2g} nats, allowed {LOGPROB_TOLERANCE:g}"
        )
    tokens = sum(map(len, behaviour))
    return f"log-probs of {tokens} tokens within {worst:.1e} nats of a plain forward pass"


def push(ours: Worker, pairs: int) -> Row:
    """The whole float32 model from the trainer's arrays to serving, against the bytes over a raw socket."""
    console.print("[dim]push[/dim]")
    size = int(ours.call("push")["bytes"])
    our_seconds, socket_seconds = interleave(
        lambda: ours.call("push")["seconds"], lambda: loopback_seconds(size), pairs=pairs
    )
    ratio, interval = speedup(our_seconds, socket_seconds)
    return Row(
        id="push-dense",
        unit="MB/s",
        ours=size / statistics.median(our_seconds) / 1e6,
        peer=None,
        limit=size / statistics.median(socket_seconds) / 1e6,
        ratio=ratio,
        interval=interval,
        parity="digest of every tensor verified by the server before the swap",
        goal=None,
    )


def gap(ours: Worker) -> Row:
    """The longest gap between two tokens of 32 running generations while the model is pushed."""
    console.print("[dim]push-while-generating[/dim]")
    seen = [ours.call("push_while_generating", count=32) for _ in range(3)]
    steps = [run["longest_gap_seconds"] / run["median_step_seconds"] for run in seen]
    return Row(
        id="push-longest-gap",
        unit="decode steps",
        ours=statistics.median(steps),
        peer=None,
        limit=1.0,
        ratio=None,
        interval=(min(steps), max(steps)),
        parity=f"all {int(seen[0]['tokens'])} tokens of 32 generations arrived",
        goal=3.0,
    )


def ppo(folder: str, profile: str, goal: float, pairs: int) -> list[Row]:
    """One PPO update: 16 prompts of about 32 tokens, about 32 new ones, four networks, all layers."""
    console.print(f"[dim]ppo-{profile}[/dim]")
    shape = (profile, "16", "32", "32")
    with (
        Worker("bench.ours.ppo", folder, *shape) as ours,
        Worker("bench.peers.trl_ppo", folder, *shape, python=PEER_PYTHON) as peer,
    ):
        updates: list[dict[str, float]] = [ours.call("run")]  # warm-up
        peer.call("run")

        def timed() -> float:
            updates.append(ours.call("run"))
            return float(updates[-1]["seconds"])

        our_seconds, peer_seconds = interleave(timed, lambda: float(peer.call("run")["seconds"]), pairs=pairs)
        # Not in the timed updates: reading the memory maps of large processes takes a good part of a core.
        peaks = {"ours": peak_of_an_update(ours), "peer": peak_of_an_update(peer)}
    ratio, interval = speedup(our_seconds, peer_seconds)
    parity = f"engine and trainer within {max(u['gap_max_nats'] for u in updates):.1e} nats"
    stages = ("generate", "judge", "learn", "push")
    shares = ", ".join(
        f"{stage} {statistics.median(u[f'{stage}_seconds'] for u in updates[1:]):.1f}" for stage in stages
    )
    console.print(f"[dim]  our seconds by stage: {shares}[/dim]")
    seconds = Row(
        id=f"ppo-{profile}",
        unit="s/update",
        ours=statistics.median(our_seconds),
        peer=statistics.median(peer_seconds),
        limit=None,
        ratio=ratio,
        interval=interval,
        parity=parity,
        goal=goal,
    )
    memory = Row(
        id=f"ppo-{profile}-memory",
        unit="MB",
        ours=peaks["ours"] / 1e6,
        peer=peaks["peer"] / 1e6,
        limit=None,
        ratio=peaks["peer"] / peaks["ours"],
        interval=None,
        parity="sum over all processes, shared pages counted once",
        goal=1.0,
    )
    return [seconds, memory]


def peak_of_an_update(side: Worker) -> int:
    """Returns the peak memory of one more update, in bytes."""
    with PeakMemory(side.pid) as memory:
        side.call("run")
    return memory.peak_bytes


def save(rows: list[Row]) -> None:
    """Writes the results of this run so far."""
    packages = ("torch", "transformers", "grpcio", "protobuf")
    document: dict[str, Any] = {
        "machine": MACHINE,
        "model": "SmolLM2-135M-Instruct, float32, 2 threads",
        "versions": {name: version(name) for name in packages} | {"trl (peer)": "1.12.0"},
        "rows": [row.as_json() for row in rows],
    }
    PARTIAL.parent.mkdir(exist_ok=True)
    PARTIAL.write_text(json.dumps(document, indent=2) + "\n")


def show(rows: list[Row]) -> None:
    """Prints the table."""
    table = Table(title=MACHINE)
    for name in ("", "unit", "ours", "peer", "limit", "ratio", "95 %", "goal"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        numbers = (row.ours, row.peer, row.limit, row.ratio)
        table.add_row(
            row.id,
            row.unit,
            *(f"{value:,.4g}" if value is not None else "" for value in numbers),
            f"{row.interval[0]:.2f} to {row.interval[1]:.2f}" if row.interval else "",
            f"{row.goal:g}" if row.goal else "",
        )
    console.print(table)
    for row in rows:
        console.print(f"[dim]{row.id}: {row.parity}[/dim]")


if __name__ == "__main__":
    main()
