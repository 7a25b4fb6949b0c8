"""The one place that turns a scorer's configuration into a backend; imports only what is chosen."""

from pathlib import Path

from pilothouse.errors import ConfigError
from pilothouse.models.text import TextCodec
from pilothouse.reward.backends.base import Backend, Buckets
from pilothouse.reward.config import ScorerConfig


def make_backend(config: ScorerConfig, buckets: Buckets) -> Backend:
    """Returns the backend that the configuration names, loaded and ready.

    Raises:
        ConfigError: The backend's library is not installed, or a setting does not work.
        PilothouseError: The model cannot be loaded; see the backend.
    """
    try:
        return _make(config, buckets)
    except ModuleNotFoundError as error:
        extra = "reward-torch" if config.backend == "torch" else "reward"
        other = " (or [reward-gpu], never both)" if error.name == "onnxruntime" else ""
        raise ConfigError(
            f"backend {config.backend} needs {error.name}; pip install 'pilothouse[{extra}]'{other}"
        ) from error


def _make(config: ScorerConfig, buckets: Buckets) -> Backend:
    codec = TextCodec.load(config.tokenizer) if config.tokenizer else None
    match config.backend:
        case "onnx":
            from pilothouse.reward.backends.onnx import OnnxBackend

            return OnnxBackend(
                Path(config.model),
                buckets,
                providers=config.providers,
                require=config.require,
                threads=config.threads,
            )
        case "torch":
            from pilothouse.reward.backends.torch import TorchBackend

            return TorchBackend(
                Path(config.model), device=config.device, dtype=config.dtype, threads=config.threads
            )
        case "triton":
            from pilothouse.reward.backends.triton import TritonBackend

            folder = Path(config.model) if config.model else None
            return TritonBackend(config.triton, buckets, folder=folder, codec=codec)
        case "rules":
            from pilothouse.reward.backends.rules import RulesBackend

            return RulesBackend(config.rule, codec)
        case "python":
            from pilothouse.reward.backends.python import PythonBackend

            return PythonBackend(config.python, codec)
        case "composite":
            raise ConfigError("a composite is made of backends and is none itself")
