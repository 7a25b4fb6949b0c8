import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.codecs import swapped_codec
from transformers import AutoModelForSequenceClassification

from pilothouse.errors import ConfigError, DivergedRunError
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import load_causal_lm, save_causal_lm
from pilothouse.models.reward_files import read_manifest
from pilothouse.models.text import TextCodec
from pilothouse.trainer.config import OptimiserConfig, RewardModelConfig
from pilothouse.trainer.data.encode import EncodedRanking
from pilothouse.trainer.rankings import pairs_loss
from pilothouse.trainer.reward_data import read_reward_data
from pilothouse.trainer.reward_model import backward, ordered_scores, score_sequences, train_reward_model

GOOD, BAD = (" good", " great", " wonderful", " brilliant"), (" bad", " awful", " boring", " terrible")


def _write(file: Path, count: int, seed: int) -> Path:
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        words = [*generator.choice(GOOD, 2), *generator.choice(BAD, 2)]
        rows.append(
            {"prompt": " the film was", "responses": [f"{w} and long" for w in words], "ranks": [1, 1, 2, 2]}
        )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def _config(folder: Path, **changes: object) -> RewardModelConfig:
    optimiser = OptimiserConfig(learning_rate=3e-3, schedule="linear")
    values = {
        "data": (_write(folder / "train.jsonl", 96, 0),),
        "evaluation_data": (_write(folder / "held-out.jsonl", 24, 1),),
        "output": folder / "run",
        "batch_size": 8,
        "optimiser": optimiser,
        "max_sequence_tokens": 32,
        "normalise_samples": 64,
    }
    return RewardModelConfig.model_validate(values | changes)


@pytest.mark.parametrize("loss", ["pairs", "plackett-luce", "best-of-k"])
def test_a_reward_model_learns_the_order_that_people_gave(tmp_path: Path, loss: str) -> None:
    result = train_reward_model(_config(tmp_path, loss=loss))
    assert result.accuracy is not None
    assert result.accuracy.overall.mean > 0.95
    assert result.metrics["eval_accuracy"] == result.accuracy.overall.mean
    assert {"loss", "accuracy", "margin", "mean_reward", "min_reward", "max_reward"} <= result.metrics.keys()
    assert result.version == read_manifest(tmp_path / "run" / "model").version
    assert json.loads((tmp_path / "run" / "accuracy.json").read_text())["pairs"] == 24 * 4


def test_a_run_is_not_resumed_with_other_ranks_of_the_same_answers(tmp_path: Path) -> None:
    config = _config(tmp_path, checkpoint_every_steps=4)
    train_reward_model(config)
    (file,) = config.data
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["ranks"] = [2, 2, 1, 1]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DivergedRunError, match=r"other settings \(data\)"):
        train_reward_model(config)


