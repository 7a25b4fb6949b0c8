"""Puts the policy service together: model, engine, transaction and two servers."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import structlog
from blake3 import blake3
from prometheus_client import REGISTRY, CollectorRegistry
from torch import Tensor

from pilothouse.errors import InternalError
from pilothouse.models.layout import owned
from pilothouse.models.load import CausalLM, load_causal_lm, parameters_by_name, tensor_bytes
from pilothouse.models.panels import in_panels
from pilothouse.models.text import TextCodec
from pilothouse.models.threads import one_thread
from pilothouse.models.weights import DecoderWeights
from pilothouse.policy.catch_up import CatchUp
from pilothouse.policy.config import PolicyConfig
from pilothouse.policy.engine import PolicyEngine
from pilothouse.policy.limits import Limits
from pilothouse.policy.metrics import EngineMetrics, PushMetrics
from pilothouse.policy.push import Served
from pilothouse.policy.requests import Version
from pilothouse.policy.run_folder import newest_on_disk
from pilothouse.policy.runner import ModelRunner
from pilothouse.policy.scheduler import Scheduler
from pilothouse.policy.servicer import ModelCard, PolicyServicer
from pilothouse.policy.warm_up import warm_up
from pilothouse.policy.weights import WeightTransactions
from pilothouse.policy.weights_servicer import WeightsServicer
from pilothouse.server import Server, listening
from pilothouse.v1 import policy_pb2_grpc, weights_pb2_grpc

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def build(
    config: PolicyConfig, *, registry: CollectorRegistry = REGISTRY
) -> AsyncIterator[Sequence[Server]]:
    """Listens, loads the model, warms up, catches up, and yields the servers for policy and weights.

    The one for weights serves already: the trainer and late replicas need it before this one is ready. The
    other refuses calls until its ``start``.

    Raises:
        ModelNotFoundError, UnsafeModelError, UnsupportedArchitectureError, ConfigError: It cannot be served.
        GenerationFailedError: Its logits are not finite.
        InternalError: On leaving: the engine has crashed, so that the process must start anew.
    """
    servers = generate, push = _servers(config)
    async with listening(servers), _servicers(config, registry, servers) as (policy, weights, catch_up):
        policy_pb2_grpc.add_PolicyServiceServicer_to_server(policy, generate.grpc)
        weights_pb2_grpc.add_WeightsServiceServicer_to_server(weights, push.grpc)
        await push.start()
        await catch_up.catch_up()
        following = asyncio.create_task(catch_up.follow(generate.set_serving))
        try:
            yield servers
        finally:
            following.cancel()
            await asyncio.wait([following])


@asynccontextmanager
async def _servicers(
    config: PolicyConfig, registry: CollectorRegistry, servers: Sequence[Server]
) -> AsyncIterator[tuple[PolicyServicer, WeightsServicer, CatchUp]]:
    """Yields what answers calls and follows peers, over one engine; ``servers`` go down if it crashes."""
    model = await asyncio.to_thread(_load, config, registry)  # health is answered meanwhile
    engine, limits = model.engine, model.limits
    transactions = WeightTransactions(
        engine,
        model.served,
        fence=model.published.epoch,
        lease_seconds=config.push_lease_seconds,
        keep_previous=config.keep_previous,
        kv_policy=config.kv_policy,
        probe_tokens=min(config.prefill_tokens, 256),
        metrics=PushMetrics(registry),
    )
    policy = PolicyServicer(
        engine,
        transactions,
        model.codec,
        limits,
        model.card,
        batch_tokens=min(config.prefill_tokens, 512),
    )
    weights = WeightsServicer(transactions, limits, model.card.tokenizer_digest)
    catch_up = CatchUp(transactions, config.catch_up, instance=weights.instance, published=model.published)
    del model  # this frame lives as long as the service: it would keep the first weights
    engine.stopped.add_done_callback(partial(_stop_process, asyncio.get_running_loop(), servers))
    engine.start()
    watch = asyncio.create_task(transactions.watch())
    try:
        await asyncio.wrap_future(engine.in_pieces(warm_up(engine.runner)))
        yield policy, weights, catch_up
    finally:
        watch.cancel()
        await catch_up.close()
        crashed = engine.stopped.done()
        await asyncio.to_thread(engine.close)
    if crashed:
        raise InternalError("the engine crashed (its log has the reason); start the service again")


@dataclass(frozen=True, slots=True)
class _Model:
    """What loading a model gives."""

    served: Served
    engine: PolicyEngine
    """Not started."""
    limits: Limits
    card: ModelCard
    codec: TextCodec
    published: Version
    """What the trainer has given last, or was about to give, as far as its run directory tells."""


def _load(config: PolicyConfig, registry: CollectorRegistry) -> _Model:
    source = newest_on_disk(config)
    with one_thread() as threads:
        loaded = load_causal_lm(source.model, device=config.device, dtype=config.dtype)
        served = _serve_from(loaded, source.version)
        limits = _limits(config, loaded)
        codec = loaded.codec
        card = ModelCard(
            name=loaded.name,
            architecture=type(loaded.model).__name__,
            max_running=config.max_running,
            tokenizer_digest=codec.digest,
        )
        del loaded  # the engine has its own layout
        gc.collect()  # transformers' copy hangs in reference cycles
        engine = _engine(config, served.weights, limits, registry, config.threads or threads)
    return _Model(served, engine, limits, card, codec, source.published)


def _serve_from(loaded: CausalLM, version: Version) -> Served:
    """Returns the loaded weights in the engine's layout, with digests as a push would announce them."""
    state = {name: tensor.detach() for name, tensor in parameters_by_name(loaded.model).items()}
    digests = _digests(state)
    return Served(
        version=version,
        weights=owned(in_panels(DecoderWeights.from_state(loaded.spec, state)), state.values()),
        digest=blake3(b"".join(digests[name] for name in sorted(digests))).digest(),
        digests=digests,
    )


