"""Objects in words: what is written is read back as it was."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from undiffuse import calls
from undiffuse.errors import UndiffuseError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.one_of(st.booleans(), st.none(), st.integers(), st.floats(allow_nan=False))
VALUES = st.one_of(TEXTS, NUMBERS, st.lists(st.one_of(NUMBERS, TEXTS), max_size=3))
KEYS = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
@example({"bad": "runs/a,b\\", "weight": 3})
@example({"label": "a\nb", "size": 4})
@example({"label": 'f("x', "at": ["]", '"']})
@example({"label": "1.0", "other": "true", "last": "-0"})
def test_what_is_written_is_read_back(options: dict[str, object]) -> None:
    text = calls.written("name", options)
    assert calls.read(text) == ("name", options)
    inside = text.removeprefix("name").removeprefix("(").removesuffix(")")
    assert calls.closed(inside)


@given(TEXTS)
def test_a_text_is_read_back_where_one_is_expected(value: str) -> None:
    text = calls.written("name", {"bad": value, "weight": 2.0})
    assert calls.read(text, ["bad"]) == ("name", {"bad": value, "weight": 2})


@pytest.mark.parametrize("text", ["1.0", "1e3", "1.10", "-0", "007", "1234e56", "true", "null"])
def test_a_text_may_look_like_something_else(text: str) -> None:
    assert calls.read(f"name(bad={text})", ["bad"]) == ("name", {"bad": text})
    assert calls.read(f'name(bad="{text}")', []) == ("name", {"bad": text})


@pytest.mark.parametrize("inside", ["x)", "(x", '"', '"\\"', "[(])(", ")("])
def test_what_is_not_closed(inside: str) -> None:
    assert not calls.closed(inside)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a b", "write name or name"),
        ("name(x", "write name or name"),
        ("name(x)", "write option=value"),
        ("name(x=1, x=2)", "the option x twice"),
    ],
)
def test_mistakes(text: str, match: str) -> None:
    with pytest.raises(UndiffuseError, match=match):
        calls.read(text)