def test_a_run_is_not_resumed_with_other_prompts_to_normalise_with(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": " the film"}\n')
    config = _config(tmp_path, checkpoint_every_steps=4, normalise_with=(prompts,), max_new_tokens=4)
    train_reward_model(config)
    prompts.write_text('{"prompt": " a story"}\n')
    with pytest.raises(DivergedRunError, match=r"other settings \(data\)"):
        train_reward_model(config)


def test_checklist_15_one_epoch_is_the_default() -> None:
    assert RewardModelConfig().epochs == 1


def test_checklist_16_scores_of_the_reference_policys_samples_have_mean_zero_and_deviation_one(
    tmp_path: Path,
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": " the film"}\n{"prompt": " a story"}\n')
    train_reward_model(_config(tmp_path, normalise_with=(prompts,), normalise_samples=2048, max_new_tokens=8))
    model = ScalarModel.load(tmp_path / "run" / "model")
    from pilothouse.trainer.sampling import sample_sequences

    policy = load_causal_lm("tiny")
    rows = [policy.codec.encode(text) for text in (" the film", " a story")] * 1024
    held_out = sample_sequences(policy, rows, max_new_tokens=8, seed=99, batch_rows=256)
    scores = score_sequences(model, held_out, 4096)
    assert abs(float(scores.mean())) < 0.05
    assert float(scores.std()) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("before", [True, False])
def test_scores_have_deviation_one_from_the_first_step_on_if_they_are_normalised_before(
    tmp_path: Path, before: bool
) -> None:
    """The figures of the one step are of the scores that it began with."""
    data, normaliser = (_write(tmp_path / "few.jsonl", 8, 3),), {"normalise_samples": 32}
    config = _config(tmp_path, data=data, normalise_before=before, **normaliser)
    metrics = train_reward_model(config).metrics
    start = load_causal_lm("tiny")
    model = ScalarModel.from_causal_lm(start.model, config.seed, pad_id=start.codec.pad_id)
    answers = [row for item in read_reward_data(config, start).items for row in item.sequences]
    raw = score_sequences(model, answers, 4096)  # all of them are the samples
    spread = metrics["max_reward"] - metrics["min_reward"]
    assert spread == pytest.approx((raw.max() - raw.min()) / (raw.std() if before else 1.0), rel=1e-4)
    assert raw.std() < 0.9  # the two are told apart


def test_the_samples_to_normalise_with_are_drawn_at_their_temperature(tmp_path: Path) -> None:
    prompts, start = tmp_path / "prompts.jsonl", load_causal_lm("tiny")
    prompts.write_text('{"prompt": " the film"}\n')
    settings = {"normalise_with": (prompts,), "normalise_samples": 16, "max_new_tokens": 8}
    cold, warm = (
        {
            row.tobytes()
            for row in read_reward_data(_config(tmp_path, temperature=heat, **settings), start).samples
        }
        for heat in (1e-4, 1.0)
    )
    assert len(cold) == 1
    assert len(warm) > 1


def test_checklist_13_a_ranking_is_one_element_whatever_its_number_of_pairs() -> None:
    start = load_causal_lm("tiny")
    model = ScalarModel.from_causal_lm(start.model, seed=0, pad_id=start.codec.pad_id)
    rows = [np.array(row, np.int32) for row in ([5, 6, 2], [7, 8, 9, 2], [4, 2], [9, 9, 9, 9, 2], [3, 2])]
    batch = [EncodedRanking("a", tuple(rows[:3]), (1, 2, 3)), EncodedRanking("b", tuple(rows[3:]), (2, 1))]
    metrics = backward(RewardModelConfig(), model, batch)
    scores = ordered_scores(model, rows)
    expected = (pairs_loss(scores[:3], (1, 2, 3)) + pairs_loss(scores[3:], (2, 1))) / 2
    assert metrics["loss"] == pytest.approx(expected.item(), abs=1e-6)
    assert 0 <= metrics["accuracy"] <= 1


def test_a_batch_of_ties_alone_has_neither_accuracy_nor_margin() -> None:
    start = load_causal_lm("tiny")
    model = ScalarModel.from_causal_lm(start.model, seed=0, pad_id=start.codec.pad_id)
    rows = tuple(np.array(row, np.int32) for row in ([5, 6, 2], [7, 8, 9, 2]))
    metrics = backward(RewardModelConfig(), model, [EncodedRanking("a", rows, (1, 1))])
    assert not {"accuracy", "margin"} & metrics.keys()


def test_micro_batches_do_not_change_the_gradient() -> None:
    start = load_causal_lm("tiny")
    rows = [np.array(row, np.int32) for row in ([5, 6, 2], [7, 8, 9, 2], [4, 2], [9, 9, 9, 9, 2])]
    batch = [EncodedRanking("a", tuple(rows[:2]), (1, 2)), EncodedRanking("b", tuple(rows[2:]), (2, 1))]
    gradients = []
    for budget in (1000, 1):
        model = ScalarModel.from_causal_lm(start.model, seed=0, pad_id=start.codec.pad_id)
        backward(RewardModelConfig(micro_batch_tokens=budget, square_penalty=0.001), model, batch)
        gradients.append(
            torch.cat([p.grad.flatten() for p in model.model.parameters() if p.grad is not None])
        )
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-5)


def test_a_ranking_counts_by_its_weight_and_the_batch_by_the_sum_of_weights() -> None:
    start = load_causal_lm("tiny")
    model = ScalarModel.from_causal_lm(start.model, seed=0, pad_id=start.codec.pad_id)
    rows = [np.array(row, np.int32) for row in ([5, 6, 2], [7, 8, 9, 2], [4, 2], [9, 9, 9, 9, 2])]
    batch = [
        EncodedRanking("a", tuple(rows[:2]), (1, 2), weight=0.2),
        EncodedRanking("b", tuple(rows[2:]), (2, 1), weight=0.6),
    ]
    scores = ordered_scores(model, rows)
    losses = pairs_loss(scores[:2], (1, 2)), pairs_loss(scores[2:], (2, 1))
    expected = (0.2 * losses[0] + 0.6 * losses[1]) / 0.8
    assert backward(RewardModelConfig(micro_batch_tokens=1), model, batch)["loss"] == pytest.approx(
        expected.item(), abs=1e-6
    )


def test_equal_weights_are_no_weights_and_a_resumed_run_notices_others(tmp_path: Path) -> None:
    config = _config(tmp_path)
    first = train_reward_model(config)
    (file,) = config.data
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row | {"weight": 1.0}) + "\n" for row in rows))
    assert train_reward_model(config).version == first.version
    file.write_text("".join(json.dumps(row | {"weight": 0.5}) + "\n" for row in rows))
    with pytest.raises(DivergedRunError, match=r"other settings \(data\)"):
        train_reward_model(config)


