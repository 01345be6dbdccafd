"""Pictures in files: which files are pictures, and how one looks at a picture."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset(".avif .bmp .gif .jfif .jpeg .jpg .png .tif .tiff .webp".split())


def upright_rgb(picture: "Image.Image") -> "Image.Image":
    """A picture as one sees it: turned as its EXIF data say, of an animation the first frame, what is transparent on white.

    Sixteen bits become eight, black and white staying what they are.
    """
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        picture = _eight_bits(picture)
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _eight_bits(picture: "Image.Image") -> "Image.Image":
    """Whole numbers up to 65535, or fractions up to 1, become grey levels; others are stretched to the whole range."""
    from PIL import Image

    values = np.asarray(picture, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("NaN or Inf among its pixels")
    low, high = values.min(), values.max()
    is_fraction = picture.mode == "F" and high <= 1
    if low < 0 or high > 65535:
        values, top = values - low, high - low
    elif is_fraction:
        top = 1
    else:
        top = 255 if picture.mode != "I;16" and high <= 255 else 65535
    return Image.fromarray(np.rint(values * (255 / (top or 1))).astype(np.uint8))
