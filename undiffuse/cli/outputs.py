r"""Where samples go: one picture, one array, or a directory with a picture of each.

What cannot be written is refused before anything is drawn, and a file appears under its name only
when it is whole, so nothing is lost to a mistake. Batches are written as they come: memory does not
grow with their number, but for the pixels of the one picture.
"""

from __future__ import annotations

import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from undiffuse.cli.place import check_file, check_place
from undiffuse.errors import RunFailed, UndiffuseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

TURNS = "each in turn"
# Facts that only some samples have; of others a picture tells nothing.
OPTIONAL = ("steps", "grid", "guidance", "guide", "guiding models", "negative label")


@dataclass(frozen=True)
class Plan:
    """What is to be drawn: `num` samples, by `settings`, which every picture tells.

    Of a model with `classes`, sample i has the label asked for, or i mod classes.
    """

    num: int
    settings: Mapping[str, Any]
    classes: int = 0
    label: int | tuple[int, ...] | None = None

    def label_of(self, number: int) -> Any:
        """The label of one sample, or its labels; None for a model without labels."""
        if not self.classes:
            return None
        return number % self.classes if self.label is None else self.label

    def facts(self) -> dict[str, Any]:
        """What a picture of all samples tells."""
        label = TURNS if self.label is None else _words(self.label)
        return {**self.settings, "num": self.num} | ({"label": label} if self.classes else {})

    def facts_of(self, number: int) -> dict[str, Any]:
        """What the picture of one sample tells."""
        label = {"label": _words(self.label_of(number))} if self.classes else {}
        return {**self.settings, "index": number} | label


def _words(label: Any) -> Any:
    """A label as it is asked for: 7, or "3+7"."""
    return "+".join(map(str, label)) if isinstance(label, tuple) else label


class Drawn(NamedTuple):
    """A batch of samples: their numbers and the samples, [B, ...] on the CPU."""

    numbers: Sequence[int]
    x: Tensor


