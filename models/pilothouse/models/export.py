"""Exports a reward model to ONNX and proves that the file computes the same scores.

The graph is the packed decoder's own lines over a padded batch laid out flat: causal attention never lets a
token see the padding to its right, so rows need no padding mask, and the score is read at the last real one.
Axes: B rows, T padded tokens, H heads, G KV heads, R = H/G, D head dim, d width.
"""

import logging
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from pilothouse.errors import ConfigError, ExportParityError
from pilothouse.models.decoder import Attend, hidden_states
from pilothouse.models.heads import ScalarModel
from pilothouse.models.reward_files import MANIFEST, read_manifest, write_manifest
from pilothouse.models.rope import tables
from pilothouse.models.text import TextCodec

MODEL_FILE = "model.onnx"
"""Name of the graph in the exported folder."""

OPSET = 18
"""The opset that the exporter writes without conversion, and that ONNX Runtime and TensorRT both read."""

PARITY_SHAPES = ((1, 1), (1, 7), (4, 32), (3, 61))
"""[B, T] at which the exported graph is compared with torch; T is cut to the model's longest sequence."""

_EXTERNAL_BYTES = 1_900_000_000
"""Weights above this do not fit one protobuf file (2 GiB) and go into a second one."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export came to."""

    max_abs_difference: float
    """Largest difference between torch's and ONNX Runtime's raw scores over all compared rows."""
    seconds: float
    """Time of the whole export, comparison included."""


