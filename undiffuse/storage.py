r"""Folders of tensors and facts that are whole or not there.

A stored folder holds safetensors files, JSON files and a `manifest.json` with the size and sha256
of each. It is written under a temporary name, flushed to the disk and renamed, so that a crash
leaves either the whole folder or a stray temporary; every file is checked against the manifest
before it is used, since a flipped bit in a safetensors file is otherwise loaded without a word. The
proof of completeness travels inside the folder: a copied one stays valid.

Nothing here can execute code from a file: tensors are safetensors, facts are strict JSON.

The manifest of each format, newest last; every one of them is read:

    1    {"format": 1, "files": {name: {"size": bytes, "sha256": hexadecimal}}}
    2    the same and "sha256": the digest of the manifest's other entries

By that digest, which all later formats keep, damage to the manifest is told from damage to a file,
and a format of the future from damage.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save as serialised
from safetensors.torch import save_file
from torch import Tensor

from undiffuse import pickles, strict_json, tensorfile
from undiffuse.errors import RunFailed, UndiffuseError

MANIFEST = "manifest.json"
FORMAT = 2
STRAY = re.compile(r"\.(tmp|old)-\d+-[0-9a-f]+")  # what `write` calls a folder for a while
LARGEST_JSON = 2**22  # bytes


def write(
    folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]
) -> None:
    """Store tensors (file stem -> name -> tensor) and facts (file stem -> JSON value) as `folder`.

    An existing folder of that name is replaced as a whole.

    Raises:
        RunFailed: the disk is full or the place cannot be written; what was there remains.
        UndiffuseError: what is to be stored could not be read again: too many tensors or facts.
    """
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary, old = folder.parent / f".tmp-{mark}", folder.parent / f".old-{mark}"
    try:
        temporary.mkdir(parents=True)
        for stem, named in tensors.items():
            reached()
            save_file(_apart(named), temporary / f"{stem}.safetensors")
            tensorfile.check(temporary / f"{stem}.safetensors")  # what is written can be read
        for stem, value in facts.items():
            reached()
            write_json(temporary / f"{stem}.json", value)
            read_json(temporary / f"{stem}.json")
        files = sorted(temporary.iterdir())
        entries = {f.name: {"size": f.stat().st_size, "sha256": digest(f)} for f in files}
        manifest = {"format": FORMAT, "files": entries}
        write_json(temporary / MANIFEST, {**manifest, "sha256": _seal(manifest)})
        for file in temporary.iterdir():
            reached()
            file.chmod(0o666 & ~_umask())
            _flush(file)
        temporary.chmod(0o777 & ~_umask())
        _flush(temporary)
        reached()
        if folder.exists():
            folder.rename(old)
            reached()
        temporary.rename(folder)
        reached()
        _flush(folder.parent)
        reached()
    except (OSError, SafetensorError) as error:
        free = shutil.disk_usage(_existing(folder)).free
        raise RunFailed(
            f"cannot store {folder}: {_reason(error)} ({free / 1e6:.0f} MB are free); what was"
            " stored there before is untouched"
        ) from error
    finally:
        if old.is_dir() and not folder.exists():
            old.rename(folder)  # the new one did not arrive
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


def remove(folder: Path) -> None:
    """Delete a stored folder; a crash leaves all of it, or a stray that `sweep` deletes."""
    old = folder.parent / f".old-{os.getpid()}-{secrets.token_hex(4)}"
    folder.rename(old)
    reached()
    shutil.rmtree(old, ignore_errors=True)
    reached()


def problem(folder: Path) -> str | None:
    """What is wrong with a stored folder, in a few words; None if every byte is as written.

    Raises:
        UndiffuseError: the folder is whole, and of a format that only a newer version reads.
    """
    try:
        files = _vouched(folder)
        for file in sorted(folder.iterdir()):
            if file.name in files or file.name == MANIFEST:
                continue
            if file.suffix.lower() in pickles.SUFFIXES:
                return f"{file.name} does not belong there: {pickles.REFUSED}"
            if file.suffix.lower() in {".safetensors", ".json"}:
                return f"{file.name} is not in {MANIFEST}"
        for name, entry in files.items():
            file = folder / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != entry["size"] or digest(file) != entry["sha256"]:
                return f"{name} is damaged"
    except _Damaged as error:
        return str(error)
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read: {_reason(error)}"
    return None


def verify(folder: Path) -> None:
    """Refuse a folder that is not exactly as it was stored.

    Raises:
        UndiffuseError: naming the damaged or missing file.
    """
    wrong = problem(folder)
    if wrong is not None:
        raise UndiffuseError(f"{folder} cannot be used: {wrong}; restore it or use another one")


def sweep(place: Path) -> None:
    """Delete the temporaries that crashes left in a folder which nobody else writes to now.

    Only names that `write` makes are touched.
    """
    for stray in [f for f in place.iterdir() if STRAY.fullmatch(f.name)] if place.is_dir() else []:
        shutil.rmtree(stray, ignore_errors=True)


def tensors(folder: Path, stem: str) -> dict[str, Tensor]:
    """The tensors of one file of a verified folder.

    Raises:
        UndiffuseError: the file is missing, or holds something else.
    """
    return tensorfile.read(folder / f"{stem}.safetensors")


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON: no NaN, keys in the order given, UTF-8."""
    path.write_text(strict_json.text(value), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read strict JSON: NaN and repeated keys are refused.

    Raises:
        UndiffuseError: the file is missing, too large, or not JSON.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UndiffuseError(f"cannot read {path}: it is not a regular file")
        with path.open("rb") as stream:
            content = stream.read(LARGEST_JSON + 1)
    except OSError as error:
        raise UndiffuseError(f"cannot read {path}: {_reason(error)}") from error
    if len(content) > LARGEST_JSON:
        raise UndiffuseError(f"{path} is larger than {LARGEST_JSON} bytes, too long for facts")
    try:
        return strict_json.parse(content)
    except ValueError as error:
        reason = pickles.told(path) or error
        raise UndiffuseError(f"{path} is not valid JSON: {reason}") from error


def digest_of(named: Mapping[str, Tensor]) -> str:
    """The sha256 that the file of these tensors has, or would have, hexadecimal."""
    return hashlib.sha256(serialised(_apart(named))).hexdigest()


def digest(file: Path) -> str:
    """The sha256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def reached() -> None:
    """A place between two writes; with UNDIFFUSE_TEST_CRASH=after:N the process dies at the Nth."""
    wanted = os.environ.get("UNDIFFUSE_TEST_CRASH", "").removeprefix("after:")
    if wanted and next(_PLACES) == int(wanted):
        os._exit(9)


_PLACES = itertools.count(1)


def _apart(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, contiguous, each with memory of its own: tied weights are stored twice."""
    made: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in named.items():
        place = value.untyped_storage().data_ptr()
        made[name] = value.contiguous() if place not in seen else value.contiguous().clone()
        seen.add(place)
    return made


class _Damaged(Exception):
    """A manifest that vouches for nothing; the text says why in a few words."""


def _vouched(folder: Path) -> dict[str, dict[str, Any]]:
    """The files of a folder with their sizes and digests, by its manifest of any format."""
    try:
        manifest = read_json(folder / MANIFEST)
    except UndiffuseError as error:
        raise _Damaged(str(error).replace(f"{folder}{os.sep}", "")) from error
    damaged = _Damaged(f"{MANIFEST} is damaged")
    if not isinstance(manifest, dict):
        raise damaged
    written = strict_json.text(manifest).encode()
    number, seal = manifest.get("format"), manifest.pop("sha256", None)
    if type(number) is not int or seal != (None if number == 1 else _seal(manifest)):
        raise damaged
    if number > FORMAT:
        raise UndiffuseError(
            f"{folder} is of format {number}, and this version of undiffuse reads formats 1 to"
            f" {FORMAT}; install a newer one"
        )
    if number > 1 and (folder / MANIFEST).read_bytes() != written:  # an end cut off, a space more
        raise damaged
    files = manifest.pop("files", None)
    if set(manifest) != {"format"} or not isinstance(files, dict):
        raise damaged
    for name, entry in files.items():
        plain = re.fullmatch(r"[^/\\\x00-\x1f]+", name) and name not in {".", ".."}
        if not plain or not isinstance(entry, dict) or set(entry) != {"size", "sha256"}:
            raise damaged
    return files


def _seal(manifest: Mapping[str, Any]) -> str:
    """The sha256 of a manifest's entries, in any order, hexadecimal."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.absolute().parents) if p.exists())


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
