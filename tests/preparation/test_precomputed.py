"""`prepare.py features`: vectors by original id become the rows of the items, with a mask, or are refused by name."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from mambarec.cli import prepare
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset
from mambarec.data.encoders import read_encoders

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(7, 5)).astype(np.float32)
IDS = ["B5", "B0", "x", "B2", "B4", "B3", "y"]  # of the items B0 … B5, B1 has no vector
PLACES = {0: 1, 2: 3, 3: 5, 4: 4, 5: 0}  # item -> row of VECTORS


@pytest.fixture
def data(write_items, configs):
    return write_items(6)


@pytest.fixture
def call(data, capsys):
    """call(*words) -> exit status, standard output, standard error of prepare.py features."""

    def invoke(*words, modality="visual"):
        given = ["features", "-d", data.name, "--data_path", data.parent, "--modality", modality, *words]
        return prepare.main([str(word) for word in given]), *capsys.readouterr()

    return invoke


@pytest.fixture
def array(tmp_path):
    """array(table, ids) -> the words that name both, in files."""

    def write(table=VECTORS, ids=IDS):
        np.save(tmp_path / "own.npy", table)
        (tmp_path / "ids.txt").write_text("".join(f"{one}\n" for one in ids))
        return ["--vectors", tmp_path / "own.npy", "--ids", tmp_path / "ids.txt"]

    return write


def check(folder, stem="image", missing="missing_images.csv"):
    table, mask = np.load(folder / f"{stem}_feat.npy"), np.load(folder / f"{stem}_mask.npy")
    assert table.dtype == np.float32 and mask.tolist() == [item in PLACES for item in range(6)]
    for item, place in PLACES.items():
        np.testing.assert_array_equal(table[item], VECTORS[place])
    np.testing.assert_allclose(table[1], VECTORS[list(PLACES.values())].mean(0), atol=1e-6)
    assert pd.read_csv(folder / missing).to_numpy().tolist() == [[1, "B1", "no vector"]]
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".") and not path.name.endswith(".lock")]


def test_an_array_and_its_ids(call, array, data, configs):
    status, out, err = call(*array())
    assert status == 0, err
    assert "ids in ids.txt that belong to no item: 2 (x, y)\n" in out and "items with a vector: 5 of 6\n" in out
    check(data)
    lines = (configs / "dataset" / "shop.yaml").read_text().splitlines()
    assert lines[1:] == ["inter_file_name: shop.inter", "vision_feature_file: image_feat.npy"]


def frame_of(kind: str) -> pd.DataFrame:
    if kind == "list":
        return pd.DataFrame({"id": IDS, "vector": VECTORS.tolist()})
    return pd.DataFrame(VECTORS, columns=[f"v{n}" for n in range(5)]).assign(id=IDS)[["id", *(f"v{n}" for n in range(5))]]


@pytest.mark.parametrize("kind", ["columns", "list"])
@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_a_table_with_a_column_for_each_number_or_one_of_lists(call, data, tmp_path, kind, ending):
    frame, path = frame_of(kind), tmp_path / f"own.{ending}"
    if ending == "parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="," if ending == "csv" else "\t")
    status, out, err = call("--vectors", path)
    assert status == 0 and "items with a vector: 5 of 6" in out, err
    check(data)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_row_numbers_of_pandas_are_no_part_of_a_vector(call, data, tmp_path, ending):
    frame = pd.DataFrame(VECTORS, columns=list("abcdefgh")[: VECTORS.shape[1]]).assign(item=IDS)
    frame = frame.sample(frac=1, random_state=1)  # so that the index is no plain numbering
    path = tmp_path / f"own.{ending}"
    frame.to_csv(path) if ending == "csv" else frame.to_parquet(path)
    status, out, _ = call("--vectors", path, "--id-column", "item")
    assert status == 0 and "an index of pandas, is not read" in out
    check(data)
    status, _, err = call("--vectors", path, "--overwrite")
    assert status == 2 and "may be the ids, or row numbers of pandas; give --id-column" in err


def test_rows_without_an_id_and_a_header_of_data_are_said(call, tmp_path):
    (tmp_path / "own.csv").write_text("id,a\n" + "".join(f"{one},1\n" for one in IDS) + ",2\n")
    status, out, _ = call("--vectors", tmp_path / "own.csv")
    assert status == 0 and "1 row left out: no item" in out
    (tmp_path / "own.csv").write_text("".join(f'{one},"[0.1, {n}.5]"\n' for n, one in enumerate(IDS)))
    status, _, err = call("--vectors", tmp_path / "own.csv", "--overwrite")
    assert status == 2 and "the first line looks like data" in err


def test_the_index_of_a_frame_is_the_column_of_ids(call, data, tmp_path):
    frame = pd.DataFrame(VECTORS, index=IDS)
    frame.to_csv(tmp_path / "own.csv")
    assert call("--vectors", tmp_path / "own.csv")[0] == 0
    check(data)
    frame.columns = frame.columns.map(str)
    frame.to_parquet(tmp_path / "own.parquet")
    assert call("--vectors", tmp_path / "own.parquet", "--overwrite")[0] == 0
    check(data)


def test_columns_are_named(call, data, tmp_path):
    frame_of("columns").assign(title="a b").set_index("title").to_csv(tmp_path / "own.csv")
    status, _, err = call("--vectors", tmp_path / "own.csv", "--id-column", "id")
    assert status == 2 and "no number, the first is line 2, of 'B5'" in err
    assert "ids are read from the column 'id', and all others are the vector, unless --id-column and --vector-columns" in err
    words = ["--id-column", "id", "--vector-columns", "v0,v1,v2,v3,v4"]
    status, _, err = call("--vectors", tmp_path / "own.csv", *words)
    assert status == 0, err
    check(data)


def test_ids_may_be_an_array_and_items_may_have_numbers_only_in_a_map(call, data, tmp_path):
    (data / "items.csv").unlink()
    (data / "i_id_mapping.csv").write_text("asin\titemID\n" + "".join(f"{10 + n}\t{n}\n" for n in range(6)))
    np.save(tmp_path / "own.npy", VECTORS)
    np.save(tmp_path / "ids.npy", np.array([15, 10, 99, 12, 14, 13, 98]))
    status, _, err = call("--vectors", tmp_path / "own.npy", "--ids", tmp_path / "ids.npy", modality="taste")
    assert status == 0, err
    table = np.load(data / "taste_feat.npy")
    np.testing.assert_array_equal(table[[0, 2, 3, 4, 5]], VECTORS[[1, 3, 5, 4, 0]])


def test_a_model_reads_them(call, array, data):
    rows = [f"{user}\t{item}\t{(user + item) % 3}" for user in range(6) for item in range(6)]
    (data / "shop.inter").write_text("\n".join(["userID\titemID\tx_label", *rows]) + "\n")
    assert call(*array(), modality="audio")[0] == 0
    dataset = RecDataset(Config("VBPR", "shop", {"data_path": str(data.parent)}))
    dataset.check_features()
    assert dataset.modalities == ["audio"] and (~dataset.masks()["audio"]).nonzero()[0].tolist() == [1]


def test_an_encoder_of_earlier_features_is_forgotten(call, array, data):
    encoders = {kind: {"model": "m", "weights": "0"} for kind in ("image", "text")}
    (data / "report.json").write_text(json.dumps({"kept": 1, "encoders": encoders}))
    assert call(*array())[0] == 0
    assert list(read_encoders(data)) == ["text"] and json.loads((data / "report.json").read_text())["kept"] == 1


def changed(place, value):
    table = VECTORS.copy()
    table[place] = value
    return table


@pytest.mark.parametrize(
    ("table", "ids", "message"),
    [
        (VECTORS, IDS[:-1], "ids.txt has 6 ids, and"),
        (VECTORS, ["id", *IDS], "expected an id for each row. Its first line must be an id, no header"),
        (VECTORS, ["B0", "B0", *IDS[2:]], "ids.txt has the id 'B0' twice, in rows 1 and 2, with different vectors"),
        (
            changed(3, np.nan),
            IDS,
            "1 vector of items with NaN, Inf or a number too large for float32, the first is that of 'B2', number 4 in",
        ),
        (
            changed([0, 3], np.inf),
            IDS,
            "2 vectors of items with NaN, Inf or a number too large for float32, the first is that of 'B2'",
        ),
        (VECTORS[0], IDS, "expected a two-dimensional array of numbers, found float32 (5,)"),
        (VECTORS.astype(str), IDS, "expected a two-dimensional array of numbers, found <U"),
        (VECTORS, [f"z{n}" for n in range(7)], "ids.txt has 0 of the 6 items of"),
    ],
)
def test_an_array_that_cannot_be_used_is_an_error_and_writes_nothing(call, array, data, table, ids, message):
    status, _, err = call(*array(table, ids))
    assert status == 2 and message in err
    assert not (data / "image_feat.npy").exists() and not (data / "image_mask.npy").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,a,b\nB0,1,2\nB2,1,\n",
            "1 row with a place that is empty, NaN, Inf or no number, the first is line 3, of 'B2'",
        ),
        ("id,a,b\nB0,1,nan\nB2,x,1\n", "2 rows with a place that is empty"),
        ("id,v\nB0,1 2\nB2,1 2 3\nB3,1 2\n", "own.csv, line 3: the vector has 3 numbers; expected 2, as in others"),
        ("id,a\nB0,1\nB2,1,2\n", "own.csv: 1 of 2 lines cannot be used"),
        ("B0,0.5,0.25\nB2,0.1,0.2\n", "the first line looks like data"),
        ("id\nB0\nB2\n", "own.csv has one column, 'id'"),
        ("id,a\nB0,1\nB0,2\nB2,1\nB3,1\n", "own.csv has the id 'B0' twice, in rows 1 and 2, with different vectors"),
        ("id a b\nB0 1 2\n", "own.csv has one column, 'id a b'; expected a column of ids"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error_and_writes_nothing(call, data, tmp_path, text, message):
    (tmp_path / "own.csv").write_text(text)
    status, _, err = call("--vectors", tmp_path / "own.csv")
    assert status == 2 and message in err
    assert not (data / "image_feat.npy").exists()


@pytest.mark.parametrize("write", [np.savez, lambda path, table: torch.save(torch.from_numpy(table), path)])
def test_an_archive_of_arrays_is_named_as_such(call, data, tmp_path, write):
    write(tmp_path / "own.npz", VECTORS)
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    status, _, err = call("--vectors", tmp_path / "own.npz", "--ids", tmp_path / "ids.txt")
    assert status == 2 and "own.npz is a zip archive" in err


def test_what_is_there_is_replaced_only_if_it_is_said(call, array, data, configs):
    assert call(*array(), modality="text")[0] == 0
    status, _, err = call(*array(), modality="text")
    assert status == 2 and "text_feat.npy exists already; --overwrite replaces it and its mask" in err
    assert call(*array(), "--overwrite", modality="text")[0] == 0
    check(data, "text", "missing_text.csv")
    (configs / "dataset" / "shop.yaml").write_text("inter_file_name: shop.inter\nvisual_feature_file: clip.npy\n")
    status, _, err = call(*array())
    assert status == 2 and "has the line 'visual_feature_file: clip.npy', and this command writes image_feat.npy" in err
    (configs / "dataset" / "shop.yaml").write_text("inter_file_name: shop.inter\ntext_feature_file: audio_feat.npy\n")
    status, _, err = call(*array(), modality="audio")
    assert status == 2 and "names audio_feat.npy as text_feature_file, another modality" in err


def test_a_new_folder_says_which_features_are_gone(call, array, data, tmp_path, caplog):
    assert call(*array())[0] == 0
    rows = [f"u{user},B{item}" for user in range(6) for item in range(6)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item", *rows]) + "\n")
    words = ["-d", data.name, "--data_path", data.parent, "--interactions", tmp_path / "log.csv", "--threads", 1, "--overwrite"]
    words += ["--user-column", "user", "--item-column", "item"]
    assert prepare.main([str(word) for word in ("table", *words)]) == 0
    assert "image_feat.npy of the old folder: removed with it, since the items have new numbers" in caplog.text
    assert "`mambarec prepare features`" in caplog.text
    assert call(*array())[0] == 0


def test_options_that_do_not_fit_the_file_are_refused(call, array, tmp_path):
    words = array()
    status, _, err = call(*words[:2])
    assert status == 2 and "own.npy has no ids" in err and "--ids" in err
    assert "are for tables" in call(*words, "--id-column", "id")[2]
    frame_of("columns").to_csv(tmp_path / "own.csv", index=False)
    assert "is for an .npy array" in call("--vectors", tmp_path / "own.csv", *words[2:])[2]
    assert "does not exist" in call("--vectors", tmp_path / "none.csv")[2]
    with pytest.raises(SystemExit):
        call(*words, modality="a/b")
