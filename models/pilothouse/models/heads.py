"""Value and reward models: the packed decoder with one scalar per token and no LM head.

The parameters are those of transformers' ``*ForSequenceClassification`` with one label, so that a saved model
loads there with no code of ours. Axes: B sequences, T packed tokens, N rows, d width.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.initialization import no_init_weights

from pilothouse.errors import ConfigError
from pilothouse.models.decoder import DecoderWeights, hidden_states
from pilothouse.models.load import DTYPES, check_folder, load_pretrained, place, quiet
from pilothouse.models.packed import PackedBatch, pack, packed_attention
from pilothouse.models.reward_files import MANIFEST, RewardManifest, read_manifest, write_manifest
from pilothouse.models.spec import DecoderSpec
from pilothouse.models.text import TextCodec
from pilothouse.tensors import Tokens

_LABELS = ("id2label", "label2id")
"""Config keys that contradict a single label."""


class ScalarModel:
    """A causal decoder with a scalar head.

    ``gain`` and ``bias`` normalise its raw scalars to scores (Ziegler et al. 2019, arXiv 1909.08593, §2.1);
    every method here returns raw ones. They travel in ``reward.json`` beside the weights.
    """

    def __init__(self, model: PreTrainedModel, *, gain: float = 1.0, bias: float = 0.0) -> None:
        """Wraps a transformers sequence classifier.

        Raises:
            ConfigError: It has another number of labels than one.
            UnsupportedArchitectureError: The decoder does not compute it.
        """
        if model.config.num_labels != 1:
            raise ConfigError(
                f"a scalar model has one label, this one has {model.config.num_labels}; train a new head"
            )
        model.eval()
        self.model: PreTrainedModel = model
        """Owns the parameters; dropout is off."""
        self.weights: DecoderWeights = DecoderWeights.from_model(model)
        """Over the live parameters."""
        self.gain = gain
        self.bias = bias

    @classmethod
    def from_causal_lm(cls, model: PreTrainedModel, seed: int, *, pad_id: int | None = None) -> "ScalarModel":
        """Returns a scalar model that starts from a copy of a language model's body.

        The head is drawn from N(0, 1/sqrt(d + 1)) and has no bias (checklist 11).

        Args:
            model: The causal LM, for example after SFT.
            seed: Of the head's weights. The global random state is left as it was.
            pad_id: Must not be the end-of-sequence id; None keeps the config's.
        """
        kept = {key: value for key, value in model.config.to_dict().items() if key not in _LABELS}
        config = type(model.config).from_dict(kept | {"num_labels": 1, "architectures": None})
        config.pad_token_id = config.pad_token_id if pad_id is None else pad_id
        with no_init_weights():
            scalar = AutoModelForSequenceClassification.from_config(config, dtype=model.dtype)
        scalar.base_model.load_state_dict(model.base_model.state_dict())
        width = config.hidden_size
        head = torch.randn(1, width, generator=torch.Generator().manual_seed(seed)) / (width + 1) ** 0.5
        with torch.no_grad():
            scalar.get_parameter("score.weight").copy_(head)
        return cls(scalar.to(model.device))

    @classmethod
    def load(cls, folder: Path | str, *, device: str = "cpu", dtype: str = "float32") -> "ScalarModel":
        """Loads a folder that ``save`` wrote, its normaliser included.

        Raises:
            ModelNotFoundError: The folder or a part of it is missing.
            UnsafeModelError: The weights are pickled, or the model needs code of its own.
            CorruptDataError: A file is not the one that ``reward.json`` names.
            ConfigError: The files cannot be read as a scalar model.
        """
        check_folder(Path(folder))
        has_manifest = (Path(folder) / MANIFEST).is_file()
        manifest = read_manifest(Path(folder)) if has_manifest else None
        model = load_pretrained(AutoModelForSequenceClassification, Path(folder), DTYPES[dtype])
        place(model, device, dtype)
        return cls(model, gain=manifest.gain, bias=manifest.bias) if manifest else cls(model)

    def save(
        self, folder: Path | str, codec: TextCodec, *, max_sequence_tokens: int | None = None
    ) -> RewardManifest:
        """Writes weights, config, tokenizer and ``reward.json``, and returns the latter.

        The folder must hold nothing else. ``AutoModelForSequenceClassification`` loads it, and reads the
        scalar of a right-padded row at its last token, because the pad id saved with it is never the end of
        sequence.

        Args:
            folder: Made where it does not exist.
            codec: The model's tokenizer.
            max_sequence_tokens: Longest sequence to be scored; None for the longest the model can take.
        """
        quiet()
        self.model.config.pad_token_id = codec.pad_id
        self.model.config.eos_token_id = codec.eos_id
        self.model.save_pretrained(folder)
        codec.save(folder)
        longest = max_sequence_tokens or self.spec.max_positions
        return write_manifest(
            Path(folder),
            gain=self.gain,
            bias=self.bias,
            max_sequence_tokens=longest,
            vocabulary_size=self.spec.vocabulary_size,
        )

    @property
    def spec(self) -> DecoderSpec:
        """What the decoder computes."""
        return self.weights.spec

    @property
    def score_weight(self) -> Tensor:
        """The head, [1, d]; gradients reach it."""
        return self.model.get_parameter("score.weight")

    def hidden(self, batch: PackedBatch) -> Tensor:
        """Returns the final hidden states [T, d] of a packed batch."""
        return hidden_states(self.weights, batch.tokens, batch.positions, packed_attention(self.spec, batch))

    def scalars(self, hidden: Tensor) -> Tensor:
        """Returns the raw scalar, float32 [N], of final hidden states [N, d]."""
        return F.linear(hidden, self.score_weight).squeeze(-1).float()

    def token_values(self, sequences: Sequence[Tokens]) -> Tensor:
        """Returns the raw scalar at every token, float32 [T], sequences end to end in the order given."""
        return self.scalars(self.hidden(pack(sequences, self.weights.embedding.device)))

    def last_token_scores(self, sequences: Sequence[Tokens]) -> Tensor:
        """Returns the raw scalar at every sequence's last token, float32 [B] (checklist 12).

        Args:
            sequences: Prompt and response joined, the end-of-sequence token included, without padding.
        """
        batch = pack(sequences, self.weights.embedding.device)
        return self.scalars(self.hidden(batch)[batch.offsets[1:] - 1])