def test_dialogues_go_through_the_models_chat_template(tmp_path: Path) -> None:
    file, opening = tmp_path / "hh.jsonl", "\n\nHuman: the film\n\nAssistant:"
    rows = [
        {"chosen": f"{opening} was{good}", "rejected": f"{opening} was{bad}"}
        for good, bad in zip(GOOD, BAD, strict=True)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    start = load_causal_lm("tiny")
    config = _config(tmp_path, data=(file,), evaluation_data=(file,), max_sequence_tokens=64)
    item = read_reward_data(config, start).items[0]
    prompt = start.codec.encode_chat([("user", "the film")])
    np.testing.assert_array_equal(item.sequences[0][: item.prompt_length], prompt)
    np.testing.assert_array_equal(
        item.sequences[0][item.prompt_length :], start.codec.encode_answer("was good")
    )
    assert train_reward_model(config).report is not None


def test_a_model_without_a_chat_template_says_how_dialogues_can_be_read(tmp_path: Path) -> None:
    start = load_causal_lm("tiny")
    save_causal_lm(start.model, start.codec, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    file, opening = tmp_path / "hh.jsonl", "\n\nHuman: the film\n\nAssistant:"
    file.write_text(json.dumps({"chosen": f"{opening} good", "rejected": f"{opening} bad"}) + "\n")
    config = _config(tmp_path, data=(file,), model=str(tmp_path / "base"), max_sequence_tokens=64)
    with pytest.raises(ConfigError, match=r'no chat template.*reward_model\.dialogues = "text"'):
        train_reward_model(config)
    assert train_reward_model(config.model_copy(update={"dialogues": "text"})).version


def test_scores_come_back_in_the_order_asked_for() -> None:
    start = load_causal_lm("tiny")
    model = ScalarModel.from_causal_lm(start.model, seed=0, pad_id=start.codec.pad_id)
    rows = [np.array(row, np.int32) for row in ([5, 6, 7, 8, 2], [4, 2], [9, 9, 2])]
    together, alone = ordered_scores(model, rows), torch.cat([model.last_token_scores([row]) for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.from_numpy(score_sequences(model, rows, 5)), alone, atol=1e-5, rtol=1e-5)


def test_the_saved_model_scores_alike_in_transformers(tmp_path: Path) -> None:
    train_reward_model(_config(tmp_path))
    folder = tmp_path / "run" / "model"
    model, codec = ScalarModel.load(folder), TextCodec.load(folder)
    rows = [
        np.append(codec.encode(text), codec.eos_id).astype(np.int32) for text in (" good film", " so bad")
    ]
    theirs = AutoModelForSequenceClassification.from_pretrained(folder)
    for row in rows:
        raw = theirs(torch.from_numpy(row.astype(np.int64))[None]).logits.item()
        assert score_sequences(model, [row], 64)[0] == pytest.approx(model.gain * raw + model.bias, abs=1e-4)


def test_scores_are_not_normalised_with_a_policy_of_another_tokenizer(tmp_path: Path) -> None:
    save_causal_lm(load_causal_lm("tiny").model, swapped_codec(), tmp_path / "policy")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": " the film"}\n')
    with pytest.raises(ConfigError, match=r"another tokenizer .* reward_model\.policy"):
        train_reward_model(_config(tmp_path, normalise_with=(prompts,), policy=str(tmp_path / "policy")))


def test_a_reward_model_needs_rankings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reward_model\.data names no file"):
        train_reward_model(RewardModelConfig(output=tmp_path))
