"""Threads spin only where nothing else is running and nobody chose otherwise."""

from pathlib import Path

import pytest

from undiffuse.cli import waiting

QUIET, BUSY = "0.00 0.01 0.05 1/78 8877\n", "0.00 0.01 0.05 2/78 8877\n"


def chosen(monkeypatch: pytest.MonkeyPatch, folder: Path, load: str | None) -> dict[str, str]:
    file = folder / "loadavg"
    if load is not None:
        file.write_text(load)
    monkeypatch.setattr(waiting, "LOAD", file)
    environment: dict[str, str] = {}
    waiting.choose(environment)
    return environment


def test_they_spin_briefly_on_a_quiet_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = chosen(monkeypatch, tmp_path, QUIET)
    assert made["OMP_WAIT_POLICY"] == "PASSIVE"
    assert 1000 <= int(made["GOMP_SPINCOUNT"]) <= 10_000  # microseconds, not milliseconds


@pytest.mark.parametrize("load", [BUSY, None, "", "0.1 0.2 0.3", "0.1 0.2 0.3 many/78 1"])
def test_they_sleep_where_others_run_or_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, load: str | None
) -> None:
    assert chosen(monkeypatch, tmp_path, load) == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize("name", waiting.CHOICES)
def test_the_users_choice_stays(name: str) -> None:
    environment = {name: "as it is"}
    waiting.choose(environment)
    assert environment == {name: "as it is"}
