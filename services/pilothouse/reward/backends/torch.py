"""Scores with the reward model's own torch code: the only file of this service that needs torch."""

from collections.abc import Sequence
from pathlib import Path

import torch

from pilothouse.models.heads import ScalarModel
from pilothouse.models.memory import keep_freed_memory
from pilothouse.models.reward_files import read_manifest
from pilothouse.models.text import TextCodec
from pilothouse.reward.backends.base import Backend, Row, normalise
from pilothouse.tensors import Floats


class TorchBackend(Backend):
    """A trained reward model as transformers saved it."""

    kind = "torch"

    def __init__(
        self, folder: Path, *, device: str = "cpu", dtype: str = "float32", threads: int | None = None
    ) -> None:
        """Loads a model folder after checking every file that its manifest names.

        Raises:
            ModelNotFoundError: The folder, its manifest or a file is missing.
            UnsafeModelError: A file is a link, a pickle or code.
            CorruptDataError: A file's bytes are not those of the manifest.
            UnsupportedArchitectureError: The decoder does not compute this model.
        """
        keep_freed_memory()
        self._manifest = read_manifest(folder)
        if threads is not None:
            torch.set_num_threads(threads)
        self._model = ScalarModel.load(folder, device=device, dtype=dtype)
        self.codec = TextCodec.load(folder)
        self.vocabulary_size = self._model.spec.vocabulary_size
        self.version = self._manifest.version
        self.max_sequence_tokens = self._manifest.max_sequence_tokens

    def score(self, rows: Sequence[Row]) -> Floats:
        """Returns the normalised score of every row, float32 of shape [B], without padding."""
        with torch.inference_mode():
            raw = self._model.last_token_scores([row.tokens for row in rows])
        return normalise(raw.float().cpu().numpy(), self._manifest, len(rows))

    def close(self) -> None:
        """Frees the weights at once."""
        # Modules of transformers refer to one another, and what start-up has made is never collected.
        for parameter in self._model.model.parameters():
            parameter.data = parameter.data.new_empty(0)
        del self._model
