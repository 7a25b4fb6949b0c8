"""Looks at the model folders that the configuration names."""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pilothouse.cli.doctor.findings import Finding, ok
from pilothouse.cli.doctor.settings import walk
from pilothouse.config import Config

BUILT_IN = "tiny"
_UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_FOLDER_KEYS = ("model", "tokenizer", "value_model")


def check_models(sections: Mapping[str, Config], used: Collection[str]) -> Iterator[Finding]:
    """Looks at every model folder in the configuration.

    Args:
        sections: Every section that has a value.
        used: Sections whose faults are errors; those of the others are warnings, their turn may come later.
    """
    for name, section in sections.items():
        for key, folder in _folders(name, section):
            finding = check_folder(key, folder)
            if finding.level == "error" and name not in used:
                finding = Finding(finding.check, "warning", finding.detail, finding.mend)
            yield finding


def check_folder(key: str, name: str) -> Finding:
    """Looks into one folder.

    Args:
        key: The setting that names it.
        name: The folder, or the built-in model.
    """
    check = f"model {key}"
    if name == BUILT_IN:
        return ok(check, "tiny, built in")
    folder = Path(name)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        return Finding(
            check, "error", f"{folder} {what}", f"set {key} to a model folder, or train that model first"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        return Finding(check, "error", f"{folder} cannot be read", f"chmod u+rx {folder}")
    return _check_files(check, folder)


def _check_files(check: str, folder: Path) -> Finding:
    names = {file.name for file in folder.iterdir()}
    weights = [name for name in names if name.endswith((".safetensors", ".onnx"))]
    if not weights and any(name.endswith(_UNSAFE) for name in names):
        mend = "load it with transformers in a sandbox and save it again with save_pretrained"
        return Finding(check, "error", f"{folder} has pickled weights only, which are never loaded", mend)
    wanted = {"tokenizer.json"} if "model.onnx" in names else {"config.json", "tokenizer.json"}
    missing = sorted(wanted - names) + ([] if weights else ["*.safetensors or model.onnx"])
    if missing:
        mend = "copy the whole folder as save_pretrained wrote it, model and tokenizer"
        return Finding(check, "error", f"{folder} lacks {', '.join(missing)}", mend)
    unreadable = sorted(name for name in names if not os.access(folder / name, os.R_OK))
    if unreadable:
        mend = f"chmod u+r {' '.join(str(folder / name) for name in unreadable)}"
        return Finding(check, "error", f"{folder}: {', '.join(unreadable)} cannot be read", mend)
    return _check_config(check, folder, sorted(weights))


def _check_config(check: str, folder: Path, weights: list[str]) -> Finding:
    file = folder / "config.json"
    if not file.exists():
        return ok(check, f"{folder}: {', '.join(weights)}")
    try:
        config = json.loads(file.read_text())
    except ValueError as error:
        return Finding(check, "error", f"{file} is not JSON ({error})", "copy the folder again")
    if "auto_map" in config:
        mend = "use a model whose code is part of transformers"
        return Finding(check, "error", f"{folder} wants to run code of its own (auto_map)", mend)
    return ok(check, f"{folder}: {config.get('model_type', 'unknown type')}, {', '.join(weights)}")


def _folders(name: str, section: Config) -> Iterator[tuple[str, str]]:
    """Yields setting and value of every model folder in a section."""
    for setting in walk(name, section):
        # What has a target names a model of another server.
        if setting.key in _FOLDER_KEYS and not hasattr(setting.owner, "target"):
            value = str(setting.value or "")
            if value:
                yield setting.path, value
