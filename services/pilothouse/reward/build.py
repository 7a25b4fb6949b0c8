"""Puts the reward service together: its models, and a server each for scores and for replacing models."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from pilothouse.errors import CorruptDataError, PilothouseError
from pilothouse.reward.backends.composite import Recipe
from pilothouse.reward.config import RewardConfig
from pilothouse.reward.models import RewardModels
from pilothouse.reward.models_folder import ModelsFolder, Promoted
from pilothouse.reward.models_servicer import RewardModelsServicer
from pilothouse.reward.scorer import Scorer, load_scorer
from pilothouse.reward.servicer import RewardServicer
from pilothouse.reward.v2 import V2_SERVICE, InferenceServicer, add_v2
from pilothouse.server import Server, listening
from pilothouse.v1 import reward_models_pb2_grpc, reward_pb2_grpc

_log = structlog.get_logger()


@asynccontextmanager
async def build(config: RewardConfig) -> AsyncIterator[Sequence[Server]]:
    """Listens, loads what serves, warms it up and yields the servers, not yet serving.

    The first one is for scores. With a models folder there is one more, for staging and promoting.

    Raises:
        ConfigError: The models folder is none.
        CorruptDataError: The promoted reward model is no longer what it was.
        PilothouseError: A model cannot be loaded, or a required provider is not in use.
    """
    servers = _servers(config)
    async with listening(servers), _models(config) as models:
        score = servers[0].grpc
        reward_pb2_grpc.add_RewardServiceServicer_to_server(RewardServicer(models), score)
        add_v2(InferenceServicer(models, model_name=config.v2_model_name), score)
        for server in servers[1:]:
            servicer = RewardModelsServicer(models)
            reward_models_pb2_grpc.add_RewardModelsServiceServicer_to_server(servicer, server.grpc)
        yield servers


def _servers(config: RewardConfig) -> list[Server]:
    servers = [Server(config.server, "reward")]
    servers[0].services("pilothouse.v1.RewardService", V2_SERVICE)
    if "models_server" not in config.closed_servers:
        servers.append(Server(config.models_server, "reward-models"))
        servers[1].services("pilothouse.v1.RewardModelsService")
    return servers


@asynccontextmanager
async def _models(config: RewardConfig) -> AsyncIterator[RewardModels]:
    folder = ModelsFolder(config.models_folder) if config.models_folder else None
    promoted = folder.promoted() if folder else None
    if folder and promoted:
        serving = await _load_promoted(folder, promoted, config)
    else:
        serving = await load_scorer(Recipe.of(config), config)
    models = RewardModels(serving, config, folder)
    try:
        _log.info(
            "scorer_ready",
            backend=serving.composite.kind,
            providers=serving.composite.providers,
            reward_version=serving.version,
            promoted=promoted.spec.folders if promoted else None,
        )
        yield models
    finally:
        await models.close()


async def _load_promoted(folder: ModelsFolder, promoted: Promoted, config: RewardConfig) -> Scorer:
    """Returns the reward model that was promoted, and nothing else under its name."""
    recipe = folder.recipe(promoted.spec, config)
    try:
        scorer = await load_scorer(recipe, config, promoted.spec)
    except PilothouseError as error:
        raise CorruptDataError(
            f"the promoted reward model cannot be served: {error}; {folder.remedy}"
        ) from error
    if scorer.version != promoted.version:
        await scorer.close()
        raise CorruptDataError(
            f"the promoted reward model was {promoted.version}, its folders now hold {scorer.version}; "
            f"{folder.remedy}"
        )
    return scorer
