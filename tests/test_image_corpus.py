"""Every mode of Pillow in every type of file that it writes: read right, or refused by name."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from goldnas.data.datasets import load_dataset
from goldnas.data.examples import ImageData
from goldnas.data.files import IMAGE_EXTENSIONS
from goldnas.errors import DataError, GoldnasWarning

SIDE = 16
_ROW, _COLUMN = np.mgrid[0:SIDE, 0:SIDE] * 17
COLOURS = np.stack([_COLUMN, _ROW, 255 - _COLUMN], -1).astype(np.uint8)
"""Red grows to the right, green downwards, and blue goes as red comes."""
PALE = COLOURS // 4 + 96
GREY = _COLUMN.astype(np.uint8)
CLEAR = (255 - _ROW).astype(np.uint8)
"""Opaque above, transparent below."""


def on_white(pixels: np.ndarray) -> np.ndarray:
    """What is seen of pixels where CLEAR lets the page through."""
    opacity = CLEAR[..., None] / 255
    return pixels.reshape(SIDE, SIDE, -1) * opacity + 255 * (1 - opacity)


def with_opacity(mode: str) -> Image.Image:
    image = Image.fromarray(GREY if mode == "LA" else COLOURS).convert(mode)
    image.putalpha(Image.fromarray(CLEAR))
    return image


def of_palette(mode: str) -> Image.Image:
    """Each pixel has the colour of its place."""
    image = Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE))
    image.putpalette(COLOURS.tobytes())
    if mode == "PA":
        image = image.convert(mode)
        image.putalpha(Image.fromarray(CLEAR))
    return image


def of_numbers(mode: str) -> Image.Image:
    if mode == "F":
        return Image.fromarray((GREY / 255).astype(np.float32))
    if mode == "I":
        return Image.fromarray(GREY.astype(np.int32) * 257)
    order = ">" if mode == "I;16B" or (mode == "I;16N" and sys.byteorder == "big") else "<"
    words = (GREY.astype(np.uint16) * 257).astype(f"{order}u2")
    return Image.frombytes(mode, (SIDE, SIDE), words.tobytes())


def converted(mode: str) -> Image.Image:
    return Image.fromarray(COLOURS).convert(mode)


TWO = (255 * (GREY > 127)).astype(np.uint8)

MODES: dict[str, tuple[Callable[[str], Image.Image], np.ndarray]] = {
    "1": (lambda mode: Image.fromarray(TWO).convert(mode), TWO),
    "L": (lambda mode: Image.fromarray(GREY), GREY),
    "LA": (with_opacity, GREY),
    "La": (lambda mode: with_opacity("LA").convert(mode), GREY),
    "P": (of_palette, COLOURS),
    "PA": (of_palette, COLOURS),
    "RGB": (converted, COLOURS),
    "RGBX": (converted, COLOURS),
    "RGBA": (with_opacity, COLOURS),
    "RGBa": (lambda mode: with_opacity("RGBA").convert(mode), COLOURS),
    "CMYK": (converted, COLOURS),
    "YCbCr": (converted, COLOURS),
    "HSV": (converted, COLOURS),
    "LAB": (lambda mode: Image.fromarray(PALE).convert(mode), PALE),
    "I": (of_numbers, GREY),
    "F": (of_numbers, GREY),
    "I;16": (of_numbers, GREY),
    "I;16L": (of_numbers, GREY),
    "I;16B": (of_numbers, GREY),
    "I;16N": (of_numbers, GREY),
}
"""By mode of Pillow: an image in it, and its colours or greys."""

AS_GOOD_AS_CAN_BE: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "JPEG": {"quality": 100, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
}
OFF_BY = {"AVIF": 3, "JPEG": 4, "YCbCr": 5, "HSV": 7, "LAB": 5, "RGBa": 2, "La": 2}
"""By format, and by mode that a ramp of RGB is rounded in."""

Image.init()
EXTENSIONS = {
    format: sorted(e for e, f in Image.registered_extensions().items() if f == format)
    for format in Image.OPEN
}
READ = sorted(f for f, names in EXTENSIONS.items() if IMAGE_EXTENSIONS.intersection(names))


def save(image: Image.Image, path: Path, format: str, **settings: Any) -> bool:
    """Save an image, if its format has the mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        image.save(path, format, **AS_GOOD_AS_CAN_BE.get(format, {}), **settings)
    except Exception:  # Pillow has several kinds
        path.unlink(missing_ok=True)
        return False
    return True