def _digests(state: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: blake3(tensor_bytes(tensor).data).digest() for name, tensor in state.items()}


def _limits(config: PolicyConfig, loaded: CausalLM) -> Limits:
    return Limits(
        vocabulary_size=loaded.spec.vocabulary_size,
        max_sequence_tokens=min(config.max_sequence_tokens, loaded.spec.max_positions),
        max_waiting=config.max_waiting,
        max_samples=config.max_samples,
        max_prompt_bytes=config.max_prompt_bytes,
        max_request_tokens=config.max_request_tokens,
        eos_ids=_eos_ids(loaded),
    )


def _eos_ids(loaded: CausalLM) -> tuple[int, ...]:
    """Returns the tokenizer's end-of-sequence id and those of the model's generation settings."""
    settings = loaded.model.generation_config
    named = settings.eos_token_id if settings is not None else None
    ids = [] if named is None else [named] if isinstance(named, int) else list(named)
    return tuple(dict.fromkeys([loaded.codec.eos_id, *ids]))


def _engine(
    config: PolicyConfig, weights: DecoderWeights, limits: Limits, registry: CollectorRegistry, threads: int
) -> PolicyEngine:
    runner = ModelRunner(
        weights,
        slots=config.max_running,
        positions=limits.max_sequence_tokens,
        prefill_tokens=config.prefill_tokens,
    )
    scheduler = Scheduler(
        slots=config.max_running, max_waiting=config.max_waiting, prefill_tokens=config.prefill_tokens
    )
    return PolicyEngine(runner, scheduler, metrics=EngineMetrics(registry), threads=threads)


def _servers(config: PolicyConfig) -> list[Server]:
    generate, push = Server(config.server, "policy"), Server(config.weights_server, "weights")
    generate.services("pilothouse.v1.PolicyService")
    push.services("pilothouse.v1.WeightsService")
    return [generate, push]


def _stop_process(
    loop: asyncio.AbstractEventLoop, servers: Sequence[Server], stopped: "Future[None]"
) -> None:
    """Turns an engine crash into NOT_SERVING and the end of the process; called on the engine's thread."""
    if stopped.exception() is None:
        return

    async def go_down() -> None:
        _log.error("the engine crashed; going down")
        for server in servers:
            await server.set_serving(False)
        signal.raise_signal(signal.SIGTERM)

    with suppress(RuntimeError):  # the loop is closed already
        asyncio.run_coroutine_threadsafe(go_down(), loop)
