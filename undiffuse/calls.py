"""Objects in words: a name, and options in brackets behind it, as in `ddim(eta=0.5)`.

Values are JSON; what is no JSON is a text as it stands. Nothing is looked up here.
"""

from __future__ import annotations

import json
import re
from typing import Any

from undiffuse.errors import UndiffuseError, one_line


def read(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the options of a text.

    >>> read("ddim(eta=0.5)")
    ('ddim', {'eta': 0.5})

    Raises:
        UndiffuseError: the text has another form.
    """
    match = re.fullmatch(r"\s*([\w.+-]+)\s*(?:\((.*)\))?\s*", text)
    if match is None:
        raise UndiffuseError(
            f"cannot read '{one_line(text)}'; write name or name(option=value, ...)"
        )
    return match[1], arguments(match[2] or "", text)


def arguments(inside: str, text: str) -> dict[str, Any]:
    """What stands between the brackets of `text`, as options.

    >>> arguments("eta=0.5, at=[1, 2]", "ddim(eta=0.5, at=[1, 2])")
    {'eta': 0.5, 'at': [1, 2]}

    Raises:
        UndiffuseError: an argument has another form, or comes twice.
    """
    options: dict[str, Any] = {}
    for item in _arguments(inside):
        key, equals, value = item.partition("=")
        if not equals:
            raise UndiffuseError(
                f"cannot read '{one_line(item)}' in '{one_line(text)}'; write option=value"
            )
        if key.strip() in options:
            raise UndiffuseError(
                f"'{one_line(text)}' has the option {one_line(key.strip())} twice; give it once"
            )
        try:
            options[key.strip()] = json.loads(value)
        except (ValueError, RecursionError):
            options[key.strip()] = value.strip()
    return options


def written(name: str, options: dict[str, Any]) -> str:
    """A name and options as text, which `read` takes; 2.0 is written as 2.

    >>> written("ddim", {"eta": 0.5}), written("ddim", {})
    ('ddim(eta=0.5)', 'ddim')
    """
    given = [f"{key}={_text(value)}" for key, value in options.items()]
    return f"{name}({', '.join(given)})" if given else name


def _text(value: Any) -> str:
    bare = isinstance(value, str) and not re.search(r'^\s|[,"()\[\]{}]|\s$', value)
    if bare and arguments(f"x={value}", "") == {"x": value}:
        return str(value)
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _arguments(text: str) -> list[str]:
    """Split at the commas that stand in no bracket and in no quotes."""
    parts, depth, quoted = [""], 0, False
    for number, letter in enumerate(text):
        if letter == '"' and text[number - 1 : number] != "\\":
            quoted = not quoted
        if not quoted:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]
