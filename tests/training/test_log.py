"""metrics.jsonl: what is appended, what waits, what is read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from undiffuse.errors import RunFailed
from undiffuse.training import files, log
from undiffuse.training.faults import Fault
from undiffuse.training.loop import Record


def record(step: int, **changes: object) -> Record:
    return Record(step, 9, 4 * step, 0.5, 1.0, 0.1, 0.2, 0.0)._replace(**changes)


def test_lines_are_appended_and_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    for steps in ((1, 2), (3,), ()):
        made = log.Log(file)
        for step in steps:
            made.add(record(step))
        made.flush(durable=True)
        assert made.waiting == []
    assert [line["step"] for line in log.read(file)] == [1, 2, 3]
    assert list(log.read(tmp_path / "nothing")) == []


def test_a_fault_is_strict_json() -> None:
    fault = Fault("the loss is nan", True, (3, 4), (-math.inf, 1.5))
    text = log.line_of(record(2, loss=math.nan, gradient_norm=math.inf, fault=fault))
    line = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert (line["loss"], line["gradient_norm"]) == (None, None)
    assert line["fault"] == {
        "reason": "the loss is nan",
        "skipped": True,
        "samples": [3, 4],
        "log_snr": [None, 1.5],
    }


def test_what_cannot_be_written_waits_and_a_torn_line_is_written_over(tmp_path: Path) -> None:
    file = tmp_path / "run" / "metrics.jsonl"
    file.parent.mkdir()
    made = log.Log(file)
    made.add(record(1))
    made.flush()
    made.add(record(2))
    with file.open("a") as stream:
        stream.write('{"step": 2, "st')  # as much as a full disk took
    file.parent.rename(tmp_path / "away")
    with pytest.raises(RunFailed, match=r"cannot write .*metrics\.jsonl: no such file"):
        made.flush()
    assert len(made.waiting) == 1
    (tmp_path / "away").rename(file.parent)
    made.flush()
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2]


def test_a_file_that_was_cut_is_not_filled_up(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    made = log.Log(file)
    made.add(record(1))
    made.flush()
    file.write_bytes(b"")
    made.add(record(2))
    made.flush()
    assert [line["step"] for line in log.read(file)] == [2]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    files.replace(file, "a = 1\n")
    files.replace(file, "ä = 2\n")
    assert file.read_text(encoding="utf-8") == "ä = 2\n"
    assert [f.name for f in tmp_path.iterdir()] == ["x.toml"]
    file.unlink()
    file.mkdir()
    with pytest.raises(RunFailed, match=r"cannot write .*x\.toml: "):
        files.replace(file, "")
    assert [f.name for f in tmp_path.iterdir()] == ["x.toml"]
