"""`undiffuse sample` of many: the same samples from any number of processes, in little memory."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import undiffuse as ud
from undiffuse.cli import main
from undiffuse.cli.outputs import Archive, Drawn, Plan
from undiffuse.model import Model

WORDS = ["--num", "14", "--batch-size", "3", "--steps", "2"]


@pytest.fixture
def threads() -> object:
    """Put torch's number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def pixels(folder: Path) -> dict[str, bytes]:
    found = {}
    for file in sorted(folder.iterdir()):
        with Image.open(file) as image:
            found[file.name] = image.tobytes()
    return found


@pytest.mark.usefixtures("threads")
def test_processes_draw_the_same_samples(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the bit, at equal threads: batches are cut at the same places."""
    words = ["sample", str(run), *WORDS, "--threads", "1"]
    for count in ("1", "2", "4"):
        out = tmp_path / f"{count}.npz"
        assert main([*words, "--processes", count, "--out", str(out)]) == 0
        told = capsys.readouterr()
        assert told.out.count("\n") == 1
        assert "14/14" in told.err.splitlines()[-1]
    one, two, four = (np.load(tmp_path / f"{n}.npz") for n in (1, 2, 4))
    assert len(np.unique(one["images"].reshape(14, -1), axis=0)) == 14
    for other in (two, four):
        assert np.array_equal(one["images"], other["images"])
        assert np.array_equal(one["labels"], other["labels"])


def test_torchrun_s_processes_draw_shares_of_one_directory(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sample", str(run), *WORDS, "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, count in (("1", 6), ("0", 14)):  # the other began, and ended, before
        monkeypatch.setenv("RANK", rank)
        assert main([*words, str(tmp_path / "shares")]) == 0
        assert len(list((tmp_path / "shares").iterdir())) == count
    told = capsys.readouterr()
    assert "14 samples, 6 were there, 8 of them drawn here" in told.out
    assert told.out.count("\n") == 1  # the first process speaks for all
    assert pixels(tmp_path / "shares") == pixels(tmp_path / "whole")


@pytest.mark.parametrize("more", [["--out", "a.npz"], ["--out", "a", "--processes", "2"]])
def test_torchrun_and_one_file_do_not_go_together(
    more: list[str],
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(["sample", str(run), *more]) == 2
    assert "under torchrun each process draws its share of a directory" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_worker_s_error_is_one_sentence(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.npz").write_bytes(b"mine")
    words = ["sample", str(run), *WORDS, "--sampler", "annealed-langevin(inner=0)"]
    assert main([*words, "--processes", "2", "--out", str(tmp_path / "a.npz")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("error: ")
    assert (tmp_path / "a.npz").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1


# ------------------------------------------------------------------ quicker ways


def test_what_bfloat16_changes_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sample", str(run), *WORDS, "--precision", "bfloat16", "--out", str(tmp_path / "a")]
    assert main(words) == 0
    told = re.search(
        r"; bfloat16: at most (\S+) apart, (\S+) % of pixels equal \(plain float32, 3 samples\)$",
        capsys.readouterr().out.strip(),
    )
    assert told is not None
    assert 0 < float(told[1]) < 0.5
    assert 50 < float(told[2]) <= 100


def test_a_compiled_network_draws_the_same(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    traced = functools.partialmethod(Model.compiled, backend="aot_eager")
    monkeypatch.setattr(Model, "compiled", traced)
    words = ["sample", str(run), "--num", "3", "--steps", "2", "--out"]
    assert main([*words, str(tmp_path / "a.npz"), "--compile"]) == 0
    told = re.search(r"; compiled: at most (\S+) apart, 100.00 %", capsys.readouterr().out)
    assert told is not None
    assert float(told[1]) < 1e-4
    assert main([*words, str(tmp_path / "b.npz")]) == 0
    assert "apart" not in capsys.readouterr().out
    a, b = (np.load(tmp_path / name)["images"] for name in ("a.npz", "b.npz"))
    assert (a == b).mean() > 0.999


def test_without_a_compiler(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert main(["sample", str(run), "--compile", "--out", str(tmp_path / "a.npz")]) == 2
    assert "error: compiling needs a C++ compiler" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ memory

PEAK = """
import resource, sys
from pathlib import Path
import torch
from undiffuse.cli.outputs import Archive, Drawn, Plan
from undiffuse.exact.gaussian import Gaussian
from undiffuse.samplers.loop import stream
from undiffuse.schedules.vp import VP

torch.set_num_threads(1)
oracle = Gaussian(torch.zeros(1, 16, 16), VP(), std=0.5)


def drawn(num):
    first = 0
    for x in stream(oracle, (num, 1, 16, 16), "ddim", 2, batch_size=100):
        yield Drawn(range(first, first + len(x)), x)
        first += len(x)


for num in (2_000, 20_000):
    Archive(Path(sys.argv[1])).write(drawn(num), Plan(num, {}, classes=10))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number(tmp_path: Path) -> None:
    """The largest size of a process that writes 20,000 samples is that of one that writes 2,000.

    They are 20 MB as floats and 5 MB as pixels.
    """
    pytest.importorskip("resource")
    out = tmp_path / "a.npz"
    told = subprocess.run(
        [sys.executable, "-c", PEAK, str(out)], capture_output=True, text=True, check=True
    )
    few, many = (int(line) / 1024 for line in told.stdout.split())  # MiB, on Linux
    assert many - few < 3
    arrays = np.load(out, allow_pickle=False)
    assert arrays["images"].shape == (20_000, 16, 16, 1)
    assert len(np.unique(arrays["images"][::100].reshape(200, -1), axis=0)) == 200
    assert np.array_equal(arrays["labels"], np.arange(20_000) % 10)


def test_an_array_is_written_as_numpy_writes_it(tmp_path: Path) -> None:
    """Part by part, and equal to the whole; no trace remains of one that fails."""
    x = torch.linspace(-1, 1, 7 * 2 * 3 * 3).reshape(7, 2, 3, 3)
    parts = [Drawn(range(a, b), x[a:b]) for a, b in ((0, 3), (3, 6), (6, 7))]
    Archive(tmp_path / "a.npz").write(iter(parts), Plan(7, {}, classes=3, label=2))
    arrays = np.load(tmp_path / "a.npz", allow_pickle=False)
    assert np.array_equal(arrays["images"], ud.pictures.to_bytes(x).numpy())
    assert arrays["labels"].tolist() == [2] * 7

    def fails() -> object:
        yield parts[0]
        raise ud.errors.RunFailed("the machine stumbled")

    before = (tmp_path / "a.npz").read_bytes()
    with pytest.raises(ud.errors.RunFailed, match="stumbled"):
        Archive(tmp_path / "a.npz").write(fails(), Plan(7, {}))  # type: ignore[arg-type]
    assert (tmp_path / "a.npz").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
