"""The image model without weights: what it computes by hand, what it tells apart, and that it needs nothing but Pillow."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mambarec.base.errors import ConfigError
from mambarec.preparation.features.backbones import load_backbone
from mambarec.preparation.features.images import extract_features
from mambarec.preparation.features.statistics import CELLS, DIRECTIONS, HSV_BINS, SIDE, WIDTH, describe_picture

SRC = Path(__file__).resolve().parents[2] / "src"
N_COLOURS, N_LAYOUT = int(np.prod(HSV_BINS)), CELLS**2 * 6


@pytest.fixture
def image():
    return pytest.importorskip("PIL.Image", reason="needs the extra features")


def picture_of(image, pixels):
    return image.fromarray(pixels.astype(np.uint8))


def stripes(vertical: bool) -> np.ndarray:
    """Black and white stripes of 8 pixels, (SIDE, SIDE, 3)."""
    lines = np.repeat(np.arange(SIDE // 8) % 2, 8)[None, :] * np.ones((SIDE, 1))
    return 255 * np.repeat((lines if vertical else lines.T)[..., None], 3, axis=2)


def test_a_picture_of_one_colour_has_one_bin_its_mean_and_no_edges(image):
    vector = describe_picture(image.new("RGB", (60, 40), (255, 0, 0)))
    colours, layout, textures = np.split(vector, [N_COLOURS, N_COLOURS + N_LAYOUT])
    assert vector.shape == (WIDTH,) == (352,) and vector.dtype == np.float32
    red = np.ravel_multi_index((0, HSV_BINS[1] - 1, HSV_BINS[2] - 1), HSV_BINS)  # hue 0, fully saturated and bright
    np.testing.assert_array_equal(np.flatnonzero(colours), [red])
    assert colours[red] == 1
    np.testing.assert_allclose(layout.reshape(CELLS**2, 6), [[0.25, 0, 0, 0, 0, 0]] * CELLS**2, atol=1e-6)  # 16 * 0.25 ** 2 = 1
    assert not textures.any()


def test_two_halves_share_the_bins_by_their_sizes(image):
    pixels = np.zeros((SIDE, SIDE, 3))
    pixels[:, : SIDE // 4] = 255  # a quarter white, the rest black
    colours = describe_picture(picture_of(image, pixels))[:N_COLOURS]
    np.testing.assert_allclose(np.sort(colours[colours > 0] ** 2), [0.25, 0.75], atol=1e-6)


def test_edges_have_their_direction(image):
    for vertical, direction in ((True, 0), (False, DIRECTIONS // 2)):  # brightness changes to the right, or down
        textures = describe_picture(picture_of(image, stripes(vertical)))[N_COLOURS + N_LAYOUT :].reshape(CELLS**2, DIRECTIONS)
        assert (textures[:, direction] > 0.2).all() and not np.delete(textures, direction, axis=1).any()


def test_like_pictures_are_nearer_than_others(image):
    rng = np.random.default_rng(0)
    noisy = np.clip(stripes(True) + rng.normal(0, 12, (SIDE, SIDE, 3)), 0, 255)
    one, like, turned = (describe_picture(picture_of(image, pixels)) for pixels in (stripes(True), noisy, stripes(False)))
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)  # noqa: E731
    assert cosine(one, like) > cosine(one, turned) + 0.1
    red, pink, blue = (describe_picture(image.new("RGB", (50, 50), c)) for c in ("#ff0000", "#ee1010", "#0000ff"))
    assert cosine(red, pink) > cosine(red, blue) + 0.3


def test_the_same_pixels_give_the_same_bits_whatever_the_threads_and_batches(write_items, draw):
    folder, pictures = write_items(9), draw(*range(9))
    tables = []
    for batch_size in (1, 4):
        extract_features(folder, "statistics", batch_size=batch_size, images=pictures)
        tables.append((folder / "image_feat.npy").read_bytes())
    assert tables[0] == tables[1] and np.load(folder / "image_feat.npy").shape == (9, WIDTH)


@pytest.mark.slow
def test_it_needs_no_model_library(draw, write_items):
    folder, pictures = write_items(2), draw(0, 1)
    code = f"""
import sys
for name in ("torchvision", "timm", "transformers", "sentence_transformers", "huggingface_hub"):
    sys.modules[name] = None
sys.path.insert(0, {str(SRC)!r})
from pathlib import Path
from mambarec.preparation.features.images import extract_features
extract_features(Path({str(folder)!r}), "statistics", images=Path({str(pictures)!r}))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert np.isfinite(np.load(folder / "image_feat.npy")).all()


def test_it_has_no_weights_to_name(image, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(ConfigError, match="the image model statistics has no weights; leave --weights out"):
        load_backbone("statistics", tmp_path / "weights.pth")
