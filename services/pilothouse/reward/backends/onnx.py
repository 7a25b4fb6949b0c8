"""Scores on ONNX Runtime. Axes: B rows, T tokens of the longest row."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime
import structlog

from pilothouse.errors import CorruptDataError, ProviderUnavailableError, ScoringFailedError, UnsafeModelError
from pilothouse.models.reward_files import read_manifest
from pilothouse.models.text import TextCodec
from pilothouse.reward.backends.base import Backend, Buckets, Row, normalise, pad
from pilothouse.reward.backends.onnx_files import external_files
from pilothouse.reward.config import ProviderName
from pilothouse.tensors import Floats

MODEL_FILE = "model.onnx"
"""Name of the graph in a model folder."""

PROVIDERS: dict[ProviderName, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""ONNX Runtime's names of the providers."""

_INPUTS = {"input_ids": "tensor(int64)", "lengths": "tensor(int64)"}

_log = structlog.get_logger()


class OnnxBackend(Backend):
    """An exported reward model: ``input_ids`` int64 [B, T], ``lengths`` int64 [B], ``score`` float32 [B]."""

    kind = "onnx"
    codec: TextCodec

    def __init__(
        self,
        folder: Path,
        buckets: Buckets,
        *,
        providers: Sequence[ProviderName] = ("tensorrt", "cuda", "cpu"),
        require: Sequence[ProviderName] = (),
        threads: int | None = None,
    ) -> None:
        """Opens a model folder after checking every file that its manifest names.

        Args:
            folder: As written by ``pilothouse export``.
            buckets: Lengths to which rows are padded.
            providers: In order of preference; unavailable ones are passed over.
            require: Providers that must really be in use.
            threads: Compute threads of the CPU provider; None lets ONNX Runtime choose.

        Raises:
            ModelNotFoundError: The folder, its manifest or a file is missing.
            UnsafeModelError: A file is a link, a pickle or code, or the graph reaches out of the manifest.
            CorruptDataError: A file's bytes are not those of the manifest, or are no usable ONNX model.
            ProviderUnavailableError: A required provider is not in use.
        """
        self._manifest = read_manifest(folder)
        _check_graph_files(folder, self._manifest.files)
        self.codec = TextCodec.load(folder)
        self.vocabulary_size = self._manifest.vocabulary_size or self.codec.vocabulary_size
        self.version = self._manifest.version
        self.max_sequence_tokens = self._manifest.max_sequence_tokens
        self._buckets = buckets
        self._session = open_session(folder / MODEL_FILE, providers, threads)
        self.providers = tuple(self._session.get_providers())
        _require(self.providers, require)
        _check_signature(self._session)
        _log.info("onnx_model_loaded", providers=self.providers, reward_version=self.version)

    def score(self, rows: Sequence[Row]) -> Floats:
        """Returns the normalised score of every row, float32 of shape [B].

        Raises:
            ScoringFailedError: ONNX Runtime failed.
        """
        ids, lengths = pad(rows, self._buckets, self.codec.pad_id, self.max_sequence_tokens)
        try:
            (raw,) = self._session.run(["score"], {"input_ids": ids, "lengths": lengths})
        except Exception as error:  # its exceptions have no base of their own
            _log.exception("onnx_runtime_failed", rows=len(rows), tokens=ids.size)
            raise ScoringFailedError(
                f"ONNX Runtime failed on {len(rows)} rows of {ids.shape[1]} tokens; "
                "the cause is in the reward service's log"
            ) from error
        return normalise(raw, self._manifest, len(rows))

    def close(self) -> None:
        """Frees the session."""
        del self._session


def open_session(
    model: Path, providers: Sequence[ProviderName], threads: int | None
) -> onnxruntime.InferenceSession:
    """Opens a graph on the first of the providers that works.

    ``get_available_providers`` tells what the wheel was built with, not what this machine can run: a session
    may silently fall back to the CPU. Only the session itself knows, so callers ask it afterwards.

    Raises:
        CorruptDataError: It is no usable ONNX model.
        ProviderUnavailableError: None of the providers is available.
    """
    available = set(onnxruntime.get_available_providers())
    wanted = [PROVIDERS[name] for name in providers if PROVIDERS[name] in available]
    if not wanted:
        raise ProviderUnavailableError(
            f"none of the providers {', '.join(providers)} is available; add cpu, or install onnxruntime-gpu"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings about unused axes are not for operators
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(model), sess_options=options, providers=wanted)
    except Exception as error:  # its exceptions have no base of their own
        raise CorruptDataError(f"ONNX Runtime cannot open {model}: {error}") from error


def _require(in_use: Sequence[str], required: Sequence[ProviderName]) -> None:
    missing = [name for name in required if PROVIDERS[name] not in in_use]
    if missing:
        raise ProviderUnavailableError(
            f"required provider {', '.join(missing)} is not in use: the session runs on {', '.join(in_use)}; "
            "install onnxruntime-gpu with its CUDA and TensorRT libraries, or take it out of `require`"
        )


def _check_graph_files(folder: Path, files: dict[str, str]) -> None:
    needed = {MODEL_FILE, "tokenizer.json", "tokenizer_config.json"}
    if not needed <= files.keys():
        lacking = ", ".join(sorted(needed - files.keys()))
        raise CorruptDataError(f"the manifest in {folder} does not name {lacking}; export the model anew")
    outside = external_files(folder / MODEL_FILE) - files.keys()
    if outside:
        raise UnsafeModelError(
            f"{MODEL_FILE} keeps tensors outside of what its manifest names: {', '.join(sorted(outside))}"
        )


def _check_signature(session: onnxruntime.InferenceSession) -> None:
    inputs = {node.name: node.type for node in session.get_inputs()}
    if inputs != _INPUTS or "score" not in {node.name for node in session.get_outputs()}:
        raise CorruptDataError(
            f"{MODEL_FILE} must have the inputs {_INPUTS} and the output score, got {inputs}; export it anew"
        )
