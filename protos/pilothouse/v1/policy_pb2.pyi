from pilothouse.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP_TOKEN: _ClassVar[FinishReason]
    FINISH_REASON_STOP_STRING: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP_TOKEN: FinishReason
FINISH_REASON_STOP_STRING: FinishReason
FINISH_REASON_LENGTH: FinishReason

class SamplingParams(_message.Message):
    __slots__ = ("temperature", "top_p", "top_k", "min_new_tokens", "max_new_tokens", "stop_token_ids", "stop_strings", "ignore_eos")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    STOP_STRINGS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    top_k: int
    min_new_tokens: int
    max_new_tokens: int
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    stop_strings: _containers.RepeatedScalarFieldContainer[str]
    ignore_eos: bool
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., min_new_tokens: _Optional[int] = ..., max_new_tokens: _Optional[int] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., stop_strings: _Optional[_Iterable[str]] = ..., ignore_eos: _Optional[bool] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("texts", "tokens", "chats", "sampling", "n", "seeds", "stream_tokens")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    CHATS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    STREAM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    texts: _tensor_pb2.Texts
    tokens: _tensor_pb2.TokenSequences
    chats: _tensor_pb2.Chats
    sampling: SamplingParams
    n: int
    seeds: _tensor_pb2.Tensor
    stream_tokens: bool
    def __init__(self, texts: _Optional[_Union[_tensor_pb2.Texts, _Mapping]] = ..., tokens: _Optional[_Union[_tensor_pb2.TokenSequences, _Mapping]] = ..., chats: _Optional[_Union[_tensor_pb2.Chats, _Mapping]] = ..., sampling: _Optional[_Union[SamplingParams, _Mapping]] = ..., n: _Optional[int] = ..., seeds: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., stream_tokens: _Optional[bool] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("completion", "chunk")
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    completion: Completion
    chunk: TokenChunk
    def __init__(self, completion: _Optional[_Union[Completion, _Mapping]] = ..., chunk: _Optional[_Union[TokenChunk, _Mapping]] = ...) -> None: ...

class Completion(_message.Message):
    __slots__ = ("prompt_index", "sample_index", "tokens", "logprobs", "text", "finish_reason", "version_spans", "prompt_tokens")
    PROMPT_INDEX_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_INDEX_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    VERSION_SPANS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_index: int
    sample_index: int
    tokens: _tensor_pb2.Tensor
    logprobs: _tensor_pb2.Tensor
    text: str
    finish_reason: FinishReason
    version_spans: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.VersionSpan]
    prompt_tokens: int
    def __init__(self, prompt_index: _Optional[int] = ..., sample_index: _Optional[int] = ..., tokens: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., logprobs: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., text: _Optional[str] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., version_spans: _Optional[_Iterable[_Union[_tensor_pb2.VersionSpan, _Mapping]]] = ..., prompt_tokens: _Optional[int] = ...) -> None: ...

class TokenChunk(_message.Message):
    __slots__ = ("completions", "tokens", "logprobs")
    COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    completions: _tensor_pb2.Tensor
    tokens: _tensor_pb2.TokenSequences
    logprobs: _tensor_pb2.Tensor
    def __init__(self, completions: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., tokens: _Optional[_Union[_tensor_pb2.TokenSequences, _Mapping]] = ..., logprobs: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class LogprobsRequest(_message.Message):
    __slots__ = ("sequences", "prompt_lengths", "temperature", "texts")
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    sequences: _tensor_pb2.TokenSequences
    prompt_lengths: _tensor_pb2.Tensor
    temperature: float
    texts: _tensor_pb2.TextSequences
    def __init__(self, sequences: _Optional[_Union[_tensor_pb2.TokenSequences, _Mapping]] = ..., prompt_lengths: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., temperature: _Optional[float] = ..., texts: _Optional[_Union[_tensor_pb2.TextSequences, _Mapping]] = ...) -> None: ...

class LogprobsResponse(_message.Message):
    __slots__ = ("logprobs", "lengths", "epoch", "version", "tokenised")
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TOKENISED_FIELD_NUMBER: _ClassVar[int]
    logprobs: _tensor_pb2.Tensor
    lengths: _tensor_pb2.Tensor
    epoch: int
    version: int
    tokenised: _tensor_pb2.TokenisedTexts
    def __init__(self, logprobs: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., lengths: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., epoch: _Optional[int] = ..., version: _Optional[int] = ..., tokenised: _Optional[_Union[_tensor_pb2.TokenisedTexts, _Mapping]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "architecture", "epoch", "version", "digest", "vocabulary_size", "max_sequence_tokens", "max_running", "max_waiting", "eos_token_ids", "tokenizer_digest")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_SEQUENCE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_FIELD_NUMBER: _ClassVar[int]
    MAX_WAITING_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    model: str
    architecture: str
    epoch: int
    version: int
    digest: str
    vocabulary_size: int
    max_sequence_tokens: int
    max_running: int
    max_waiting: int
    eos_token_ids: _containers.RepeatedScalarFieldContainer[int]
    tokenizer_digest: str
    def __init__(self, model: _Optional[str] = ..., architecture: _Optional[str] = ..., epoch: _Optional[int] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ..., vocabulary_size: _Optional[int] = ..., max_sequence_tokens: _Optional[int] = ..., max_running: _Optional[int] = ..., max_waiting: _Optional[int] = ..., eos_token_ids: _Optional[_Iterable[int]] = ..., tokenizer_digest: _Optional[str] = ...) -> None: ...
