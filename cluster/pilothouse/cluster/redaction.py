"""Takes out of objects and texts what nobody else should read."""

import json
import re
from collections.abc import Mapping
from typing import Any

from pilothouse.cluster.kinds import Object, at, name_of
from pilothouse.cluster.release import CONFIG_KEY

HIDDEN = "(removed)"

# No pattern may begin with a repetition, nor go on for ever where its end is missing: a log can be megabytes
# of anything, and each must take a time that grows no faster than the text.
_SECRET = (
    r"(?:password|passwd|passphrase|secret|token|credentials?"
    r"|(?:api|access|private|secret)[_-]?key)"
)
"""What a name ends with whose value is nobody's business."""
_VALUE = "|".join(
    (
        r'"""[\s\S]*?"""',
        r"'''[\s\S]*?'''",
        r'"(?:[^"\\\n]|\\.)*"',
        r"'(?:[^'\\\n]|\\.)*'",
        r'\\+"[^"\n]*"',  # in a text that is itself in quotes
        r"\[[^\[\]]*\]",
        r"[\"'][^\n]*",  # whose end was cut off
        r"[^\s,;}\]]+",
    )
)
_NAME = re.compile(rf"(?i){_SECRET}$")
_FLAG = re.compile(rf"(?i)--?[\w-]*{_SECRET}")
_ASSIGNED = re.compile(rf"(?i)({_SECRET}\\*[\"']?\s*[:=]\s*)({_VALUE})")
_GIVEN = re.compile(rf"(?i)({_SECRET}[ \t]+)((?!-)(?:{_VALUE}))")
_DASHES = re.compile(r"(?:^|[\s\"'])--?[\w-]*$")
_LONGEST_FLAG = 100

_IN_ADDRESS = re.compile(r"(://)[^\s/\"']+@")
"""Name and password before a host."""
_BLOCK = re.compile(
    r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----"
    r"(?:(?:(?!-----BEGIN)[\s\S])*?-----END \1-----|[A-Za-z0-9+/=\s\\]*)"
)
"""Also one whose end was cut off."""
_BEARER = re.compile(r"(?i)(bearer\s+)[A-Za-z0-9._~+/-]{8,}=*")
_AUTHORIZATION = re.compile(
    r"(?i)(authorization\\*[\"']?\s*[:=]\s*\\*[\"']?(?:(?:basic|bearer|digest|token)\s+)?)[^\s\"',;}\]\\]+"
)


def clean_text(text: str) -> str:
    """Returns a text without passwords, tokens and keys that can be told as such."""
    text = _BLOCK.sub(rf"-----BEGIN \1----- {HIDDEN}", text)
    text = _IN_ADDRESS.sub(rf"\1{HIDDEN}@", text)
    text = _BEARER.sub(rf"\1{HIDDEN}", text)
    text = _AUTHORIZATION.sub(rf"\1{HIDDEN}", text)
    text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
    return _GIVEN.sub(_without_given, text)


def clean_object(found: Object) -> Object:
    """Returns an object for others to see.

    Of a Secret, and of a ConfigMap's entries other than the configuration, only names and sizes are left: the
    latter are people's data. Environment variables and headers lose their values, whatever they are called.
    """
    copy: Object = json.loads(json.dumps(found))
    metadata = copy["metadata"]
    metadata.pop("managedFields", None)
    # It holds the whole object, as it was given.
    (metadata.get("annotations") or {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
    is_secret = copy.get("kind") == "Secret"
    cleaned: Object = clean(copy)
    for part in ("data", "stringData", "binaryData"):
        if isinstance(at(copy, part), dict):
            cleaned[part] = {
                key: clean_text(value)
                if key == CONFIG_KEY and not is_secret
                else f"({len(str(value))} characters)"
                for key, value in copy[part].items()
            }
    return cleaned


def clean(found: Any, key: str = "") -> Any:
    """Returns a document of mappings, lists and texts without what its names, or the texts, tell as secret.

    Args:
        found: The document.
        key: By which it is known; what is no text, such as a number of tokens, stays.
    """
    if isinstance(found, Mapping):
        return {name: clean(value, name) for name, value in found.items()}
    if isinstance(found, list | tuple):
        if key in ("env", "httpHeaders"):
            return [_without_value(each) for each in found]
        return [
            HIDDEN if isinstance(each, str) and _is_flag(before) else clean(each, key)
            for before, each in zip((None, *found), found, strict=False)
        ]
    if isinstance(found, str):
        return HIDDEN if found and _NAME.search(key) else clean_text(found)
    return found


def is_kept(found: Object) -> bool:
    """Returns whether an object belongs into a bundle; Helm's own records hold every value of a release."""
    return not name_of(found).startswith("sh.helm.release.")


def _is_flag(word: Any) -> bool:
    return isinstance(word, str) and _FLAG.fullmatch(word) is not None


def _without_given(match: re.Match[str]) -> str:
    """Takes the word after ``--token`` out, and leaves prose about tokens alone."""
    before = match.string[max(match.start() - _LONGEST_FLAG, 0) : match.start()]
    return f"{match[1]}{HIDDEN}" if _DASHES.search(before) else match[0]


def _without_value(variable: Any) -> Any:
    if isinstance(variable, dict) and "value" in variable:
        return variable | {"value": HIDDEN}
    return variable
