from pathlib import Path
from typing import Any

import pytest
from tests.models.codecs import swapped_codec

from pilothouse.errors import ConfigError
from pilothouse.models.heads import ScalarModel
from pilothouse.models.tiny import tiny_model


@pytest.mark.parametrize("service", ["policy", "reward", "reference"])
def test_a_service_with_another_tokenizer_is_refused_before_anything_is_sent(
    ready: Any, config: Any, cluster: Any, tmp_path: Path, service: str
) -> None:
    getattr(cluster, service).tokenizer = swapped_codec().digest
    with pytest.raises(ConfigError, match=rf"the {service} service has another tokenizer .* tiny"):
        ready(config()).__enter__()
    assert cluster.weights.dense == []
    assert not (tmp_path / "run" / "epoch.json").exists()
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_service_without_a_tokenizer_is_not_compared(ready: Any, config: Any, cluster: Any) -> None:
    cluster.reward.tokenizer = ""
    with ready(config()) as (loop, _control):
        assert loop.run().step == 4


def test_a_value_model_with_another_tokenizer_is_refused(ready: Any, config: Any, tmp_path: Path) -> None:
    codec = swapped_codec()
    ScalarModel.from_causal_lm(tiny_model(), 0, pad_id=codec.pad_id).save(tmp_path / "value", codec)
    with pytest.raises(ConfigError, match=r"value model .* another tokenizer .* ppo\.value_model"):
        ready(config(value_model=str(tmp_path / "value"))).__enter__()
