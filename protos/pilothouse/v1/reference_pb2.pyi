from pilothouse.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReferenceServiceLogprobsRequest(_message.Message):
    __slots__ = ("sequences", "prompt_lengths", "temperature", "behaviour_logprobs", "texts")
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LENGTHS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    BEHAVIOUR_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    sequences: _tensor_pb2.TokenSequences
    prompt_lengths: _tensor_pb2.Tensor
    temperature: float
    behaviour_logprobs: _tensor_pb2.Tensor
    texts: _tensor_pb2.TextSequences
    def __init__(self, sequences: _Optional[_Union[_tensor_pb2.TokenSequences, _Mapping]] = ..., prompt_lengths: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., temperature: _Optional[float] = ..., behaviour_logprobs: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., texts: _Optional[_Union[_tensor_pb2.TextSequences, _Mapping]] = ...) -> None: ...

class ReferenceServiceLogprobsResponse(_message.Message):
    __slots__ = ("logprobs", "lengths", "kl", "reference_digest", "tokenised")
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    KL_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TOKENISED_FIELD_NUMBER: _ClassVar[int]
    logprobs: _tensor_pb2.Tensor
    lengths: _tensor_pb2.Tensor
    kl: _tensor_pb2.Tensor
    reference_digest: str
    tokenised: _tensor_pb2.TokenisedTexts
    def __init__(self, logprobs: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., lengths: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., kl: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., reference_digest: _Optional[str] = ..., tokenised: _Optional[_Union[_tensor_pb2.TokenisedTexts, _Mapping]] = ...) -> None: ...

class GetReferenceModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetReferenceModelResponse(_message.Message):
    __slots__ = ("model", "reference_digest", "vocabulary_size", "max_sequence_tokens", "tokenizer_digest")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_SEQUENCE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    model: str
    reference_digest: str
    vocabulary_size: int
    max_sequence_tokens: int
    tokenizer_digest: str
    def __init__(self, model: _Optional[str] = ..., reference_digest: _Optional[str] = ..., vocabulary_size: _Optional[int] = ..., max_sequence_tokens: _Optional[int] = ..., tokenizer_digest: _Optional[str] = ...) -> None: ...
