"""Pickles are known by their names and by how they begin; what is none is left alone."""

from __future__ import annotations

import io
import os
import pickle  # noqa: TID251
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from undiffuse import pickles


def of_torch(zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save({"a": torch.ones(1)}, stream, _use_new_zipfile_serialization=zipped)  # noqa: TID251
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *(pickle.dumps({"a": 1}, protocol) for protocol in range(2, 6)),
        *(pickle.dumps(Path("x"), protocol) for protocol in range(2)),
        *(of_torch(zipped) for zipped in (False, True)),
    ],
)
def test_pickles_by_their_content(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert pickles.told(tmp_path / "model.safetensors") == pickles.REFUSED


@pytest.mark.parametrize("name", ["a.pt", "a.PTH", "a.ckpt", "pytorch_model.bin", "a.joblib"])
def test_pickles_by_their_names(name: str, tmp_path: Path) -> None:
    assert pickles.told(tmp_path / name) == pickles.REFUSED  # there or not


def test_what_is_none(tmp_path: Path) -> None:
    contents = [b"", b"{}", b"\x89PNG\r\n", b"PK\x03\x04" + bytes(100), save({"a": torch.ones(9)})]
    for content in contents:
        (tmp_path / "x").write_bytes(content)
        assert pickles.told(tmp_path / "x") == ""
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nothing", ""):
        assert pickles.told(tmp_path / name) == ""
