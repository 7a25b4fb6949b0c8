"""ONNX Runtime and torch backends: equal numbers, honest providers, and folders that are refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from pilothouse.errors import (
    CorruptDataError,
    ModelNotFoundError,
    PilothouseError,
    ProviderUnavailableError,
    ScoringFailedError,
    UnsafeModelError,
)
from pilothouse.models.reward_files import MANIFEST, read_manifest, write_manifest
from pilothouse.reward.backends.base import Buckets, Row, pad
from pilothouse.reward.backends.onnx import OnnxBackend
from pilothouse.reward.backends.torch import TorchBackend

BUCKETS = Buckets((8, 16, 64, 256))
GAIN, BIAS = 2.0, -0.5  # those of conftest's model


def rows(*lengths: int) -> list[Row]:
    generator = np.random.default_rng(0)
    return [Row(tokens=generator.integers(0, 512, length).astype(np.int32)) for length in lengths]


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "copy"))


def rewrite(folder: Path) -> None:
    """Makes the manifest true again after a change."""
    (folder / MANIFEST).unlink()
    write_manifest(folder, gain=1.0, bias=0.0, max_sequence_tokens=256)


def test_onnx_scores_equal_torch_scores_within_1e_4(reward_folder: Path, onnx_folder: Path) -> None:
    batch = rows(1, 5, 8, 9, 30, 64, 100, 256)
    expected = TorchBackend(reward_folder).score(batch)
    scores = OnnxBackend(onnx_folder, BUCKETS).score(batch)
    assert scores.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_a_row_scores_the_same_alone_and_padded_in_company(onnx_folder: Path) -> None:
    backend = OnnxBackend(onnx_folder, BUCKETS)
    batch = rows(3, 8, 60, 17, 1)
    alone = np.concatenate([backend.score([row]) for row in batch])
    np.testing.assert_allclose(backend.score(batch), alone, atol=1e-5)


def test_the_normaliser_of_the_manifest_is_applied(onnx_folder: Path, tmp_path: Path) -> None:
    plain = copied(onnx_folder, tmp_path)
    rewrite(plain)
    batch = rows(4, 9)
    raw = OnnxBackend(plain, BUCKETS).score(batch)
    np.testing.assert_allclose(OnnxBackend(onnx_folder, BUCKETS).score(batch), GAIN * raw + BIAS, rtol=1e-6)


def test_the_version_changes_with_files_and_with_the_normaliser(onnx_folder: Path, tmp_path: Path) -> None:
    other = copied(onnx_folder, tmp_path)
    rewrite(other)
    assert OnnxBackend(onnx_folder, BUCKETS).version == read_manifest(onnx_folder).version
    assert OnnxBackend(onnx_folder, BUCKETS).version != OnnxBackend(other, BUCKETS).version


def test_the_providers_reported_are_those_of_the_session(onnx_folder: Path) -> None:
    backend = OnnxBackend(onnx_folder, BUCKETS, providers=["tensorrt", "cuda", "cpu"])
    assert backend.providers[-1] == "CPUExecutionProvider"


def test_a_required_provider_that_is_not_in_use_fails_closed(onnx_folder: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine may really have the provider")
    with pytest.raises(ProviderUnavailableError, match="runs on CPUExecutionProvider"):
        OnnxBackend(onnx_folder, BUCKETS, require=["cuda"])
    with pytest.raises(ProviderUnavailableError, match="none of the providers"):
        OnnxBackend(onnx_folder, BUCKETS, providers=["cuda"])


def test_a_silent_fallback_to_the_cpu_counts_as_not_in_use(
    onnx_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the GPU wheel does on a machine without a GPU: it lists CUDA, and the session comes up without.
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "get_available_providers",
        lambda: ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    asked: list[list[str]] = []

    def fall_back(path: str, sess_options: object, providers: list[str]) -> object:
        asked.append(providers)
        return real(path, sess_options=sess_options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    assert OnnxBackend(onnx_folder, BUCKETS).providers == ("CPUExecutionProvider",)
    assert asked == [["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]]
    with pytest.raises(ProviderUnavailableError, match="required provider cuda"):
        OnnxBackend(onnx_folder, BUCKETS, require=["cuda"])


def test_threads_are_set(onnx_folder: Path) -> None:
    backend = OnnxBackend(onnx_folder, BUCKETS, threads=1)
    assert backend._session.get_session_options().intra_op_num_threads == 1


def test_token_ids_outside_the_graph_are_an_error_and_never_a_score(onnx_folder: Path) -> None:
    with pytest.raises(ScoringFailedError, match="ONNX Runtime failed"):
        OnnxBackend(onnx_folder, BUCKETS).score([Row(tokens=np.array([9999], dtype=np.int32))])


def test_padding_goes_to_the_bucket_and_never_past_the_model(onnx_folder: Path) -> None:
    ids, lengths = pad(rows(3, 9), BUCKETS, pad_id=7, longest=256)
    assert ids.shape == (2, 16)
    assert ids[0, 3:].tolist() == [7] * 13
    assert lengths.tolist() == [3, 9]
    assert pad(rows(60), BUCKETS, pad_id=0, longest=62)[0].shape == (1, 62)
    assert Buckets((8, 16)).width(17) == 32


def _symlink(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere.onnx")


def _hardlink(folder: Path) -> None:
    os.link(folder / "model.onnx", folder.parent / "twin.onnx")


def _flipped_byte(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[-100] ^= 1
    (folder / "model.onnx").write_bytes(content)


def _truncated(folder: Path) -> None:
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])
    rewrite(folder)


def _missing(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _without_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def _stray(folder: Path) -> None:
    (folder / "extra.data").write_bytes(b"unknown")


def _edited_gain(folder: Path) -> None:
    body = json.loads((folder / MANIFEST).read_text()) | {"gain": 100.0}
    (folder / MANIFEST).write_text(json.dumps(body))


def _infinite_gain(folder: Path) -> None:
    body = json.loads((folder / MANIFEST).read_text()) | {"gain": float("inf")}
    (folder / MANIFEST).write_text(json.dumps(body))


def _path_in_manifest(folder: Path) -> None:
    body = json.loads((folder / MANIFEST).read_text())
    body["files"]["../secret"] = "00"
    (folder / MANIFEST).write_text(json.dumps(body))


def _pickle_in_manifest(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    body = json.loads((folder / MANIFEST).read_text())
    body["files"]["pytorch_model.bin"] = "00"
    (folder / MANIFEST).write_text(json.dumps(body))


def _no_json(folder: Path) -> None:
    (folder / MANIFEST).write_text("[1")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (_symlink, UnsafeModelError),
        (_hardlink, UnsafeModelError),
        (_flipped_byte, CorruptDataError),
        (_truncated, CorruptDataError),
        (_missing, ModelNotFoundError),
        (_without_manifest, ModelNotFoundError),
        (_stray, UnsafeModelError),
        (_edited_gain, CorruptDataError),
        (_infinite_gain, CorruptDataError),
        (_path_in_manifest, UnsafeModelError),
        (_pickle_in_manifest, UnsafeModelError),
        (_no_json, CorruptDataError),
    ],
)
def test_a_damaged_or_hostile_folder_is_refused_by_name(
    damage: object, error: type[PilothouseError], onnx_folder: Path, tmp_path: Path
) -> None:
    folder = copied(onnx_folder, tmp_path)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(error):
        OnnxBackend(folder, BUCKETS)


def test_a_folder_with_pickles_gets_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsafeModelError, match="pickle"):
        write_manifest(tmp_path, max_sequence_tokens=8)
    (tmp_path / "weights.pt").rename(tmp_path / "modeling.py")
    with pytest.raises(UnsafeModelError, match="code"):
        write_manifest(tmp_path, max_sequence_tokens=8)


def test_the_torch_backend_checks_the_manifest_too(reward_folder: Path, tmp_path: Path) -> None:
    folder = copied(reward_folder, tmp_path)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(CorruptDataError, match=r"model\.safetensors"):
        TorchBackend(folder)


def test_a_graph_with_other_inputs_is_refused(onnx_folder: Path, tmp_path: Path) -> None:
    import onnx

    folder = copied(onnx_folder, tmp_path)
    graph = onnx.load(folder / "model.onnx")
    for node in graph.graph.node:
        node.input[:] = ["ids" if name == "input_ids" else name for name in node.input]
    graph.graph.input[0].name = "ids"
    onnx.save(graph, folder / "model.onnx")
    rewrite(folder)
    with pytest.raises(CorruptDataError, match="input_ids"):
        OnnxBackend(folder, BUCKETS)
