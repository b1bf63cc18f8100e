"""Stored folders are whole or not there, and every change to one is found."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from undiffuse import storage
from undiffuse.errors import RunFailed, UndiffuseError

TENSORS = {
    "weights": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.int64)},
    "ema": {"a": torch.zeros(2, 3)},
}
FACTS = {"model": {"size": 3, "names": ["ä", "b"], "std": 0.25}, "state": {"step": 7}}
FILES = ["weights.safetensors", "ema.safetensors", "model.json", "state.json", "manifest.json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "stored"
    storage.write(made, TENSORS, FACTS)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir()}


def test_what_is_written_is_read(folder: Path) -> None:
    assert storage.problem(folder) is None
    storage.verify(folder)
    assert sorted(contents(folder)) == sorted(FILES)
    for stem, named in TENSORS.items():
        loaded = storage.tensors(folder, stem)
        assert loaded.keys() == named.keys()
        assert all(torch.equal(loaded[k], named[k]) for k in named)
    for stem, value in FACTS.items():
        assert storage.read_json(folder / f"{stem}.json") == value
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert entry == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_a_copy_and_a_renamed_folder_stay_valid(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "copy")
    folder.rename(folder.parent / "renamed")
    assert storage.problem(folder.parent / "copy") is None
    assert storage.problem(folder.parent / "renamed") is None


def test_memory_layouts_are_no_matter(tmp_path: Path) -> None:
    image = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    storage.write(tmp_path / "x", {"w": {"image": image, "turned": image[0, 0].T}}, {})
    loaded = storage.tensors(tmp_path / "x", "w")
    assert torch.equal(loaded["image"], image)
    assert torch.equal(loaded["turned"], image[0, 0].T)


def test_the_files_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        storage.write(tmp_path / "x", TENSORS, FACTS)
        assert os.umask(0o027) == 0o027  # left as it was
    finally:
        os.umask(old)
    assert {f.stat().st_mode & 0o777 for f in (tmp_path / "x").iterdir()} == {0o640}
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o750


# ------------------------------------------------------------------ every change is found


@pytest.mark.parametrize("name", FILES)
def test_bit_flips(folder: Path, name: str) -> None:
    rng, file = random.Random(0), folder / name
    whole = file.read_bytes()
    for _ in range(30):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
        assert storage.problem(folder) is not None
        with pytest.raises(UndiffuseError, match="cannot be used"):
            storage.verify(folder)
    file.write_bytes(whole)
    assert storage.problem(folder) is None


@pytest.mark.parametrize("name", FILES)
def test_other_damage(folder: Path, name: str) -> None:
    file = folder / name
    whole = file.read_bytes()
    half = len(whole) // 2
    swapped = (folder / FILES[FILES.index(name) - 1]).read_bytes()
    zeroed = whole[:half] + bytes(half)
    for content in (b"", whole[:-2], whole[:half], whole + b"x", zeroed, swapped):
        file.write_bytes(content)
        wrong = storage.problem(folder)
        assert wrong is not None
        assert name in wrong
    file.unlink()
    wrong = storage.problem(folder)
    assert wrong is not None
    assert name in wrong
    file.mkdir()
    assert storage.problem(folder) is not None


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for place in (tmp_path / "nothing", tmp_path):
        wrong = storage.problem(place)
        assert wrong is not None
        assert "manifest.json" in wrong


def edited(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: {**manifest, **changes}


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda m: {**m, "files": {k: v for k, v in m["files"].items() if k != name}}


@pytest.mark.parametrize(
    "edit",
    [
        edited(format=1),
        edited(format=3),
        edited(format=True),
        edited(sha256=None),
        edited(sha256="0" * 64),
        edited(more=1),
        edited(format=None),
        edited(files={}),
        edited(files=[]),
        edited(files=None),
        edited(files={"weights.safetensors": 3}),
        without("ema.safetensors"),
        without("state.json"),
        lambda m: {"files": m["files"]},
        lambda m: {"format": 1},
        lambda m: [m],
        lambda m: None,
        lambda m: edited(files={**m["files"], "more.json": {"size": 0, "sha256": ""}})(m),
        lambda m: edited(files={**m["files"], "a\0b": {"size": 0, "sha256": ""}})(m),
        lambda m: edited(files={**m["files"], "state.json": {"size": 14}})(m),
    ],
)
def test_manifest_edits(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps(edit(json.loads(file.read_text()))))
    assert storage.problem(folder) is not None


def sealed(manifest: dict[str, Any]) -> str:
    """A manifest as a later version might write it."""
    text = json.dumps(manifest, sort_keys=True)
    return json.dumps({**manifest, "sha256": hashlib.sha256(text.encode()).hexdigest()})


def test_a_format_of_the_future_is_told(folder: Path) -> None:
    (folder / "manifest.json").write_text(sealed({"format": 3, "blocks": [[0, 1]]}))
    for read in (storage.problem, storage.verify):
        with pytest.raises(UndiffuseError) as caught:
            read(folder)
        assert str(caught.value) == (
            f"{folder} is of format 3, and this version of undiffuse reads formats 1 to 2; install"
            " a newer one"
        )


def test_format_1_has_no_seal_and_is_read(folder: Path) -> None:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": files}))
    assert storage.problem(folder) is None
    files["state.json"]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": files}))
    assert storage.problem(folder) == "state.json is damaged"


@pytest.mark.parametrize("name", ["../model.json", "/etc/hostname", "a\\b", "..", ".", "", "a\n"])
def test_only_files_of_the_folder_are_vouched_for(folder: Path, name: str) -> None:
    (folder.parent / "model.json").write_bytes((folder / "model.json").read_bytes())
    files = json.loads((folder / "manifest.json").read_text())["files"]
    files[name] = files["model.json"]
    (folder / "manifest.json").write_text(sealed({"format": 2, "files": files}))
    assert storage.problem(folder) == "manifest.json is damaged"


@pytest.mark.parametrize(
    "entry", [None, 3, [], {}, {"size": 14}, {"size": 1, "sha256": "", "x": 1}]
)
def test_an_entry_is_a_size_and_a_digest(folder: Path, entry: Any) -> None:
    files = json.loads((folder / "manifest.json").read_text())["files"]
    files["state.json"] = entry
    (folder / "manifest.json").write_text(sealed({"format": 2, "files": files}))
    assert storage.problem(folder) == "manifest.json is damaged"


def test_a_file_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(file: Path) -> str:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(storage, "digest", refused)
    assert storage.problem(folder) == "ema.safetensors cannot be read: permission denied"


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    for name in ("weights.safetensors", "manifest.json"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        wrong = storage.problem(folder)
        assert wrong is not None
        assert name in wrong
    for read in (lambda: storage.tensors(folder, "weights"), lambda: storage.verify(folder)):
        with pytest.raises(UndiffuseError, match="not a regular file"):
            read()


def test_a_file_that_nobody_vouches_for(folder: Path) -> None:
    (folder / "README.md").write_text("a note is no matter")
    assert storage.problem(folder) is None
    (folder / "raw.safetensors").write_bytes((folder / "ema.safetensors").read_bytes())
    assert storage.problem(folder) == "raw.safetensors is not in manifest.json"
    (folder / "optimizer.PT").write_bytes(b"")
    wrong = storage.problem(folder)
    assert wrong is not None
    assert re.match("optimizer.PT does not belong there: pickles .* are refused", wrong)


def test_only_temporaries_of_crashes_are_swept(tmp_path: Path) -> None:
    storage.sweep(tmp_path / "nothing")
    mine = [".tmp-1-notes", ".tmp-notes", "tmp-1-abcd", ".tmp-1-abcd.json", ".old-x-abcd"]
    for name in [*mine, ".tmp-1-abcd", ".old-27-0123cdef"]:
        (tmp_path / name).mkdir()
    storage.sweep(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted(mine)


# ------------------------------------------------------------------ strict JSON


@pytest.mark.parametrize(
    "text",
    [
        *(
            '{"a": NaN}',
            '{"a": Infinity}',
            "[-Infinity]",
            '{"a": 1, "a": 1}',
            '{"b": {"a": 1, "a": 2}}',
        ),
        *('{"a": [' + "[]," * 50_000 + "1]}", '{"a": 1e999}', '[-1e999, "x"]', '{"": 0, "": 1}'),
        *("", "{", '{"a": 1}}', "'a'", "[" * 100_000, '{"a": ' + "1" * 5000 + "}", "\xff"),
    ],
)
def test_what_is_not_strict_json_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UndiffuseError, match=r"x\.json is not valid JSON"):
        storage.read_json(file)


def test_facts_too_long_to_be_facts_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(" " * storage.LARGEST_JSON + "1")
    with pytest.raises(UndiffuseError, match=r"x\.json is larger than 4194304 bytes"):
        storage.read_json(file)
    file.write_text(" " * (storage.LARGEST_JSON - 1) + "1")
    assert storage.read_json(file) == 1


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        storage.write(tmp_path / "x", {}, {"a": {"b": float("nan")}})
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    named = {"../a": torch.zeros(1)}
    facts = {"names": ["x" * 100] * 50_000}
    for tensors, values in (({"w": named}, {}), ({}, {"model": facts}), ({}, {"a": [[]] * 50_001})):
        with pytest.raises(UndiffuseError, match=r"no name of a tensor|larger than|too many"):
            storage.write(tmp_path / "x", tensors, values)
        assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ whole or not there


def fail_at(k: int, calls: list[str], name: str, function: Callable[..., Any]) -> Any:
    """`function`, noted in `calls`; the k-th call of all fails."""

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == k:
            raise OSError(28, "No space left on device")
        return function(*arguments, **options)

    return wrapped


@pytest.mark.parametrize("replacing", [False, True])
def test_any_call_that_fails_leaves_what_was_there(
    replacing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The k-th call that writes fails, for k = 1, 2, ... until none does."""
    folder = tmp_path / "stored"
    new = {"weights": {"a": torch.full((2, 3), 9.0)}}
    done: list[str] = []
    for k in range(1, 100):
        shutil.rmtree(folder, ignore_errors=True)
        if replacing:
            storage.write(folder, TENSORS, FACTS)
        before = contents(folder) if replacing else None
        calls: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(storage, "save_file", fail_at(k, calls, "save", storage.save_file))
            patch.setattr(storage, "write_json", fail_at(k, calls, "json", storage.write_json))
            patch.setattr(os, "fsync", fail_at(k, calls, "fsync", os.fsync))
            patch.setattr(Path, "rename", fail_at(k, calls, "rename", Path.rename))
            told = ""
            try:
                storage.write(folder, new, {"state": {"step": 8}})
                done = calls
            except RunFailed as error:
                told = str(error)
        assert done or re.search("no space left on device .* MB are free", told)
        assert [f for f in tmp_path.iterdir() if f != folder] == []
        if done or (calls[-1] == "fsync" and calls.count("rename") == 1 + replacing):
            assert storage.problem(folder) is None  # the new one arrived
            assert float(storage.tensors(folder, "weights")["a"][0, 0]) == 9
        elif replacing:
            assert contents(folder) == before
        else:
            assert not folder.exists()
        if done:
            break
    # Three files and the manifest, each flushed; the folder; then the renaming, then its place.
    expected = ["save", "json", "json", *["fsync"] * 4, *["rename"] * (1 + replacing), "fsync"]
    assert done == expected