def load(root: Path) -> np.ndarray:
    """``(N, H, W, 3)``: the images of ``root/train/a``, by name, as a search gets them."""
    others = Image.fromarray(GREY.T)
    for place in ("train/b/0.png", "test/a/0.png", "test/b/0.png"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        others.save(root / place)
    Image.fromarray(GREY).save(root / "test/a/0.png")
    train = load_dataset(str(root)).train
    assert isinstance(train, ImageData)
    (of_a,) = (train.labels == 0).nonzero().T
    return train.images[of_a].permute(0, 2, 3, 1).numpy().astype(float)


def expect(path: Path, mode: str) -> np.ndarray:
    """What is seen of an image that was saved in a mode."""
    make, colours = MODES[mode]
    with Image.open(path) as saved:
        is_clear, now = saved.has_transparency_data, saved.mode
    if mode[0] in "IF" and now[0] not in "IF":  # Pillow saved it in 8 bits, and clipped
        colours = np.asarray(make(mode)).clip(0, 255).astype(np.uint8)
    pixels = colours.reshape(SIDE, SIDE, -1) * np.ones(3)
    return on_white(pixels) if is_clear else pixels


@pytest.mark.parametrize("format", READ)
def test_every_mode_that_a_format_has_is_read_as_it_looks(tmp_path: Path, format: str) -> None:
    folder = tmp_path / "train" / "a"
    ending = EXTENSIONS[format][-1]
    saved = [
        mode
        for mode, (make, _) in MODES.items()
        if (format, mode) not in REFUSED | OF_FEW_COLOURS
        and save(make(mode), folder / f"{mode.replace(';', '_')}{ending}", format)
    ]
    assert saved
    # In the order of the names of files.
    saved.sort(key=lambda mode: f"{mode.replace(';', '_')}{ending}")
    images = load(tmp_path)
    for mode, image, path in zip(saved, images, sorted(folder.iterdir()), strict=True):
        off_by = OFF_BY.get(format, 0) + OFF_BY.get(mode, 0.5)
        assert abs(image - expect(path, mode)).max() <= off_by, (mode, path.name)


REFUSED = {("TIFF", "I")}
"""32 bits, of which nobody knows what is white."""
OF_FEW_COLOURS = {("GIF", "RGBA")}
"""Transparent or not, there; below."""


def test_whole_numbers_of_32_bits_are_refused_by_name(tmp_path: Path) -> None:
    assert save(of_numbers("I"), tmp_path / "train" / "a" / "deep.tif", "TIFF")
    assert "deep.tif: its pixels are whole numbers of 32 bits" in refusal(tmp_path)


@pytest.mark.parametrize("format", READ)
def test_every_ending_of_a_format_is_read(tmp_path: Path, format: str) -> None:
    for ending in EXTENSIONS[format]:
        assert save(Image.fromarray(GREY), tmp_path / "train" / "a" / f"0{ending}", format)
    images = load(tmp_path)
    assert len(images) == len(EXTENSIONS[format])
    assert abs(images - GREY[..., None]).max() <= OFF_BY.get(format, 0)


def test_other_formats_are_counted_by_name(tmp_path: Path) -> None:
    others = sorted(
        (format, EXTENSIONS[format][0])
        for format in Image.OPEN
        if format not in READ and format in Image.SAVE and EXTENSIONS[format]
    )
    folder = tmp_path / "train" / "a"
    kept = [
        ending
        for format, ending in others
        if any(save(make(m), folder / f"0{ending}", format) for m, (make, _) in MODES.items())
    ]
    assert len(kept) > 5
    Image.fromarray(GREY).save(folder / "0.png")
    with pytest.warns(GoldnasWarning) as told:
        assert len(load(tmp_path)) == 1
    (text,) = {text for one in told if "goldnas does not read" in (text := str(one.message))}
    assert "\n" not in text
    for ending in kept:
        assert f"1 of a format that goldnas does not read, {ending} (0{ending})" in text


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("format", READ)
def test_a_file_that_is_cut_off_anywhere_is_refused_by_name_or_read_whole(
    tmp_path: Path, format: str
) -> None:
    path = tmp_path / "train" / "a" / f"cut{EXTENSIONS[format][0]}"
    assert save(converted("RGB"), path, format)
    whole, content = load(tmp_path), path.read_bytes()
    for share in (0, 0.02, 0.3, 0.6, 0.9, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        try:
            images = load(tmp_path)
        except DataError:
            assert path.name in refusal(tmp_path)
        else:
            assert share > 0.5
            assert (images == whole).all(), share


@pytest.mark.parametrize("format", READ)
def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path, format: str) -> None:
    path = tmp_path / "train" / "a" / f"odd{EXTENSIONS[format][0]}"
    path.parent.mkdir(parents=True)
    for content in (b"\0" * 100, b"<html>" * 50, bytes(range(256)) * 4):
        path.write_bytes(content)
        assert f"cannot read the image {path}" in refusal(tmp_path)


@pytest.mark.parametrize("format", ["AVIF", "GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_pictures_the_first_is_read(tmp_path: Path, format: str) -> None:
    if format not in READ:
        pytest.skip(f"this Pillow reads no {format}")
    path = tmp_path / "train" / "a" / f"moving{EXTENSIONS[format][0]}"
    first, *later = (Image.fromarray(GREY // n) for n in (1, 2, 3))
    assert save(first, path, format, save_all=True, append_images=later)
    with Image.open(path) as saved:
        assert saved.n_frames == 3
    assert abs(load(tmp_path)[0] - GREY[..., None]).max() <= OFF_BY.get(format, 0)


@pytest.mark.parametrize("format", ["AVIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_a_turned_camera_is_turned_back_in_every_format(tmp_path: Path, format: str) -> None:
    if format not in READ:
        pytest.skip(f"this Pillow reads no {format}")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path / "train" / "a" / f"turned{EXTENSIONS[format][0]}"
    assert save(converted("RGB"), path, format, exif=exif)
    assert abs(load(tmp_path)[0] - np.rot90(COLOURS, -1)).max() <= OFF_BY.get(format, 0)


@pytest.mark.parametrize("format", ["GIF", "PNG", "TGA", "WEBP"])
def test_what_a_palette_says_is_transparent_is_white(tmp_path: Path, format: str) -> None:
    drawn = converted("RGBA")
    drawn.putalpha(Image.fromarray(TWO))
    path = tmp_path / "train" / "a" / f"0{EXTENSIONS[format][0]}"
    if format == "PNG":  # a palette with an opacity for each colour
        image = of_palette("P")
        assert save(image, path, format, transparency=TWO.tobytes())
    else:
        assert save(drawn, path, format)
    expected = np.where(TWO[..., None] > 0, COLOURS, 255)
    # Pillow finds 255 colours for 256.
    assert abs(load(tmp_path)[0] - expected).max() <= (10 if format == "GIF" else 0)
