import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from pilothouse.cli.exits import Exit


def test_status_names_process_address_model_and_version_of_every_service(run: Run, up: Path) -> None:
    ran = run("status", "--config", up, "--json")
    assert ran.status == 0
    assert ran.json["running"]
    services = {service["name"]: service for service in ran.json["services"]}
    assert set(services) == {"policy", "reward", "reference"}
    assert set(services["policy"]["targets"]) == {"policy", "weights"}
    for service in services.values():
        os.kill(service["pid"], 0)
        assert service["state"] == "serving"
        assert service["model"]
        assert service["version"]
    assert "serving" in run("status", "--config", up).out


def test_a_second_up_is_refused(run: Run, up: Path) -> None:
    ran = run("up", "--config", up)
    assert ran.status == Exit.FAILED
    assert "already running" in ran.err


def test_generate_gives_every_completion_once(run: Run, up: Path) -> None:
    ran = run("generate", "the film", "it was", "-n", 2, "--max-new-tokens", 3, "--config", up, "--json")
    assert ran.status == 0
    found = {(row["prompt_index"], row["sample_index"]) for row in ran.rows}
    assert found == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert all(len(row["tokens"]) == len(row["logprobs"]) for row in ran.rows)


def test_a_misspelt_setting_is_an_error_also_where_a_running_stack_answers(run: Run, up: Path) -> None:
    ran = run("generate", "the film", "--config", up, "--set", "policy.max_runing=4")
    assert ran.status == Exit.USAGE
    assert "did you mean 'max_running'" in ran.err


def test_the_same_seed_gives_the_same_text(run: Run, up: Path) -> None:
    words = ["generate", "the film", "--seed", 5, "--max-new-tokens", 8, "--config", up, "--json"]
    assert run(*words).rows[0]["tokens"] == run(*words).rows[0]["tokens"]


def test_prompts_may_come_from_a_file_as_texts_or_conversations(run: Run, up: Path, tmp_path: Path) -> None:
    texts, chats, mixed = (tmp_path / name for name in ("texts", "chats", "mixed"))
    text = json.dumps({"prompt": "the film"})
    chat = json.dumps({"prompt": [{"role": "user", "content": "good?"}]})
    texts.write_text(f"{text}\n\n{text}\n")
    chats.write_text(chat)
    mixed.write_text(f"{text}\n{chat}\n")
    words = ["--max-new-tokens", 2, "--config", up, "--json"]
    assert len(run("generate", "--file", texts, *words).rows) == 2
    assert len(run("generate", "--file", chats, *words).rows) == 1
    assert len(run("generate", "--file", mixed, "--chat", *words).rows) == 2
    wrong = run("generate", "--file", mixed, *words)
    assert wrong.status == Exit.USAGE
    assert "line 2: texts and conversations are mixed" in wrong.err


def test_what_the_service_refuses_is_told_in_its_words(run: Run, up: Path) -> None:
    ran = run("generate", "the film", "--max-new-tokens", 1_000_000, "--config", up)
    assert ran.status == Exit.USAGE
    assert ran.err.count("\n") == 1


def test_score_shows_score_and_version(run: Run, up: Path, tmp_path: Path) -> None:
    ran = run("score", "the film", "was good", "--config", up, "--json")
    assert ran.rows[0]["score"] == 1.0
    assert ran.rows[0]["reward_version"]
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "a", "response": "b c"}\n{"prompt": "a", "completion": "b c d"}\n')
    assert [row["score"] for row in run("score", "--file", file, "--config", up, "--json").rows] == [1.0, 1.0]
    assert "1.0000" in run("score", "--file", file, "--config", up).out


@pytest.mark.parametrize("model", ["policy", "reference"])
def test_logprobs_of_a_text_equal_those_of_its_tokens(run: Run, up: Path, tmp_path: Path, model: str) -> None:
    text = run("logprobs", "the film", " was good", "--model", model, "--config", up, "--json").rows[0]
    file = tmp_path / "tokens.jsonl"
    file.write_text(json.dumps({"tokens": text["tokens"], "prompt_length": text["prompt_length"]}))
    again = run("logprobs", "--file", file, "--model", model, "--config", up, "--json").rows[0]
    assert text.pop("pieces") == [" was", " good", ""]
    assert again == text
    assert len(text["logprobs"]) == len(text["tokens"]) - text["prompt_length"]
    assert all(value < 0 for value in text["logprobs"])


