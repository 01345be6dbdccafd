"""`prepare mmssl`: the split and the features of a folder in the layout of MMSSL, as they stand."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from mambarec.cli import prepare
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset
from mambarec.running.run import run

PAIRS = {
    "train": [(u, i) for u in range(12) for i in range(10) if (u + i) % 3 and (u * i) % 5 != 4],
    "val": [(u, 10 + u % 2) for u in range(12)],
    "test": [(u, 12) for u in range(12)],
}
NAMES = {
    "matrix": {split: f"{split}_mat" for split in PAIRS},
    "diffmm": {"train": "trnMat.pkl", "val": "valMat.pkl", "test": "tstMat.pkl"},
    "json": {split: f"{split}.json" for split in PAIRS},
}


@pytest.fixture
def call(configs, tmp_path, capsys):
    """call(*words) -> (exit status, standard output, standard error) of `prepare mmssl -d clips`."""

    def invoke(*words):
        try:
            status = prepare.main(["mmssl", "-d", "clips", "--data_path", str(tmp_path / "data"), *map(str, words)])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return invoke


def write(folder, form="matrix"):
    """A folder of 12 users and 13 items, with features for 15; 14 x 15 matrices in which a zero stands."""
    folder.mkdir()
    for split, pairs in PAIRS.items():
        path = folder / NAMES[form][split]
        if form == "json":
            path.write_text(json.dumps({str(user): [item for u, item in pairs if u == user] for user in range(12)}))
        else:
            users, items = np.array([*pairs, (0, 14)]).T
            values = np.append(np.ones(len(pairs)), 0)
            path.write_bytes(pickle.dumps(sparse.csr_matrix((values, (users, items)), shape=(14, 15))))
    for modality, width in (("image", 4), ("audio", 6)):
        np.save(folder / f"{modality}_feat.npy", np.random.default_rng(width).normal(size=(15, width)).astype("float32"))
    return folder


@pytest.mark.parametrize("form", NAMES)
def test_the_split_and_the_features_stay_as_they_are(call, configs, tmp_path, form):
    source = write(tmp_path / "source", form)
    status, out, err = call("--folder", source)
    assert status == 0, err
    counts = " / ".join(str(len(pairs)) for pairs in PAIRS.values())
    assert f"12 users, 13 items\ntrain / validation / test: {counts}\nfeatures: image, audio\n" in out
    frame = pd.read_csv(tmp_path / "data" / "clips" / "clips.inter", sep="\t")
    for label, split in enumerate(PAIRS):
        part = frame[frame["x_label"] == label]
        assert list(zip(part["userID"], part["itemID"], strict=True)) == sorted(PAIRS[split])
    table = np.load(tmp_path / "data" / "clips" / "audio_feat.npy")
    np.testing.assert_array_equal(table, np.load(source / "audio_feat.npy")[:13])
    content = yaml.safe_load((configs / "dataset" / "clips.yaml").read_text())
    features = {"vision_feature_file": "image_feat.npy", "audio_feature_file": "audio_feat.npy"}
    assert content == {"inter_file_name": "clips.inter", **features}


def test_a_model_trains_on_it(call, tmp_path):
    source = write(tmp_path / "source")
    assert call("--folder", source)[0] == 0
    places = {"data_path": str(tmp_path / "data"), "results_dir": str(tmp_path / "results"), "use_gpu": False}
    config = Config("MambaRec", "clips", {**places, "epochs": 1, "threads": 1, "embedding_size": 8, "reduction_factor": 2})
    assert RecDataset(config).modalities == ["visual", "audio"] and run(config)["epochs"] == 1
    status, _, err = call("--folder", source)
    assert status == 2 and "exists already; --overwrite replaces it" in err
    assert call("--folder", source, "--overwrite")[0] == 0
    inside = write(tmp_path / "data" / "clips" / "raw")
    status, _, err = call("--folder", inside, "--overwrite")
    assert status == 2 and "lies in" in err and "move it elsewhere" in err and (inside / "train_mat").exists()


def test_features_that_the_yaml_names_otherwise_are_said_to_be_idle(call, configs, tmp_path, caplog):
    text = "inter_file_name: clips.inter\nvision_feature_file: own.npy\n"
    (configs / "dataset" / "clips.yaml").write_text(text)
    assert call("--folder", write(tmp_path / "source"))[0] == 0
    assert "vision_feature_file: own.npy. So a training does not read image_feat.npy" in caplog.text


def test_a_yaml_that_declares_a_file_under_another_key_stays(call, configs, tmp_path):
    text = "inter_file_name: clips.inter\nvision_feature_file: image_feat.npy\ntext_feature_file: audio_feat.npy\n"
    (configs / "dataset" / "clips.yaml").write_text(text)
    assert call("--folder", write(tmp_path / "source"))[0] == 0
    assert (configs / "dataset" / "clips.yaml").read_text() == text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "val_mat").unlink(), "none of the files val_mat, valMat.pkl, val.json"),
        (lambda folder: (folder / "val_mat").write_bytes(b"cos\nsystem\n(S'true'\ntR."), "val_mat is no pickle of a sparse"),
        (
            lambda folder: np.save(folder / "image_feat.npy", np.ones((5, 4))),
            "image_feat.npy has 5 rows; expected one for each",
        ),
        (lambda folder: np.save(folder / "image_feat.npy", np.ones(15)), "expected a two-dimensional array"),
        (lambda folder: (folder / "image_feat.npy").write_bytes(pickle.dumps([1])), "image_feat.npy cannot be used"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "none of the files train_mat"),
        (
            lambda folder: (folder / "test_mat").write_bytes((folder / "val_mat").read_bytes()),
            "12 of the 12 pairs of validation are in test too",
        ),
    ],
)
def test_what_cannot_be_used_is_a_sentence_and_leaves_nothing(call, tmp_path, spoil, message):
    source = write(tmp_path / "source")
    spoil(source)
    status, _, err = call("--folder", source)
    assert status == 2 and message in err and "Traceback" not in err
    assert not (tmp_path / "data" / "clips").exists()


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"0": [0, 1], "0": [2]}',
        '{"a": [1]}',
        '{"1_0": [1]}',
        '{"0": ["1"]}',
        '{"0": [-1]}',
        '{"0": [true]}',
        '{"0": 3}',
        "{",
        '{"0": []}',
    ],
)
def test_json_that_has_no_lists_of_items_is_a_sentence(call, tmp_path, content):
    source = write(tmp_path / "source", "json")
    (source / "val.json").write_text(content)
    status, _, err = call("--folder", source)
    assert status == 2 and "val.json" in err and "Traceback" not in err
