"""Value and reward models."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from pilothouse.errors import ConfigError, CorruptDataError
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import parameters_by_name
from pilothouse.models.reward_files import read_manifest
from pilothouse.models.text import TextCodec
from pilothouse.models.tiny import small_model
from pilothouse.tensors import Tokens

CODEC = TextCodec.load("tiny")


def padded_scores(model: PreTrainedModel, sequences: list[Tokens]) -> torch.Tensor:
    """Scores of right-padded rows, transformers' own way."""
    rows = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(row).long() for row in sequences], batch_first=True, padding_value=CODEC.pad_id
    )
    lengths = torch.tensor([len(row) for row in sequences])
    mask = torch.arange(rows.shape[1]) < lengths[:, None]
    return model(input_ids=rows, attention_mask=mask.long()).logits[:, 0]


def test_checklist_12_the_score_is_read_at_the_last_real_token(
    model: PreTrainedModel, sequences: list[Tokens]
) -> None:
    scalar = ScalarModel.from_causal_lm(model, seed=1, pad_id=CODEC.pad_id)
    with torch.no_grad():
        scores = scalar.last_token_scores(sequences)
        values = torch.split(scalar.token_values(sequences), [len(row) for row in sequences])
        torch.testing.assert_close(scores, padded_scores(scalar.model, sequences), rtol=0, atol=1e-5)
        alone = torch.cat([scalar.last_token_scores([row]) for row in sequences])
    torch.testing.assert_close(scores, torch.stack([row[-1] for row in values]))
    torch.testing.assert_close(scores, alone, rtol=0, atol=1e-5)


def test_checklist_12_a_pad_token_inside_a_sequence_is_no_end(sequences: list[Tokens]) -> None:
    scalar = ScalarModel.from_causal_lm(small_model("llama-tied"), seed=1)
    row = sequences[0].copy()
    row[-2:] = CODEC.pad_id  # the length says that they count
    with torch.no_grad():
        assert scalar.last_token_scores([row]) == scalar.token_values([row])[-1]


def test_checklist_11_the_head_is_drawn_with_the_width_in_mind_and_has_no_bias() -> None:
    model = small_model("llama-tied")
    heads = torch.cat([ScalarModel.from_causal_lm(model, seed).score_weight.detach() for seed in range(40)])
    width = model.config.hidden_size
    assert heads.std().item() == pytest.approx((width + 1) ** -0.5, rel=0.05)
    assert "score.bias" not in parameters_by_name(ScalarModel.from_causal_lm(model, 0).model)


def test_the_body_starts_as_a_copy_of_the_language_model(model: PreTrainedModel) -> None:
    scalar = ScalarModel.from_causal_lm(model, seed=1)
    theirs, ours = parameters_by_name(model), parameters_by_name(scalar.model)
    assert set(ours) - set(theirs) == {"score.weight"}
    for name in set(ours) & set(theirs):
        assert torch.equal(ours[name], theirs[name])
        assert ours[name].data_ptr() != theirs[name].data_ptr()
    assert scalar.weights.head is None


def test_gradients_reach_body_and_head(model: PreTrainedModel, sequences: list[Tokens]) -> None:
    scalar = ScalarModel.from_causal_lm(model, seed=1, pad_id=CODEC.pad_id)
    scalar.last_token_scores(sequences).sum().backward()
    ours = {name: parameter.grad for name, parameter in scalar.model.named_parameters()}
    scalar.model.zero_grad()
    padded_scores(scalar.model, sequences).sum().backward()
    for name, parameter in scalar.model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_a_saved_model_loads_here_and_in_transformers(
    model: PreTrainedModel, sequences: list[Tokens], tmp_path: Path
) -> None:
    scalar = ScalarModel.from_causal_lm(model, seed=1)
    scalar.gain, scalar.bias = 2.0, -0.5
    written = scalar.save(tmp_path, CODEC, max_sequence_tokens=100)
    loaded = ScalarModel.load(tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert (loaded.gain, loaded.bias) == (2.0, -0.5)
    assert read_manifest(tmp_path) == written
    assert theirs.config.pad_token_id != theirs.config.eos_token_id
    with torch.no_grad():
        scores = scalar.last_token_scores(sequences)
        assert torch.equal(scores, loaded.last_token_scores(sequences))
        torch.testing.assert_close(scores, padded_scores(theirs, sequences), rtol=0, atol=1e-5)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    ScalarModel.from_causal_lm(small_model("llama-tied"), seed=1).save(tmp_path, CODEC)
    ScalarModel.from_causal_lm(small_model("llama-tied"), seed=2).model.save_pretrained(tmp_path)
    with pytest.raises(CorruptDataError, match="safetensors"):
        ScalarModel.load(tmp_path)


def test_a_classifier_of_several_labels_is_refused(tmp_path: Path) -> None:
    config = small_model("llama-tied").config
    config.num_labels = 3
    with pytest.raises(ConfigError, match="one label"):
        ScalarModel(AutoModelForSequenceClassification.from_config(config))
