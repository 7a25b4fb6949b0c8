"""The commands of ``feedback`` against a real stack: tiny policy, feedback service, its page."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from pilothouse.cli.exits import Exit
from pilothouse.cli.main import main
from pilothouse.cli.targets import find
from pilothouse.client import FeedbackClient, Ranking


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A configuration file while policy and feedback service run."""
    folder = tmp_path_factory.mktemp("feedback")
    file = folder / "pilothouse.toml"
    file.write_text(
        f"""
        [local]
        services = ["policy", "feedback"]
        state_dir = {json.dumps(str(folder / "state"))}
        [policy]
        threads = 1
        max_running = 8
        max_sequence_tokens = 64
        [feedback]
        database = {json.dumps(f"sqlite:///{folder}/feedback.db")}
        """
    )
    assert main(["up", "--config", str(file)]) == 0
    yield file
    assert main(["down", "--config", str(file)]) == 0


def test_status_shows_the_address_of_the_page(run: Run, stack: Path) -> None:
    services = {found["name"]: found for found in run("status", "--config", stack, "--json").json["services"]}
    page = services["feedback"]["model"]
    with urllib.request.urlopen(f"{page}/login") as answer:
        assert answer.status == 200


def test_answers_are_sampled_ranked_measured_and_exported(run: Run, stack: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"the film was {word}"} for word in ("good", "bad", "long", "short")]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("feedback", "queue", "films", "--overlap", 2, "--config", stack).status == 0
    arguments = ["feedback", "sample", "films", prompts, "-n", 2, "--max-new-tokens", 6, "--config", stack]
    heat = ["--temperature", 0.7, "--temperature", 1.3]
    assert run(*arguments, *heat, "--json").json == {"prompts": 4, "tasks": 4, "added": 4}
    assert run(*arguments, *heat, "--json").json == {"prompts": 4, "tasks": 4, "added": 0}
    with FeedbackClient(find("feedback", None, stack, [])) as feedback:
        listed = list(feedback.open_tasks("films"))
        sources = [answer.source for task in listed for answer in task.answers]  # type: ignore[union-attr]
        assert {source.temperature for source in sources} == {0.7, 1.3}
        assert all(source.model.startswith("tiny@") for source in sources)
        for name in ("Ada", "Bob"):
            rater = feedback.add_rater(name)
            for number in range(4):
                held = feedback.claim("films", rater)
                order = sorted(answer.text for answer in held.answers)
                ranks = [order.index(answer.text) + 1 for answer in held.answers]
                feedback.submit(f"said-{name}-{number}", held.id, rater, Ranking(ranks=ranks))
    [queue] = run("feedback", "queues", "--config", stack, "--json").json
    assert (queue["done_tasks"], queue["submissions"]) == (4, 8)
    quality = run("feedback", "quality", "--queue", "films", "--config", stack, "--json").json
    assert quality["alpha"]["value"] == pytest.approx(1.0)
    assert quality["gold_accuracy"]["value"] is None
    assert "alpha" in run("feedback", "quality", "--config", stack).out
    manifest = run("feedback", "export", tmp_path / "out", "--config", stack, "--json").json
    assert manifest["counts"]["rankings"] == 8
    assert run("feedback", "export", tmp_path / "out", "--config", stack).status == Exit.USAGE
    for report in run("feedback", "raters", "--config", stack, "--json").json:
        assert report["rankings"] == 4
        assert run("feedback", "rater", report["rater"], "excluded", "--config", stack).status == 0
    assert run("feedback", "queues", "--config", stack, "--json").json[0]["open_tasks"] == 4
    assert run("feedback", "erase", report["rater"], "--yes", "--config", stack).status == 0


def test_an_invitation_is_a_link(run: Run, stack: Path) -> None:
    made = run("feedback", "invite", "--config", stack, "--json").json
    assert made["url"].endswith(f"/invite#{made['token']}")


def test_mistakes_are_told_in_one_line(run: Run, stack: Path, tmp_path: Path) -> None:
    ran = run("feedback", "export", tmp_path / "x", "--format", "excel", "--config", stack)
    assert ran.status == Exit.USAGE
    ran = run("feedback", "veto", "--config", stack)
    assert ran.status == Exit.USAGE
    assert "--answer or --prompt-of" in ran.err
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert run("feedback", "sample", "films", empty, "--config", stack).status == Exit.USAGE
    assert run("feedback", "import", "nowhere", empty, "--config", stack).status != 0


