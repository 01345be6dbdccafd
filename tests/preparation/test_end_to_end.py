"""prepare.py from a table of items and a folder of pictures to features that a model trains on."""

import json

import numpy as np
import pandas as pd
import pytest

import prepare


@pytest.fixture
def call(capsys):
    """call(*words) -> (exit status, standard error)."""

    def invoke(*words):
        try:
            status = prepare.main([str(word) for word in words])
        except SystemExit as stop:  # argparse
            status = stop.code
        return status, capsys.readouterr().err

    return invoke


def test_from_texts_and_pictures_to_training(call, toy, make_run, tmp_path, tiny_vit, mini_lm):
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    colours = ["red", "green", "blue", "white"]
    names = [f"item {number}" for number in range(64)]
    texts = [f"A {colours[number % 4]} toy, number {number}." if number % 8 else "" for number in range(64)]
    pd.DataFrame({"item_id": range(64), "original_id": names, "text": texts}).to_csv(toy / "items.csv", index=False)
    for number, name in enumerate(names[:-1]):
        Image.new("RGB", (40, 30 + number), colours[number % 4]).save(tmp_path / "pictures" / f"{name}.jpg")
    for file in ("text_feat.npy", "image_feat.npy"):
        (toy / file).unlink()

    data = ("-d", "toy", "--data_path", toy.parent)
    assert call("text", *data, "--model", mini_lm)[0] == 0
    assert call("images", *data, "--images", tmp_path / "pictures", "--model", f"transformers:{tiny_vit}")[0] == 0
    assert np.load(toy / "text_feat.npy").shape == (64, 384) and np.load(toy / "image_feat.npy").shape == (64, 16)
    assert (toy / "missing_images.csv").read_text() == "item_id,original_id,reason\n63,item 63,no image\n"
    result = json.loads((make_run("MambaRec", epochs=1, reduction_factor=2) / "result.json").read_text())
    assert result["epochs"] == 1 and 0 < result["test"]["recall@20"] <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["text"], "error: {data}/shop/items.csv does not exist"),
        (["images", "--images", "/nowhere"], "error: {data}/shop/items.csv does not exist"),
        (["text", "--batch-size", "0"], "argument --batch-size: 0; expected a number above 0"),
        (["images", "--modle", "vgg16"], "unrecognized arguments: --modle vgg16"),
    ],
)
def test_a_mistake_ends_with_one_message_and_status_2(call, tmp_path, words, message):
    status, err = call(words[0], "-d", "shop", "--data_path", tmp_path, *words[1:])
    assert status == 2 and message.format(data=tmp_path) in err and "Traceback" not in err


def test_images_asks_where_they_are(call, tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "items.csv").write_text("item_id,original_id\n0,a\n")
    status, err = call("images", "-d", "shop", "--data_path", tmp_path)
    assert status == 2 and "where are the pictures?" in err