def test_what_a_crash_leaves_is_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash runs no more code: not the handlers either."""

    class Crash(BaseException):
        pass

    before = contents(folder)

    def crash(*_: object) -> None:
        monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
        raise Crash

    monkeypatch.setattr(storage, "_flush", crash)
    with pytest.raises(Crash):
        storage.write(folder, {"weights": {"a": torch.zeros(9)}}, {})
    assert contents(folder) == before
    assert storage.problem(folder) is None


def test_the_disk_has_every_file_before_the_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(handle: int) -> None:
        events.append("fsync " + Path(os.readlink(f"/proc/self/fd/{handle}")).name[:5])
        fsync(handle)

    def noted_rename(self: Path, target: Path) -> Path:
        events.append(f"rename {target.name}")
        return rename(self, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    storage.write(tmp_path / "x", {"w": {"a": torch.zeros(1)}}, {"facts": {}})
    assert sorted(events[:3]) == ["fsync facts", "fsync manif", "fsync w.saf"]
    assert events[3:] == ["fsync .tmp-", "rename x", f"fsync {tmp_path.name[:5]}"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFailed, match=f"cannot store {tmp_path}/file/x: not a directory"):
        storage.write(tmp_path / "file" / "x", TENSORS, FACTS)
    assert (tmp_path / "file").read_text() == "mine"


def test_tensors_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(
        b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
    )
    with pytest.raises(
        UndiffuseError, match=r"x\.safetensors holds no tensors: pickles .* refused"
    ):
        storage.tensors(tmp_path, "x")
    with pytest.raises(UndiffuseError, match=r"cannot read .*y\.safetensors: no such file"):
        storage.tensors(tmp_path, "y")
