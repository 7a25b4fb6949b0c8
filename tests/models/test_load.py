"""Loading and saving without pickles, foreign code or a hub."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blake3 import blake3
from transformers import AutoModelForCausalLM, PreTrainedModel

from pilothouse.errors import ConfigError, ModelNotFoundError, UnsafeModelError, UnsupportedArchitectureError
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import load_causal_lm, parameters_by_name, save_causal_lm, state_digest
from pilothouse.models.text import TextCodec
from pilothouse.models.tiny import save_tiny, small_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny(tmp_path)
    return tmp_path


def test_a_saved_model_loads_here_and_in_transformers_with_equal_weights(
    model: PreTrainedModel, tmp_path: Path
) -> None:
    save_causal_lm(model, TextCodec.load("tiny"), tmp_path)
    loaded = load_causal_lm(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    digests = {state_digest(parameters_by_name(each)) for each in (model, loaded.model, theirs)}
    assert len(digests) == 1
    assert loaded.name == tmp_path.name
    assert not loaded.model.training


def test_the_tiny_model_is_built_in_and_equals_its_folder(folder: Path) -> None:
    built_in, saved = load_causal_lm("tiny"), load_causal_lm(folder)
    assert state_digest(parameters_by_name(built_in.model)) == state_digest(parameters_by_name(saved.model))
    assert built_in.spec == saved.spec
    assert built_in.codec.digest == saved.codec.digest


@pytest.mark.parametrize("name", ["tiny", None])
def test_the_dtype_asked_for_is_that_of_the_parameters(folder: Path, name: str | None) -> None:
    loaded = load_causal_lm(name or folder, dtype="bfloat16")
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no model folder"):
        load_causal_lm(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelNotFoundError, match=name):
        load_causal_lm(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_pickled_weights_are_refused(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(UnsafeModelError, match="pickled"):
        load_causal_lm(folder)


def test_code_of_the_models_own_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsafeModelError, match="auto_map"):
        load_causal_lm(folder)


def test_broken_files_are_configuration_errors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_causal_lm(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        load_causal_lm(folder)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model_type": "frobnicator"}, UnsupportedArchitectureError, "'frobnicator' is not supported"),
        ({"model_type": "opt"}, UnsupportedArchitectureError, "'opt' is not supported"),
        ({"quantization_config": {"quant_method": "gptq"}}, UnsupportedArchitectureError, "quantised"),
        ({"num_attention_heads": 0}, ConfigError, "cannot be loaded"),
        ({"hidden_size": 96}, ConfigError, "cannot be loaded"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_served_is_told(
    folder: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(error, match=words):
        load_causal_lm(folder)


@pytest.mark.parametrize("text", ["null", "[]"])
def test_a_config_that_is_no_object_is_told(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ConfigError, match="not a JSON object"):
        load_causal_lm(folder)


def test_weights_of_another_kind_of_model_are_refused_instead_of_made_up(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"score\.weight"):
        ScalarModel.load(folder)
    ScalarModel.from_causal_lm(small_model("llama-tied"), seed=0).model.save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"score\.weight"):
        load_causal_lm(folder)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ConfigError, match="float32"):
        load_causal_lm("tiny", dtype="float8")


def test_tied_parameters_have_one_name() -> None:
    assert "lm_head.weight" not in parameters_by_name(small_model("llama-tied"))
    assert "lm_head.weight" in parameters_by_name(small_model("llama-untied"))


def test_the_digest_is_that_of_the_wire_manifest() -> None:
    """BLAKE3 of the tensors' digests joined in name order, whatever the container."""
    state = {"b": torch.arange(6.0).reshape(2, 3).t(), "a": torch.ones(2, dtype=torch.bfloat16)}
    first = blake3(b"\x80\x3f\x80\x3f").digest()
    second = blake3(np.array([[0, 3], [1, 4], [2, 5]], "<f4").tobytes()).digest()
    assert state_digest(state) == blake3(first + second).hexdigest()
    assert state_digest({"x": torch.ones(3)}) == state_digest({"x": np.ones(3, np.float32)})
    assert state_digest({"x": torch.ones(())}) == state_digest({"x": np.ones((), np.float32)})


def test_a_device_that_torch_does_not_know_is_told() -> None:
    with pytest.raises(ConfigError, match="device 'nonsense' cannot be used"):
        load_causal_lm("tiny", device="nonsense")
