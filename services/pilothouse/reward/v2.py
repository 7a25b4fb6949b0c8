"""The Open Inference Protocol v2 on the same port: an unmodified Triton or KServe client scores text here.

The messages are those that ``tritonclient`` ships: a second copy of the proto package ``inference`` in one
process collides in protobuf's descriptor pool. Methods that manage a Triton server are not offered.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version as package_version
from math import prod
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from pilothouse.errors import InvalidRequestError, InvalidTensorError, NotFoundError
from pilothouse.reward.batch import Texts
from pilothouse.reward.models import RewardModels
from pilothouse.reward.rows import deadline_of
from pilothouse.reward.scorer import Answer

V2_SERVICE = "inference.GRPCInferenceService"
"""Full name of the service."""

Context = grpc.aio.ServicerContext[Any, Any]

_LENGTH_BYTES = 4
_OUTPUT = "score"


class InferenceServicer:
    """Answers the six methods by which clients find and use a model."""

    def __init__(self, models: RewardModels, *, model_name: str) -> None:
        self._models = models
        self._model_name = model_name

    async def ServerLive(self, request: Any, context: Context) -> Any:
        """The process answers."""
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Context) -> Any:
        """The scorer is loaded: no call is let through before."""
        return service_pb2.ServerReadyResponse(ready=True)

    async def ModelReady(self, request: Any, context: Context) -> Any:
        """Whether the named model is the one served here."""
        return service_pb2.ModelReadyResponse(ready=self._is_served(request.name, request.version))

    async def ServerMetadata(self, request: Any, context: Context) -> Any:
        """Name and version of this server."""
        return service_pb2.ServerMetadataResponse(
            name="pilothouse", version=package_version("pilothouse"), extensions=[]
        )

    async def ModelMetadata(self, request: Any, context: Context) -> Any:
        """Inputs and outputs of the scorer."""
        self._require_served(request.name, request.version)
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata
        return service_pb2.ModelMetadataResponse(
            name=self._model_name,
            versions=[self._models.serving.version],
            platform=f"pilothouse_{self._models.serving.composite.kind}",
            inputs=[
                tensor(name="prompt", datatype="BYTES", shape=[-1]),
                tensor(name="response", datatype="BYTES", shape=[-1]),
            ],
            outputs=[tensor(name=_OUTPUT, datatype="FP32", shape=[-1])],
        )

    async def ModelInfer(self, request: Any, context: Context) -> Any:
        """Scores texts: inputs ``prompt`` and ``response``, or ``text`` alone, which has no prompt."""
        deadline = deadline_of(context.time_remaining())
        self._require_served(request.model_name, request.model_version)
        _check_outputs(request)
        shape = _shape(request)
        self._models.serving.rows.check_count(
            prod(shape)
        )  # before any text is read: a request may hold millions of them
        texts = _texts(request, prod(shape))
        if texts.keys() == {"text"}:
            prompts, responses = [""] * len(texts["text"]), texts["text"]
        else:
            prompts, responses = texts["prompt"], texts["response"]
        # Nothing was awaited since the version was compared: what was asked for is what scores.
        answer = await self._models.score(lambda _: Texts(prompts, responses), deadline)
        return self._encode(request, answer, shape)

    def _encode(self, request: Any, answer: Answer, shape: Sequence[int]) -> Any:
        """Answers raw bytes to raw bytes and typed contents to typed contents."""
        response = service_pb2.ModelInferResponse(
            model_name=self._model_name, model_version=answer.version, id=request.id
        )
        output = response.outputs.add(name=_OUTPUT, datatype="FP32", shape=shape)
        if request.raw_input_contents:
            response.raw_output_contents.append(answer.scored.values.astype("<f4").tobytes())
        else:
            output.contents.fp32_contents.extend(answer.scored.values.tolist())
        return response

    def _is_served(self, name: str, version: str) -> bool:
        return name == self._model_name and version in ("", "1", self._models.serving.version)

    def _require_served(self, name: str, version: str) -> None:
        if not self._is_served(name, version):
            raise NotFoundError(
                f"this server has the model '{self._model_name}', version {self._models.serving.version}; "
                "leave the version empty for whatever is served"
            )


def add_v2(servicer: InferenceServicer, server: grpc.aio.Server) -> None:
    """Adds the service's six methods to a server; the others stay unimplemented."""
    methods: dict[str, Callable[..., Any]] = {
        "ServerLive": servicer.ServerLive,
        "ServerReady": servicer.ServerReady,
        "ModelReady": servicer.ModelReady,
        "ServerMetadata": servicer.ServerMetadata,
        "ModelMetadata": servicer.ModelMetadata,
        "ModelInfer": servicer.ModelInfer,
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            method,
            request_deserializer=getattr(service_pb2, f"{name}Request").FromString,
            response_serializer=getattr(service_pb2, f"{name}Response").SerializeToString,
        )
        for name, method in methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(V2_SERVICE, handlers),))


