"""A folder of images. Where the labels come from:

    metadata.csv or metadata.jsonl   the listed files (column `file_name`), label from `label`
    train/ beside test/ or val/      two sets, each read by the other rules; the second is held out
    sub-folders with images          the sub-folder's name is the label, at any depth below it
    images alone                     no labels

Classes are numbered in the order of their names, or of their values where all are whole numbers.
Hidden files and folders, `__MACOSX` and files of other kinds are passed over. A file that is called
an image but cannot be used is left out and listed in the data set's `skipped`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

from undiffuse.data.dataset import Dataset, Skipped
from undiffuse.data.decode import shown
from undiffuse.data.images import ImageFiles, image_files
from undiffuse.data.metadata import metadata_file, read_metadata
from undiffuse.data.source import Source, check_images
from undiffuse.errors import UndiffuseError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
FOREIGN = (".svg", ".eps", ".psd", ".ico", ".heic", ".heif", ".avif", ".jp2", ".tga")
HELD_OUT = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class Folder(Source):
    """A folder of images; sub-folders are labels.

    `size` scales the short side of every image and keeps the middle square; `channels` is 1 or 3
    (left out: 1 when all files are grey).
    """

    name: ClassVar[str] = "folder"
    reads: ClassVar[str] = "a folder of images"

    path: str
    size: int | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        check_images(self, self.size, self.channels)

    @classmethod
    def accepts(cls, path: Path) -> bool:
        return path.is_dir()

    def open(self) -> Dataset:
        folders = _visit(self.path, "").folders
        aside = [name for name in HELD_OUT if name in folders]
        if "train" not in folders or not aside or metadata_file(self.path):
            return self._read(self.path)
        train = self._read(os.path.join(self.path, "train"))
        held_out = self._read(os.path.join(self.path, aside[0]), train)
        return replace(train, held_out=held_out)

    def _read(self, root: str, like: Dataset | None = None) -> ImageFiles:
        """The images in `root`, with the classes and channels of `like` if it is given."""
        names, classes, refused = _listing(root)
        return image_files(
            root,
            names,
            [shown(name) for name in classes],
            refused,
            source=self.path,
            size=self.size,
            channels=self.channels if like is None else like.shape[0],
            class_names=None if like is None else like.class_names,
        )


class Listing(NamedTuple):
    """Files to read, the class of each (empty: unlabelled), and files already refused."""

    names: list[str]
    classes: list[str]
    refused: list[Skipped]


class Visit(NamedTuple):
    """The images and folders directly in one folder, as paths from the root, and files refused."""

    images: list[str]
    folders: list[str]
    refused: list[Skipped]


def _listing(root: str) -> Listing:
    listed = metadata_file(root)
    if listed is not None:
        rows = read_metadata(listed)
        labels = [row.label for row in rows if row.label is not None]
        return Listing([row.file_name for row in rows], labels, [])
    top = _visit(root, "")
    names, classes, refused = [], [], list(top.refused)
    for folder in top.folders:
        inside, refused_inside = _below(root, folder)
        names += inside
        classes += [folder] * len(inside)
        refused += refused_inside
    if top.images and names:
        raise UndiffuseError(
            f"'{shown(root)}' holds both images ({shown(top.images[0])}) and sub-folders with "
            f"images ({shown(names[0])}); sub-folders are labels, so put all images into them or "
            "none"
        )
    if not (top.images or names or refused):
        tables = any(name.endswith(".parquet") for name in os.listdir(root))
        hint = f"; hf:{shown(root)} reads its parquet files" if tables else ""
        raise UndiffuseError(f"'{shown(root)}' holds no images ({', '.join(SUFFIXES)}){hint}")
    return Listing(names or top.images, classes, refused)


def _below(root: str, folder: str) -> tuple[list[str], list[Skipped]]:
    """All images in a sub-folder and the folders below it."""
    images, refused, todo = [], [], [folder]
    while todo:
        found = _visit(root, todo.pop())
        images += found.images
        refused += found.refused
        todo += found.folders
    return sorted(images), refused


def _visit(root: str, inside: str) -> Visit:
    found = Visit([], [], [])
    folder = os.path.join(root, inside)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UndiffuseError(f"cannot list '{shown(folder)}': {error.strerror}") from None
    for entry in entries:
        path = os.path.join(inside, entry.name)
        suffix = os.path.splitext(entry.name)[1].lower()
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if suffix in SUFFIXES:
            reason = _refused(entry.path)
            if reason:
                found.refused.append(Skipped(shown(path), reason))
            else:
                found.images.append(path)
        elif os.path.isdir(entry.path):
            if not (inside and entry.is_symlink()):  # a link deep inside may lead round in circles
                found.folders.append(path)
        elif suffix in FOREIGN:
            reason = f"{suffix} files are not read; convert it to PNG or JPEG"
            found.refused.append(Skipped(shown(path), reason))
    return found


def _refused(path: str) -> str:
    """Why something called an image is none, before it is opened; "" where nothing is wrong."""
    try:
        return "" if stat.S_ISREG(os.stat(path).st_mode) else "it is not a regular file"
    except OSError as error:  # a link to nowhere or to itself
        return error.strerror or str(error)