def test_tasks_come_from_a_file_and_are_listed_with_the_ids_that_a_veto_takes(
    run: Run, stack: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tasks.jsonl"
    rows = [
        {"prompt": "to rank", "responses": ["a", [{"role": "assistant", "content": "b"}]], "priority": 2},
        {"id": "gold", "prompt": "to check", "responses": ["a", "b"], "gold_ranks": [1, 2]},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    assert run("feedback", "queue", "given", "--config", stack).status == 0
    assert run("feedback", "add", "given", file, "--config", stack, "--json").json == {"rows": 3, "added": 2}
    assert run("feedback", "add", "given", file, "--config", stack, "--json").json == {"rows": 3, "added": 0}
    [queue] = [
        found
        for found in run("feedback", "queues", "--config", stack, "--json").json
        if found["settings"]["name"] == "given"
    ]
    assert (queue["open_tasks"], queue["gold_tasks"]) == (1, 1)
    [task] = run("feedback", "tasks", "given", "--config", stack, "--json").json
    answer = task["answers"][0]["id"]
    assert answer in run("feedback", "tasks", "given", "--task", task["id"], "--config", stack).out
    vetoed = run("feedback", "veto", "--answer", answer, "--config", stack)
    assert f"answer {answer}: vetoed" in vetoed.err
    lifted = run("feedback", "flag", "--prompt-of", task["id"], "--lift", "--config", stack)
    assert f"prompt of task {task['id']}: flag lifted" in lifted.err


def test_prompts_alone_fill_a_queue_of_demonstrations(run: Run, stack: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"prompt": [{"role": "user", "content": "Say something kind."}]}) + "\n")
    assert run("feedback", "queue", "write", "--kind", "demonstration", "--config", stack).status == 0
    assert run("feedback", "add", "write", file, "--config", stack, "--json").json["added"] == 1
    [task] = run("feedback", "tasks", "write", "--config", stack, "--json").json
    assert task["prompt"] == [["user", "Say something kind."]]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"prompt": [{"rol": "user", "content": "x"}]}, "line 1: 'prompt' must be a text, or messages"),
        ({"prompt": ["x"]}, "line 1: 'prompt' must be"),
        ({"prompt": "p", "responses": [1, 2]}, "line 1: 'responses' must be"),
        ({"prompt": "p", "responses": ["a", "b"], "gold_ranks": "12"}, "line 1: 'gold_ranks' must be"),
        ({"prompt": "p", "priority": True}, "line 1: 'priority' must be"),
    ],
)
def test_a_bad_row_is_named_with_its_line(
    run: Run, stack: Path, tmp_path: Path, row: dict[str, object], complaint: str
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps(row) + "\n")
    assert complaint in run("feedback", "add", "films", file, "--config", stack).err
    if "responses" not in row and "priority" not in row:
        assert complaint in run("feedback", "sample", "films", file, "--config", stack).err


def test_a_queue_that_is_not_there_is_named_with_those_that_are(
    run: Run, stack: Path, tmp_path: Path
) -> None:
    assert run("feedback", "queue", "there", "--config", stack).status == 0
    for command in (["export", tmp_path / "out"], ["quality"], ["raters"]):
        ran = run("feedback", *command, "--queue", "nope", "--config", stack)
        assert ran.status != Exit.OK
        assert "there is no queue 'nope'; queues: " in ran.err
    assert not (tmp_path / "out").exists()


def test_a_service_that_the_stack_lacks_is_named_with_those_that_run(run: Run, stack: Path) -> None:
    ran = run("score", "the film", "was good", "--config", stack)
    assert "runs policy, feedback and no reward; add 'reward' to local.services" in ran.err


def test_a_prompt_that_is_too_long_is_named_with_its_line(run: Run, stack: Path, tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps({"prompt": "a film" * n}) + "\n" for n in [*[1] * 17, 100]))
    assert run("feedback", "queue", "films", "--config", stack).status == 0
    ran = run("feedback", "sample", "films", file, "-n", 2, "--max-new-tokens", 2, "--config", stack)
    assert f"{file}, line 18: the prompt has" in ran.err
