from pilothouse.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TextPairs(_message.Message):
    __slots__ = ("prompts", "responses")
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    prompts: _containers.RepeatedScalarFieldContainer[str]
    responses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, prompts: _Optional[_Iterable[str]] = ..., responses: _Optional[_Iterable[str]] = ...) -> None: ...

class TokenPairs(_message.Message):
    __slots__ = ("sequences", "prompt_lengths")
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    sequences: _tensor_pb2.TokenSequences
    prompt_lengths: _tensor_pb2.Tensor
    def __init__(self, sequences: _Optional[_Union[_tensor_pb2.TokenSequences, _Mapping]] = ..., prompt_lengths: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("texts", "tokens")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    texts: TextPairs
    tokens: TokenPairs
    def __init__(self, texts: _Optional[_Union[TextPairs, _Mapping]] = ..., tokens: _Optional[_Union[TokenPairs, _Mapping]] = ...) -> None: ...

class ScoreComponent(_message.Message):
    __slots__ = ("name", "weight", "scores")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    name: str
    weight: float
    scores: _tensor_pb2.Tensor
    def __init__(self, name: _Optional[str] = ..., weight: _Optional[float] = ..., scores: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("scores", "reward_version", "components", "disagreement")
    SCORES_FIELD_NUMBER: _ClassVar[int]
    REWARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    DISAGREEMENT_FIELD_NUMBER: _ClassVar[int]
    scores: _tensor_pb2.Tensor
    reward_version: str
    components: _containers.RepeatedCompositeFieldContainer[ScoreComponent]
    disagreement: _tensor_pb2.Tensor
    def __init__(self, scores: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., reward_version: _Optional[str] = ..., components: _Optional[_Iterable[_Union[ScoreComponent, _Mapping]]] = ..., disagreement: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class GetRewardModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRewardModelResponse(_message.Message):
    __slots__ = ("reward_version", "backend", "providers", "max_sequence_tokens", "max_batch_rows", "tokenizer_digest")
    REWARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    MAX_SEQUENCE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    reward_version: str
    backend: str
    providers: _containers.RepeatedScalarFieldContainer[str]
    max_sequence_tokens: int
    max_batch_rows: int
    tokenizer_digest: str
    def __init__(self, reward_version: _Optional[str] = ..., backend: _Optional[str] = ..., providers: _Optional[_Iterable[str]] = ..., max_sequence_tokens: _Optional[int] = ..., max_batch_rows: _Optional[int] = ..., tokenizer_digest: _Optional[str] = ...) -> None: ...
