"""Tensor files are read as they were written, and refused in words that say why."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from undiffuse import tensorfile
from undiffuse.errors import UndiffuseError

KINDS = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16),
]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    named = {f"of {kind}".replace(".", "/"): torch.ones(2, 0, 3).to(kind) for kind in KINDS}
    named |= {str(kind): torch.arange(4).reshape(2, 2).to(kind) for kind in KINDS}
    named |= {"a scalar": torch.tensor(2.5), "..b..": torch.ones(1), "ä/β": torch.ones(1)}
    save_file(named, tmp_path / "x.safetensors", metadata={"format": "pt", "by": "somebody"})
    loaded = tensorfile.read(tmp_path / "x.safetensors")
    assert loaded.keys() == named.keys()
    for name, tensor in named.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    save_file({}, tmp_path / "nothing.safetensors")
    assert tensorfile.read(tmp_path / "nothing.safetensors") == {}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"dtype": "F33"}, "tensor 'a' has the unknown dtype 'F33'"),
        ({"shape": [2, -3]}, "tensor 'a' has a shape or offsets that are no whole numbers"),
        ({"shape": [2**40, 2**40]}, "tensor 'a' is of an impossible shape"),
        ({"shape": [2, 4]}, "tensor 'a' has 24 bytes, which do not make its shape"),
        ({"data_offsets": [8, 32]}, "tensor 'a' does not begin where the one before it ends"),
        ({"shape": [5], "data_offsets": [0, 20]}, "its tensors fill 20 of 24 bytes"),
        ({"more": 1}, "tensor 'a' has no dtype, shape and data_offsets, or has more"),
    ],
)
def test_why_a_header_is_refused(entry: dict[str, object], told: str, tmp_path: Path) -> None:
    header = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **entry}}
    content, file = json.dumps(header).encode(), tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(content)) + content + bytes(24))
    for reader in (tensorfile.check, tensorfile.read):
        with pytest.raises(UndiffuseError) as caught:
            reader(file)
        assert str(caught.value) == f"{file} holds no tensors: {told}"
