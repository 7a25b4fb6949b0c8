"""Puts the reference service together."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from pilothouse.errors import ConfigError
from pilothouse.models.load import CausalLM, load_causal_lm, parameters_by_name, state_digest
from pilothouse.models.threads import one_thread
from pilothouse.reference.config import ReferenceConfig
from pilothouse.reference.engine import ReferenceEngine
from pilothouse.reference.requests import RequestReader
from pilothouse.reference.servicer import ReferenceServicer
from pilothouse.reference.worker import Worker
from pilothouse.server import Server
from pilothouse.v1 import reference_pb2_grpc

_log = structlog.get_logger()


@asynccontextmanager
async def build(config: ReferenceConfig) -> AsyncIterator[Sequence[Server]]:
    """Loads the model and yields the one server, not started.

    Raises:
        PilothouseError: The model cannot be loaded, or has a shorter context than the configuration asks for.
    """
    with one_thread() as threads:
        loaded = load_causal_lm(config.model, device=config.device, dtype=config.dtype)
    digest = state_digest(parameters_by_name(loaded.model))
    engine = ReferenceEngine(
        loaded.weights,
        max_sequence_tokens=_max_sequence_tokens(config, loaded),
        max_batch_tokens=config.max_batch_tokens,
        max_request_tokens=config.max_request_tokens,
    )
    _log.info("reference_ready", model=loaded.name, architecture=loaded.spec.architecture, digest=digest)
    worker = Worker(config.threads or threads)
    try:
        server = Server(config.server, "reference")
        reader = RequestReader(engine, loaded.codec, max_text_bytes=config.max_text_bytes)
        servicer = ReferenceServicer(
            engine, worker, reader, name=loaded.name, digest=digest, tokenizer_digest=loaded.codec.digest
        )
        reference_pb2_grpc.add_ReferenceServiceServicer_to_server(servicer, server.grpc)
        server.services("pilothouse.v1.ReferenceService")
        yield [server]
    finally:
        await asyncio.to_thread(worker.close)


def _max_sequence_tokens(config: ReferenceConfig, loaded: CausalLM) -> int:
    longest = loaded.spec.max_positions
    if config.max_sequence_tokens is not None and config.max_sequence_tokens > longest:
        raise ConfigError(
            f"reference.max_sequence_tokens is {config.max_sequence_tokens}, but {loaded.name} has a context "
            f"of {longest}; set it lower"
        )
    return config.max_sequence_tokens or longest
