"""`undiffuse evaluate` and `undiffuse report`, which shows its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from undiffuse.catalogue import names
from undiffuse.cli import main


def test_figures_are_told_kept_and_shown(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    assert main(["evaluate", str(run), "--num", "20", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{run}: recognised ")
    line, head, *rows = told.splitlines()
    assert "Frechet distance" in line
    assert head.startswith("metric (20 samples)")
    assert [row.split()[0] for row in rows] == names("metrics")
    assert json.loads(out.read_text())["num"] == 20

    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"the report is {run / 'report.html'}\n{line}\n"
    assert (run / "report.html").read_text().startswith("<!")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["evaluate", "{0}/x"], "there is no run"),
        (["evaluate", "{0}/x", "--num", "0"], "--num must be from 1 to"),
        (["evaluate", "{0}/x", "--out", "{0}/a.txt"], "must end in .json"),
        (["report", "{0}/x"], "there is no run"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(tmp_path) for word in words]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert told in err
    assert not list(tmp_path.iterdir())
