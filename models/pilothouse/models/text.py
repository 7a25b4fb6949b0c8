"""Text to token ids and back, with neither torch nor transformers: all processes use this one layer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from pilothouse.errors import ConfigError, InvalidRequestError, ModelNotFoundError
from pilothouse.models import tiny_text
from pilothouse.tensors import Tokens

TINY = "tiny"
"""Name of the built-in model."""

_SAMPLE = (
    "The film's  2 hours 1234567 were GOOD, weren't they?\n\n\tif x_1 >= 0.5:  # <a href='x'>\r\n"
    " na\u00efve nai\u0308ve caf\u00e9 \ufb01ne \u2014 \u201cquoted\u201d \u00a0\uff21\uff22"
    " \u4f60\u597d\uff0c\u4e16\u754c \u041f\u0440\u0438\u0432\u0435\u0442"
    " \U0001f600\U0001f469\u200d\U0001f680"
)
"""A text in which tokenizers show how they normalise, split and merge."""


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """A prompt and a response as one sequence of token ids. P prompt, R response tokens."""

    tokens: Tokens
    """int32 [P + R]."""
    prompt_length: int
    """P."""
    spans: npt.NDArray[np.int32]
    """[R, 2]: the half-open range of characters of the response for which each of its tokens stands. The end
    of the sequence has an empty one."""


class TextCodec:
    """A model's tokenizer and chat template.

    The pad id is never the end-of-sequence id, whatever the model's own files say: where they are equal, an
    ``!= pad`` mask would hide the end of every response. Masks come from lengths all the same.
    """

    def __init__(
        self, tokenizer: Tokenizer, settings: Mapping[str, Any], chat_template: str | None = None
    ) -> None:
        """Wraps a tokenizer.

        Args:
            tokenizer: The fast tokenizer.
            settings: The content of ``tokenizer_config.json``: eos_token, pad_token, unk_token, bos_token.
            chat_template: A jinja2 template over ``messages``; None where the model has none.

        Raises:
            ConfigError: No end-of-sequence token is named, or it is not in the vocabulary.
        """
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._settings = dict(settings)
        self._template = chat_template
        self.vocabulary_size: int = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        """One above the largest token id. The model's own vocabulary may be padded to more."""
        eos_id = self._special_id("eos_token")
        if eos_id is None:
            raise ConfigError(
                "the tokenizer names no eos_token of its vocabulary; set it in tokenizer_config.json"
            )
        self.eos_id: int = eos_id
        self.bos_id: int | None = self._special_id("bos_token")
        self.pad_id: int = self._choose_pad_id()

    @classmethod
    def load(cls, folder: Path | str) -> "TextCodec":
        """Reads ``tokenizer.json`` and its companions from a model folder; ``"tiny"`` is built in.

        Raises:
            ModelNotFoundError: The folder has no ``tokenizer.json`` or ``tokenizer_config.json``.
            ConfigError: A file cannot be parsed.
        """
        if str(folder) == TINY:
            names = {"unk_token": tiny_text.UNKNOWN_TOKEN, "pad_token": tiny_text.UNKNOWN_TOKEN}
            names |= {"bos_token": tiny_text.START_TOKEN, "eos_token": tiny_text.END_TOKEN}
            return cls(tiny_text.tiny_tokenizer(), names, tiny_text.CHAT_TEMPLATE)
        folder = Path(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if not (folder / name).is_file():
                raise ModelNotFoundError(f"{folder} has no {name}; save the fast tokenizer beside the model")
        try:
            settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises bare Exception
            raise ConfigError(f"the tokenizer in {folder} cannot be read: {error}") from error
        return cls(tokenizer, settings, _read_template(folder, settings))

    def encode(self, text: str, *, special_tokens: bool = True) -> Tokens:
        """Returns the token ids of a text, int32 of shape [tokens].

        Args:
            text: Any text; the name of a special token in it becomes that token, as in transformers.
            special_tokens: Add those that the tokenizer itself puts around a text (often none).
        """
        return np.asarray(self._tokenizer.encode(text, add_special_tokens=special_tokens).ids, dtype=np.int32)

    def encode_answer(self, text: str) -> Tokens:
        """Returns the token ids of an answer and the EOS that ends it, int32 of shape [tokens].

        An answer goes on where its prompt ends: what the tokenizer puts around a text, such as BOS, would
        part the two.
        """
        return np.append(self.encode(text, special_tokens=False), np.int32(self.eos_id))

    def join(self, prompt: str, response: str, *, unfinished: bool = False) -> Joined:
        """Returns a prompt and a response as one sequence, as a reward model was trained on and scores them.

        Args:
            prompt: Gets the special tokens that the tokenizer puts around a text.
            response: Gets none.
            unfinished: The response goes on; else EOS is put after it.
        """
        before = self._tokenizer.encode(prompt).ids
        after = self._tokenizer.encode(response, add_special_tokens=False)
        ids, spans = [*before, *after.ids], list(after.offsets)
        if not unfinished:
            ids.append(self.eos_id)
            spans.append((len(response), len(response)))
        return Joined(
            np.asarray(ids, dtype=np.int32), len(before), np.asarray(spans, dtype=np.int32).reshape(-1, 2)
        )

    def encode_chat(self, messages: Sequence[tuple[str, str]], *, generation_prompt: bool = True) -> Tokens:
        """Returns the token ids of (role, content) messages, int32 of shape [tokens].

        Args:
            messages: The conversation, oldest first.
            generation_prompt: End with the opening of the assistant's turn.

        Raises:
            InvalidRequestError: The model has no chat template, or the template refuses these messages.
        """
        return self.encode(
            self.render_chat(messages, generation_prompt=generation_prompt), special_tokens=False
        )

    def render_chat(self, messages: Sequence[tuple[str, str]], *, generation_prompt: bool = True) -> str:
        """Returns the text that the chat template makes of (role, content) messages.

        Raises:
            InvalidRequestError: The model has no chat template, or the template refuses these messages.
        """
        if self._template is None:
            raise InvalidRequestError(
                "this model has no chat template; send text or token ids instead of messages"
            )
        names = {
            key: self._special_name(key) or "" for key in ("bos_token", "eos_token", "pad_token", "unk_token")
        }
        turns = [{"role": role, "content": content} for role, content in messages]
        try:
            template = _environment().from_string(self._template)
            return template.render(messages=turns, add_generation_prompt=generation_prompt, **names)
        except Exception as error:  # a TemplateError, or whatever an expression in the template meets
            raise InvalidRequestError(f"the model's chat template refuses these messages: {error}") from error

    def decode(self, tokens: Sequence[int] | Tokens) -> str:
        """Returns the text of token ids; special tokens are left out."""
        return str(self._tokenizer.decode([int(token) for token in tokens], skip_special_tokens=True))

    @cached_property
    def digest(self) -> str:
        """BLAKE3, lower-case hex, of what token ids mean and how text becomes them.

        Processes that exchange token ids compare it. It is over the vocabulary, the end of sequence and the
        ids of a sample text, and not over the tokenizer's file, which differs between versions of the
        library. Pad and chat template are not in it: neither changes what an id means.
        """
        vocabulary = sorted(self._tokenizer.get_vocab(with_added_tokens=True).items())
        parts = [vocabulary, self.eos_id, self.encode(_SAMPLE).tolist()]
        return blake3(json.dumps(parts).encode()).hexdigest()

    def save(self, folder: Path | str) -> None:
        """Writes files that ``AutoTokenizer`` and ``TextCodec.load`` read, the pad token included."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save(str(folder / "tokenizer.json"))
        # The class reads tokenizer.json as it is; one named after a model could rebuild it from other files.
        settings = self._settings | {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": self._tokenizer.id_to_token(self.pad_id),
        }
        settings.pop("chat_template", None)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        if self._template is not None:
            (folder / "chat_template.jinja").write_text(self._template, encoding="utf-8")

    def _special_name(self, key: str) -> str | None:
        value = self._settings.get(key)
        if isinstance(value, Mapping):  # an AddedToken written out
            value = value.get("content")
        return str(value) if value is not None else None

    def _special_id(self, key: str) -> int | None:
        name = self._special_name(key)
        token: int | None = None if name is None else self._tokenizer.token_to_id(name)
        return token

    def _choose_pad_id(self) -> int:
        """Returns the model's pad, else unknown, else another special token, else the last id; never EOS."""
        added = self._tokenizer.get_added_tokens_decoder()
        special = sorted(token for token, entry in added.items() if entry.special and token != self.bos_id)
        candidates = [self._special_id("pad_token"), self._special_id("unk_token"), *special]
        for candidate in [*candidates, self.vocabulary_size - 1, self.vocabulary_size - 2]:
            if candidate is not None and candidate != self.eos_id:
                return candidate
        raise ConfigError("the vocabulary has no token besides the end of sequence that could be the pad")


def _read_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several named templates
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    return None if template is None else str(template)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _environment() -> ImmutableSandboxedEnvironment:
    """Returns the sandbox in which transformers also renders chat templates."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment
