"""prepare.py from tables and a folder of pictures to features that a model trains on."""

import numpy as np
import pandas as pd
import pytest

from mambarec.cli import prepare
from mambarec.config.configurator import Config
from mambarec.running.run import run


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


def test_from_tables_and_pictures_to_training(call, configs, tmp_path, tiny_vit, mini_lm):
    from PIL import Image

    colours = ["red", "green", "blue", "white"]
    names = [f"toy {number}" for number in range(40)]
    texts = [f"A {colours[number % 4]} toy, number {number}." if number % 8 else "" for number in range(40)]
    pd.DataFrame({"toy": names, "about": texts}).to_csv(tmp_path / "toys.csv", index=False)
    (tmp_path / "pictures").mkdir()
    for number, name in enumerate(names):
        if number != 7:
            Image.new("RGB", (40, 30 + number), colours[number % 4]).save(tmp_path / "pictures" / f"{name}.jpg")
    rng = np.random.default_rng(0)
    visits = [(f"user {user}", names[item]) for user in range(40) for item in rng.permutation(40)[:12]]
    pd.DataFrame(visits, columns=["user", "toy"]).to_csv(tmp_path / "visits.csv", index=False)

    data = ("-d", "toys", "--data_path", tmp_path / "data")
    tables = ("--interactions", tmp_path / "visits.csv", "--user-column", "user", "--item-column", "toy")
    assert call("table", *data, *tables, "--items", tmp_path / "toys.csv", "--text-columns", "about")[0] == 0
    assert call("text", *data, "--model", mini_lm)[0] == 0
    assert call("images", *data, "--images", tmp_path / "pictures", "--model", f"transformers:{tiny_vit}")[0] == 0
    folder = tmp_path / "data" / "toys"
    items = pd.read_csv(folder / "items.csv", keep_default_na=False)
    assert np.load(folder / "text_feat.npy").shape == (40, 384) and np.load(folder / "image_feat.npy").shape == (40, 16)
    np.testing.assert_array_equal(np.load(folder / "text_mask.npy"), items["text"] != "")
    missing = pd.read_csv(folder / "missing_images.csv")
    assert missing[["original_id", "reason"]].to_numpy().tolist() == [["toy 7", "no image"]]
    assert call("check", *data)[0] == 0
    places = {"data_path": str(tmp_path / "data"), "results_dir": str(tmp_path / "results"), "use_gpu": False}
    result = run(Config("MambaRec", "toys", {**places, "epochs": 1, "threads": 1, "embedding_size": 8, "reduction_factor": 2}))
    assert result["epochs"] == 1 and 0 < result["test"]["recall@20"] <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["text"], "error: {data}/shop/items.csv does not exist"),
        (["images", "--images", "/nowhere"], "error: {data}/shop/items.csv does not exist"),
        (["text", "--batch-size", "0"], "argument --batch-size: 0; expected a whole number above 0"),
        (["images", "--modle", "vgg16"], "unrecognized arguments: --modle vgg16"),
    ],
)
def test_a_mistake_ends_with_one_message_and_status_2(call, tmp_path, words, message):
    (tmp_path / "shop").mkdir()
    status, err = call(words[0], "-d", "shop", "--data_path", tmp_path, *words[1:])
    assert status == 2 and message.format(data=tmp_path) in err and "Traceback" not in err


def test_images_asks_where_they_are(call, tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "items.csv").write_text("item_id,original_id\n0,a\n")
    status, err = call("images", "-d", "shop", "--data_path", tmp_path)
    assert status == 2 and "where are the pictures?" in err