@dataclass(frozen=True)
class Output(ABC):
    """A place for samples.

    Attributes:
        parts: whether several processes can write there, each some of the samples.
    """

    parts: ClassVar[bool] = False
    path: Path

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse samples of a shape that does not fit here.

        Raises:
            UndiffuseError: telling what fits.
        """
        return None

    def wanted(self, plan: Plan) -> Sequence[int]:
        """The numbers of the samples, out of 0 ... num - 1, that are still to be drawn."""
        return range(plan.num)

    @abstractmethod
    def write(self, batches: Iterable[Drawn], plan: Plan) -> None:
        """Draw the batches and keep them.

        Raises:
            RunFailed: the place cannot be written.
        """


@dataclass(frozen=True)
class Sheet(Output):
    """One PNG: images side by side, vectors as points."""

    def write(self, batches: Iterable[Drawn], plan: Plan) -> None:
        import torch

        from undiffuse import pictures

        parts = [pictures.to_bytes(b.x) if b.x.ndim == 4 else b.x for b in batches]
        x = torch.cat(parts)
        image = pictures.tiled(x.numpy()) if x.ndim == 4 else pictures.draw(x)
        pictures.save(image, self.path, plan.facts())


@dataclass(frozen=True)
class Archive(Output):
    """One .npz: `images` uint8 [N, H, W, C] (floats [N, D] for vectors) and `labels` int64 [N]."""

    def write(self, batches: Iterable[Drawn], plan: Plan) -> None:
        from undiffuse import pictures

        values = (
            (pictures.to_bytes(batch.x) if batch.x.ndim == 4 else batch.x).numpy()
            for batch in batches
        )
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                stream(archive, "images", plan.num, values)
                if plan.classes:
                    stream(archive, "labels", plan.num, _labels(plan))
            temporary.replace(self.path)
        except OSError as error:
            raise RunFailed(f"cannot write {self.path}: {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)


def stream(archive: zipfile.ZipFile, name: str, count: int, parts: Iterable[NDArray[Any]]) -> None:
    """Write an array [count, ...] of an .npz, of which one part [B, ...] at a time is there."""
    from numpy.lib import format as npy

    rest = iter(parts)
    first = next(rest)
    header = {
        "descr": npy.dtype_to_descr(first.dtype),
        "fortran_order": False,
        "shape": (count, *first.shape[1:]),
    }
    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
        npy.write_array_header_2_0(entry, header)
        for part in chain([first], rest):
            entry.write(part.tobytes())


def _labels(plan: Plan) -> Iterator[NDArray[np.int64]]:
    """All labels, some thousands at a time."""
    import numpy as np

    for low in range(0, plan.num, 4096):
        numbers = range(low, min(low + 4096, plan.num))
        yield np.array([plan.label_of(i) for i in numbers], np.int64)


@dataclass(frozen=True)
class Pictures(Output):
    """A directory with a PNG for each sample, 000000.png and so on, each with its own facts.

    Pictures that are there already are kept if they carry the same facts, and any other PNG file
    is a reason to refuse, so that one directory never mixes two seeds, settings or models.
    """

    parts: ClassVar[bool] = True

    def check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or shape[0] not in {1, 3, 4}:
            raise UndiffuseError(
                f"samples of shape {list(shape)} are no pictures; write them to an .npz file"
            )

    def wanted(self, plan: Plan) -> Sequence[int]:
        there = {
            self._number(file, plan)
            for file in (sorted(self.path.iterdir()) if self.path.is_dir() else ())
            if file.suffix.lower() == ".png" and not file.name.startswith(".")
        }
        if not there:
            return range(plan.num)
        return [number for number in range(plan.num) if number not in there]

    def write(self, batches: Iterable[Drawn], plan: Plan) -> None:
        from undiffuse import pictures

        for batch in batches:
            for row, number in enumerate(batch.numbers):
                image = pictures.grid(batch.x[row : row + 1], zoom=1, gap=0)
                pictures.save(image, self.path / f"{number:06d}.png", plan.facts_of(number))

    def _number(self, file: Path, plan: Plan) -> int | None:
        """The number of a picture that is there; None if it is ours but has to be drawn again.

        Raises:
            UndiffuseError: it was made in another way.
        """
        match = re.fullmatch(r"(\d{6,})\.png", file.name)
        if match is None:
            raise UndiffuseError(f"{file} is not one of these samples; choose another --out")
        text, whole = _read(file)
        facts = {key: str(value) for key, value in plan.facts_of(int(match[1])).items()}
        for key in dict.fromkeys((*facts, *OPTIONAL)):
            before, now = text.get(key, "none"), facts.get(key, "none")
            if before != now:
                raise UndiffuseError(
                    f"{file} was made with {key} = {before}, not {now};"
                    " choose another --out, or delete what is there"
                )
        return int(match[1]) if whole else None


def _read(file: Path) -> tuple[dict[str, str], bool]:
    """The text chunks of a PNG, and whether it can be decoded."""
    from PIL import Image, PngImagePlugin

    try:
        with Image.open(file, formats=["PNG"]) as image:
            assert isinstance(image, PngImagePlugin.PngImageFile)
            text = {str(key): str(value) for key, value in image.info.items()}
            try:
                image.load()
            except (OSError, ValueError, SyntaxError):
                return text, False
            return text, True
    except (OSError, ValueError, SyntaxError):
        return {}, False


def choose(name: str) -> Output:
    """The output that a name stands for.

    Raises:
        UndiffuseError: another ending, or a place that cannot be written.
    """
    path = Path(name)
    kind = {".png": Sheet, ".npz": Archive}.get(path.suffix.lower())
    if kind is not None and not name.endswith("/"):
        check_file(path, path.suffix.lower())
        return kind(path)
    if path.suffix and not path.is_dir() and not name.endswith("/"):
        raise UndiffuseError(
            f"--out {name}: the name must end in .png or .npz, or be that of a directory"
        )
    if path.exists() and not path.is_dir():
        raise UndiffuseError(f"--out {name} is a file; end its name in .png or .npz")
    check_place(path / "000000.png")
    return Pictures(path)