def export_reward_model(
    folder: Path | str, out_folder: Path | str, *, tolerance: float = 1e-4
) -> ExportReport:
    """Writes the reward model of ``folder`` as ``model.onnx`` with tokenizer and ``reward.json``.

    Graph: ``input_ids`` int64 [B, T] padded on the right and ``lengths`` int64 [B] in [1, T] to ``score``
    float32 [B], raw; the normaliser stays in ``reward.json``. Both axes are free.

    Args:
        folder: As written by ``ScalarModel.save``.
        out_folder: Replaced where it exists and holds an earlier export.
        tolerance: Largest absolute difference between torch and ONNX Runtime that is accepted.

    Raises:
        ConfigError: ``out_folder`` holds something else, a model file cannot be read, or ONNX Runtime is not
            installed.
        ExportParityError: The graph's scores differ; ``out_folder`` is left as it was.
        PilothouseError: The model cannot be loaded; see ``ScalarModel.load``.
    """
    started = time.monotonic()
    _runtime()  # asked first: nobody wants to hear of it after the export
    folder, out_folder = Path(folder), Path(out_folder)
    manifest = read_manifest(folder)
    model, codec = ScalarModel.load(folder), TextCodec.load(folder)
    staging = _fresh_staging(out_folder)
    try:
        _write_graph(PaddedScorer(model), staging / MODEL_FILE)
        difference = parity(model, staging / MODEL_FILE, manifest.max_sequence_tokens)
        if not difference <= tolerance:  # NaN is not
            raise ExportParityError(
                f"the exported graph's scores differ from torch's by up to {difference:.3g}, more than "
                f"{tolerance:g}; nothing was written: report it with the model's config.json"
            )
        codec.save(staging)
        write_manifest(
            staging,
            gain=manifest.gain,
            bias=manifest.bias,
            max_sequence_tokens=manifest.max_sequence_tokens,
            vocabulary_size=model.spec.vocabulary_size,
        )
        if out_folder.exists():
            shutil.rmtree(out_folder)
        staging.replace(out_folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return ExportReport(max_abs_difference=difference, seconds=time.monotonic() - started)


class PaddedScorer(nn.Module):
    """The scalar model over a right-padded batch, made of operations that export."""

    def __init__(self, model: ScalarModel) -> None:
        """Wraps a float32 model on the CPU."""
        super().__init__()
        self.model = model.model  # registers the parameters under their own names
        self._weights = model.weights
        self._head = model.score_weight
        for frequencies in self._weights.spec.ropes:
            # Made here, before tracing: the cache would keep the tracer's tensors, which hold no numbers.
            tables(frequencies, self._weights.spec.max_positions, torch.device("cpu"), torch.float32)

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Returns the raw score of every row, float32 [B].

        Args:
            input_ids: int64 [B, T], padded on the right with any id.
            lengths: int64 [B], real tokens of every row, at least 1.
        """
        rows, width = input_ids.shape
        places = torch.arange(width)
        attend = self._attention(rows, width, places)
        hidden = hidden_states(self._weights, input_ids.reshape(-1), places.repeat(rows), attend)
        last = hidden.view(rows, width, -1)[torch.arange(rows), lengths - 1]  # [B, d]
        return (last @ self._head.t()).squeeze(-1)

    def _attention(self, rows: int, width: int, places: Tensor) -> Attend:
        """Returns causal attention over B rows of T tokens, in plain products."""
        spec = self._weights.spec
        back = places[:, None] - places[None, :]  # how far a query looks back, [T, T]
        hidden = {
            window: back < 0 if window is None else (back < 0) | (back >= window)
            for window in {layer.window for layer in spec.layers}
        }

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            # R queries share a key: [B, G, R, T, D] against [B, G, 1, T, D], copied for nobody.
            query = query.view(rows, width, spec.kv_heads, -1, spec.head_dim).permute(0, 2, 3, 1, 4)
            key, value = (
                states.view(rows, width, spec.kv_heads, 1, spec.head_dim).permute(0, 2, 3, 1, 4)
                for states in (key, value)
            )
            similarity = (query * spec.attention_scale) @ key.transpose(-1, -2)
            similarity = similarity.masked_fill(hidden[spec.layers[layer].window], float("-inf"))
            output = similarity.softmax(-1) @ value  # [B, G, R, T, D]
            return output.permute(0, 3, 1, 2, 4).reshape(rows * width, spec.heads * spec.head_dim)

        return attend


def parity(model: ScalarModel, graph: Path, longest: int) -> float:
    """Returns the largest difference between torch and ONNX Runtime over ragged, padded random rows.

    Args:
        model: The original, which scores the rows without padding.
        graph: The exported file.
        longest: No row is longer than this many tokens.
    """
    session = _runtime().InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    generator = np.random.Generator(np.random.Philox(0))
    worst = 0.0
    for rows, width in PARITY_SHAPES:
        width = min(width, longest)
        ids = generator.integers(0, model.spec.vocabulary_size, size=(rows, width), dtype=np.int64)
        lengths = generator.integers(1, width + 1, size=rows, dtype=np.int64)
        lengths[0] = width
        (scores,) = session.run(["score"], {"input_ids": ids, "lengths": lengths})
        sequences = [row[:length].astype(np.int32) for row, length in zip(ids, lengths, strict=True)]
        with torch.no_grad():
            expected = model.last_token_scores(sequences).numpy()
        worst = float(np.maximum(worst, np.abs(scores - expected).max()))  # unlike max(), keeps NaN
    return worst


def _write_graph(scorer: PaddedScorer, path: Path) -> None:
    """Traces the scorer with free axes and writes it."""
    # A batch of one would be taken as a constant.
    example = (torch.ones(2, 9, dtype=torch.int64), torch.tensor([9, 5]))
    batch = torch.export.Dim("batch")
    tokens = torch.export.Dim("tokens", max=scorer._weights.spec.max_positions)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            scorer.eval(),
            example,
            dynamo=True,
            input_names=["input_ids", "lengths"],
            output_names=["score"],
            dynamic_shapes=({0: batch, 1: tokens}, {0: batch}),
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None
        size = sum(parameter.nbytes for parameter in scorer.parameters())
        program.save(str(path), external_data=size > _EXTERNAL_BYTES)


def _runtime() -> ModuleType:
    """Returns ONNX Runtime, which no extra of ours but those of the reward service brings.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the exported graph is compared with torch by ONNX Runtime, which is not installed; pip install "
            "'pilothouse[reward]', or 'pilothouse[reward-gpu]' where the reward service runs on a GPU"
        ) from error
    module: ModuleType = onnxruntime
    return module


def _fresh_staging(out_folder: Path) -> Path:
    """Returns an empty folder beside ``out_folder``, which then takes its place."""
    earlier = (out_folder / MODEL_FILE).exists() and (out_folder / MANIFEST).exists()
    if out_folder.exists() and any(out_folder.iterdir()) and not earlier:
        raise ConfigError(f"{out_folder} holds something other than an earlier export; choose another folder")
    out_folder.parent.mkdir(parents=True, exist_ok=True)
    staging = out_folder.with_name(f".{out_folder.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    return staging


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's notes about axis names and uninstalled libraries, which nobody can act on."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
