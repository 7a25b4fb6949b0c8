"""Loading candidates that fail, that several ask for, and while the service ends."""

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.reward.conftest import Both
from tests.reward.test_reward_models import PROMPTS, RESPONSES, on, running, version

from pilothouse.client import AsyncRewardModelsClient
from pilothouse.errors import (
    CandidateExistsError,
    CorruptDataError,
    ModelNotFoundError,
    NonFiniteScoreError,
    PilothouseError,
    TokenizerMismatchError,
    UnsafeModelError,
)
from pilothouse.models.heads import ScalarModel
from pilothouse.models.reward_files import MANIFEST, write_manifest
from pilothouse.models.text import TextCodec
from pilothouse.reward.backends import composite
from pilothouse.reward.backends.torch import TorchBackend

Serving = Callable[..., AbstractAsyncContextManager[Both]]


class Gate:
    """Holds loading up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        real = composite.make_backend

        def held(*arguments: Any) -> Any:
            self.entered.set()
            self.open.wait()
            return real(*arguments)

        monkeypatch.setattr(composite, "make_backend", held)


def _nan(folder: Path) -> None:
    scalar = ScalarModel.load(folder)
    with torch.no_grad():
        scalar.score_weight.fill_(float("nan"))
    shutil.rmtree(folder)
    scalar.save(folder, TextCodec.load("tiny"))


def flipped_byte(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def _stray_code(folder: Path) -> None:
    (folder / "modeling.py").write_text("raise SystemExit")


def _pickle(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    manifest = write_manifest(folder, max_sequence_tokens=256)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    manifest.files["pytorch_model.bin"] = "00"
    (folder / MANIFEST).write_text(manifest.to_json())


def _link(folder: Path) -> None:
    os.link(folder / "model.safetensors", folder.parent / "twin.safetensors")


def _other_tokenizer(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer.json").read_text())
    first, second, *_ = sorted(settings["model"]["vocab"])[100:]
    vocabulary = settings["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    (folder / MANIFEST).unlink()
    write_manifest(folder, max_sequence_tokens=256)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (_nan, NonFiniteScoreError),
        (flipped_byte, CorruptDataError),
        (gone, ModelNotFoundError),
        (_stray_code, UnsafeModelError),
        (_pickle, UnsafeModelError),
        (_link, UnsafeModelError),
        (_other_tokenizer, TokenizerMismatchError),
    ],
)
@pytest.mark.parametrize("folders", [("b",), ("c", "b")])
async def test_a_candidate_that_fails_leaves_nothing_behind_and_the_old_model_serves(
    damage: Callable[[Path], None],
    error: type[PilothouseError],
    folders: tuple[str, ...],
    models_folder: Path,
    both: Serving,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damage(models_folder / "b")
    closed: list[TorchBackend] = []
    close = TorchBackend.close
    monkeypatch.setattr(TorchBackend, "close", lambda self: (closed.append(self), close(self)))
    async with both(**on(models_folder)) as service:
        before = await service.score.score(PROMPTS, RESPONSES)
        with pytest.raises(error):
            await service.models.stage(*folders)
        loads = error in (NonFiniteScoreError, TokenizerMismatchError)
        assert len(closed) == len(folders) - (not loads)
        assert (await service.models.models()).candidate is None
        after = await service.score.score(PROMPTS, RESPONSES)
        staged = await service.models.stage("c")
    np.testing.assert_array_equal(after.values, before.values)
    assert after.reward_version == before.reward_version
    assert staged.reward_version == version(models_folder, "c")


def test_a_closed_model_holds_no_weights_even_where_references_to_it_are_left(models_folder: Path) -> None:
    backend = TorchBackend(models_folder / "a")
    parameters = list(backend._model.model.parameters())
    storages = [parameter.untyped_storage() for parameter in parameters]
    assert all(storage.nbytes() for storage in storages)
    backend.close()
    assert all(parameter.numel() == 0 for parameter in parameters)


async def test_concurrent_calls_for_one_candidate_load_it_once(
    models_folder: Path, both: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both(**on(models_folder)) as service:
        gate = Gate(monkeypatch)
        loads: list[object] = []
        held = composite.make_backend
        monkeypatch.setattr(
            composite, "make_backend", lambda *arguments: (loads.append(arguments), held(*arguments))[1]
        )
        calls = [asyncio.create_task(service.models.stage("b")) for _ in range(5)]
        await asyncio.to_thread(gate.entered.wait)
        with pytest.raises(CandidateExistsError, match="b is being staged"):
            await service.models.stage("c")
        assert (await service.score.score(PROMPTS, RESPONSES)).reward_version == version(models_folder, "a")
        gate.open.set()
        answers = await asyncio.gather(*calls)
    assert len(loads) == 1
    assert all(answer == answers[0] for answer in answers)


async def test_a_candidate_is_loaded_to_the_end_although_its_caller_leaves(
    models_folder: Path, both: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both(**on(models_folder)) as service:
        gate = Gate(monkeypatch)
        leaving = asyncio.create_task(service.models.stage("b"))
        await asyncio.to_thread(gate.entered.wait)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        gate.open.set()
        assert (await service.models.stage("b")).reward_version == version(models_folder, "b")


async def test_files_that_change_under_a_candidate_are_noticed(models_folder: Path, both: Serving) -> None:
    a, b = version(models_folder, "a"), version(models_folder, "b")
    async with both(**on(models_folder)) as service:
        await service.models.stage("b")
        shutil.rmtree(models_folder / "b")
        shutil.copytree(models_folder / "c", models_folder / "b")
        with pytest.raises(CorruptDataError, match="have changed since"):
            await service.models.promote(b, expected_serving_version=a)
        with pytest.raises(CorruptDataError, match="drop it and stage it again"):
            await service.models.stage("b")
        assert (await service.score.model()).reward_version == a
        await service.models.drop()
        assert (await service.models.stage("b")).reward_version == version(models_folder, "c")


async def test_a_drain_lets_a_candidate_finish_loading(
    models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(**on(models_folder)) as servers:
        gate = Gate(monkeypatch)
        async with AsyncRewardModelsClient(f"127.0.0.1:{servers[1].port}") as client:
            staging = asyncio.create_task(client.stage("b"))
            await asyncio.to_thread(gate.entered.wait)
            draining = [asyncio.create_task(server.stop()) for server in servers]
            await asyncio.sleep(0)
            gate.open.set()
            assert (await staging).reward_version == version(models_folder, "b")
            await asyncio.gather(*draining)


async def test_a_drain_does_not_wait_for_a_candidate_longer_than_configured(
    models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"http_port": -1, "drain_seconds": 0}
    gate: Gate | None = None
    try:
        async with running(**on(models_folder, models_server=short)) as servers:
            gate = Gate(monkeypatch)
            async with AsyncRewardModelsClient(f"127.0.0.1:{servers[1].port}", timeout_seconds=5) as client:
                staging = asyncio.create_task(client.stage("b"))
                await asyncio.to_thread(gate.entered.wait)
                for server in servers:
                    await server.stop()
                with pytest.raises(PilothouseError):
                    await staging
    finally:
        assert gate is not None
        gate.open.set()  # only now: leaving the service did not wait for the thread
