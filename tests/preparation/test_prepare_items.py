"""`prepare.py items`: the same text gets the row that it has in the data set, and another encoder is refused by name."""

import json

import numpy as np
import pandas as pd
import pytest

from mambarec.cli import prepare
from mambarec.data.encoders import read_encoders
from mambarec.preparation.features.images import extract_features
from mambarec.preparation.features.text import encode_texts

TEXTS = ["A red wooden toy train for toddlers.", "Wooden railway toy, red.", "Stainless steel cooking pot"]


@pytest.fixture
def data(write_items, mini_lm):
    folder = write_items(3, text=TEXTS)
    encode_texts(folder, str(mini_lm))
    return folder


@pytest.fixture
def call(data, tmp_path, capsys):
    """call(rows, *options) -> exit status, the folder that was asked for, what was said."""

    def invoke(rows, *options):
        pd.DataFrame(rows, columns=["original_id", "text"]).to_csv(tmp_path / "new.csv", index=False)
        words = ["items", "-d", data.name, "--data_path", data.parent, "--items", tmp_path / "new.csv"]
        status = prepare.main([str(word) for word in [*words, "--output", tmp_path / "new", *options]])
        return status, tmp_path / "new", capsys.readouterr().err

    return invoke


def test_a_new_item_is_encoded_as_those_of_the_data_set(call, data):
    status, folder, _ = call([("n1", TEXTS[2]), ("n2", "")])
    assert status == 0
    table, known = np.load(folder / "text_feat.npy"), np.load(data / "text_feat.npy")
    np.testing.assert_allclose(table[0], known[2], atol=1e-5)
    assert np.load(folder / "text_mask.npy").tolist() == [True, False]
    assert pd.read_csv(folder / "items.csv")["original_id"].tolist() == ["n1", "n2"]
    assert read_encoders(folder) == read_encoders(data) != {}


def test_what_report_json_said_before_stays(data):
    report = json.loads((data / "report.json").read_text())
    (data / "report.json").write_text(json.dumps({**report, "kept": {"users": 3}}))
    (data / "text_feat.npy").unlink()
    encode_texts(data, report["encoders"]["text"]["model"])
    assert json.loads((data / "report.json").read_text())["kept"] == {"users": 3}


@pytest.mark.parametrize(("name", "value"), [("--image-model", "statistics"), ("--weights", "x.pth"), ("--images", "folder")])
def test_an_option_of_an_encoder_that_the_data_lack_is_refused(call, name, value):
    status, folder, err = call([("n1", TEXTS[2])], name, value)
    assert status == 2 and f"{name} {value}: report.json of" in err and "names no image encoder, but one for text" in err
    assert not folder.exists()


def test_another_encoder_is_refused_by_name_and_nothing_is_written(call, mini_lm, tmp_path):
    from sentence_transformers import SentenceTransformer  # takes seconds, also where this test is not chosen

    encoder = SentenceTransformer(str(mini_lm), device="cpu")
    next(encoder.parameters()).data[0] += 1
    encoder.save(str(tmp_path / "other"))
    status, folder, said = call([("n1", "a text")], "--text-model", tmp_path / "other")
    assert status == 2 and not folder.exists()
    assert f"are of {mini_lm} (weights " in said and f"this is {tmp_path / 'other'} (weights " in said


def test_a_data_set_that_names_no_encoder_and_a_table_without_rows_are_refused(call, data):
    status, folder, said = call([])
    assert status == 2 and "has a header but no rows" in said and not folder.exists()
    (data / "report.json").unlink()
    status, folder, said = call([("n1", "a text")])
    assert status == 2 and "names no encoder" in said and not folder.exists()


def test_pictures_are_encoded_by_the_model_of_the_data_set(write_items, draw, tiny_vit, tmp_path, capsys):
    data, pictures = write_items(3), draw(0, 1, 2)
    extract_features(data, f"transformers:{tiny_vit}", images=pictures)
    for item in range(3):
        (pictures / f"n{item}.png").write_bytes((pictures / f"B{item}.png").read_bytes())
    pd.DataFrame({"original_id": ["n2", "n9"]}).to_csv(tmp_path / "new.csv", index=False)
    words = [
        "items",
        "-d",
        data.name,
        "--data_path",
        data.parent,
        "--items",
        tmp_path / "new.csv",
        "--output",
        tmp_path / "new",
    ]
    assert prepare.main([str(word) for word in words]) == 2
    assert "where are the pictures?" in capsys.readouterr().err and not (tmp_path / "new").exists()
    assert prepare.main([str(word) for word in [*words, "--images", pictures]]) == 0
    table, known = np.load(tmp_path / "new" / "image_feat.npy"), np.load(data / "image_feat.npy")
    np.testing.assert_allclose(table[0], known[2], atol=1e-5)
    assert np.load(tmp_path / "new" / "image_mask.npy").tolist() == [True, False]
