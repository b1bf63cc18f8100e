r"""Folders of tensors and facts that are whole or not there.

A stored folder holds safetensors files, JSON files and a `manifest.json` with the size and sha256
of each. It is written under a temporary name, flushed to the disk and renamed, so that a crash
leaves either the whole folder or a stray temporary; every file is checked against the manifest
before it is used, since a flipped bit in a safetensors file is otherwise loaded without a word. The
proof of completeness travels inside the folder: a copied one stays valid.

Nothing here can execute code from a file: tensors are safetensors, facts are strict JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from safetensors.torch import save as serialised
from torch import Tensor

from undiffuse.errors import RunFailed, UndiffuseError

MANIFEST = "manifest.json"
FORMAT = 1


def write(
    folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]
) -> None:
    """Store tensors (file stem -> name -> tensor) and facts (file stem -> JSON value) as `folder`.

    An existing folder of that name is replaced as a whole.

    Raises:
        RunFailed: the disk is full or the place cannot be written; what was there remains.
    """
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary, old = folder.parent / f".tmp-{mark}", folder.parent / f".old-{mark}"
    try:
        temporary.mkdir(parents=True)
        for stem, named in tensors.items():
            save_file(
                {k: v.contiguous() for k, v in named.items()}, temporary / f"{stem}.safetensors"
            )
        for stem, value in facts.items():
            write_json(temporary / f"{stem}.json", value)
        files = sorted(temporary.iterdir())
        entries = {f.name: {"size": f.stat().st_size, "sha256": digest(f)} for f in files}
        write_json(temporary / MANIFEST, {"format": FORMAT, "files": entries})
        for file in temporary.iterdir():
            file.chmod(0o666 & ~_umask())
            _flush(file)
        temporary.chmod(0o777 & ~_umask())
        _flush(temporary)
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        _flush(folder.parent)
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


def problem(folder: Path) -> str | None:
    """What is wrong with a stored folder, in a few words; None if every byte is as written."""
    try:
        manifest = read_json(folder / MANIFEST)
        if manifest["format"] != FORMAT:
            return f"format {manifest['format']} (this version reads format {FORMAT})"
        for name, entry in manifest["files"].items():
            file = folder / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != entry["size"] or digest(file) != entry["sha256"]:
                return f"{name} is damaged"
        for file in sorted((*folder.glob("*.safetensors"), *folder.glob("*.json"))):
            if file.name != MANIFEST and file.name not in manifest["files"]:
                return f"{file.name} is not in {MANIFEST}"
    except UndiffuseError as error:
        return str(error)
    except (OSError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is missing or damaged"
    return None


def verify(folder: Path) -> None:
    """Refuse a folder that is not exactly as it was stored.

    Raises:
        UndiffuseError: naming the damaged or missing file.
    """
    wrong = problem(folder)
    if wrong is not None:
        raise UndiffuseError(f"{folder} cannot be used: {wrong}; restore it or use another one")


def tensors(folder: Path, stem: str) -> dict[str, Tensor]:
    """The tensors of one file of a verified folder.

    Raises:
        UndiffuseError: the file is missing, or holds something else.
    """
    file = folder / f"{stem}.safetensors"
    try:
        loaded: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UndiffuseError(f"{file} holds no tensors: {_reason(error)}") from error
    return loaded


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON: no NaN, sorted as given, UTF-8."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read strict JSON: NaN and repeated keys are refused.

    Raises:
        UndiffuseError: the file is missing or is not JSON.
    """
    try:
        return json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=_unique,
            parse_constant=lambda word: _refuse(f"the number {word}"),
        )
    except OSError as error:
        raise UndiffuseError(f"cannot read {path}: {_reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise UndiffuseError(f"{path} is not valid JSON: {error}") from error


def digest_of(named: Mapping[str, Tensor]) -> str:
    """The sha256 that the file of these tensors has, or would have, hexadecimal."""
    return hashlib.sha256(serialised({k: v.contiguous() for k, v in named.items()})).hexdigest()


def digest(file: Path) -> str:
    """The sha256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        _refuse("a key that stands twice")
    return made


def _refuse(what: str) -> None:
    raise ValueError(what)


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
