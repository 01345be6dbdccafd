"""Image features are what the model gives for the stored pictures, whatever the batches and stops."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from mambarec.base.errors import DataError
from mambarec.preparation.features.backbones import load_backbone
from mambarec.preparation.features.images import STORE, extract_features
from mambarec.preparation.features.items import read_items
from mambarec.preparation.features.packing import pack_images
from mambarec.preparation.features.store import ImageStore


@pytest.fixture
def shop(write_items, draw):
    """A data set of 7 items and its pictures: item 2 has none, those of 3 and 4 are broken, that of 5 has a palette."""
    folder, pictures = write_items(7), draw(0, 1, 3, 4, 5, 6)
    (pictures / "B3.png").write_bytes(b"no picture")
    whole = (pictures / "B4.png").read_bytes()
    (pictures / "B4.png").write_bytes(whole[: len(whole) // 2])
    from PIL import Image

    with Image.open(pictures / "B5.png") as picture:
        picture.quantize(8).save(pictures / "B5.png", transparency=b"\0\xff")
    return folder, pictures


def test_rows_are_what_the_model_gives_for_the_picture(shop, tiny_vit):
    from PIL import Image

    folder, pictures = shop
    extract_features(folder, f"transformers:{tiny_vit}", images=pictures)
    table, mask = np.load(folder / "image_feat.npy"), np.load(folder / "image_mask.npy")
    assert table.shape == (7, 16) and mask.tolist() == [True, True, False, False, False, True, True]
    backbone = load_backbone(f"transformers:{tiny_vit}")
    with Image.open(pictures / "B6.png") as picture:
        expected = backbone.model.model(pixel_values=backbone.prepare(picture.convert("RGB"))[None]).pooler_output
    np.testing.assert_allclose(table[6], expected[0].detach(), atol=1e-6)
    np.testing.assert_allclose(table[2], table[mask].mean(axis=0), atol=1e-6)
    missing = pd.read_csv(folder / "missing_images.csv")
    assert missing["original_id"].tolist() == ["B2", "B3", "B4"]
    assert missing["reason"].tolist()[:2] == ["no image", "unreadable: of no format that Pillow knows"]
    assert missing["reason"][2].startswith("unreadable: ")


def test_the_size_of_batches_makes_no_difference(shop, tiny_vit):
    folder, pictures = shop
    tables = []
    for batch_size in (1, 3, 64):
        extract_features(folder, f"transformers:{tiny_vit}", batch_size=batch_size, images=pictures)
        tables.append(np.load(folder / "image_feat.npy"))
    np.testing.assert_allclose(tables[0], tables[1], atol=1e-6)
    np.testing.assert_allclose(tables[0], tables[2], atol=1e-6)


def test_a_stopped_extraction_goes_on_to_the_same_bits(shop, tiny_vit, monkeypatch):
    folder, pictures = shop
    model = f"transformers:{tiny_vit}"
    extract_features(folder, model, batch_size=2, images=pictures)
    whole = (folder / "image_feat.npy").read_bytes()
    (folder / "image_feat.npy").unlink()
    forward, seen = torch.nn.Module.__call__, []

    def stopping(self, *words, **options):
        if type(self).__name__ == "_Pooled":
            seen.append(len(words[0]))
            if len(seen) == 3:  # the blank picture, a batch, and then
                raise KeyboardInterrupt
        return forward(self, *words, **options)

    with monkeypatch.context() as context:
        context.setattr(torch.nn.Module, "__call__", stopping)
        with pytest.raises(KeyboardInterrupt):
            extract_features(folder, model, batch_size=2)
        assert not (folder / "image_feat.npy").exists()
        seen[:] = [0] * 3
        extract_features(folder, model, batch_size=2)
    assert seen[3:] == [1, 1, 1]  # the blank picture, items 4 and 5, item 6; items 0 and 1 were done, 2 and 3 have none
    assert (folder / "image_feat.npy").read_bytes() == whole


def test_a_picture_of_extreme_form_is_left_out(write_items, draw, tiny_vit):
    from PIL import Image

    folder, pictures = write_items(2), draw(0)
    Image.new("RGB", (1, 500)).save(pictures / "B1.png")
    extract_features(folder, f"transformers:{tiny_vit}", images=pictures)
    assert "1,B1,unreadable: 1 x 500 pixels" in (folder / "missing_images.csv").read_text()


def test_a_picture_of_too_many_pixels_is_left_out_without_a_warning(write_items, draw, tiny_vit, recwarn):
    from PIL import Image

    folder, pictures = write_items(2), draw(0)
    Image.new("1", (10_000, 9_000)).save(pictures / "B1.png")
    extract_features(folder, f"transformers:{tiny_vit}", images=pictures)
    assert "1,B1,unreadable: 10000 x 9000 pixels" in (folder / "missing_images.csv").read_text()
    assert not [one for one in recwarn if one.category is Image.DecompressionBombWarning]


def test_no_readable_picture_is_an_error(write_items, draw, tiny_vit):
    folder, pictures = write_items(1), draw(0)
    (pictures / "B0.png").write_bytes(b"")
    with pytest.raises(DataError, match="no item has a feature"):
        extract_features(folder, f"transformers:{tiny_vit}", images=pictures)


def test_pictures_that_were_packed_anew_are_not_taken_for_the_ones_before(shop, tiny_vit, monkeypatch):
    folder, pictures = shop
    pack_images(folder, read_items(folder), pictures)
    with ImageStore(folder / STORE, read_only=True) as store:
        before = store.version
    shutil.rmtree(folder / STORE)
    pack_images(folder, read_items(folder), pictures)
    with ImageStore(folder / STORE, read_only=True) as store:
        assert store.version != before
