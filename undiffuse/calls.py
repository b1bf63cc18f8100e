"""Objects in words: a name, and options in brackets behind it, as in `ddim(eta=0.5)`.

Values are JSON; what is no JSON is a text as it stands. Nothing is looked up here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

from undiffuse.errors import UndiffuseError, one_line


def read(text: str, texts: Collection[str] = ()) -> tuple[str, dict[str, Any]]:
    """The name and the options of a text; those called `texts` are no JSON, unless in quotes.

    >>> read("ddim(eta=0.5)")
    ('ddim', {'eta': 0.5})

    Raises:
        UndiffuseError: the text has another form.
    """
    match = re.fullmatch(r"\s*([\w.+-]+)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if match is None:
        raise UndiffuseError(
            f"cannot read '{one_line(text)}'; write name or name(option=value, ...)"
        )
    return match[1], arguments(match[2] or "", text, texts)


def arguments(inside: str, text: str, texts: Collection[str] = ()) -> dict[str, Any]:
    """What stands between the brackets of `text`, as options.

    >>> arguments("eta=0.5, at=[1, 2]", "ddim(eta=0.5, at=[1, 2])")
    {'eta': 0.5, 'at': [1, 2]}
    >>> arguments("revision=1.0", "hf:user/name(revision=1.0)", ["revision"])
    {'revision': '1.0'}

    Raises:
        UndiffuseError: an argument has another form, or comes twice.
    """
    options: dict[str, Any] = {}
    for item in _arguments(inside):
        key, equals, value = map(str.strip, item.partition("="))
        if not equals:
            raise UndiffuseError(
                f"cannot read '{one_line(item)}' in '{one_line(text)}'; write option=value"
            )
        if key in options:
            raise UndiffuseError(
                f"'{one_line(text)}' has the option {one_line(key)} twice; give it once"
            )
        options[key] = value
        with suppress(ValueError, RecursionError):
            if key not in texts or value.startswith('"'):
                options[key] = json.loads(value)
    return options


def closed(inside: str) -> bool:
    """Whether every bracket and quote that a text opens is closed in it, and none before.

    >>> closed('at=[1, 2]'), closed('x="("'), closed('x)(y')
    (True, True, False)
    """
    states = [(0, False), *((depth, quoted) for _, depth, quoted in _scan(inside))]
    return min(states)[0] == 0 and states[-1] == (0, False)


def written(name: str, options: dict[str, Any]) -> str:
    """A name and options as text, which `read` takes; 2.0 is written as 2.

    >>> written("ddim", {"eta": 0.5}), written("ddim", {})
    ('ddim(eta=0.5)', 'ddim')
    """
    given = [f"{key}={_text(value)}" for key, value in options.items()]
    return f"{name}({', '.join(given)})" if given else name


def _text(value: Any) -> str:
    odd = isinstance(value, str) and re.search(r'^\s|[,"()\[\]{}]|\s$', value)
    bare = isinstance(value, str) and not odd and value.isprintable()
    if bare and arguments(f"x={value}", "") == {"x": value}:
        return str(value)
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _arguments(text: str) -> list[str]:
    """Split at the commas that stand in no bracket and in no quotes."""
    parts = [""]
    for letter, depth, quoted in _scan(text):
        if letter == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _scan(text: str) -> Iterator[tuple[str, int, bool]]:
    """Each letter, how many brackets are open behind it, and whether it stands in quotes."""
    depth, quoted, escaped = 0, False, False
    for letter in text:
        if quoted:
            quoted = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
        elif letter == '"':
            quoted = True
        else:
            depth += (letter in "([{") - (letter in ")]}")
        yield letter, depth, quoted
