"""The real SmolLM2-135M-Instruct, as transformers runs it and behind our services."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from pilothouse.errors import UnavailableError
from pilothouse.local import LocalStack
from pilothouse.models.text import TextCodec
from pilothouse.tensors import Floats, Tokens
from pilothouse.trainer.demo.packages import SMOLLM2, smollm2_folder

TEXTS = (
    "The",
    "The film was",
    "It is a truth universally acknowledged, that a single man in possession of a",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a small village by the sea, there lived an old fisherman who",
    "1, 2, 4, 8, 16,",
    "The three largest cities of France are Paris,",
    "A good review of this picture would begin by saying that the plot, thin as it is, hardly matters: what "
    "holds the two hours together is the patience of the camera, which waits, and waits again, until",
    "Water boils at",
    "Dear Sir or Madam, I am writing to you because the kettle that I bought in your shop last Tuesday",
)


@pytest.fixture(scope="session")
def folder(require: Callable[[object, str], None]) -> Path:
    """The model as a transformers folder, from its package or the user's cache."""
    try:
        return smollm2_folder()
    except UnavailableError as error:
        require(False, f"{SMOLLM2.name} from the package index ({error})")
        raise


@pytest.fixture(scope="session")
def codec(folder: Path) -> TextCodec:
    return TextCodec.load(folder)


@pytest.fixture(scope="session")
def prompts(codec: TextCodec) -> list[Tokens]:
    """Ragged: texts of 1 to 48 tokens and a chat."""
    chat = codec.encode_chat([("user", "What is the capital of France?")])
    return [*(codec.encode(text) for text in TEXTS), chat]


class Oracle:
    """transformers, one sequence at a time."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    def greedy(self, prompt: Tokens, new_tokens: int) -> list[int]:
        """Returns the most likely continuation; EOS does not end it."""
        output = self.model.generate(  # type: ignore[operator]
            torch.from_numpy(prompt.astype(np.int64))[None],
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        return list(output[0, len(prompt) :].tolist())

    @torch.no_grad()
    def logprobs(self, prompt: Tokens, response: Tokens, temperature: float = 1.0) -> Floats:
        """Returns the log-prob of every response token by one plain forward pass, float32 [C]."""
        whole = torch.from_numpy(np.concatenate([prompt, response]).astype(np.int64))
        logits = self.model(whole[None, :-1]).logits[0, len(prompt) - 1 :].float() / temperature
        chosen = logits.log_softmax(-1).gather(1, whole[len(prompt) :, None])
        return np.asarray(chosen[:, 0].numpy(), dtype=np.float32)


@pytest.fixture(scope="session")
def oracle(folder: Path) -> Oracle:
    return Oracle(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())


@pytest.fixture(scope="session")
def stack(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Policy and reference as processes of their own."""
    settings = [
        f"policy.model='{folder}'",
        "policy.max_sequence_tokens=256",
        "policy.max_running=32",
        f"reference.model='{folder}'",
    ]
    services: Sequence[str] = ("policy", "reference")
    with LocalStack(
        overrides=settings, services=services, folder=tmp_path_factory.mktemp("services")
    ) as running:
        yield running
