"""Tokenizers that differ from the built-in one."""

import json

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from pilothouse.models import tiny_text
from pilothouse.models.text import TextCodec

SETTINGS = {
    "unk_token": tiny_text.UNKNOWN_TOKEN,
    "bos_token": tiny_text.START_TOKEN,
    "eos_token": tiny_text.END_TOKEN,
}


def swapped_codec() -> TextCodec:
    """Returns the tiny tokenizer, but with the ids of "good" and "bad" the other way round."""
    content = json.loads(tiny_text.tiny_tokenizer().to_str())
    vocabulary = content["model"]["vocab"]
    vocabulary["\u0120good"], vocabulary["\u0120bad"] = vocabulary["\u0120bad"], vocabulary["\u0120good"]
    return TextCodec(Tokenizer.from_str(json.dumps(content)), SETTINGS, tiny_text.CHAT_TEMPLATE)


def bos_codec() -> TextCodec:
    """Returns the tiny tokenizer, but putting BOS before a text, as those of Llama and Gemma do."""
    tokenizer = tiny_text.tiny_tokenizer()
    bos = tiny_text.START_TOKEN
    tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return TextCodec(tokenizer, SETTINGS, tiny_text.CHAT_TEMPLATE)
