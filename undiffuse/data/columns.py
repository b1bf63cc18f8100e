"""Which columns of a table hold what, told by their names and types before any of them is read.

    images    a column of encoded images: bytes, or pairs of `bytes` and `path` as the library
              `datasets` writes them. One called `image`, `images` or `img` goes first.
    vectors   without images: a column `vectors` of lists of numbers, or all columns of floats
    labels    the column `label` or `labels`, of whole numbers or texts, if there is one

A column that is called like one of these and cannot be one is refused, and so are whole numbers
that nobody has called labels: to pass them over would be a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from undiffuse.errors import UndiffuseError, one_line

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = ("label", "labels")
IMAGES = ("image", "images", "img")
VECTORS = "vectors"
LISTED = 8  # columns that a message names
NEEDS = {  # what a column may be used for, and what it must hold for that
    "image": "encoded images, as bytes",
    "label": "whole numbers or texts",
    VECTORS: "lists of numbers",
}


@dataclass(frozen=True)
class Wanted:
    """What is asked of a table: columns by name, where that is not to be found out, and a size.

    The label "" asks for none. An image without bytes is read from its `path` if that lies in one
    of the `folders`.
    """

    image: str | None = None
    label: str | None = None
    size: int | None = None
    channels: int | None = None
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """The columns that are read: one of images or, where that is None, those of numbers."""

    image: str | None
    label: str | None
    numbers: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [name for name in (self.image, *self.numbers, self.label) if name is not None]


def columns(schema: pa.Schema, wanted: Wanted, where: str) -> Columns:
    """The columns of a table that are read.

    Raises:
        UndiffuseError: there is no such column, or none or more than one that could be meant.
    """
    if len(set(schema.names)) < len(schema.names):
        raise UndiffuseError(f"'{one_line(where)}' has two columns of one name; rename one of them")
    label = _chosen(schema, "label", wanted.label, LABELS, where)
    if wanted.image is None and VECTORS in schema.names:
        return Columns(None, label, (_checked(schema, VECTORS, VECTORS, where),))
    image = _chosen(schema, "image", wanted.image, IMAGES, where)
    if image is None:
        usable = [field.name for field in schema if _use(field.type) == "image"]
        if len(usable) > 1:
            raise UndiffuseError(
                f"'{one_line(where)}' has {len(usable)} columns that may hold images,"
                f" {listed(usable)}; say which, with (image=NAME) behind the data's name"
            )
        image = next(iter(usable), None)
    if image is not None:
        return Columns(image, label)
    floats = tuple(field.name for field in schema if _use(field.type) == "float")
    whole = [f.name for f in schema if _use(f.type) == "number" and f.name not in (label, *LABELS)]
    if not floats:
        raise UndiffuseError(
            f"'{one_line(where)}' has neither images nor floats to learn from, only the columns"
            f" {listed(schema.names)}; images are encoded, as PNG or JPEG"
        )
    if whole:
        raise UndiffuseError(
            f"'{one_line(where)}' has columns of floats to learn from, and others of whole numbers"
            f" or decimals, {listed(whole)}; make floats of those or leave them out"
        )
    return Columns(None, label, floats)


def listed(names: Sequence[str]) -> str:
    """Columns as a message names them.

    >>> listed(["a", "b"]), listed([])
    ("'a', 'b'", 'none')
    """
    shown = ", ".join(f"'{one_line(name)}'" for name in names[:LISTED])
    return f"{shown}, ..." if names[LISTED:] else shown or "none"


def is_whole(kind: pa.DataType) -> bool:
    """Whether a column of labels holds numbers, which may stand for names."""
    import pyarrow.types as kinds

    return bool(kinds.is_integer(kind))


def _chosen(
    schema: pa.Schema, what: str, asked: str | None, usual: Sequence[str], where: str
) -> str | None:
    """The column asked for, or the first with a usual name that holds anything; or None."""
    if asked == "" and what == "label":
        return None
    if asked is None:
        filled = [name for name in usual if name in schema.names and not _is_empty(schema, name)]
        asked = next(iter(filled), None)
    elif asked not in schema.names:
        raise UndiffuseError(
            f"'{one_line(where)}' has no column '{one_line(asked)}', only {listed(schema.names)}"
        )
    return None if asked is None else _checked(schema, asked, what, where)


def _checked(schema: pa.Schema, name: str, what: str, where: str) -> str:
    kind = schema.field(name).type
    use = _use(kind)
    holds = {"label": use == "text" or is_whole(kind), VECTORS: use == VECTORS}
    if not holds.get(what, use == what):
        other = "" if what == VECTORS else f"; choose another with ({what}=NAME)"
        other += ", or none with (label=)" if what == "label" else ""
        raise UndiffuseError(
            f"the column '{one_line(name)}' of '{one_line(where)}' holds {one_line(str(kind))}, and"
            f" for {what} it must hold {NEEDS[what]}{other}"
        )
    return name


def _is_empty(schema: pa.Schema, name: str) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_null(schema.field(name).type))


def _use(kind: pa.DataType) -> str:
    """What a column of this type may be: "image", "text", "float", "number", "vectors" or ""."""
    import pyarrow.types as kinds

    if kinds.is_struct(kind):
        parts = [field for field in kind if field.name == "bytes"]
        inside = [part.type for part in parts if not kinds.is_null(part.type)]
        return "image" if len(parts) == 1 and all(_use(k) == "image" for k in inside) else ""
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return VECTORS if _use(kind.value_type) == "float" or is_whole(kind.value_type) else ""
    if kinds.is_dictionary(kind):
        kind = kind.value_type
        return "text" if _use(kind) == "text" or is_whole(kind) else ""
    uses = {
        "image": (kinds.is_binary, kinds.is_large_binary, kinds.is_binary_view),
        "text": (kinds.is_string, kinds.is_large_string, kinds.is_string_view, kinds.is_boolean),
        "float": (kinds.is_floating,),
        "number": (kinds.is_integer, kinds.is_decimal),
    }
    return next((use for use, tests in uses.items() if any(test(kind) for test in tests)), "")
