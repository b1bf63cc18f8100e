"""Labels by number and by name, one or several."""

from __future__ import annotations

import pytest
import torch

from undiffuse.errors import UndiffuseError
from undiffuse.labels import checked, read

PETS = {"classes": 4, "class_names": ["cat", "dog", "a+b", "7"]}
NONE = {"classes": 0, "class_names": []}


def test_by_number_by_name_and_several() -> None:
    assert read("2", PETS) == (2,)
    assert read("dog", PETS) == (1,)
    assert read("a+b", PETS) == (2,)  # a name is a name
    assert read("dog + 0+cat", PETS) == (1, 0, 0)


@pytest.mark.parametrize(
    ("text", "facts", "told"),
    [
        ("dgo", PETS, "there is no label 'dgo'; did you mean 'dog'?"),
        ("cat+9", PETS, "there is no label 9; labels run from 0 to 3 (0 cat, 1 dog"),
        ("-1", PETS, "there is no label -1; labels count from 0"),
        ("3", NONE, "trained without labels"),
        ("cat", NONE, "trained without labels"),
    ],
)
def test_what_does_not_exist(text: str, facts: dict[str, object], told: str) -> None:
    with pytest.raises(UndiffuseError) as caught:
        read(text, facts)
    assert told in str(caught.value)


def test_for_every_sample() -> None:
    assert checked(3, None, PETS) is None
    assert checked(3, 1, PETS).tolist() == [1, 1, 1]
    assert checked(2, [3, -1], PETS).tolist() == [3, -1]
    assert checked(2, [[0, 1]], PETS).tolist() == [[0, 1], [0, 1]]
    assert checked(2, torch.tensor([[0, 1], [2, 3]]), PETS).tolist() == [[0, 1], [2, 3]]
    with pytest.raises(UndiffuseError, match="3 labels were given for 2 samples"):
        checked(2, [0, 1, 2], PETS)
    with pytest.raises(UndiffuseError, match=r"labels are whole numbers, not 0\.5"):
        checked(1, torch.tensor([0.5]), PETS)
