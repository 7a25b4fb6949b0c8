import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.codecs import swapped_codec
from transformers import AutoModelForCausalLM

from pilothouse.errors import ConfigError, CorruptCheckpointError, DivergedRunError
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import load_causal_lm
from pilothouse.trainer.config import OptimiserConfig, SftConfig
from pilothouse.trainer.data.encode import EncodedDemonstration
from pilothouse.trainer.fitting import Metrics
from pilothouse.trainer.sampling import sample_sequences
from pilothouse.trainer.sft import backward, train_sft

TEXTS = [" the film was good", " the movie was really boring", " I loved the story and the music", " so bad"]


@pytest.fixture
def demonstrations(tmp_path: Path) -> Path:
    file = tmp_path / "demonstrations.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS * 6))
    return file


def _config(folder: Path, data: Path, **changes: object) -> SftConfig:
    optimiser = OptimiserConfig(learning_rate=3e-3, schedule="cosine", warmup_steps=2)
    values = {"data": (data,), "output": folder, "batch_size": 4, "epochs": 4, "optimiser": optimiser}
    return SftConfig.model_validate(values | changes)


def _item(tokens: list[int], prompt: int) -> EncodedDemonstration:
    return EncodedDemonstration("x", np.array(tokens, np.int32), prompt)


def test_checklist_09_the_loss_is_the_mean_over_completions_with_eos_and_without_prompts() -> None:
    model = load_causal_lm("tiny")
    eos = model.codec.eos_id
    batch = [_item([5, 6, 7, 8, eos], 2), _item([9, 10, eos], 1)]
    loss = backward(model, batch, micro_batch_tokens=64)["loss"]
    expected, count = 0.0, 0
    for item in batch:
        logits = (
            model.model(torch.from_numpy(item.tokens.astype(np.int64))[None])
            .logits[0]
            .detach()
            .log_softmax(-1)
        )
        for position in range(item.prompt_length, len(item.tokens)):
            expected -= float(logits[position - 1, item.tokens[position]])
            count += 1
    assert count == 5
    assert loss == pytest.approx(expected / count, abs=1e-5)


def test_the_entropy_is_a_mean_over_the_target_tokens_in_nats() -> None:
    model = load_causal_lm("tiny")
    batch = [_item([5, 6, 7, 8, 2], 2), _item([9, 10, 2], 1)]
    expected = []
    for item in batch:
        ids = torch.from_numpy(item.tokens.astype(np.int64))[None]
        logits = model.model(ids).logits[0, item.prompt_length - 1 : -1]
        expected.append(torch.distributions.Categorical(logits=logits).entropy())
    found = backward(model, batch, micro_batch_tokens=1)["entropy"]
    assert found == pytest.approx(torch.cat(expected).mean().item(), rel=1e-5)


def test_checklist_09_eos_is_a_target(tmp_path: Path, demonstrations: Path) -> None:
    train_sft(_config(tmp_path / "run", demonstrations, epochs=8))
    model = load_causal_lm(tmp_path / "run" / "model")
    prompts = [model.codec.encode(" the film")] * 16
    rows = sample_sequences(model, prompts, max_new_tokens=24)
    assert sum(row[-1] == model.codec.eos_id for row in rows) > 8


def test_micro_batches_do_not_change_the_gradient() -> None:
    batch = [_item([5, 6, 7, 8, 2], 2), _item([9, 10, 2], 1), _item([4, 4, 4, 4, 4, 4, 2], 3)]
    gradients = []
    for budget in (1000, 1):
        model = load_causal_lm("tiny")
        backward(model, batch, micro_batch_tokens=budget)
        gradients.append(
            torch.cat([p.grad.flatten() for p in model.model.parameters() if p.grad is not None])
        )
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-5)


def test_sft_lowers_the_loss_and_writes_a_folder_that_transformers_loads(
    tmp_path: Path, demonstrations: Path
) -> None:
    seen: list[Metrics] = []
    config = _config(tmp_path / "run", demonstrations, evaluation_data=(demonstrations,))
    metrics = train_sft(config, lambda done, total, metrics: seen.append(dict(metrics)))
    assert len(seen) == 24
    assert seen[-1]["loss"] < 0.6 * seen[0]["loss"]
    assert metrics["eval_loss"] < seen[0]["loss"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 25))
    assert {"loss", "entropy", "grad_norm", "learning_rate", "num_tokens", "epoch"} <= rows[0].keys()
    assert 0 < metrics["eval_entropy"] < seen[0]["entropy"]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model").config.model_type == "llama"


