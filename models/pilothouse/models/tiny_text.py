"""The tokenizer of the built-in model ``"tiny"``: byte-level BPE over a few common English words.

Everything is made in the process from the words below: the true loop runs with no file and no network.
"""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TINY_VOCABULARY_SIZE = 512


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


POSITIVE_WORDS = _words("good great wonderful best love loved fun funny happy brilliant")
"""Words of praise, each with a leading space one token."""
NEGATIVE_WORDS = _words("bad awful boring worst hate hated dull sad terrible poor")
"""Words of blame, each with a leading space one token."""
NEUTRAL_WORDS = _words(
    """
    the a an and of to in is was it this that with for on as film movie story plot actor scene end cast
    very so really not but I we they he she you are were be have had saw watch time one my all from by
    at or if what who when there more some just like people character music first work life think made
    make only also about show much way see again never his her their new old long part young
    """
)
"""Words without a judgement, each with a leading space one token."""

ROLES = ("system", "user", "assistant")
"""Who speaks in a chat."""

UNKNOWN_TOKEN, START_TOKEN, END_TOKEN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
"""Ids 0 (also the pad), 1 and 2 (end of sequence)."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML."""


def tiny_tokenizer() -> Tokenizer:
    """Returns the tokenizer, the same in every process."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY_VOCABULARY_SIZE,
        special_tokens=[UNKNOWN_TOKEN, START_TOKEN, END_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    words = [*POSITIVE_WORDS, *NEGATIVE_WORDS, *NEUTRAL_WORDS]
    tokenizer.train_from_iterator([f" {word}" for word in words] + list(ROLES), trainer)
    # The words give fewer merges than asked for; a model must not sample ids its tokenizer does not have.
    missing = TINY_VOCABULARY_SIZE - tokenizer.get_vocab_size()
    tokenizer.add_special_tokens([f"<|reserved_{index}|>" for index in range(missing)])
    return tokenizer
