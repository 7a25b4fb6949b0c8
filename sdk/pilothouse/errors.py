"""Every error that Pilothouse raises on purpose.

A message says what is wrong and what would fix it. Each class has a machine reason, derived from its name
(``QueueFullError`` travels as ``QUEUE_FULL``), and a gRPC status code; ``pilothouse.status`` turns it into a
status with ``google.rpc.ErrorInfo`` and back into the same class. To add an error, add a class here.

PilothouseError
├── ConfigError (ValueError)
├── InvalidRequestError (ValueError)
│   ├── InvalidTensorError
│   ├── InvalidDataError
│   ├── InvalidChunkError
│   ├── ManifestMismatchError
│   └── NonFiniteWeightsError
├── UnsupportedArchitectureError
├── ModelNotFoundError (FileNotFoundError)
├── UnsafeModelError
├── NotFoundError (LookupError)
│   └── NoTaskError
├── PermissionDeniedError (PermissionError)
│   └── RaterBarredError
├── PreconditionError
│   ├── LeaseLostError
│   ├── AssignmentClosedError
│   ├── SubmissionConflictError
│   ├── UndoTooLateError
│   ├── FencedError
│   ├── StaleVersionError
│   ├── ParentMismatchError
│   ├── IncompletePushError
│   ├── PushInProgressError
│   ├── NoPreviousWeightsError
│   ├── NoCandidateError
│   ├── CandidateExistsError
│   ├── TokenizerMismatchError
│   ├── StaleRewardModelError
│   ├── NoPreviousRewardModelError
│   ├── AlreadyExistsError
│   ├── ConflictError
│   ├── GoneError
│   └── RunInUseError
├── CorruptDataError
│   ├── CorruptChunkError
│   ├── CorruptPushError
│   └── CorruptCheckpointError
├── QueueFullError
├── StorageFullError
├── DrainingError
├── UnavailableError (ConnectionError)
│   ├── PortClosedError             a pod runs, and nothing listens on its port
│   └── RankLostError               one of the processes that learn together is gone
├── ServiceStartError               embedded mode could not start a service
├── StackError                      `up` while it is up, `down` while it is not
├── DeadlineExceededError (TimeoutError)
├── UnimplementedError
├── InternalError
├── ProtocolError
├── GenerationFailedError
├── ScoringFailedError
│   └── NonFiniteScoreError
├── ProviderUnavailableError
├── ExportParityError
└── RunStoppedError                 a gate ended a training run
    ├── RatioGateError
    ├── LogprobGapError
    ├── NonFiniteLossError
    ├── KlBudgetError
    ├── ReadBackError
    ├── VersionMixError
    └── DivergedRunError
"""

import re
from typing import ClassVar

import grpc

DOMAIN = "pilothouse"
"""Domain of every ``ErrorInfo`` that Pilothouse sends."""

BY_REASON: dict[str, type["PilothouseError"]] = {}
"""Every error class by its machine reason."""


class PilothouseError(Exception):
    """Base of every error raised on purpose. A message says what is wrong and what would fix it."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    """Status code on the wire."""
    reason: ClassVar[str] = "INTERNAL"
    """Machine reason on the wire."""
    retry_after_seconds: float | None = None
    """When trying again may help, in seconds; None where it never helps."""

    def __init_subclass__(cls) -> None:
        """Derives the wire name: ``QueueFullError`` travels as ``QUEUE_FULL``."""
        words = re.findall(r"[A-Z][a-z0-9]*", cls.__name__.removesuffix("Error"))
        cls.reason = "_".join(words).upper()
        BY_REASON[cls.reason] = cls


class ConfigError(PilothouseError, ValueError):
    """A setting is unknown, missing or out of range."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class InvalidRequestError(PilothouseError, ValueError):
    """A request has a value that no server state would make acceptable."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class InvalidTensorError(InvalidRequestError):
    """A tensor's dtype, shape, byte length or values are not what the call takes."""


class InvalidDataError(InvalidRequestError):
    """A data file or one of its records cannot be used."""


class InvalidChunkError(InvalidRequestError):
    """A chunk of a weight upload is out of order, oversized or outside the upload."""


class ManifestMismatchError(InvalidRequestError):
    """A weight manifest names tensors, shapes or types that the served model does not have."""


class NonFiniteWeightsError(InvalidRequestError):
    """Pushed weights hold NaN or infinity."""


class UnsupportedArchitectureError(PilothouseError):
    """The model's architecture is not one that the decoder computes."""

    code = grpc.StatusCode.UNIMPLEMENTED


class ModelNotFoundError(PilothouseError, FileNotFoundError):
    """No model lies where the configuration says."""

    code = grpc.StatusCode.NOT_FOUND


class UnsafeModelError(PilothouseError):
    """A model would need unpickling or remote code, or reaches out of its folder."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFoundError(PilothouseError, LookupError):
    """The named thing does not exist, or no longer."""

    code = grpc.StatusCode.NOT_FOUND


class NoTaskError(NotFoundError):
    """No task is left for this rater."""


class PermissionDeniedError(PilothouseError, PermissionError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED


class RaterBarredError(PermissionDeniedError):
    """The rater was disabled or excluded."""


class PreconditionError(PilothouseError):
    """The server is not in a state in which the call makes sense."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class LeaseLostError(PreconditionError):
    """The lease ran out and another rater has the place."""