def _check_outputs(request: Any) -> None:
    unknown = {output.name for output in request.outputs} - {_OUTPUT}
    if unknown:
        raise InvalidRequestError(
            f"there is no output {', '.join(sorted(unknown))}; the one output is {_OUTPUT}"
        )


def _shape(request: Any) -> list[int]:
    """Returns the shape of every input, which the answer takes over.

    Raises:
        InvalidTensorError: The inputs are not those of the model, or their shapes differ or make no batch.
    """
    names = [tensor.name for tensor in request.inputs]
    if sorted(names) not in (["prompt", "response"], ["text"]):
        raise InvalidTensorError(f"the inputs must be prompt and response, or text alone; got {names}")
    shapes = {tuple(tensor.shape) for tensor in request.inputs}
    if len(shapes) != 1:
        raise InvalidTensorError("prompt and response must have the same shape")
    shape = list(shapes.pop())
    if len(shape) not in (1, 2) or min(shape) < 0 or shape[1:] not in ([], [1]):
        raise InvalidTensorError(f"inputs must have shape [batch] or [batch, 1], got {shape}")
    return shape


def _texts(request: Any, count: int) -> dict[str, list[str]]:
    """Returns the texts of every input, ``count`` each.

    Raises:
        InvalidTensorError: An input's content is not that many texts.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidTensorError(
            f"{len(request.inputs)} inputs, but {len(raw)} raw_input_contents; send one each"
        )
    texts = {}
    for index, tensor in enumerate(request.inputs):
        if tensor.datatype != "BYTES":
            raise InvalidTensorError(
                f"input {tensor.name} must have the datatype BYTES, got {tensor.datatype}"
            )
        rows = _split_bytes(raw[index], count + 1) if raw else tensor.contents.bytes_contents
        if len(rows) != count:
            found = f"more than {count}" if len(rows) > count else str(len(rows))
            raise InvalidTensorError(f"input {tensor.name} holds {found} texts, its shape says {count}")
        texts[tensor.name] = [_text(tensor.name, row) for row in rows]
    return texts


def _split_bytes(content: bytes, most: int) -> list[bytes]:
    """Returns the first elements of a BYTES tensor, each after its length as a little-endian 32-bit number.

    Args:
        content: The tensor.
        most: No more elements than these are read.
    """
    rows: list[bytes] = []
    at = 0
    while at < len(content) and len(rows) < most:
        start = at + _LENGTH_BYTES
        end = start + int.from_bytes(content[at:start], "little")
        if start > len(content) or end > len(content):
            raise InvalidTensorError("a BYTES input is cut off; every element needs its 4-byte length")
        rows.append(content[start:end])
        at = end
    return rows


def _text(name: str, row: bytes) -> str:
    try:
        return row.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidTensorError(f"input {name} holds bytes that are not UTF-8 text") from None
