"""Batches are cut at fixed places, and the shares of several processes make up the whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undiffuse.cli.shares import Share, spread
from undiffuse.errors import UndiffuseError


@given(st.sets(st.integers(0, 60)), st.integers(1, 9), st.integers(1, 5))
def test_the_shares_are_the_whole(numbers: set[int], size: int, count: int) -> None:
    shares = [list(Share(rank, count).batches(sorted(numbers), size)) for rank in range(count)]
    together = sorted(batch for share in shares for batch in share)
    assert together == list(Share().batches(sorted(numbers), size))
    assert [i for batch in together for i in batch.numbers] == sorted(numbers)
    for first, length in together:
        assert 1 <= length <= size
        assert first // size == (first + length - 1) // size  # never over a boundary


@given(st.sets(st.integers(0, 60)), st.integers(1, 9), st.integers(1, 5))
def test_what_is_there_moves_no_boundary(there: set[int], size: int, count: int) -> None:
    """So a process that starts late, and finds pictures of others, draws what is left of its own.

    However much the others have done by then, nothing is missed.
    """
    left = [i for i in range(61) if i not in there]
    for rank in range(count):
        own = {i for b in Share(rank, count).batches(range(61), size) for i in b.numbers}
        late = {i for b in Share(rank, count).batches(left, size) for i in b.numbers}
        assert late == own - there


def test_as_torchrun_tells_it() -> None:
    assert Share.here({}) == Share(0, 1, 0)
    told = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    assert Share.here(told) == Share(5, 8, 1)


@pytest.mark.parametrize(
    ("rank", "count"), [("4", "4"), ("-1", "4"), ("x", "4"), ("0", "x"), (None, "4"), ("0", "0")]
)
def test_numbers_that_do_not_fit(rank: str | None, count: str) -> None:
    told = {"WORLD_SIZE": count} | ({} if rank is None else {"RANK": rank})
    with pytest.raises(UndiffuseError, match=f"WORLD_SIZE is {count} and RANK is {rank}"):
        Share.here(told)


def test_cards_are_given_out_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [spread("cuda", i) for i in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert spread("cuda:1", 0) == "cuda:1"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert spread("cuda", 1) == "cuda"
