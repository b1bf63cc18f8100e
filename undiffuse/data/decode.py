"""One image file as 8-bit pixels, or one sentence that says why not.

Image files come from anywhere, and the usual one-liner turns some of them into wrong pixels without
a word: 16-bit grey is clipped to white, transparent pixels show the colour that was hidden under
them, a turned photograph lies on its side. Here every mode has one meaning:

    16-bit grey       v / 257, rounded (0 ... 65535 -> 0 ... 255)
    float grey        255 v, rounded, for v in [0, 1]
    alpha, tRNS       the image laid over white
    palette, CMYK     their RGB colours; embedded colour profiles are not applied
    orientation       (EXIF) applied
    animation         the first frame

Whatever else a file does ends as `Undecodable`: only regular files are opened, only six formats are
tried (no format that starts another program), and the number of pixels is limited before any is
read.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from undiffuse.errors import UndiffuseError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 2**26  # 67 million: a picture of 8192x8192
MAX_BYTES = 2**28  # of a file that is read whole
GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "F")
TURNS = {  # EXIF orientation -> what shows the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow only warns of is either an error here (too many pixels) or harmless (broken EXIF).
warnings.filterwarnings("ignore", module=r"PIL\.")


class Undecodable(UndiffuseError):
    """A file that is not a usable image; `reason` is the sentence without the file's name."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot read the image '{shown(path)}': {reason}")
        self.path = path
        self.reason = reason


class Header(NamedTuple):
    """What an image file says of itself: upright size in pixels, and 1 (grey) or 3 channels."""

    height: int
    width: int
    channels: int


def header(path: str, content: bytes | None = None) -> Header:
    """Read the size and the channels of an image without its pixels.

    With `content`, the bytes of an image, `path` is only what messages call it.

    Raises:
        Undecodable: no image is recognised there.
    """
    with _opened(path, content) as image:
        # A TIFF's size is already that of the upright picture, a PNG's late EXIF would need all
        # its pixels.
        known = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
        turned = known and _orientation(image) >= 5
        width, height = image.size[::-1] if turned else image.size
        return Header(height, width, 1 if _is_grey(image) else 3)


def decode(
    path: str,
    content: bytes | None = None,
    *,
    size: int | None = None,
    channels: int | None = None,
) -> NDArray[np.uint8]:
    """Read the pixels of an image file as uint8 [H, W, C], C = 1 for a grey file and 3 otherwise.

    `size` scales the short side to that many pixels (Lanczos, antialiased) and cuts the middle
    out, [size, size, C]; `channels` asks for 1 (luminance) or 3 whatever the file has. With
    `content`, the bytes of an image, `path` is only what messages call it.

    Raises:
        Undecodable: the file is missing, no regular file, no image, damaged, or too large.
    """
    with _opened(path, content) as image:
        if size is not None:
            image.draft(image.mode, (2 * size, 2 * size))  # a large JPEG is read at 1/2, 1/4, 1/8
        image.load()
        turn = TURNS.get(_orientation(image))
        plain = _opaque(image if turn is None else image.transpose(turn))
        if channels is not None:
            plain = plain.convert({1: "L", 3: "RGB"}[channels])
        if size is not None:
            plain = square(plain, size)
        pixels = np.array(plain, dtype=np.uint8)
    return pixels if pixels.ndim == 3 else pixels[..., None]  # [H, W] -> [H, W, 1]


def read_file(path: str) -> bytes:
    """The bytes of a file.

    Raises:
        Undecodable: it is missing, no regular file, or too large.
    """
    try:
        with _file(path) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Undecodable(path, f"it cannot be read ({error.strerror or error})") from None
    if len(data) > MAX_BYTES:
        raise Undecodable(path, f"it is larger than the limit of {MAX_BYTES:,} bytes")
    return data


@contextmanager
def _opened(path: str, content: bytes | None) -> Iterator[Image.Image]:
    """The opened image; everything that Pillow or the system raises becomes `Undecodable`."""
    try:
        with (
            _file(path) if content is None else io.BytesIO(content) as file,
            Image.open(file, formats=FORMATS) as image,
        ):
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise Undecodable(
                    path, f"{width}x{height} pixels are more than the limit of {MAX_PIXELS:,}"
                )
            yield image
    except Undecodable:
        raise
    except UnidentifiedImageError:
        raise Undecodable(path, f"it is not a {', '.join(FORMATS[:-1])} or TIFF image") from None
    except Image.DecompressionBombError:
        raise Undecodable(path, f"it has more than the limit of {MAX_PIXELS:,} pixels") from None
    except MemoryError:
        raise Undecodable(path, "it does not fit in memory") from None
    # Pillow's readers let nearly every type of exception out on damaged files: ValueError,
    # SyntaxError, IndexError, struct.error, ZeroDivisionError ...
    except Exception as error:
        what = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise Undecodable(path, f"it cannot be decoded ({what})") from None


@contextmanager
def _file(path: str) -> Iterator[BinaryIO]:
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Undecodable(path, "it is not a regular file")
        yield file


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: a pipe without a writer would block for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # broken EXIF says nothing; the pixels are still good
        return 1


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB")).reshape(-1, 3)  # [colours, 3]
        return bool((palette == palette[:, :1]).all())
    return image.mode in GREY_MODES


def _opaque(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB, laid over white where it is transparent."""
    mode = "L" if _is_grey(image) else "RGB"
    if image.mode == "I" or image.mode == "F":
        image = _from_float(image)
    elif image.mode.startswith("I;16"):
        image = _from_16_bit(image)
    if not image.has_transparency_data:
        return image.convert(mode)
    layered = image.convert("LA" if mode == "L" else "RGBA")
    white = Image.new(mode, image.size, "white")
    white.paste(layered.convert(mode), mask=layered.getchannel("A"))
    return white


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)  # [H, W]
    eight = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if "transparency" in image.info:  # PNG: one grey value is transparent
        eight.putalpha(Image.fromarray(np.uint8(255) * (values != image.info["transparency"])))
    return eight


def _from_float(image: Image.Image) -> Image.Image:
    values = np.asarray(image)  # [H, W], float32 or int32
    if values.dtype != np.float32:
        raise ValueError("32-bit integer pixels; save it with 8 or 16 bits")
    if not np.isfinite(values).all():
        raise ValueError("it has pixels that are not finite")
    if values.min() < 0 or values.max() > 1:
        raise ValueError("float pixels must lie between 0 and 1")
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def square(image: Image.Image, size: int) -> Image.Image:
    """Scale the short side to `size` and keep the middle; only the middle is ever scaled."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box)


def shown(name: str) -> str:
    r"""A file's name as it may stand in a message: control characters and broken bytes escaped.

    >>> shown("a\nb.png")
    'a\\nb.png'
    """
    return name if name.isprintable() else ascii(name)[1:-1]
