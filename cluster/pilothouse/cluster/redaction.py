"""Takes out of objects and texts what nobody else should read."""

import json
import re
from collections.abc import Mapping
from typing import Any

from pilothouse.cluster.kinds import Object, at, name_of
from pilothouse.cluster.release import CONFIG_KEY

HIDDEN = "(removed)"

_IN_ADDRESS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@\"']+@")
"""Name and password before a host."""
_ASSIGNED = re.compile(
    r"(?i)(\b[\w.-]*(?:password|passwd|secret|token|api_?key|credentials?|private_?key)"
    r"[\"']?\s*[:=]\s*)(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;}\]]+)"
)
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_BEARER = re.compile(r"(?i)(bearer\s+)[A-Za-z0-9._~+/-]{8,}=*")


def clean_text(text: str) -> str:
    """Returns a text without passwords, tokens and keys that can be told as such."""
    text = _BLOCK.sub(rf"-----BEGIN \1----- {HIDDEN}", text)
    text = _IN_ADDRESS.sub(rf"\1{HIDDEN}@", text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    return _ASSIGNED.sub(rf"\1{HIDDEN}", text)


def clean_object(found: Object) -> Object:
    """Returns an object for others to see.

    Of a Secret, and of a ConfigMap's entries other than the configuration, only names and sizes are left: the
    latter are people's data. Environment variables lose their values, whatever they are called.
    """
    copy: Object = json.loads(json.dumps(found))
    metadata = copy["metadata"]
    metadata.pop("managedFields", None)
    # It holds the whole object, as it was given.
    (metadata.get("annotations") or {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
    is_secret = copy.get("kind") == "Secret"
    for part in ("data", "stringData", "binaryData"):
        if isinstance(at(copy, part), dict):
            copy[part] = {
                key: value if key == CONFIG_KEY and not is_secret else f"({len(str(value))} characters)"
                for key, value in copy[part].items()
            }
    return _walk(copy)  # type: ignore[no-any-return]


def is_kept(found: Object) -> bool:
    """Returns whether an object belongs into a bundle; Helm's own records hold every value of a release."""
    return not name_of(found).startswith("sh.helm.release.")


def _walk(found: Any, key: str = "") -> Any:
    if isinstance(found, Mapping):
        return {name: _walk(value, name) for name, value in found.items()}
    if isinstance(found, list):
        if key == "env":
            return [_without_value(each) for each in found]
        return [_walk(each, key) for each in found]
    return clean_text(found) if isinstance(found, str) else found


def _without_value(variable: Any) -> Any:
    if isinstance(variable, dict) and "value" in variable:
        return variable | {"value": HIDDEN}
    return variable
