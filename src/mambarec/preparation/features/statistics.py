"""The image model `statistics`: colours and textures of a picture, computed without weights.

Three descriptions stand side by side, each of length 1, so that each weighs the same in a cosine:

colours (128): the shares of hue, saturation and brightness, in 8 x 4 x 4 bins (Swain and Ballard, IJCV 1991);
layout (96): the mean and the deviation of red, green and blue in each of 4 x 4 cells (Stricker and Orengo, SPIE 1995);
textures (128): the directions of the edges in each of 4 x 4 cells, in 8 bins (Dalal and Triggs, CVPR 2005).

They tell a red shoe from a blue one and stripes from dots. They do not know what a shoe is.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 128  # pixels; the picture is resized to a square of this side
CELLS = 4  # in each direction
HSV_BINS = (8, 4, 4)
DIRECTIONS = 8
WIDTH = int(np.prod(HSV_BINS)) + CELLS**2 * 6 + CELLS**2 * DIRECTIONS  # 352


def describe_picture(picture: "Image") -> np.ndarray:
    """The description of an RGB picture, float32 (352,). The same pixels give the same numbers."""
    from PIL.Image import Resampling

    picture = picture.resize((SIDE, SIDE), Resampling.BILINEAR)
    rgb = np.asarray(picture, dtype=np.float64) / 255  # (SIDE, SIDE, 3)
    hsv = np.asarray(picture.convert("HSV"), dtype=np.int64)
    parts = (_colours(hsv), _layout(rgb), _textures(rgb.mean(axis=2)))
    return np.concatenate([_unit(part) for part in parts]).astype(np.float32)


def _colours(hsv: np.ndarray) -> np.ndarray:
    """The square roots of the shares of the pixels in each bin (128,); hsv (SIDE, SIDE, 3), 0 … 255.

    The hue of grey and the saturation of black are chance, so they count as 0.
    """
    hue, saturation, value = (hsv[..., axis] * n // 256 for axis, n in enumerate(HSV_BINS))
    saturation = np.where(value == 0, 0, saturation)
    hue = np.where(saturation == 0, 0, hue)
    bins = np.ravel_multi_index((hue, saturation, value), HSV_BINS)
    return np.sqrt(np.bincount(bins.ravel(), minlength=int(np.prod(HSV_BINS))) / bins.size)


def _layout(rgb: np.ndarray) -> np.ndarray:
    """Mean and deviation of each colour in each cell (96,); rgb (SIDE, SIDE, 3), 0 … 1."""
    cells = _cells(rgb)  # (CELLS ** 2, pixels, 3)
    return np.concatenate([cells.mean(axis=1), cells.std(axis=1)], axis=1).ravel()


def _textures(grey: np.ndarray) -> np.ndarray:
    """The square roots of the strengths of edges by direction in each cell (128,); grey (SIDE, SIDE), 0 … 1."""
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    angle = np.arctan2(down, right) % np.pi  # an edge has no sense
    direction = np.minimum((angle * DIRECTIONS / np.pi).astype(np.int64), DIRECTIONS - 1)
    per_direction = np.where(direction[..., None] == np.arange(DIRECTIONS), strength[..., None], 0.0)
    return np.sqrt(_cells(per_direction).mean(axis=1)).ravel()


def _cells(values: np.ndarray) -> np.ndarray:
    """Values (SIDE, SIDE, n) by cell: (CELLS ** 2, pixels of a cell, n)."""
    side, n = SIDE // CELLS, values.shape[2]
    return values.reshape(CELLS, side, CELLS, side, n).swapaxes(1, 2).reshape(CELLS**2, side**2, n)


def _unit(vector: np.ndarray) -> np.ndarray:
    """A vector of length 1, or of zeros where it is nothing else: a picture of one colour has no edges."""
    length = np.linalg.norm(vector)
    return vector / length if length else vector
