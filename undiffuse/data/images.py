"""Image files as a data set: they stay as they are, and a batch decodes the files it needs.

Opening looks at every file once. Up to 20,000 files are decoded for that, so that a damaged one is
found before training and not in the middle of it; of more files only the headers are read. Decoded
pixels stay in memory, as bytes, when the whole set takes at most 1 GiB: an epoch visits the files
in random order, so a smaller store would hardly ever hold the next one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from undiffuse.data.classes import numbered
from undiffuse.data.dataset import Dataset, Skipped, from_bytes
from undiffuse.data.decode import Header, Undecodable, decode, header, shown
from undiffuse.errors import UndiffuseError

VERIFY_UP_TO = 20_000  # files that are decoded when the data set is opened
KEEP_UP_TO = 2**30  # bytes of decoded pixels that stay in memory
THREADS = min(8, os.cpu_count() or 1)

Pixels = NDArray[np.uint8]
Content = Callable[[str], bytes]  # from the name of an image to its bytes; Undecodable without any
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class ImageFiles(Dataset):
    """The image files `names` in the folder `root`, all decoded to `frame` = (H, W, C).

    `lengths` are the files' sizes in bytes. `pixels` uint8 [N, H, W, C] is the store of decoded
    images, with no rows when the set is too large for one; `kept` bool [N] says which are there.
    `content` gives the bytes of images that are no files, such as those in a table.
    """

    root: str
    names: tuple[str, ...]
    lengths: tuple[int, ...]
    frame: tuple[int, int, int]
    size: int | None
    pixels: Pixels = field(repr=False)
    kept: NDArray[np.bool_] = field(repr=False)
    content: Content | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        height, width, channels = self.frame
        return channels, height, width

    def samples(self, indices: Tensor) -> Tensor:
        wanted: list[int] = indices.tolist()
        missing = [index for index in dict.fromkeys(wanted) if not self.kept[index]]
        read = dict(zip(missing, parallel(self._read, missing), strict=True))
        if len(self.pixels):
            for index, image in read.items():
                self.pixels[index] = image
                self.kept[index] = True
        chosen = np.empty((len(wanted), *self.frame), np.uint8)  # [B, H, W, C]
        for row, index in zip(chosen, wanted, strict=True):
            row[...] = read[index] if index in read else self.pixels[index]
        return from_bytes(torch.from_numpy(chosen))

    def _read(self, index: int) -> Pixels:
        path = os.path.join(self.root, self.names[index])
        image = decode(path, self._bytes(index), size=self.size, channels=self.frame[2])
        if image.shape != self.frame:
            raise Undecodable(path, "its size has changed since the folder was opened")
        return image

    def _bytes(self, index: int) -> bytes | None:
        if self.content is None:
            return None
        name = self.names[index]
        try:
            return self.content(name)
        except Undecodable as error:
            raise Undecodable(os.path.join(self.root, name), error.reason) from None

    def fingerprint(self) -> str:
        """sha256 over name, length and label of every file, and over the bytes of what is none."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        labels = [None] * len(self) if self.labels is None else self.labels.tolist()
        for name, length, label in zip(self.names, self.lengths, labels, strict=True):
            digest.update(os.fsencode(name) + f"\0{length}\0{label}\n".encode())
        for index in range(len(self) if self.content else 0):
            digest.update(self._bytes(index) or b"")
        return digest.hexdigest()


class Look(NamedTuple):
    """What one look at a file found: header and, for a small set, pixels; or why it is refused."""

    length: int = 0
    header: Header = Header(0, 0, 0)
    image: Pixels | None = None
    refused: str = ""


class Scan(NamedTuple):
    """What all files together gave: the arguments of `ImageFiles`, and `good`, numbers of files."""

    good: list[int]
    lengths: tuple[int, ...]
    frame: tuple[int, int, int]
    pixels: Pixels
    kept: NDArray[np.bool_]
    skipped: tuple[Skipped, ...]


