"""Token ids are sent as they are, so they must mean the same to whoever reads them."""

from pilothouse.client import PolicyModel, ReferenceModel, RewardModel, WeightsState
from pilothouse.errors import ConfigError
from pilothouse.models.text import TextCodec


def check_tokenizer(codec: TextCodec, digest: str, *, reader: str, mend: str) -> None:
    """Demands that a reader of the policy's token ids has the policy's tokenizer.

    Args:
        codec: The policy's.
        digest: Of the reader's tokenizer; empty where it has none, and then nothing is compared.
        reader: Who reads, for the message.
        mend: What would mend it.

    Raises:
        ConfigError: The tokenizers differ.
    """
    if digest and digest != codec.digest:
        raise ConfigError(
            f"{reader} has another tokenizer than the policy, so the same token ids would be other words "
            f"there; {mend}"
        )


def check_services(
    codec: TextCodec,
    model: str,
    policy: PolicyModel | WeightsState,
    reward: RewardModel,
    reference: ReferenceModel,
) -> None:
    """Demands that all services read token ids as the policy's model writes them.

    Args:
        codec: The policy's tokenizer.
        model: Its folder, for the message.
        policy: What the policy service serves.
        reward: What the reward service serves.
        reference: What the reference service serves.

    Raises:
        ConfigError: A service has another tokenizer.
    """
    check_tokenizer(
        codec, policy.tokenizer_digest, reader="the policy service", mend=f"start it with the model {model}"
    )
    check_tokenizer(
        codec,
        reward.tokenizer_digest,
        reader="the reward service",
        mend=f"serve a reward model trained from {model}, or set reward.tokenizer, where it is used, to "
        f"{model}",
    )
    check_tokenizer(
        codec,
        reference.tokenizer_digest,
        reader="the reference service",
        mend=f"start it with {model}, or with the model that {model} was trained from",
    )
