"""GGUF files to folders."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from pilothouse.errors import ConfigError, ModelNotFoundError
from pilothouse.models import gguf as module
from pilothouse.models.gguf import convert_gguf
from pilothouse.models.load import load_causal_lm, parameters_by_name
from pilothouse.models.text import TextCodec
from pilothouse.models.tiny import small_model
from pilothouse.models.tiny_text import tiny_tokenizer

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "model.layers": "blk",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""Names of parameters in transformers and in GGUF."""


def write_gguf(file: Path, model: PreTrainedModel) -> None:
    """Writes a small Llama as llama.cpp's converter does, unquantised."""
    config = model.config
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer)
    for name, parameter in parameters_by_name(model).items():
        values = parameter.detach().numpy()
        if "q_proj" in name or "k_proj" in name:
            values = _interleave(values, config.head_dim)
        for theirs, short in NAMES.items():
            name = name.replace(theirs, short)
        writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleave(values: np.ndarray, head_dim: int) -> np.ndarray:
    """Orders a head's rows as llama.cpp's rotary embedding has them: pairs side by side."""
    rows = values.reshape(-1, 2, head_dim // 2, values.shape[1])
    return rows.swapaxes(1, 2).reshape(values.shape)


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    tokenizer = tiny_tokenizer()
    tokens = [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())]
    special = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    merges = [token for token in tokens if len(token) == 2 and token not in special]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "model.gguf"
    write_gguf(file, small_model("llama-tied"))
    return file


def test_a_gguf_file_becomes_a_folder_that_loads(source: Path, tmp_path: Path) -> None:
    folder = convert_gguf(source, tmp_path / "new" / "model")
    ours = parameters_by_name(load_causal_lm(folder).model)
    for name, parameter in parameters_by_name(small_model("llama-tied")).items():
        assert torch.equal(ours[name], parameter), name
    codec = TextCodec.load(folder)
    assert (codec.eos_id, codec.bos_id) == (2, 1)
    assert codec.pad_id != codec.eos_id
    assert [file.name for file in folder.parent.iterdir()] == ["model"]


def test_a_folder_that_is_there_is_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = convert_gguf(source, tmp_path / "model")
    monkeypatch.delattr(module, "_convert")
    assert convert_gguf(source, folder) == folder


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no GGUF file"):
        convert_gguf(tmp_path / "none.gguf", tmp_path / "model")


def test_a_broken_file_leaves_no_folder_behind(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(8))
    with pytest.raises(ConfigError, match="cannot be read"):
        convert_gguf(tmp_path / "broken.gguf", tmp_path / "model")
    assert [file.name for file in tmp_path.iterdir()] == ["broken.gguf"]