class AssignmentClosedError(PreconditionError):
    """The assignment was answered, skipped or given back already."""


class SubmissionConflictError(PreconditionError):
    """The submission's id was used for another content."""


class UndoTooLateError(PreconditionError):
    """The time in which a submission may be taken back is over."""


class FencedError(PreconditionError):
    """A trainer of a newer epoch has taken over."""


class StaleVersionError(PreconditionError):
    """The version is not above the one now serving."""


class ParentMismatchError(PreconditionError):
    """Unchanged tensors refer to a version that is not serving."""


class IncompletePushError(PreconditionError):
    """A commit came before all bytes had arrived."""


class PushInProgressError(PreconditionError):
    """Another push is open; it must be committed or aborted first."""


class NoPreviousWeightsError(PreconditionError):
    """There is no earlier version to roll back to."""


class NoCandidateError(PreconditionError):
    """No reward model is staged."""


class CandidateExistsError(PreconditionError):
    """Another reward model is staged, or being staged; it must be promoted or dropped first."""


class TokenizerMismatchError(PreconditionError):
    """A candidate reads token ids by another tokenizer than the reward model that serves."""


class StaleRewardModelError(PreconditionError):
    """The reward model that serves, or the candidate, is not the one that the caller means."""


class NoPreviousRewardModelError(PreconditionError):
    """There is no earlier reward model to roll back to."""


class AlreadyExistsError(PreconditionError):
    """Something of this name is there already."""


class ConflictError(PreconditionError):
    """An object was changed by somebody else since it was read."""


class GoneError(PreconditionError):
    """What happened since the named version is no longer known; everything must be read again."""


class RunInUseError(PreconditionError):
    """Another process writes to the run directory."""


class CorruptDataError(PilothouseError):
    """Bytes are not those that were written or sent."""

    code = grpc.StatusCode.DATA_LOSS


class CorruptChunkError(CorruptDataError):
    """A chunk's CRC does not match its bytes."""


class CorruptPushError(CorruptDataError):
    """A pushed tensor's digest does not match the manifest."""


class CorruptCheckpointError(CorruptDataError):
    """A checkpoint is incomplete or a file's digest does not match its manifest."""


class QueueFullError(PilothouseError):
    """The server has as much waiting work as it takes."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StorageFullError(PilothouseError):
    """The disk is full; nothing was stored."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retry_after_seconds = 30.0


class DrainingError(PilothouseError):
    """The server is shutting down and takes no new work."""

    code = grpc.StatusCode.UNAVAILABLE


class UnavailableError(PilothouseError, ConnectionError):
    """A service cannot be reached."""

    code = grpc.StatusCode.UNAVAILABLE


class PortClosedError(UnavailableError):
    """A pod runs, but nothing listens on one of its ports."""


class RankLostError(UnavailableError):
    """One of the processes that share a training run ended, or does not answer."""


class ServiceStartError(PilothouseError):
    """A service that embedded mode started ended, or was too slow, before it was serving."""


class StackError(PilothouseError):
    """An embedded stack is running where none may be, or none is where one is needed."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class DeadlineExceededError(PilothouseError, TimeoutError):
    """The call did not end within its deadline, or had none."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class UnimplementedError(PilothouseError):
    """The server does not offer this call or option."""

    code = grpc.StatusCode.UNIMPLEMENTED


class InternalError(PilothouseError):
    """Something failed that nobody foresaw; the server's log has the traceback under the message's id."""


class GenerationFailedError(PilothouseError):
    """The engine could not compute one request; it goes on with the others."""


class ProtocolError(PilothouseError):
    """An answer is not what the contract promises: versions differ, or a side is broken."""


class ScoringFailedError(PilothouseError):
    """The reward backend failed; no score was made up in its place."""


class NonFiniteScoreError(ScoringFailedError):
    """A reward backend or the reference model answered NaN or infinity."""


class ProviderUnavailableError(PilothouseError):
    """A required ONNX Runtime execution provider is not the one in use."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class ExportParityError(PilothouseError):
    """An exported model does not compute what the original computes."""


class RunStoppedError(PilothouseError):
    """A gate ended a training run before it could do harm."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class RatioGateError(RunStoppedError):
    """The first minibatch of a fresh on-policy batch has a ratio other than 1."""


class LogprobGapError(RunStoppedError):
    """Engine and trainer disagree about log-probabilities by more than the limit."""


class NonFiniteLossError(RunStoppedError):
    """A loss or gradient is NaN or infinite."""


class KlBudgetError(RunStoppedError):
    """The policy has moved further from the reference than the configured budget."""


class ReadBackError(RunStoppedError):
    """After a push the policy's log-probabilities of the probes are not the trainer's."""


class VersionMixError(RunStoppedError):
    """Samples, scores or log-probabilities of different model versions came together."""


class DivergedRunError(RunStoppedError):
    """A resumed run does not match its own record."""
