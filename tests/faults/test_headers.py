"""Weights files made to deceive are refused at once and in little memory (reliability goal R5).

All of it happens in a process that may use 2 GiB of addresses: a header of 100 MB, a million
tensors, lengths beyond the file, shapes of exabytes, tensors that share their bytes, random damage.
Whatever the file says, the answer is one sentence, in less than a second and less than 200 MB.
"""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from figures import Figures

import undiffuse
from undiffuse.errors import UndiffuseError
from undiffuse.tensorfile import LARGEST_HEADER

SECONDS, MEGABYTES = 1.0, 200.0
HEADER = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "I64", "shape": [2], "data_offsets": [24, 40]},
}
DATA = bytes(range(40))

# Reads the files named on its standard input and tells of each: what came of it, the seconds of
# work, and the megabytes by which the process grew at most.
CHILD = """
import json, re, resource, sys, time
from pathlib import Path
import torch
from undiffuse import storage
from undiffuse.errors import UndiffuseError

def megabytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
for line in sys.stdin:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    start, file, begun = megabytes("VmRSS"), Path(line.strip()), time.process_time()
    try:
        made = storage.tensors(file.parent, file.stem)
        told = f"loaded {sum(t.numel() * t.element_size() for t in made.values())}"
    except UndiffuseError as error:
        told = f"refused: {error}"
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"
    seconds = time.process_time() - begun
    print(json.dumps([told, seconds, megabytes("VmHWM") - start]), flush=True)
"""


def packed(header: Any, data: bytes = DATA, length: int | None = None) -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content) if length is None else length) + content + data


def edited(**changes: Any) -> bytes:
    """The sound file with other entries for tensor a."""
    return packed({**HEADER, "a": {**HEADER["a"], **changes}})


def named(name: str) -> bytes:
    return packed({name: HEADER["a"], "b": HEADER["b"]})


