from pilothouse.v1 import reward_pb2 as _reward_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnsembleCombination(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENSEMBLE_COMBINATION_UNSPECIFIED: _ClassVar[EnsembleCombination]
    ENSEMBLE_COMBINATION_MEAN: _ClassVar[EnsembleCombination]
    ENSEMBLE_COMBINATION_MIN: _ClassVar[EnsembleCombination]
    ENSEMBLE_COMBINATION_MEAN_MINUS_STD: _ClassVar[EnsembleCombination]
ENSEMBLE_COMBINATION_UNSPECIFIED: EnsembleCombination
ENSEMBLE_COMBINATION_MEAN: EnsembleCombination
ENSEMBLE_COMBINATION_MIN: EnsembleCombination
ENSEMBLE_COMBINATION_MEAN_MINUS_STD: EnsembleCombination

class LoadedRewardModel(_message.Message):
    __slots__ = ("reward_version", "folders", "combination", "std_factor", "backend", "providers", "max_sequence_tokens", "tokenizer_digest")
    REWARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    FOLDERS_FIELD_NUMBER: _ClassVar[int]
    COMBINATION_FIELD_NUMBER: _ClassVar[int]
    STD_FACTOR_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    MAX_SEQUENCE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    reward_version: str
    folders: _containers.RepeatedScalarFieldContainer[str]
    combination: EnsembleCombination
    std_factor: float
    backend: str
    providers: _containers.RepeatedScalarFieldContainer[str]
    max_sequence_tokens: int
    tokenizer_digest: str
    def __init__(self, reward_version: _Optional[str] = ..., folders: _Optional[_Iterable[str]] = ..., combination: _Optional[_Union[EnsembleCombination, str]] = ..., std_factor: _Optional[float] = ..., backend: _Optional[str] = ..., providers: _Optional[_Iterable[str]] = ..., max_sequence_tokens: _Optional[int] = ..., tokenizer_digest: _Optional[str] = ...) -> None: ...

class ShadowStatistics(_message.Message):
    __slots__ = ("rows", "mean_difference", "std_difference", "max_absolute_difference", "pairs", "agreement", "dropped_rows", "failed_rows", "waiting_rows")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    MEAN_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    STD_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    MAX_ABSOLUTE_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    DROPPED_ROWS_FIELD_NUMBER: _ClassVar[int]
    FAILED_ROWS_FIELD_NUMBER: _ClassVar[int]
    WAITING_ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    mean_difference: float
    std_difference: float
    max_absolute_difference: float
    pairs: int
    agreement: float
    dropped_rows: int
    failed_rows: int
    waiting_rows: int
    def __init__(self, rows: _Optional[int] = ..., mean_difference: _Optional[float] = ..., std_difference: _Optional[float] = ..., max_absolute_difference: _Optional[float] = ..., pairs: _Optional[int] = ..., agreement: _Optional[float] = ..., dropped_rows: _Optional[int] = ..., failed_rows: _Optional[int] = ..., waiting_rows: _Optional[int] = ...) -> None: ...

class StageRewardModelRequest(_message.Message):
    __slots__ = ("folders", "combination", "std_factor")
    FOLDERS_FIELD_NUMBER: _ClassVar[int]
    COMBINATION_FIELD_NUMBER: _ClassVar[int]
    STD_FACTOR_FIELD_NUMBER: _ClassVar[int]
    folders: _containers.RepeatedScalarFieldContainer[str]
    combination: EnsembleCombination
    std_factor: float
    def __init__(self, folders: _Optional[_Iterable[str]] = ..., combination: _Optional[_Union[EnsembleCombination, str]] = ..., std_factor: _Optional[float] = ...) -> None: ...

class StageRewardModelResponse(_message.Message):
    __slots__ = ("candidate", "serving_version")
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    SERVING_VERSION_FIELD_NUMBER: _ClassVar[int]
    candidate: LoadedRewardModel
    serving_version: str
    def __init__(self, candidate: _Optional[_Union[LoadedRewardModel, _Mapping]] = ..., serving_version: _Optional[str] = ...) -> None: ...

class ListRewardModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRewardModelsResponse(_message.Message):
    __slots__ = ("serving", "previous", "candidate")
    SERVING_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    serving: LoadedRewardModel
    previous: LoadedRewardModel
    candidate: LoadedRewardModel
    def __init__(self, serving: _Optional[_Union[LoadedRewardModel, _Mapping]] = ..., previous: _Optional[_Union[LoadedRewardModel, _Mapping]] = ..., candidate: _Optional[_Union[LoadedRewardModel, _Mapping]] = ...) -> None: ...

class GetCandidateRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCandidateResponse(_message.Message):
    __slots__ = ("candidate", "serving_version", "shadow")
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    SERVING_VERSION_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    candidate: LoadedRewardModel
    serving_version: str
    shadow: ShadowStatistics
    def __init__(self, candidate: _Optional[_Union[LoadedRewardModel, _Mapping]] = ..., serving_version: _Optional[str] = ..., shadow: _Optional[_Union[ShadowStatistics, _Mapping]] = ...) -> None: ...

class ScoreCandidateRequest(_message.Message):
    __slots__ = ("request", "reward_version")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    REWARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    request: _reward_pb2.ScoreRequest
    reward_version: str
    def __init__(self, request: _Optional[_Union[_reward_pb2.ScoreRequest, _Mapping]] = ..., reward_version: _Optional[str] = ...) -> None: ...

class ScoreCandidateResponse(_message.Message):
    __slots__ = ("response",)
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    response: _reward_pb2.ScoreResponse
    def __init__(self, response: _Optional[_Union[_reward_pb2.ScoreResponse, _Mapping]] = ...) -> None: ...

class PromoteRewardModelRequest(_message.Message):
    __slots__ = ("reward_version", "expected_serving_version")
    REWARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SERVING_VERSION_FIELD_NUMBER: _ClassVar[int]
    reward_version: str
    expected_serving_version: str
    def __init__(self, reward_version: _Optional[str] = ..., expected_serving_version: _Optional[str] = ...) -> None: ...

class PromoteRewardModelResponse(_message.Message):
    __slots__ = ("serving",)
    SERVING_FIELD_NUMBER: _ClassVar[int]
    serving: LoadedRewardModel
    def __init__(self, serving: _Optional[_Union[LoadedRewardModel, _Mapping]] = ...) -> None: ...

class RollbackRewardModelRequest(_message.Message):
    __slots__ = ("expected_serving_version",)
    EXPECTED_SERVING_VERSION_FIELD_NUMBER: _ClassVar[int]
    expected_serving_version: str
    def __init__(self, expected_serving_version: _Optional[str] = ...) -> None: ...

class RollbackRewardModelResponse(_message.Message):
    __slots__ = ("serving",)
    SERVING_FIELD_NUMBER: _ClassVar[int]
    serving: LoadedRewardModel
    def __init__(self, serving: _Optional[_Union[LoadedRewardModel, _Mapping]] = ...) -> None: ...

class DropCandidateRequest(_message.Message):
    __slots__ = ("reward_version",)
    REWARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    reward_version: str
    def __init__(self, reward_version: _Optional[str] = ...) -> None: ...

class DropCandidateResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
