"""The reward models of a service: one serves, one served before, one is a candidate; a swap is a pointer."""

import asyncio
from collections.abc import Coroutine
from math import inf
from typing import Any, TypeVar

import structlog

from pilothouse.errors import (
    CandidateExistsError,
    CorruptDataError,
    NoCandidateError,
    NoPreviousRewardModelError,
    PreconditionError,
    StaleRewardModelError,
)
from pilothouse.reward import metrics
from pilothouse.reward.candidate import Candidate, load_candidate, member_versions
from pilothouse.reward.config import CombinationName, RewardConfig
from pilothouse.reward.models_folder import ModelsFolder, Promoted, Spec
from pilothouse.reward.scorer import Answer, Read, Scorer

Result = TypeVar("Result")

_log = structlog.get_logger()


class RewardModels:
    """Scores with whatever serves, and replaces it. Lives in one event loop; changes come one at a time."""

    def __init__(self, serving: Scorer, config: RewardConfig, folder: ModelsFolder | None) -> None:
        """Takes a warm scorer.

        Args:
            serving: Serves from now on.
            config: Of the service.
            folder: Where candidates come from; None where none can be staged.
        """
        self.serving = serving
        """What new requests are scored with."""
        self.previous: Scorer | None = None
        """What served before the last promotion, if it is kept."""
        self.candidate: Candidate | None = None
        """What is staged."""
        self._config = config
        self._folder = folder
        self._staging: tuple[Spec, asyncio.Task[Candidate]] | None = None
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def score(self, read: Read, deadline: float = inf) -> Answer:
        """Scores a request as a whole by the model that serves now, whatever is promoted meanwhile.

        Raises:
            InvalidRequestError, QueueFullError, ScoringFailedError, NonFiniteScoreError: See `Scorer.score`.
        """
        serving = self.serving
        answer = await serving.score(read, deadline)
        if self.candidate is not None and serving is self.serving:
            self.candidate.shadow.offer(answer)
        return answer

    async def score_candidate(self, read: Read, version: str = "", deadline: float = inf) -> Answer:
        """Scores a request by the candidate alone.

        Raises:
            NoCandidateError, StaleRewardModelError: There is none, or it has another version.
            InvalidRequestError, QueueFullError, ScoringFailedError, NonFiniteScoreError: See `Scorer.score`.
        """
        return await self.require_candidate(version).scorer.score(read, deadline)

    def require_candidate(self, version: str = "") -> Candidate:
        """Returns the candidate.

        Args:
            version: That it must have; empty for any.

        Raises:
            NoCandidateError: There is none.
            StaleRewardModelError: It has another version.
        """
        if self.candidate is None:
            raise NoCandidateError("no reward model is staged; call StageRewardModel first")
        found = self.candidate.scorer.version
        if version not in ("", found):
            raise StaleRewardModelError(f"the candidate is {found}, not {version}; look at it again")
        return self.candidate

    async def stage(self, names: list[str], combine: CombinationName, std_factor: float) -> Candidate:
        """Loads a candidate beside what serves. Goes on although the caller leaves; calling again joins.

        Args:
            names: Folders inside ``reward.models_folder``.
            combine: How an ensemble's members are combined.
            std_factor: Factor of `mean_minus_std`.

        Raises:
            PreconditionError: No models folder is configured.
            CandidateExistsError: Another one is staged, or being staged.
            TokenizerMismatchError: It reads token ids differently.
            PilothouseError: It cannot be loaded or cannot score; nothing of it stays in memory.
        """
        if self._folder is None:
            raise PreconditionError("no reward model can be staged; set reward.models_folder")
        spec = await asyncio.to_thread(self._folder.spec, names, combine, std_factor)
        if self._staging is None:
            if self.candidate is not None:
                return await self._staged_already(self.candidate, self._folder, spec)
            self._staging = spec, self._start(self._load(self._folder, spec))
        elif self._staging[0] != spec:
            raise CandidateExistsError(
                f"{', '.join(self._staging[0].folders)} is being staged; wait for it, then drop or promote it"
            )
        return await asyncio.shield(self._staging[1])

    async def promote(self, version: str, expected_serving: str) -> Scorer:
        """Lets the candidate serve and returns it.

        Args:
            version: Of the candidate. Where it serves already, nothing is done.
            expected_serving: Version that must be serving.

        Raises:
            NoCandidateError: There is none.
            StaleRewardModelError: Candidate or serving model have another version.
            CorruptDataError: The candidate's folders have changed since it was staged.
            StorageFullError, PreconditionError: It cannot be made durable; the old model serves on.
        """
        return await asyncio.shield(self._start(self._promote(version, expected_serving)))

    async def rollback(self, expected_serving: str = "") -> Scorer:
        """Goes back to what served before the last promotion and returns it.

        Args:
            expected_serving: Version that must be serving; empty for any.

        Raises:
            NoPreviousRewardModelError: There is none.
            StaleRewardModelError: Another one serves.
            StorageFullError, PreconditionError: It cannot be made durable; nothing has changed.
        """
        return await asyncio.shield(self._start(self._rollback(expected_serving)))

    async def drop(self, version: str = "") -> None:
        """Forgets the candidate; its memory is free as soon as nothing is being scored with it.

        Raises:
            NoCandidateError, StaleRewardModelError: There is none, or it has another version.
        """
        async with self._changing:
            candidate = self.require_candidate(version)
            self.candidate = None
        _log.info("candidate_dropped", reward_version=candidate.scorer.version)
        self._start(candidate.retire())

    async def close(self) -> None:
        """Ends what is going on and frees every model; requests must have ended."""
        if self._staging is not None:
            self._staging[1].cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.candidate is not None:
            await self.candidate.retire()
        for scorer in (self.previous, self.serving):
            if scorer is not None:
                await scorer.close()

    async def _staged_already(self, candidate: Candidate, folder: ModelsFolder, spec: Spec) -> Candidate:
        if candidate.scorer.spec != spec:
            raise CandidateExistsError(f"{candidate.scorer.version} is staged; promote or drop it first")
        await _check_unchanged(candidate, folder)
        return candidate

    async def _load(self, folder: ModelsFolder, spec: Spec) -> Candidate:
        try:
            self.candidate = await load_candidate(folder, spec, self._config, self.serving)
        finally:
            self._staging = None
        _log.info("candidate_staged", folders=spec.folders, reward_version=self.candidate.scorer.version)
        return self.candidate

    async def _promote(self, version: str, expected_serving: str) -> Scorer:
        async with self._changing:
            staged = self.candidate is not None and self.candidate.scorer.version == version
            if self.serving.version == version and not staged:
                return self.serving
            candidate = self.require_candidate(version)
            self._require_serving(expected_serving)
            assert self._folder is not None  # without it nothing was ever staged
            await _check_unchanged(candidate, self._folder)
            await self._record(candidate.scorer)
            self.candidate = None
            candidate.scorer.composite.relabel("")
            replaced, self.serving = self.serving, candidate.scorer
            kept, self.previous = self.previous, replaced if self._config.keep_previous else None
        metrics.PROMOTIONS.inc()
        _log.info("reward_model_promoted", reward_version=version, replaced=replaced.version)
        for gone in (kept, None if self._config.keep_previous else replaced):
            if gone is not None:
                self._start(gone.retire())
        await candidate.shadow.close()
        return candidate.scorer

    async def _rollback(self, expected_serving: str) -> Scorer:
        async with self._changing:
            if expected_serving:
                self._require_serving(expected_serving)
            if self.previous is None:
                raise NoPreviousRewardModelError(
                    "no earlier reward model is in memory; stage and promote the one that you want"
                )
            await self._record(self.previous)
            replaced, self.serving, self.previous = self.serving, self.previous, None
            if self.candidate is not None:
                await self.candidate.compare_anew(self._config.shadow)
        metrics.ROLLBACKS.inc()
        _log.warning(
            "reward_model_rolled_back", reward_version=self.serving.version, replaced=replaced.version
        )
        self._start(replaced.retire())
        return self.serving

    async def _record(self, scorer: Scorer) -> None:
        assert self._folder is not None  # without it nothing was ever staged
        promoted = None if scorer.spec is None else Promoted(scorer.spec, scorer.version)
        await asyncio.to_thread(self._folder.record, promoted)

    def _require_serving(self, version: str) -> None:
        if self.serving.version != version:
            raise StaleRewardModelError(
                f"{self.serving.version} serves, not {version}; compare the candidate with that one first"
            )

    def _start(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        """Runs what a caller's leaving must not cut in half."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its callers, if any are left, have it; nobody else is to be told


async def _check_unchanged(candidate: Candidate, folder: ModelsFolder) -> None:
    """Makes sure that a restart would find the model that is in memory."""
    on_disk = await asyncio.to_thread(member_versions, folder, candidate.spec)
    if on_disk != tuple(part.backend.version for part in candidate.scorer.composite.parts):
        raise CorruptDataError(
            f"the folders of the candidate {candidate.scorer.version} have changed since it was staged; "
            "drop it and stage it again"
        )
