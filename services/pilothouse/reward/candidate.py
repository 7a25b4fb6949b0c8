"""A reward model beside the one that serves: loaded, checked, and compared on live rows."""

import random
from dataclasses import dataclass

from pilothouse.errors import TokenizerMismatchError
from pilothouse.models.reward_files import read_manifest
from pilothouse.reward.config import RewardConfig, ShadowConfig
from pilothouse.reward.models_folder import ModelsFolder, Spec
from pilothouse.reward.scorer import Scorer, load_scorer
from pilothouse.reward.shadow import Shadow

_LABEL = "candidate/"
"""Before a candidate's names in metrics."""


@dataclass(slots=True)
class Candidate:
    """What is staged."""

    spec: Spec
    scorer: Scorer
    shadow: Shadow

    async def compare_anew(self, config: ShadowConfig) -> None:
        """Forgets the comparison: another reward model serves."""
        await self.shadow.close()
        self.shadow = Shadow(self.scorer, config, chance=random.Random())

    async def retire(self) -> None:
        """Frees it once nobody uses it."""
        await self.shadow.close()
        await self.scorer.retire()


async def load_candidate(
    folder: ModelsFolder, spec: Spec, config: RewardConfig, serving: Scorer
) -> Candidate:
    """Returns a candidate, warm.

    Raises:
        TokenizerMismatchError: It reads token ids differently than what serves.
        PilothouseError: It cannot be loaded or cannot score. Nothing of it stays in memory.
    """
    scorer = await load_scorer(folder.recipe(spec, config), config, spec)
    try:
        scorer.composite.relabel(_LABEL)
        await scorer.probe()
        _check_tokenizer(scorer, serving)
    except BaseException:
        await scorer.close()
        raise
    return Candidate(spec, scorer, Shadow(scorer, config.shadow, chance=random.Random()))


def member_versions(folder: ModelsFolder, spec: Spec) -> tuple[str, ...]:
    """Returns the versions that the folders have now.

    Raises:
        ModelNotFoundError, UnsafeModelError, CorruptDataError: A folder is no longer a reward model.
    """
    return tuple(read_manifest(path).version for path in folder.paths(spec))


def _check_tokenizer(candidate: Scorer, serving: Scorer) -> None:
    expected, found = serving.rows.tokenizer_digest, candidate.rows.tokenizer_digest
    if expected and found != expected:
        raise TokenizerMismatchError(
            f"the candidate's tokenizer is {found or 'not one, but several'}, what serves has {expected}: "
            f"token ids would mean something else; train the candidate on the same base model"
        )
