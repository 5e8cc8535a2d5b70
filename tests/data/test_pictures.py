"""Every mode of a picture as a viewer shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from odmt_fast.data import DataError, ImageSource
from odmt_fast.data.pictures import PictureLimits


def shown(path: Path, image: Image.Image, name: str = "i.png", **options: Any) -> np.ndarray:
    image.save(path / name, **options)
    loaded = ImageSource(path / name).load()
    assert loaded.mode == "RGB"
    return np.asarray(loaded)


@pytest.mark.parametrize("name", ["i.png", "i.tiff"])
def test_sixteen_bit_gray_is_scaled_by_its_depth(tmp_path: Path, name: str) -> None:
    gray = np.array([[0, 257, 0x8080, 65535]], np.uint16)
    assert shown(tmp_path, Image.fromarray(gray), name)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_float_samples_are_shown_from_black_to_white(tmp_path: Path) -> None:
    gray = np.array([[0, 0.5, 1]], np.float32)
    assert shown(tmp_path, Image.fromarray(gray), "i.tiff")[0, :, 0].tolist() == [0, 128, 255]
    Image.fromarray(gray * 900).save(tmp_path / "wide.tiff")
    with pytest.raises(DataError, match="what is white is not known; save it with 8 or 16 bits"):
        ImageSource(tmp_path / "wide.tiff").load()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB", "1"])
def test_transparency_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    options: dict[str, Any] = {}
    if mode in ("L", "1", "RGB"):  # a colour that is declared transparent
        image = image.convert("RGB")
        options = {"transparency": (0, 0, 0) if mode == "RGB" else 0}
    pixels = shown(tmp_path, image.convert(mode), **options)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    if mode in ("RGBA", "P", "RGB"):
        assert pixels[0, 1].tolist() == [255, 0, 0]


def test_half_transparent_black_is_gray(tmp_path: Path) -> None:
    pixels = shown(tmp_path, Image.new("RGBA", (1, 1), (0, 0, 0, 128)))
    assert pixels[0, 0].tolist() == [127, 127, 127]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_stands_upright(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    picture = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = shown(tmp_path, picture, exif=exif)
    with Image.open(tmp_path / "i.png") as stored:
        assert np.array_equal(pixels, np.asarray(ImageOps.exif_transpose(stored)))
    assert pixels.shape[:2] == ((2, 3) if orientation < 5 else (3, 2))


def test_cmyk_and_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    cyan = shown(tmp_path, Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "i.jpg")
    assert abs(cyan.astype(int) - [0, 255, 255]).max() < 6
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    red = shown(tmp_path, frames[0], "i.gif", save_all=True, append_images=frames[1:])
    assert red[0, 0].tolist() == [255, 0, 0]


def test_limits_are_configurable(tmp_path: Path) -> None:
    Image.new("L", (20, 10)).save(tmp_path / "i.png")
    source = ImageSource(tmp_path / "i.png")
    assert source.load(limits=PictureLimits(max_pixels=200)).size == (20, 10)
    with pytest.raises(DataError, match="20 x 10 pixels, more than the 199"):
        source.load(limits=PictureLimits(max_pixels=199))
    with pytest.raises(DataError, match="more than the 9 that are read"):
        source.load(limits=PictureLimits(max_bytes=9))
