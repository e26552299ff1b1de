"""Images of every mode of Pillow as what networks see: upright, RGB, 8 bits a channel."""

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from goldnas.errors import DataError

BACKGROUND = (255, 255, 255)
"""What shows through where an image is transparent: white, as on a page."""

# Those of EXIF that turn an image by a quarter.
_QUARTER_TURNS = (5, 6, 7, 8)

# Pillow opens these with 16 bits of a pixel widened to 32.
_WIDENED = ("PNG", "PPM")

# Modes that Pillow takes to RGBA by way of another.
_BETWEEN = {"La": "LA", "RGBa": "RGBA"}


def find_upright_size(image: Image.Image) -> tuple[int, int]:
    """``(H, W)`` of an image as its EXIF orientation shows it; nothing is decoded."""
    turned = image.getexif().get(ExifTags.Base.Orientation) in _QUARTER_TURNS
    return image.size if turned else (image.height, image.width)


def read_rgb(image: Image.Image) -> Image.Image:
    """An image as it is looked at, in RGB.

    Its EXIF orientation is applied. What is transparent shows :data:`BACKGROUND`. 16 bits are
    scaled to 8, and floats from 0 to 1 likewise.

    Raises:
        DataError: If its values have no range that is known, or Pillow has no way to RGB.
    """
    widened = image.mode == "I" and image.format in _WIDENED
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16") or widened:
        return _grey(np.asarray(image) / 65_535)
    if image.mode in ("I", "F"):
        return _grey(_shares(image))
    if image.mode == "LAB":
        return _from_lab(image)
    if image.has_transparency_data:
        return _on_background(image)
    try:
        return image.convert("RGB")
    except ValueError:
        raise DataError(
            f"its mode is {image.mode}, which Pillow cannot convert to RGB; save it as RGB"
        ) from None


def _grey(shares: np.ndarray) -> Image.Image:
    """Values from 0 to 1 as grey."""
    return Image.fromarray((255 * shares).round().astype(np.uint8)).convert("RGB")


def _shares(image: Image.Image) -> np.ndarray:
    """Values from 0 to 1, of floats; of whole numbers of 32 bits nobody knows the range."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F" and low >= 0 and high <= 1:  # false of NaN
        return values
    kind = "floats" if image.mode == "F" else "whole numbers of 32 bits"
    raise DataError(
        f"its pixels are {kind} from {low:g} to {high:g}, so the value of white is not known; "
        "save it with 8 or 16 bits, or as floats from 0 to 1"
    )


def _from_lab(image: Image.Image) -> Image.Image:
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    found = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    assert found is not None  # only in place there is none
    return found


def _on_background(image: Image.Image) -> Image.Image:
    image = image.convert(_BETWEEN.get(image.mode, image.mode)).convert("RGBA")
    page = Image.new("RGBA", image.size, BACKGROUND)
    return Image.alpha_composite(page, image).convert("RGB")
