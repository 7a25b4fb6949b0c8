"""Torch to ONNX: every architecture, padded rows, and the parity gate."""

import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from pilothouse.errors import ConfigError, ExportParityError
from pilothouse.models import export
from pilothouse.models.export import MODEL_FILE, export_reward_model, parity
from pilothouse.models.heads import ScalarModel
from pilothouse.models.reward_files import read_manifest
from pilothouse.models.text import TextCodec
from pilothouse.models.tiny import small_model

CODEC = TextCodec.load("tiny")


def save(folder: Path, architecture: str = "llama-tied") -> ScalarModel:
    scalar = ScalarModel.from_causal_lm(small_model(architecture, seed=4), seed=2)
    scalar.gain, scalar.bias = 3.0, 0.25
    scalar.save(folder, CODEC, max_sequence_tokens=200)
    return scalar


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, ScalarModel]:
    folder = tmp_path_factory.mktemp("export")
    scalar = save(folder / "model")
    export_reward_model(folder / "model", folder / "onnx")
    return folder / "model", folder / "onnx", scalar


@pytest.mark.parametrize("architecture", ["llama-tied", "llama-untied", "qwen3", "gemma3", "gpt2"])
def test_every_architecture_exports_and_scores_as_torch_does_on_padded_rows(
    architecture: str, tmp_path: Path
) -> None:
    scalar = save(tmp_path / "model", architecture)
    probe = [np.arange(3, 40, dtype=np.int32)]
    with torch.no_grad():
        before = scalar.last_token_scores(probe)
    report = export_reward_model(tmp_path / "model", tmp_path / "onnx")
    with torch.no_grad():  # tracing left no tensor of its own in a cache
        assert torch.equal(scalar.last_token_scores(probe), before)
    assert report.max_abs_difference <= 1e-4
    session = onnxruntime.InferenceSession(
        str(tmp_path / "onnx" / MODEL_FILE), providers=["CPUExecutionProvider"]
    )
    generator = np.random.default_rng(0)
    for rows, width in [(1, 1), (1, 90), (5, 3), (3, 200)]:
        ids = generator.integers(0, 512, (rows, width))
        lengths = generator.integers(1, width + 1, rows)
        (scores,) = session.run(["score"], {"input_ids": ids, "lengths": lengths})
        sequences = [row[:length].astype(np.int32) for row, length in zip(ids, lengths, strict=True)]
        with torch.no_grad():
            expected = scalar.last_token_scores(sequences).numpy()
        assert scores.dtype == np.float32
        assert scores.shape == (rows,)
        np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_the_ids_in_the_padding_never_matter(saved: tuple[Path, Path, ScalarModel]) -> None:
    _, folder, _ = saved
    session = onnxruntime.InferenceSession(str(folder / MODEL_FILE), providers=["CPUExecutionProvider"])
    ids = np.random.default_rng(1).integers(0, 512, (2, 12))
    lengths = np.array([12, 5])
    (scores,) = session.run(["score"], {"input_ids": ids, "lengths": lengths})
    ids[1, 5:] = np.arange(7) * 50 + 3
    (again,) = session.run(["score"], {"input_ids": ids, "lengths": lengths})
    np.testing.assert_array_equal(scores, again)


def test_the_exported_folder_carries_tokenizer_normaliser_and_manifest(
    saved: tuple[Path, Path, ScalarModel],
) -> None:
    folder, exported, _ = saved
    manifest = read_manifest(exported)
    assert (manifest.gain, manifest.bias, manifest.max_sequence_tokens) == (3.0, 0.25, 200)
    assert {MODEL_FILE, "tokenizer.json", "tokenizer_config.json"} <= manifest.files.keys()
    assert TextCodec.load(exported).digest == CODEC.digest
    assert manifest.version != read_manifest(folder).version


def test_a_gap_above_the_tolerance_stops_the_export_and_leaves_nothing(
    saved: tuple[Path, Path, ScalarModel], tmp_path: Path
) -> None:
    with pytest.raises(ExportParityError, match="differ from torch"):
        export_reward_model(saved[0], tmp_path / "out", tolerance=0.0)
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_runtime_the_export_says_what_to_install(
    saved: tuple[Path, Path, ScalarModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # what makes an import fail as if it were not there
    with pytest.raises(ConfigError, match=r"pilothouse\[reward\].*pilothouse\[reward-gpu\]"):
        export_reward_model(saved[0], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_score_that_is_not_a_number_never_counts_as_parity(
    saved: tuple[Path, Path, ScalarModel],
) -> None:
    scalar = ScalarModel.load(saved[0])
    with torch.no_grad():
        scalar.score_weight.fill_(float("nan"))
    assert np.isnan(parity(scalar, saved[1] / MODEL_FILE, longest=200))


def test_an_export_replaces_an_earlier_one_but_nothing_else(
    saved: tuple[Path, Path, ScalarModel], tmp_path: Path
) -> None:
    shutil.copytree(saved[1], tmp_path / "out")
    (tmp_path / "out" / "stale.json").write_text("{}")
    export_reward_model(saved[0], tmp_path / "out")
    assert read_manifest(tmp_path / "out").version == read_manifest(saved[1]).version
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(ConfigError, match="choose another folder"):
        export_reward_model(saved[0], tmp_path / "mine")
    (tmp_path / "mine" / MODEL_FILE).write_text("another tool's export")
    with pytest.raises(ConfigError, match="choose another folder"):
        export_reward_model(saved[0], tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"


def test_weights_too_large_for_one_protobuf_file_go_into_a_second_one(
    saved: tuple[Path, Path, ScalarModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_EXTERNAL_BYTES", 1000)
    report = export_reward_model(saved[0], tmp_path / "out")
    assert report.max_abs_difference <= 1e-4
    assert f"{MODEL_FILE}.data" in read_manifest(tmp_path / "out").files
