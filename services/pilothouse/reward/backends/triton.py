"""Scores on a remote Triton server, or another of the Open Inference Protocol v2. B rows, T tokens."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import grpc
import numpy as np
import structlog
import tritonclient.grpc as triton
from blake3 import blake3
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from pilothouse.client import channels
from pilothouse.errors import (
    CorruptDataError,
    DeadlineExceededError,
    ModelNotFoundError,
    PilothouseError,
    ScoringFailedError,
    UnavailableError,
)
from pilothouse.models.reward_files import RewardManifest, read_manifest
from pilothouse.models.text import TextCodec
from pilothouse.reward.backends.base import Backend, Buckets, Row, normalise, pad
from pilothouse.reward.config import TritonConfig
from pilothouse.tensors import Array, Floats
from pilothouse.tls import Certificates

_VERSION = "reward_version"
"""Parameter of the remote model's configuration that names its version; `deploy/triton/serve.sh` sets it."""

_PLAIN = RewardManifest(gain=1.0, bias=0.0, max_sequence_tokens=0, files={})

_ERRORS: dict[str, type[PilothouseError]] = {
    str(grpc.StatusCode.UNAVAILABLE): UnavailableError,
    str(grpc.StatusCode.DEADLINE_EXCEEDED): DeadlineExceededError,
    str(grpc.StatusCode.NOT_FOUND): ModelNotFoundError,
}

_log = structlog.get_logger()


class TritonBackend(Backend):
    """Sends batches to one model of a remote server and applies the normaliser here."""

    kind = "triton"

    def __init__(
        self, config: TritonConfig, buckets: Buckets, *, folder: Path | None, codec: TextCodec | None = None
    ) -> None:
        """Asks the server for its model.

        Args:
            config: Where it is and what it reads.
            buckets: Lengths to which rows are padded.
            folder: The exported model's, with tokenizer and normaliser; None where the server reads text.
            codec: For a server that reads text, what turns token ids into it.

        Raises:
            ConfigError: The certificate files cannot be used.
            UnavailableError: The server cannot be reached.
            ModelNotFoundError: It does not have the model, or the folder is none.
            CorruptDataError: It serves another version than the folder's.
        """
        self._config = config
        self._buckets = buckets
        self._manifest = read_manifest(folder) if folder else _PLAIN
        self.reads = config.inputs
        self.codec = TextCodec.load(folder) if folder else codec
        if self.reads == "tokens" and self.codec is not None:
            self.vocabulary_size = self._manifest.vocabulary_size or self.codec.vocabulary_size
        self.max_sequence_tokens = self._manifest.max_sequence_tokens
        self._client = triton.InferenceServerClient(
            config.target,
            creds=channels.credentials(Certificates(config.tls).current()) if config.tls else None,
            channel_args=_channel_options(config),
        )
        self.version = self._remote_version()

    def score(self, rows: Sequence[Row]) -> Floats:
        """Returns the normalised score of every row, float32 of shape [B].

        Raises:
            UnavailableError: The server cannot be reached.
            DeadlineExceededError: It did not answer within the configured time, or before the last caller of
                the batch stopped waiting.
            ScoringFailedError: It failed, or its answer lacks the output.
        """
        try:
            answer = self._client.infer(
                self._config.model,
                self._token_inputs(rows) if self.reads == "tokens" else _text_inputs(rows),
                model_version=self._config.model_version,
                outputs=[triton.InferRequestedOutput(self._config.output)],
                client_timeout=self._seconds_for(rows),
            )
        except InferenceServerException as error:
            raise self._explain(error) from error
        raw = answer.as_numpy(self._config.output)
        if raw is None:
            raise ScoringFailedError(
                f"{self._config.target} answered without the output {self._config.output}"
            )
        return normalise(raw, self._manifest, len(rows))

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _seconds_for(self, rows: Sequence[Row]) -> float:
        """Returns how long a batch may take: its last caller decides, for the others leave by themselves."""
        return min(self._config.timeout_seconds, max(row.deadline for row in rows) - monotonic())

    def _token_inputs(self, rows: Sequence[Row]) -> list[triton.InferInput]:
        assert self.codec is not None
        ids, lengths = pad(rows, self._buckets, self.codec.pad_id, self.max_sequence_tokens)
        return [_input("input_ids", "INT64", ids), _input("lengths", "INT64", lengths[:, None])]

    def _remote_version(self) -> str:
        """Returns the remote model's version: what its configuration says, else the configuration's digest.

        Raises:
            CorruptDataError: The server has another version than the local folder.
        """
        name, version, timeout = self._config.model, self._config.model_version, self._config.timeout_seconds
        try:
            metadata = self._client.get_model_metadata(name, version, client_timeout=timeout)
            config = self._model_config()
        except InferenceServerException as error:
            raise self._explain(error) from error
        told = config.parameters[_VERSION].string_value if _VERSION in config.parameters else ""
        if not told:
            known = f"{list(metadata.versions)} {self._manifest.version}".encode()
            digest = blake3(config.SerializeToString(deterministic=True) + known).hexdigest()
            return f"triton:{name}:{digest}"
        if self.reads == "tokens" and told != self._manifest.version:
            raise CorruptDataError(
                f"{self._config.target} serves reward model version {told}, the local folder is version "
                f"{self._manifest.version}; give both the same exported folder"
            )
        return f"triton:{name}:{told}"

    def _model_config(self) -> model_config_pb2.ModelConfig:
        """Returns the remote model's configuration; empty where the server has only metadata."""
        try:
            return self._client.get_model_config(
                self._config.model, self._config.model_version, client_timeout=self._config.timeout_seconds
            ).config
        except InferenceServerException as error:
            if error.status() != str(grpc.StatusCode.UNIMPLEMENTED):
                raise
            return model_config_pb2.ModelConfig()

    def _explain(self, error: InferenceServerException) -> PilothouseError:
        _log.warning(
            "triton_call_failed", target=self._config.target, status=error.status(), text=error.message()
        )
        kind = _ERRORS.get(str(error.status()), ScoringFailedError)
        return kind(
            f"model '{self._config.model}' on the Triton server {self._config.target} failed "
            f"({str(error.status()).removeprefix('StatusCode.')}); the cause is in the reward service's log"
        )


def _channel_options(config: TritonConfig) -> list[channels.Option]:
    """Returns what our own clients have, but for pings: those are as rare as any server tolerates."""
    return channels.options(
        config.target,
        keepalive_milliseconds=channels.FOREIGN_KEEPALIVE_MILLISECONDS,
        server_name=config.tls.server_name if config.tls else None,
    )


def _text_inputs(rows: Sequence[Row]) -> list[triton.InferInput]:
    prompts = np.array([[row.prompt.encode()] for row in rows], dtype=np.object_)
    responses = np.array([[row.response.encode()] for row in rows], dtype=np.object_)
    return [_input("prompt", "BYTES", prompts), _input("response", "BYTES", responses)]


def _input(name: str, datatype: str, values: Array) -> triton.InferInput:
    tensor = triton.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    return tensor