def image_files(
    root: str,
    names: Sequence[str],
    classes: Sequence[str] = (),
    refused: Sequence[Skipped] = (),
    *,
    source: str,
    size: int | None = None,
    channels: int | None = None,
    class_names: tuple[str, ...] | None = None,
    content: Content | None = None,
) -> ImageFiles:
    """The data set of the files `names` in `root`, those that can be used.

    `classes` is the class of each, or empty; `class_names` is the order of the classes where that
    is known. `refused` are files already left out; they count among the bad ones. `content` gives
    the bytes of images that are no files.

    Raises:
        UndiffuseError: as `scan`, or a class is not among those known.
    """
    found = scan(root, names, refused, size=size, channels=channels, content=content)
    chosen = [classes[number] for number in found.good if classes]
    labels, class_names = numbered(chosen, class_names, f"'{shown(root)}'")
    return ImageFiles(
        source=source,
        root=root,
        names=tuple(names[number] for number in found.good),
        lengths=found.lengths,
        frame=found.frame,
        size=size,
        pixels=found.pixels,
        kept=found.kept,
        content=content,
        labels=labels,
        class_names=class_names,
        skipped=found.skipped,
    )


def scan(
    root: str,
    names: Sequence[str],
    refused: Sequence[Skipped] = (),
    *,
    size: int | None = None,
    channels: int | None = None,
    content: Content | None = None,
) -> Scan:
    """Find out which of the files `names` in `root` can be used, and what the images are like.

    Raises:
        UndiffuseError: no file can be used, or fewer than half of them, or they differ in size
            and no size is asked for.
    """
    decoding = len(names) <= VERIFY_UP_TO

    def look_at(name: str) -> Look:
        path = os.path.join(root, name)
        try:
            data = content and content(name)
            length = os.path.getsize(path) if data is None else len(data)
            if not decoding:
                return Look(length, header(path, data))
            image = decode(path, data, size=size, channels=channels)
            return Look(length, Header(*image.shape), image)
        except Undecodable as error:
            return Look(refused=error.reason)
        except OSError as error:
            return Look(refused=error.strerror or str(error))

    good, looks, total = [], [], 0
    skipped = list(refused)
    for number, found in enumerate(parallel(look_at, names)):
        if found.refused:
            skipped.append(Skipped(shown(names[number]), found.refused))
            continue
        total += found.image.nbytes if found.image is not None else 0
        good.append(number)
        looks.append(found if total <= KEEP_UP_TO else found._replace(image=None))
    _refuse_bad(root, len(good), skipped)

    depth = channels or max(look.header.channels for look in looks)
    height, width = (size, size) if size else _one_size(root, [look.header for look in looks])
    fits = len(good) * height * width * depth <= KEEP_UP_TO
    pixels = np.zeros((len(good) if fits else 0, height, width, depth), np.uint8)
    kept = np.zeros(len(good), bool)
    for row, look in enumerate(looks if fits else []):
        if look.image is not None:
            pixels[row] = look.image  # a grey image [H, W, 1] among coloured ones fills all three
            kept[row] = True
    lengths = tuple(look.length for look in looks)
    return Scan(good, lengths, (height, width, depth), pixels, kept, tuple(skipped))


def _refuse_bad(root: str, good: int, skipped: Sequence[Skipped]) -> None:
    if good < len(skipped):
        some = "; ".join(f"{file}: {reason}" for file, reason in skipped[:3])
        count = "none" if good == 0 else f"only {good}"
        raise UndiffuseError(
            f"{count} of the {good + len(skipped)} images in '{shown(root)}' can be used; "
            f"repair or remove the others ({some}{'; ...' if skipped[3:] else ''})"
        )


def _one_size(root: str, headers: Sequence[Header]) -> tuple[int, int]:
    sizes = sorted({(head.height, head.width) for head in headers})
    if len(sizes) > 1:
        (height, width), (tall, wide) = sizes[0], sizes[-1]
        raise UndiffuseError(
            f"the images in '{shown(root)}' have {len(sizes)} different sizes, such as "
            f"{width}x{height} and {wide}x{tall}; ask for one size N with --set data.size=N"
        )
    return sizes[0]


def parallel(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`map` over a few threads, in order, with a few items in flight at a time."""
    chunk = 16 * THREADS
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(items), chunk):
            yield from pool.map(function, items[start : start + chunk])