class _Stop(Exception):
    pass


def test_a_run_that_was_cut_off_ends_with_the_same_weights(tmp_path: Path, demonstrations: Path) -> None:
    def stop(done: int, total: int, metrics: object) -> None:
        if done == 13:
            raise _Stop

    train_sft(_config(tmp_path / "whole", demonstrations))
    broken = _config(tmp_path / "broken", demonstrations, checkpoint_every_steps=5)
    with pytest.raises(_Stop):
        train_sft(broken, stop)
    steps: list[int] = []
    train_sft(broken, lambda done, total, metrics: steps.append(done))
    assert steps[0] == 11
    whole, resumed = (
        load_causal_lm(tmp_path / name / "model").model.state_dict() for name in ("whole", "broken")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    rows = [
        json.loads(line)["step"] for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()
    ]
    assert rows == list(range(1, 25))


def test_a_run_started_anew_is_resumed_and_not_the_one_before_it(
    tmp_path: Path, demonstrations: Path
) -> None:
    config = _config(tmp_path / "run", demonstrations, checkpoint_every_steps=5)

    def stop_at(step: int) -> Callable[[int, int, object], None]:
        def stop(done: int, total: int, metrics: object) -> None:
            if done == step:
                raise _Stop

        return stop

    with pytest.raises(_Stop):
        train_sft(config, stop_at(13))
    with pytest.raises(_Stop):
        train_sft(config.model_copy(update={"resume": False}), stop_at(7))
    steps: list[int] = []
    train_sft(config, lambda done, total, metrics: steps.append(done))
    assert steps[0] == 6, "the former run's checkpoint of step 10 is gone"


def test_a_checkpoint_of_other_settings_is_refused_by_their_names(
    tmp_path: Path, demonstrations: Path
) -> None:
    config = _config(tmp_path / "run", demonstrations, checkpoint_every_steps=5)
    train_sft(config)
    with pytest.raises(DivergedRunError, match=r"other settings \(seed\)"):
        train_sft(config.model_copy(update={"seed": 1}))
    before = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(DivergedRunError, match=r"other settings \(micro_batch_tokens\)"):
        train_sft(config.model_copy(update={"micro_batch_tokens": 64}))
    assert (tmp_path / "run" / "config.json").read_text() == before, "a refused start leaves the record alone"
    train_sft(config.model_copy(update={"seed": 1, "resume": False}))


def test_a_checkpoint_of_other_settings_is_continued_by_who_accepts_them(
    tmp_path: Path, demonstrations: Path
) -> None:
    config = _config(tmp_path / "run", demonstrations, checkpoint_every_steps=5)
    train_sft(config)
    steps: list[int] = []
    accepted = config.model_copy(update={"seed": 1, "epochs": 5, "accept_changes": True})
    train_sft(accepted, lambda done, total, metrics: steps.append(done))
    assert steps == list(range(25, 31))
    with pytest.raises(CorruptCheckpointError, match="other parameters"):
        train_sft(accepted.model_copy(update={"trainable_layers": 1}))


def test_more_epochs_go_on_from_the_last_checkpoint(tmp_path: Path, demonstrations: Path) -> None:
    config = _config(tmp_path / "run", demonstrations, checkpoint_every_steps=5)
    train_sft(config)
    steps: list[int] = []
    train_sft(config.model_copy(update={"epochs": 5}), lambda done, total, metrics: steps.append(done))
    assert steps == list(range(25, 31))


def test_other_held_out_data_are_other_data_where_they_choose_the_weights(
    tmp_path: Path, demonstrations: Path
) -> None:
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text(demonstrations.read_text())
    for choose_by in ("last", "loss"):
        config = _config(
            tmp_path / choose_by, demonstrations, evaluation_data=(held_out,), checkpoint_every_steps=5
        )
        train_sft(config.model_copy(update={"choose_by": choose_by}))
    held_out.write_text("".join(demonstrations.read_text().splitlines(keepends=True)[:3]))
    train_sft(_config(tmp_path / "last", demonstrations, evaluation_data=(held_out,)))
    with pytest.raises(DivergedRunError, match=r"other settings \(data\)"):
        train_sft(_config(tmp_path / "loss", demonstrations, evaluation_data=(held_out,), choose_by="loss"))


def test_only_the_upper_layers_move_when_told_so(tmp_path: Path, demonstrations: Path) -> None:
    train_sft(_config(tmp_path / "run", demonstrations, epochs=1, trainable_layers=1))
    before, after = (
        load_causal_lm("tiny").model.state_dict(),
        load_causal_lm(tmp_path / "run" / "model").model.state_dict(),
    )
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all("layers.1." in name or name == "model.norm.weight" for name in moved)


def test_the_weights_of_the_least_held_out_loss_can_be_chosen(tmp_path: Path, demonstrations: Path) -> None:
    losses: list[float] = []
    config = _config(
        tmp_path / "run",
        demonstrations,
        evaluation_data=(demonstrations,),
        choose_by="loss",
        evaluate_every_steps=6,
    )
    config = config.model_copy(update={"optimiser": OptimiserConfig(learning_rate=0.05, schedule="constant")})
    train_sft(
        config, lambda done, total, found: losses.extend([found["eval_loss"]] if "eval_loss" in found else [])
    )
    assert len(losses) == 4
    again = _config(
        tmp_path / "again",
        demonstrations,
        evaluation_data=(demonstrations,),
        model=str(tmp_path / "run" / "model"),
    )
    again = again.model_copy(update={"optimiser": OptimiserConfig(learning_rate=0.0), "epochs": 1})
    assert train_sft(again)["eval_loss"] == pytest.approx(min(losses), abs=1e-5)


def test_checklist_10_the_weights_whose_samples_a_reward_model_likes_best_can_be_chosen(
    tmp_path: Path, demonstrations: Path
) -> None:
    start = load_causal_lm("tiny")
    reward = ScalarModel.from_causal_lm(start.model, seed=0, pad_id=start.codec.pad_id)
    reward.save(tmp_path / "reward", start.codec)
    rewards: list[float] = []
    config = _config(
        tmp_path / "run",
        demonstrations,
        evaluation_data=(demonstrations,),
        choose_by="reward",
        reward_model=str(tmp_path / "reward"),
        max_new_tokens=8,
        evaluate_every_steps=6,
    )
    train_sft(
        config, lambda done, total, found: rewards.extend([found[k] for k in ("eval_reward",) if k in found])
    )
    assert len(rewards) == 4
    still = OptimiserConfig(learning_rate=0.0)
    again = config.model_copy(
        update={
            "output": tmp_path / "again",
            "model": str(tmp_path / "run" / "model"),
            "optimiser": still,
            "epochs": 1,
        }
    )
    assert train_sft(again)["eval_reward"] == pytest.approx(max(rewards), abs=1e-4)


def test_a_reward_model_with_another_tokenizer_chooses_nothing(tmp_path: Path, demonstrations: Path) -> None:
    codec = swapped_codec()
    reward = ScalarModel.from_causal_lm(load_causal_lm("tiny").model, seed=0, pad_id=codec.pad_id)
    reward.save(tmp_path / "reward", codec)
    chosen = {"choose_by": "reward", "reward_model": str(tmp_path / "reward")}
    with pytest.raises(ConfigError, match=r"another tokenizer .* sft\.reward_model"):
        train_sft(_config(tmp_path / "run", demonstrations, evaluation_data=(demonstrations,), **chosen))


def test_missing_data_is_refused_with_the_mend(tmp_path: Path, demonstrations: Path) -> None:
    with pytest.raises(ConfigError, match=r"sft\.data names no file; set it"):
        train_sft(SftConfig(output=tmp_path))
    with pytest.raises(ConfigError, match=r"needs sft\.evaluation_data"):
        train_sft(_config(tmp_path, demonstrations, choose_by="loss"))
