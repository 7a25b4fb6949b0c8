"""Which parameters learn."""

import re

from transformers import PreTrainedModel

from pilothouse.errors import ConfigError

_LAYER = re.compile(r"\.(?:layers|h)\.(\d+)\.")
_EMBEDDINGS = re.compile(r"\.(?:embed_tokens|wte|wpe)\.")


def freeze_lower_layers(model: PreTrainedModel, layers: int, trainable_layers: int | None) -> int:
    """Lets only the upper layers, the final norm and an untied head learn; all parameters where None.

    Args:
        model: Of a supported architecture.
        layers: How many decoder layers it has.
        trainable_layers: How many of them learn.

    Returns:
        How many lower layers, with the embeddings below them, are frozen.

    Raises:
        ConfigError: The model has fewer layers.
    """
    if trainable_layers is not None and trainable_layers > layers:
        raise ConfigError(f"ppo.trainable_layers is {trainable_layers}, but the model has {layers} layers")
    frozen = 0 if trainable_layers is None else layers - trainable_layers
    for name, parameter in model.named_parameters():
        layer = _LAYER.search(name)
        below = int(layer.group(1)) < frozen if layer else bool(_EMBEDDINGS.search(name))
        parameter.requires_grad_(trainable_layers is None or not below)
    return frozen
