"""Tokenizers that differ from the built-in one."""

from tokenizers.processors import TemplateProcessing

from pilothouse.models import tiny_text
from pilothouse.models.text import TextCodec

SETTINGS = {
    "unk_token": tiny_text.UNKNOWN_TOKEN,
    "bos_token": tiny_text.START_TOKEN,
    "eos_token": tiny_text.END_TOKEN,
}


def bos_codec() -> TextCodec:
    """Returns the tiny tokenizer, but putting BOS before a text, as those of Llama and Gemma do."""
    tokenizer = tiny_text.tiny_tokenizer()
    bos = tiny_text.START_TOKEN
    tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return TextCodec(tokenizer, SETTINGS, tiny_text.CHAT_TEMPLATE)
