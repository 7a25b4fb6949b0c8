import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification

from pilothouse.models.export import export_reward_model
from pilothouse.models.heads import ScalarModel
from pilothouse.models.load import load_causal_lm
from pilothouse.models.reward_files import file_digest, read_manifest
from pilothouse.trainer.calibration import calibrate
from pilothouse.trainer.config import RewardModelConfig
from pilothouse.trainer.pairs import make_pairs
from pilothouse.trainer.reward_card import render
from pilothouse.trainer.reward_data import read_reward_data
from pilothouse.trainer.reward_model import held_out_scores, train_reward_model

WORDS = (" good", " great", " bad", " awful")


def _train(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    rows = [
        {
            "prompt": f" film {prompt} was",
            "responses": [f"{word} and long" + " so" * (index % 3) for index, word in enumerate(WORDS)],
            "ranks": [1, 1, 2, 2] if rater == "a" or prompt % 4 else [1, 2, 1, 2],
            "task": f"t{prompt}",
            "rater": rater,
            "weight": 0.5,
        }
        for prompt in range(12)
        for rater in "ab"
    ]
    file = folder / "rankings.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {"data": (file,), "evaluation_data": (file,), "output": folder / "run", "batch_size": 8}
    train_reward_model(RewardModelConfig.model_validate(values | {"max_sequence_tokens": 64} | changes))
    return folder / "run" / "model"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model's folder with its card."""
    return _train(tmp_path_factory.mktemp("card") / "first")


def test_the_card_tells_data_settings_and_figures(model: Path) -> None:
    card = json.loads((model / "card.json").read_text())
    manifest = read_manifest(model)
    assert card["version"] == manifest.version
    assert card["base_model"] == "tiny"
    assert card["training"]["loss"] == "pairs"
    assert card["normaliser"]["gain"] == pytest.approx(manifest.gain, rel=1e-5)
    data = card["data"]["training"]
    assert {key: data[key] for key in ("rankings", "prompts", "raters", "weight")} == {
        "rankings": 24,
        "prompts": 12,
        "raters": 2,
        "weight": 12.0,
    }
    file = model.parent.parent / "rankings.jsonl"
    assert data["files"] == [{"name": "rankings.jsonl", "blake3": file_digest(file)}]
    report = json.loads((model.parent / "accuracy.json").read_text())
    assert card["held_out"]["pairs"] == report["pairs"] == 24 * 4
    assert report["overall"]["count"] == 12
    assert report["agreement"]["overall"]["people"]["mean"] == pytest.approx(39 / 42)
    assert {"calibration", "agreement", "length"} <= report.keys()


def test_the_served_temperature_is_that_of_the_scores_as_served(tmp_path: Path) -> None:
    model = _train(tmp_path / "sharp", optimiser={"learning_rate": 1e-3}, epochs=2, normalise_before=False)
    card, scalar = json.loads((model / "card.json").read_text()), ScalarModel.load(model)
    file = model.parent.parent / "rankings.jsonl"
    config = RewardModelConfig(data=(file,), max_sequence_tokens=64)
    items = read_reward_data(config, load_causal_lm("tiny")).items
    served = calibrate(make_pairs(held_out_scores(scalar, items, 4096), items)).temperature.mean
    assert card["served_temperature"] == pytest.approx(served, rel=5e-3)
    assert served != pytest.approx(card["held_out"]["calibration"]["temperature"]["mean"], rel=0.1)


def test_the_page_tells_the_same(model: Path) -> None:
    page = (model / "README.md").read_text()
    card = json.loads((model / "card.json").read_text())
    assert page == render(card)
    assert page.startswith("---\nlibrary_name: transformers\n")
    for title in ("Data", "Held-out accuracy", "Calibration", "People", "Length"):
        assert f"\n## {title}\n" in page
    assert card["data"]["training"]["files"][0]["blake3"] in page
    assert "nan" not in page


def test_the_same_run_elsewhere_writes_the_same_bytes(model: Path, tmp_path: Path) -> None:
    again = _train(tmp_path / "second")
    for name in ("card.json", "README.md"):
        assert (again / name).read_bytes() == (model / name).read_bytes()


def test_the_card_is_no_part_of_the_model(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    assert not {"card.json", "README.md"} & read_manifest(copy).files.keys()
    (copy / "README.md").write_text("What others say of it.\n")
    (copy / "card.json").unlink()
    assert read_manifest(copy).version == read_manifest(model).version
    ScalarModel.load(copy)
    assert AutoModelForSequenceClassification.from_pretrained(copy).config.num_labels == 1
    export_reward_model(model, tmp_path / "onnx")


def test_without_held_out_rankings_the_card_says_what_it_knows(tmp_path: Path) -> None:
    page = (_train(tmp_path / "plain", evaluation_data=()) / "README.md").read_text()
    assert "## Data" in page
    assert "## Held-out" not in page
