"""What the built images promise. `make test-images` builds them first; they run with podman or docker."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Require = Callable[[object, str], None]

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy" / "config" / "tiny.toml"
REPOSITORY, TAG = "localhost/pilothouse", os.environ.get("TAG", "dev")
SERVICES = ("policy", "reference", "reward", "feedback")
IMAGES = (*SERVICES, "trainer")
MOST_BYTES = {"feedback": 400e6}
FOREIGN = {
    "policy": {"onnxruntime", "sqlalchemy", "kubernetes", "pyarrow", "tensorboard"},
    "reference": {"onnxruntime", "sqlalchemy", "kubernetes", "pyarrow", "tensorboard"},
    "reward": {"torch", "transformers", "sqlalchemy", "kubernetes", "pyarrow", "tensorboard"},
    "feedback": {"torch", "transformers", "onnxruntime", "kubernetes", "tensorboard"},
    "trainer": {"sqlalchemy", "playwright"},
}
# As a restricted pod: a read-only root, no capability, no network, one scratch folder.
HARDENED = (
    "--read-only",
    "--tmpfs=/tmp:rw,size=1g",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=none",
)
_READY = "import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/readyz', timeout=5)"
_SECONDS_TO_READY = 240
_INSTALLED = """
import importlib.metadata, json
print(json.dumps({each.name: each.version for each in importlib.metadata.distributions()}))
"""
_WITHOUT_BYTECODE = """
import os, sys
import grpc, numpy, pydantic, pilothouse.cli.main
found = {name: getattr(module, "__cached__", None) for name, module in sys.modules.items()}
print([name for name, file in found.items() if file and "/opt/" in file and not os.path.exists(file)])
"""

pytestmark = [pytest.mark.images, pytest.mark.timeout(900)]
each = pytest.mark.parametrize("name", IMAGES)


@pytest.fixture(scope="module")
def engine(require: Require) -> str:
    """Podman or docker, which has the images."""
    found = next((name for name in ("podman", "docker") if shutil.which(name)), None)
    require(found, "podman or docker")
    assert found is not None
    missing = [name for name in IMAGES if run([found, "image", "inspect", image(name)]).returncode]
    require(not missing, f"the images {', '.join(missing)}; run 'make images'")
    return found


def image(name: str) -> str:
    return f"{REPOSITORY}/{name}:{TAG}"


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def inside(engine: str, name: str, script: str) -> str:
    """What a shell script prints in a hardened container of the image."""
    result = run([engine, "run", "--rm", *HARDENED, "--entrypoint=sh", image(name), "-c", script])
    assert result.returncode == 0, result.stderr
    return result.stdout


def python(engine: str, name: str, code: str) -> str:
    """What Python code prints there."""
    result = run([engine, "run", "--rm", *HARDENED, "--entrypoint=python", image(name), "-c", code])
    assert result.returncode == 0, result.stderr
    return result.stdout


def inspected(engine: str, name: str) -> dict[str, object]:
    told: list[dict[str, object]] = json.loads(run([engine, "image", "inspect", image(name)]).stdout)
    return told[0]


@pytest.fixture
def started(engine: str, name: str) -> Iterator[str]:
    """A service's container with the tiny configuration; its id."""
    command = [
        engine,
        "run",
        "--detach",
        *HARDENED,
        f"--volume={CONFIG}:/etc/pilothouse/pilothouse.toml:ro",
        image(name),
    ]
    arguments = ["--config", "/etc/pilothouse/pilothouse.toml", "--set", f"{name}.server.http_port=8080"]
    if name == "feedback":
        arguments += ["--set", "feedback.database=sqlite:////tmp/feedback.db"]
    result = run([*command, *arguments])
    assert result.returncode == 0, result.stderr
    container = result.stdout.strip()
    yield container
    run([engine, "rm", "--force", container])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_gets_ready_on_a_read_only_root_and_ends_when_told(engine: str, started: str) -> None:
    deadline = time.monotonic() + _SECONDS_TO_READY
    while run([engine, "exec", started, "python", "-c", _READY.format(port=8080)]).returncode:
        logs = run([engine, "logs", started])
        running = run([engine, "inspect", "--format={{.State.Running}}", started]).stdout.strip()
        assert running == "true", logs.stdout + logs.stderr
        assert time.monotonic() < deadline, logs.stdout + logs.stderr
        time.sleep(0.5)
    assert run([engine, "stop", "--time=60", started]).returncode == 0
    assert run([engine, "inspect", "--format={{.State.ExitCode}}", started]).stdout.strip() == "0"


@each
def test_an_image_is_small(engine: str, name: str) -> None:
    assert inspected(engine, name)["Size"] <= MOST_BYTES.get(name, 1.5e9)  # type: ignore[operator]


@each
def test_a_container_runs_without_privileges_and_cannot_write_to_its_root(engine: str, name: str) -> None:
    assert inside(engine, name, "id -u; id -g; whoami").split() == ["10001", "10001", "pilothouse"]
    for folder in ("/", "/opt/pilothouse", "/etc", "/var/lib/pilothouse"):
        assert inside(engine, name, f"touch {folder}/x 2>/dev/null || echo refused") == "refused\n"


@each
def test_an_image_holds_neither_compiler_nor_installer(engine: str, name: str) -> None:
    assert (
        inside(engine, name, "for tool in cc gcc g++ clang ld make pip pip3; do command -v $tool; done; true")
        == ""
    )
    assert inside(engine, name, "python -c 'import pip' 2>/dev/null || echo absent") == "absent\n"
    assert inside(engine, name, "python -c 'import ensurepip' 2>/dev/null || echo absent") == "absent\n"
    assert inside(engine, name, "find /opt -name '*.a' -o -name '*.h'") == ""


@each
def test_an_image_holds_what_its_service_needs_and_no_more(engine: str, name: str) -> None:
    installed = _installed(engine, name)
    assert "pilothouse" in installed
    assert not set(installed) & FOREIGN[name]


@each
def test_no_module_is_compiled_anew_at_every_start(engine: str, name: str) -> None:
    assert python(engine, name, _WITHOUT_BYTECODE) == "[]\n"


@each
def test_the_sbom_lists_exactly_what_is_installed(engine: str, name: str, require: Require) -> None:
    file = ROOT / "runs" / "images" / f"{name}.cdx.json"
    require(file.is_file(), f"{file}; run 'make images'")
    sbom = json.loads(file.read_text())
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    listed = {part["purl"] for part in sbom["components"]}
    python = {
        f"pkg:pypi/{key}@{value}".replace("+", "%2B") for key, value in _installed(engine, name).items()
    }
    assert {purl for purl in listed if purl.startswith("pkg:pypi/")} == python
    assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in listed)
    assert sbom["metadata"]["component"]["name"] == f"{REPOSITORY}/{name}"


@pytest.mark.timeout(3600)
def test_the_trainer_trains_exports_and_judges_in_its_image(engine: str) -> None:
    """The whole job on a tiny model, services included: what pruning took away is missed by nothing."""
    result = run([engine, "run", "--rm", *HARDENED, image("trainer"), "demo", "--tiny", "--out", "/tmp/demo"])
    assert result.returncode == 0, result.stdout + result.stderr


def _installed(engine: str, name: str) -> dict[str, str]:
    """The version of each installed distribution, by its normalised name."""
    told: dict[str, str] = json.loads(python(engine, name, _INSTALLED))
    return {key.lower().replace("_", "-").replace(".", "-"): value for key, value in told.items()}