@pytest.mark.parametrize("model", ["policy", "reference"])
def test_logprobs_of_a_text_need_no_tokenizer_here(
    run: Run, up: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("torch", "transformers", "tokenizers", "pilothouse.models.text"):
        monkeypatch.setitem(sys.modules, library, None)
    ran = run("logprobs", "the film", " was good", "--unfinished", "--model", model, "--config", up)
    assert ran.status == 0, ran.err
    assert " was=-" in ran.out
    assert " good=-" in ran.out


def test_logprobs_take_one_kind_of_rows(run: Run, up: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"prompt": "a", "completion": "b"}\n{"prompt": "a", "response": ""}\n'
        '{"tokens": [5, 6], "prompt_length": 1}\n'
    )
    mixed = run("logprobs", "--file", file, "--config", up)
    assert mixed.status == Exit.USAGE
    assert "line 3: texts and token ids are mixed" in mixed.err
    file.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "response": ""}\n')
    assert len(run("logprobs", "--file", file, "--config", up, "--json").rows) == 2
    nothing = run("logprobs", "--file", file, "--unfinished", "--config", up, "--json").rows[1]
    assert (nothing["logprobs"], nothing["sum"]) == ([], 0.0)
    assert run("logprobs", "--file", file, "--unfinished", "--config", up).status == 0
    file.write_text('{"tokens": [5, 6], "prompt_length": 1}\n')
    assert "are taken as they are" in run("logprobs", "--file", file, "--unfinished", "--config", up).err


def test_policy_and_reference_agree_before_any_push(run: Run, up: Path) -> None:
    words = ["logprobs", "the film", " was good", "--config", up, "--json", "--model"]
    policy, reference = run(*words, "policy").rows[0], run(*words, "reference").rows[0]
    assert policy["logprobs"] == pytest.approx(reference["logprobs"], abs=1e-4)


@pytest.mark.parametrize("command", ["generate", "score", "logprobs"])
def test_rows_that_cannot_be_used_are_named_by_line(run: Run, up: Path, tmp_path: Path, command: str) -> None:
    file = tmp_path / "rows.jsonl"
    for content, told in (
        ("{}\n", "line 1: no column"),
        ("\n[1]\n", "line 2: not an object"),
        ("{", "not JSON"),
    ):
        file.write_text(content)
        ran = run(command, "--file", file, "--config", up)
        assert ran.status == Exit.USAGE
        assert told in ran.err
    file.write_text("")
    assert "has no rows" in run(command, "--file", file, "--config", up).err


def test_doctor_calls_every_service(run: Run, up: Path) -> None:
    ran = run("doctor", "--config", up, "--json")
    assert ran.status == 0, ran.json
    calls = {
        finding["check"]: finding for finding in ran.json["findings"] if "round trip" in finding["detail"]
    }
    assert set(calls) == {"service policy", "service reward", "service reference"}


def test_a_killed_service_is_back_under_the_same_address(run: Run, up: Path) -> None:
    before = {
        service["name"]: service for service in run("status", "--config", up, "--json").json["services"]
    }
    os.kill(before["reward"]["pid"], signal.SIGKILL)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        ran = run("score", "a", "b c", "--config", up, "--json")
        after = {
            service["name"]: service for service in run("status", "--config", up, "--json").json["services"]
        }
        if after["reward"]["restarts"] > before["reward"]["restarts"] and ran.status == 0:
            break
    assert ran.rows[0]["score"] == 1.0
    assert after["reward"]["targets"] == before["reward"]["targets"]
    assert after["policy"]["pid"] == before["policy"]["pid"]


def test_status_without_a_stack_fails_and_says_what_to_do(run: Run, tmp_path: Path) -> None:
    setting = f"local.state_dir={json.dumps(str(tmp_path))}"
    assert run("status", "--set", setting, "--json").json["running"] is False
    ran = run("status", "--set", setting)
    assert ran.status == Exit.FAILED
    assert "pilothouse up" in ran.out


def test_a_service_that_nobody_started_is_unavailable(run: Run, tmp_path: Path) -> None:
    ran = run("score", "a", "b", "--set", f"local.state_dir={json.dumps(str(tmp_path))}")
    assert ran.status == Exit.UNAVAILABLE
    assert "pilothouse up" in ran.err


def test_progress_is_plain_lines_outside_a_terminal(run: Run, tmp_path: Path) -> None:
    words = ["--set", f"local.state_dir={json.dumps(str(tmp_path))}", "--set", "reward.backend=rules"]
    up = run("up", "--service", "reward", *words, "--json")
    assert up.status == 0
    assert "\x1b" not in up.err + up.out
    assert up.err.splitlines()[-1] == "reward serving"
    down = run("down", *words, "--json")
    assert down.json == {"stopped": ["reward"]}
    assert "\x1b" not in down.err + down.out


def test_a_start_that_fails_says_why_in_one_line(run: Run, tmp_path: Path) -> None:
    words = ["--set", f"local.state_dir={json.dumps(str(tmp_path))}", "--set", "reward.backend=onnx"]
    ran = run("up", "--service", "reward", *words, "--set", "reward.model=/nowhere")
    assert ran.status in (Exit.FAILED, Exit.USAGE)
    assert "/nowhere" in ran.err.splitlines()[-1]
    assert "reward.log" in ran.err.splitlines()[-1]


def test_a_line_of_a_file_ends_where_json_lines_do(run: Run, up: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('\ufeff{"prompt": "the film\u2028was"}\n', encoding="utf-8")
    ran = run("generate", "--file", file, "--max-new-tokens", "2", "--config", up, "--json")
    assert ran.status == 0, ran.err
