"""The reward service as a process of its own, asked through the SDK's client."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from pilothouse.client.reward import RewardClient
from pilothouse.models.reward_files import read_manifest

START_SECONDS = 60.0


def test_the_process_serves_scores_and_metrics_and_ends_on_sigterm(onnx_folder: Path, tmp_path: Path) -> None:
    port_file = tmp_path / "port.json"
    settings = [f'reward.model="{onnx_folder}"', "reward.backend=onnx", "reward.threads=1"]
    settings.append(f'reward.server.port_file="{port_file}"')
    command = [sys.executable, "-m", "pilothouse.reward"]
    command += [part for setting in settings for part in ("--set", setting)]
    with subprocess.Popen(command) as process:
        try:
            ports = wait_for(port_file, process)
            with RewardClient(f"127.0.0.1:{ports['port']}") as client:
                scores = client.score(["The film", "A"], [" was great", " bad movie"])
                assert client.model().providers == ("CPUExecutionProvider",)
            with urllib.request.urlopen(f"http://127.0.0.1:{ports['http_port']}/metrics") as page:
                metrics = page.read().decode()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert len(scores.values) == 2
    assert scores.reward_version == read_manifest(onnx_folder).version
    assert 'pilothouse_reward_scores_total{model="score"} 2.0' in metrics


def wait_for(port_file: Path, process: "subprocess.Popen[bytes]") -> dict[str, int]:
    deadline = time.monotonic() + START_SECONDS
    while not port_file.exists():
        assert process.poll() is None, "the reward service ended before it served"
        assert time.monotonic() < deadline, "the reward service did not start"
        time.sleep(0.05)
    ports: dict[str, int] = json.loads(port_file.read_text())
    return ports


def test_serving_onnx_imports_neither_torch_nor_transformers_nor_onnx(onnx_folder: Path) -> None:
    code = f"""
import sys
from pathlib import Path
import pilothouse.reward.build
from pilothouse.reward.backends import make_backend
from pilothouse.reward.backends.base import Buckets
from pilothouse.reward.config import ScorerConfig
make_backend(ScorerConfig(backend="onnx", model={str(onnx_folder)!r}), Buckets((8,)))
assert not {{"torch", "transformers", "onnx"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_that_is_not_there_ends_the_process_with_one_helpful_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pilothouse.reward", "--set", "reward.backend=onnx"]
    command += ["--set", f'reward.model="{tmp_path}"']
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "pilothouse export" in ended.stderr
