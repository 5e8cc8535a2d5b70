"""Decoding one picture: bounded before memory is taken, and seen as a viewer shows it."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from odmt_fast.data.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# Formats decoded inside this process. Nothing that starts a program (EPS: Ghostscript) is here.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF")
# A picture past this is decoded alone, so that several threads never hold several of them.
_LARGE_PIXELS = 1 << 24
_large = threading.Lock()
_PREFIX = 64
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class PictureLimits:
    """What is refused before it is decoded.

    Attributes:
        max_pixels: width x height of a picture, read from its header.
        max_bytes: size of its file.
    """

    max_pixels: int = 128_000_000
    max_bytes: int = 256 << 20

    def check_size(self, path: Path, width: int, height: int) -> None:
        """Raises DataError for a picture of more than `max_pixels`."""
        if width * height > self.max_pixels:
            raise DataError(
                path,
                f"the picture has {width:,} x {height:,} pixels, more than the "
                f"{self.max_pixels:,} that are decoded; make it smaller or raise --max-pixels",
            )


LIMITS = PictureLimits()
"""Bounds nobody asked to change: a decoded picture takes up to 512 MB."""


def open_regular(path: Path, *, max_bytes: int | None = None) -> IO[bytes]:
    """Opens a regular file for reading; never waits for the writer of a FIFO.

    Raises:
        DataError: it is gone, cannot be opened, is no regular file, or is larger than `max_bytes`.
    """
    try:
        # Looked at first: opening a device can have effects of its own.
        _check_file(path, path.stat(), max_bytes)
        file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
        _check_file(path, os.fstat(file.fileno()), max_bytes)
    except FileNotFoundError:
        raise DataError(path, "the file is gone") from None
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(path, f"the file cannot be opened ({reason.lower()})") from None
    return file


def load_picture(
    path: Path, *, longest: int | None = None, limits: PictureLimits = LIMITS
) -> Image:
    """Decodes a picture file; see `odmt_fast.data.ImageSource.load`."""
    with open_regular(path, max_bytes=limits.max_bytes) as file:
        try:
            image = _identified(file)
        except Exception as error:  # Pillow's plugins raise whatever they stumble over
            raise DataError(path, f"the image cannot be decoded ({error})") from None
        if image is None:
            size = os.fstat(file.fileno()).st_size
            found = "is not a picture that is read" if size else "is empty, not a picture"
            raise DataError(path, f"the file {found} ({', '.join(FORMATS)})")
        with image:
            limits.check_size(path, *image.size)
            with _turn(image.width * image.height):
                try:
                    if longest is not None:
                        image.draft("RGB", (longest, longest))
                    return as_shown(_upright(image))
                except Exception as error:
                    reason = str(error) or type(error).__name__
                    raise DataError(path, f"the image cannot be decoded ({reason})") from None


def as_shown(image: Image) -> Image:
    """RGB as a viewer shows it: deep samples scaled to 8 bits, transparency on white.

    Raises:
        ValueError: samples whose range no standard fixes, or a mode Pillow cannot convert.
    """
    from PIL import Image as pillow

    if image.mode.startswith("I;16"):
        image = _scaled(image, 65535)
    elif image.mode == "I":
        # Pillow before 11.3 opens 16-bit PNG in this mode.
        image = _scaled(image, 65535)
    elif image.mode == "F":
        image = _scaled(image, 1)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        seen = image.convert("RGBA")
        white = pillow.new("RGBA", seen.size, "white")
        return pillow.alpha_composite(white, seen).convert("RGB")
    return image.convert("RGB")


def _identified(file: IO[bytes]) -> Image | None:
    """The picture with its header read; None where no format of `FORMATS` fits.

    Not ``Image.open``: it warns or raises by a bound that is global to the process.
    """
    from PIL import Image as pillow

    pillow.preinit()
    pillow.init()
    prefix = file.read(_PREFIX)
    for name in FORMATS:
        if name not in pillow.OPEN:
            continue
        factory, accepts = pillow.OPEN[name]
        # A string says why this build of Pillow cannot read the format.
        accepted: Any = accepts(prefix) if accepts is not None else True
        if isinstance(accepted, str):
            raise ValueError(accepted)
        if accepted:
            file.seek(0)
            made: Any = factory(file, "")
            return made
    return None


def _upright(image: Image) -> Image:
    """The picture turned and mirrored as its EXIF orientation says."""
    from PIL.Image import Transpose

    steps = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    image.load()
    try:
        step = steps.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata: viewers show the picture as it is stored
        step = None
    if step is None:
        return image
    turned = image.transpose(step)
    turned.info = dict(image.info)
    return turned


def _scaled(image: Image, largest: int) -> Image:
    """Mode L: samples in 0..largest to 0..255, a transparent sample to white."""
    from PIL import Image as pillow

    samples = np.asarray(image)
    if samples.size and not bool(((samples >= 0) & (samples <= largest)).all()):
        raise ValueError(
            f"its samples are not in 0..{largest}, so what is white is not known; "
            "save it with 8 or 16 bits a sample"
        )
    shown = np.rint(samples.astype(np.float32) * (255 / largest)).astype(np.uint8)
    if isinstance(transparent := image.info.get("transparency"), int):
        shown[samples == transparent] = 255
    return pillow.fromarray(shown)


def _turn(pixels: int) -> AbstractContextManager[object]:
    return _large if pixels > _LARGE_PIXELS else nullcontext()


def _check_file(path: Path, found: os.stat_result, max_bytes: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise DataError(path, "this is not a regular file, so it is not opened; remove it")
    if max_bytes is not None and found.st_size > max_bytes:
        raise DataError(
            path, f"the file has {found.st_size:,} bytes, more than the {max_bytes:,} that are read"
        )