def filled(beginning: bytes, middle: bytes, end: bytes = b"") -> bytes:
    """A header of the greatest length that is still read."""
    return packed(beginning + middle * ((LARGEST_HEADER - 99) // len(middle)) + end)


HUGE = 2**63
CASES = {
    "empty file": b"",
    "seven bytes": bytes(7),
    "length 0": packed(b""),
    "length 2^63": packed(HEADER, length=HUGE),
    "length 2^64 - 1": packed(HEADER, length=2**64 - 1),
    "length beyond the file": packed(HEADER, length=len(DATA) + 500),
    "length into the data": packed(HEADER, length=len(json.dumps(HEADER)) + 8),
    "not JSON": packed(b"{'a': 1}"),
    "a list": packed([HEADER]),
    "a number": packed(b"1"),
    "not UTF-8": packed(b'{"\xff": 1}'),
    "a tensor twice": packed(json.dumps(HEADER).replace('"b"', '"a"').encode()),
    "dtype unknown": edited(dtype="F33"),
    "dtype a list": edited(dtype=["F32"]),
    "dtype of another size": edited(dtype="F64"),
    "no dtype": packed({"a": {"shape": [], "data_offsets": [0, 40]}}),
    "an entry more": edited(code="import os"),
    "shape not a list": edited(shape=6),
    "shape negative": edited(shape=[-2, -3]),
    "shape of floats": edited(shape=[2.0, 3.0]),
    "shape of truths": edited(shape=[True, True, 6]),
    "shape too large": edited(shape=[2, 4]),
    "shape overflows 64 bits": edited(shape=[2**32, 2**32, 6]),
    "shape of 4000 digits": edited(shape=[10**4000, 6]),
    "shape of many axes": edited(shape=[1] * 1000 + [6]),
    "shape of nothing, huge": packed(
        {**HEADER, "c": {"dtype": "F32", "shape": [0, HUGE, 9], "data_offsets": [40, 40]}}
    ),
    "offsets reversed": edited(data_offsets=[24, 0]),
    "offsets negative": edited(data_offsets=[-24, 0]),
    "offsets of three": edited(data_offsets=[0, 12, 24]),
    "offsets beyond the file": edited(shape=[2**40, 6], data_offsets=[0, 2**42 * 6]),
    "offsets overlap": packed({**HEADER, "b": {**HEADER["b"], "data_offsets": [16, 32]}}),
    "offsets equal": packed({"a": HEADER["a"], "b": HEADER["a"]}),
    "a gap": packed({**HEADER, "b": {**HEADER["b"], "data_offsets": [32, 48]}}, DATA + bytes(8)),
    "bytes left over": packed(HEADER, DATA + b"x"),
    "bytes missing": packed(HEADER, DATA[:-1]),
    "a path upwards": named("../../etc/passwd"),
    "a path from the root": named("/etc/passwd"),
    "a path within": named("a/../../b"),
    "a NUL": named("a\0b"),
    "a line break": named("a\nb"),
    "no name": named(""),
    "a name of 100 kB": named("a" * 100_000),
    "nested deeply": filled(b"", b'{"a":'),
    "arrays nested deeply": filled(b"", b"["),
    "many empty entries": packed(
        b"{" + b",".join(b'"%d":{}' % i for i in range(LARGEST_HEADER // 13)) + b"}"
    ),
    "many empty lists": filled(b'{"a":[', b"[],", b"[]]}"),
    "many floats": filled(b'{"a":[', b"1.1,", b"1]}"),
    "many names": packed(
        b"{" + b",".join(b'"%d":0' % i for i in range(LARGEST_HEADER // 11)) + b',"9":0}'
    ),
    "many digits": filled(b'{"a":', b"1", b"}"),
    "blanks": filled(b"", b" ", b"{}"),
    "a pickle": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "zeros": bytes(100),
}


def enormous(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files that are too long to lie here as bytes: a 100 MB header, and one of 1e6 tensors."""
    file = folder / "hundred.safetensors"
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", 100_000_000) + b"{")
        stream.truncate(100_000_048)
    yield "a header of 100 MB", file
    file = folder / "million.safetensors"
    entry = '"%d":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
    header = "{" + ",".join([entry % (i, i, i + 1) for i in range(10**6)]) + "}"
    file.write_bytes(packed(header.encode(), bytes(10**6)))
    yield "a million tensors", file


def mutated(rng: random.Random) -> bytes:
    """The sound file with a few random changes in its header."""
    header: Any = json.loads(json.dumps(HEADER))
    numbers = [0, 1, 2, 3, 24, 40, -1, 2**31, 2**63, 2**64, 10**30, 0.5, None, True, "1", [], {}]
    for _ in range(rng.randint(1, 3)):
        entry = header[rng.choice("ab")]
        match rng.randrange(5):
            case 0:
                entry["dtype"] = rng.choice(["F16", "BF16", "BOOL", "F8_E4M3", "C64", "f32", 7, {}])
            case 1:
                entry["shape"] = [rng.choice(numbers) for _ in range(rng.randrange(5))]
            case 2:
                entry["data_offsets"] = [rng.choice(numbers) for _ in range(rng.randint(1, 3))]
            case 3:
                entry[rng.choice(["dtype", "shape", "data_offsets", "x"])] = rng.choice(numbers)
            case 4:
                header[rng.choice(["c", "__metadata__", "..", "a\\b"])] = rng.choice(numbers)
    content = bytearray(packed(header, DATA[: rng.choice([0, 24, 40, 40, 40])]))
    for _ in range(rng.choice([0, 0, 1, 2])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def read(files: list[Path]) -> list[tuple[str, float, float]]:
    """What the limited process tells of each file."""
    told = subprocess.run(
        [sys.executable, "-c", CHILD],
        input="\n".join(map(str, files)),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    ended = (f"the process ended with {told.returncode}: {told.stderr[-200:]}", 0.0, 0.0)
    return [tuple(line) for line in lines] + [ended] * (len(files) - len(lines))


def attack(count: int, seed: int, tmp: Path) -> Figures:
    """Every case above, and `count` random ones, which may also turn out sound."""
    rng, files, names = random.Random(seed), [], []
    folder = tmp / "headers"
    folder.mkdir(exist_ok=True)
    for name, file in enormous(folder):
        names.append(name)
        files.append(file)
    for name, content in [*CASES.items(), *((f"random {i}", mutated(rng)) for i in range(count))]:
        names.append(name)
        files.append(folder / f"{len(files)}.safetensors")
        files[-1].write_bytes(content)
    failures = []
    for name, file, (told, seconds, grown) in zip(names, files, read(files), strict=True):
        sound = name.startswith("random") and told in {"loaded 40", "loaded 24", "loaded 0"}
        refused = told.startswith("refused: ") and str(file) in told and "\n" not in told
        if not (sound or refused) or seconds > SECONDS or grown > MEGABYTES:
            failures.append(f"{name}: {told[:200]} ({seconds:.2f} s, {grown:.0f} MB)")
        file.unlink()
    return Figures(len(names), tuple(failures))


def test_no_header_does_harm(tmp_path: Path) -> None:
    assert attack(300, 0, tmp_path) == Figures(300 + len(CASES) + 2)


def test_the_sound_file_is_read(tmp_path: Path) -> None:
    described = {**HEADER, "__metadata__": {"format": "pt"}}
    files = []
    for header in (HEADER, described, dict(reversed(HEADER.items()))):
        files.append(tmp_path / f"{len(files)}.safetensors")
        files[-1].write_bytes(packed(header))
    assert [told for told, *_ in read(files)] == ["loaded 40"] * 3


@pytest.mark.parametrize("name", ["length 2^63", "a tensor twice", "offsets equal", "a pickle"])
def test_a_model_vouched_for_is_refused_by_the_name_of_its_file(name: str, run: Path) -> None:
    file = run / "model" / "weights.safetensors"
    file.write_bytes(CASES[name])
    tiny.vouch(file.parent)
    with pytest.raises(UndiffuseError, match=f"{file} holds no tensors: "):
        undiffuse.load(file.parent)
