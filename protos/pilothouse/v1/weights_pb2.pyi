from pilothouse.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WeightEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WEIGHT_ENCODING_UNSPECIFIED: _ClassVar[WeightEncoding]
    WEIGHT_ENCODING_DENSE: _ClassVar[WeightEncoding]
    WEIGHT_ENCODING_UNCHANGED: _ClassVar[WeightEncoding]

class KvPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KV_POLICY_UNSPECIFIED: _ClassVar[KvPolicy]
    KV_POLICY_KEEP: _ClassVar[KvPolicy]
    KV_POLICY_RECOMPUTE: _ClassVar[KvPolicy]
WEIGHT_ENCODING_UNSPECIFIED: WeightEncoding
WEIGHT_ENCODING_DENSE: WeightEncoding
WEIGHT_ENCODING_UNCHANGED: WeightEncoding
KV_POLICY_UNSPECIFIED: KvPolicy
KV_POLICY_KEEP: KvPolicy
KV_POLICY_RECOMPUTE: KvPolicy

class WeightEntry(_message.Message):
    __slots__ = ("name", "dtype", "shape", "encoding", "size_bytes", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: _tensor_pb2.DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    encoding: WeightEncoding
    size_bytes: int
    digest: bytes
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[_tensor_pb2.DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., encoding: _Optional[_Union[WeightEncoding, str]] = ..., size_bytes: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("entries", "total_size_bytes", "digest")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[WeightEntry]
    total_size_bytes: int
    digest: bytes
    def __init__(self, entries: _Optional[_Iterable[_Union[WeightEntry, _Mapping]]] = ..., total_size_bytes: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class BeginPushRequest(_message.Message):
    __slots__ = ("run", "epoch", "version", "parent_epoch", "parent_version", "manifest")
    RUN_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    PARENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    run: str
    epoch: int
    version: int
    parent_epoch: int
    parent_version: int
    manifest: Manifest
    def __init__(self, run: _Optional[str] = ..., epoch: _Optional[int] = ..., version: _Optional[int] = ..., parent_epoch: _Optional[int] = ..., parent_version: _Optional[int] = ..., manifest: _Optional[_Union[Manifest, _Mapping]] = ...) -> None: ...

class BeginPushResponse(_message.Message):
    __slots__ = ("push_id", "next_offset", "lease_seconds", "max_chunk_bytes")
    PUSH_ID_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    push_id: str
    next_offset: int
    lease_seconds: float
    max_chunk_bytes: int
    def __init__(self, push_id: _Optional[str] = ..., next_offset: _Optional[int] = ..., lease_seconds: _Optional[float] = ..., max_chunk_bytes: _Optional[int] = ...) -> None: ...

class UploadPushRequest(_message.Message):
    __slots__ = ("push_id", "offset", "data", "crc32")
    PUSH_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    push_id: str
    offset: int
    data: bytes
    crc32: int
    def __init__(self, push_id: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., crc32: _Optional[int] = ...) -> None: ...

class UploadPushResponse(_message.Message):
    __slots__ = ("next_offset",)
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    next_offset: int
    def __init__(self, next_offset: _Optional[int] = ...) -> None: ...

class CommitPushRequest(_message.Message):
    __slots__ = ("push_id", "kv_policy", "probes")
    PUSH_ID_FIELD_NUMBER: _ClassVar[int]
    KV_POLICY_FIELD_NUMBER: _ClassVar[int]
    PROBES_FIELD_NUMBER: _ClassVar[int]
    push_id: str
    kv_policy: KvPolicy
    probes: _tensor_pb2.TokenSequences
    def __init__(self, push_id: _Optional[str] = ..., kv_policy: _Optional[_Union[KvPolicy, str]] = ..., probes: _Optional[_Union[_tensor_pb2.TokenSequences, _Mapping]] = ...) -> None: ...

class CommitPushResponse(_message.Message):
    __slots__ = ("epoch", "version", "digest", "probe_logprobs", "swap_seconds")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PROBE_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    SWAP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    version: int
    digest: bytes
    probe_logprobs: _tensor_pb2.Tensor
    swap_seconds: float
    def __init__(self, epoch: _Optional[int] = ..., version: _Optional[int] = ..., digest: _Optional[bytes] = ..., probe_logprobs: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., swap_seconds: _Optional[float] = ...) -> None: ...

class AbortPushRequest(_message.Message):
    __slots__ = ("push_id",)
    PUSH_ID_FIELD_NUMBER: _ClassVar[int]
    push_id: str
    def __init__(self, push_id: _Optional[str] = ...) -> None: ...

class AbortPushResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetPushRequest(_message.Message):
    __slots__ = ("push_id",)
    PUSH_ID_FIELD_NUMBER: _ClassVar[int]
    push_id: str
    def __init__(self, push_id: _Optional[str] = ...) -> None: ...

class GetPushResponse(_message.Message):
    __slots__ = ("next_offset", "total_size_bytes", "committed")
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    next_offset: int
    total_size_bytes: int
    committed: bool
    def __init__(self, next_offset: _Optional[int] = ..., total_size_bytes: _Optional[int] = ..., committed: _Optional[bool] = ...) -> None: ...

class GetWeightsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetWeightsResponse(_message.Message):
    __slots__ = ("instance", "epoch", "version", "digest", "fence", "open_epoch", "open_version", "tokenizer_digest", "taken_back_epoch", "taken_back_version")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    OPEN_EPOCH_FIELD_NUMBER: _ClassVar[int]
    OPEN_VERSION_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TAKEN_BACK_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TAKEN_BACK_VERSION_FIELD_NUMBER: _ClassVar[int]
    instance: str
    epoch: int
    version: int
    digest: bytes
    fence: int
    open_epoch: int
    open_version: int
    tokenizer_digest: str
    taken_back_epoch: int
    taken_back_version: int
    def __init__(self, instance: _Optional[str] = ..., epoch: _Optional[int] = ..., version: _Optional[int] = ..., digest: _Optional[bytes] = ..., fence: _Optional[int] = ..., open_epoch: _Optional[int] = ..., open_version: _Optional[int] = ..., tokenizer_digest: _Optional[str] = ..., taken_back_epoch: _Optional[int] = ..., taken_back_version: _Optional[int] = ...) -> None: ...

class FetchWeightsRequest(_message.Message):
    __slots__ = ("above_epoch", "above_version")
    ABOVE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    ABOVE_VERSION_FIELD_NUMBER: _ClassVar[int]
    above_epoch: int
    above_version: int
    def __init__(self, above_epoch: _Optional[int] = ..., above_version: _Optional[int] = ...) -> None: ...

class ServedWeights(_message.Message):
    __slots__ = ("epoch", "version", "fence", "manifest", "digest", "tensor_digests", "taken_back_epoch", "taken_back_version")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TENSOR_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    TAKEN_BACK_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TAKEN_BACK_VERSION_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    version: int
    fence: int
    manifest: Manifest
    digest: bytes
    tensor_digests: _containers.RepeatedScalarFieldContainer[bytes]
    taken_back_epoch: int
    taken_back_version: int
    def __init__(self, epoch: _Optional[int] = ..., version: _Optional[int] = ..., fence: _Optional[int] = ..., manifest: _Optional[_Union[Manifest, _Mapping]] = ..., digest: _Optional[bytes] = ..., tensor_digests: _Optional[_Iterable[bytes]] = ..., taken_back_epoch: _Optional[int] = ..., taken_back_version: _Optional[int] = ...) -> None: ...

class FetchWeightsResponse(_message.Message):
    __slots__ = ("weights", "chunk")
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    weights: ServedWeights
    chunk: UploadPushRequest
    def __init__(self, weights: _Optional[_Union[ServedWeights, _Mapping]] = ..., chunk: _Optional[_Union[UploadPushRequest, _Mapping]] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("kv_policy",)
    KV_POLICY_FIELD_NUMBER: _ClassVar[int]
    kv_policy: KvPolicy
    def __init__(self, kv_policy: _Optional[_Union[KvPolicy, str]] = ...) -> None: ...

class RollbackResponse(_message.Message):
    __slots__ = ("epoch", "version")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    version: int
    def __init__(self, epoch: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...
