"""Puts the reference service together."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import numpy as np
import structlog

from pilothouse.errors import ConfigError
from pilothouse.models.load import CausalLM, load_causal_lm, parameters_by_name, state_digest
from pilothouse.models.memory import keep_freed_memory
from pilothouse.models.threads import one_thread
from pilothouse.reference.config import ReferenceConfig
from pilothouse.reference.engine import ReferenceEngine
from pilothouse.reference.requests import RequestReader
from pilothouse.reference.servicer import ReferenceServicer
from pilothouse.reference.worker import Worker
from pilothouse.server import Server, listening
from pilothouse.v1 import reference_pb2_grpc

_log = structlog.get_logger()


@asynccontextmanager
async def build(config: ReferenceConfig) -> AsyncIterator[Sequence[Server]]:
    """Listens, loads the model, computes once, and yields the one server, not yet serving.

    Raises:
        PilothouseError: The model cannot be loaded, its log-probs are not finite, or it has a shorter context
            than the configuration asks for.
    """
    keep_freed_memory()
    server = Server(config.server, "reference")
    server.services("pilothouse.v1.ReferenceService")
    async with listening([server]), _servicer(config) as servicer:
        reference_pb2_grpc.add_ReferenceServiceServicer_to_server(servicer, server.grpc)
        yield [server]


@asynccontextmanager
async def _servicer(config: ReferenceConfig) -> AsyncIterator[ReferenceServicer]:
    """Yields what answers calls, with its thread warm."""
    loaded, digest, threads = await asyncio.to_thread(_load, config)  # health is answered meanwhile
    engine = ReferenceEngine(
        loaded.weights,
        max_sequence_tokens=_max_sequence_tokens(config, loaded),
        max_batch_tokens=config.max_batch_tokens,
        max_request_tokens=config.max_request_tokens,
    )
    worker = Worker(config.threads or threads)
    try:
        await worker.run(partial(engine.logprobs, [np.zeros(2, np.int32)], [1], 1.0))
        _log.info("reference_ready", model=loaded.name, architecture=loaded.spec.architecture, digest=digest)
        reader = RequestReader(engine, loaded.codec, max_text_bytes=config.max_text_bytes)
        yield ReferenceServicer(
            engine, worker, reader, name=loaded.name, digest=digest, tokenizer_digest=loaded.codec.digest
        )
    finally:
        await asyncio.to_thread(worker.close)


def _load(config: ReferenceConfig) -> tuple[CausalLM, str, int]:
    """Returns (model, digest, threads that torch would choose)."""
    with one_thread() as threads:
        loaded = load_causal_lm(config.model, device=config.device, dtype=config.dtype)
        return loaded, state_digest(parameters_by_name(loaded.model)), threads


def _max_sequence_tokens(config: ReferenceConfig, loaded: CausalLM) -> int:
    longest = loaded.spec.max_positions
    if config.max_sequence_tokens is not None and config.max_sequence_tokens > longest:
        raise ConfigError(
            f"reference.max_sequence_tokens is {config.max_sequence_tokens}, but {loaded.name} has a context "
            f"of {longest}; set it lower"
        )
    return config.max_sequence_tokens or longest
