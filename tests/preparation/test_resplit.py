"""`prepare resplit`, and the folders that the commands are told: messages name what the person gave."""

import json
import shutil

import numpy as np
import pytest

from mambarec.cli import prepare as program
from mambarec.preparation.resplit import is_split_of


@pytest.fixture
def call(toy, configs, tmp_path, capsys):
    """call(*words) -> (exit status, standard error) of prepare.py on the folder of 'toy'."""

    def invoke(command, *words):
        status = program.main([command, *map(str, words), "--data_path", str(toy.parent)])
        return status, capsys.readouterr().err

    return invoke


def test_a_folder_that_is_there_is_refused_by_the_option_that_names_it(call, tmp_path):
    words = ["resplit", "-d", "toy", "--split", "random", "--output", tmp_path / "new", "--name", "other"]
    assert call(*words)[0] == 0
    status, err = call(*words)
    assert status == 2 and "other exists already" in err and "or give --name another name" in err
    assert call(*words, "--overwrite")[0] == 0


@pytest.mark.parametrize("name", ["../x", "", "a b"])
def test_a_name_that_leads_elsewhere_is_refused(call, tmp_path, name):
    status, err = call("resplit", "-d", "toy", "--split", "random", "--output", tmp_path / "new", f"--name={name or ' '}")
    assert status == 2 and "--name" in err and "expected up to 100 letters" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resplit", "-d", "nope", "--split", "random"], "there is no data set 'nope'"),
        (["resplit", "-d", "clothing", "--split", "random"], "-d clothing: there is no folder"),
        (["text", "-d", "nope"], "-d nope: there is no folder"),
        (["images", "-d", "nope"], "Name one of those that are there (toy), or another folder above it by --data_path"),
        (["items", "-d", "nope", "--items", "x.csv", "--output", "x"], "-d nope: there is no folder"),
    ],
)
def test_a_data_set_that_is_not_there_is_said(call, words, message):
    status, err = call(*words)
    assert status == 2 and message in err


@pytest.mark.parametrize("name", ["toy", "Toy", "TOY"])
def test_the_name_of_the_data_set_that_is_split_is_refused(call, toy, tmp_path, name):
    before = (toy / "toy.inter").read_bytes()
    for place in (toy.parent, tmp_path / "new"):
        words = ["--split", "random", "--overwrite", "--output", place, "--name", name]
        status, err = call("resplit", "-d", "toy", *words)
        assert status == 2 and f"--name {name} is the data set that is split" in err
    assert (toy / "toy.inter").read_bytes() == before and [path.name for path in toy.parent.iterdir()] == ["toy"]


def test_a_name_that_differs_from_a_known_one_only_in_case_is_refused_by_each_command(call, toy, configs, tmp_path):
    """Known is what has a YAML, and what has a folder beside the new one."""
    (toy.parent / "shelf").mkdir()
    (tmp_path / "v.csv").write_text("user,item\n" + "".join(f"u{n % 9},i{n % 8}\n" for n in range(72)))
    (tmp_path / "r.csv").write_text("".join(f"u{n % 9},i{n % 8},1,{n}\n" for n in range(72)))
    table = ("table", "--interactions", tmp_path / "v.csv", "--user-column", "user", "--item-column", "item", "-d")
    amazon = ("amazon", "--ratings", tmp_path / "r.csv", "-d")
    split = ("resplit", "-d", "toy", "--split", "random", "--output", toy.parent, "--name")
    for words in (table, amazon, ("mmssl", "--folder", tmp_path, "-d"), split):
        for name, other in (("Toy", "toy"), ("SHELF", "shelf")):
            if (words, name) != (split, "Toy"):
                status, err = call(*words, name, "--overwrite")
                assert status == 2 and f"{words[-1]} {name}: there is a data set '{other}' already" in err
                assert not (configs / "dataset" / f"{name}.yaml").exists() and not (toy.parent / name).exists()
    assert call(*table, "other")[0] == 0
    assert call(*table, "other", "--overwrite")[0] == 0


def test_graphs_of_the_old_split_stay_behind(call, toy, tmp_path):
    """They hold pairs that may be test pairs now."""
    for name in ("user_graph_dict.npy", "adjacency.pt"):
        (toy / name).write_bytes(b"x")
    assert call("resplit", "-d", "toy", "--split", "random", "--output", tmp_path / "new", "--name", "other")[0] == 0
    copied = {path.name for path in (tmp_path / "new" / "other").iterdir()}
    assert "image_feat.npy" in copied and not copied & {"user_graph_dict.npy", "adjacency.pt"}
    assert is_split_of(tmp_path / "new" / "other", toy)


def test_features_in_a_folder_below_and_their_masks_are_taken_along(call, toy, configs, tmp_path):
    (toy / "feats").mkdir()
    (toy / "image_feat.npy").rename(toy / "feats" / "image_feat.npy")
    np.save(toy / "feats" / "image_mask.npy", np.arange(64) > 3)
    path = configs / "dataset" / "toy.yaml"
    path.write_text(path.read_text().replace("image_feat.npy", "feats/image_feat.npy"))
    assert call("resplit", "-d", "toy", "--split", "random", "--output", tmp_path / "new", "--name", "other")[0] == 0
    copied = {path.name for path in (tmp_path / "new" / "other" / "feats").iterdir()}
    assert copied == {"image_feat.npy", "image_mask.npy"} and is_split_of(tmp_path / "new" / "other", toy)
    np.save(toy / "feats" / "image_mask.npy", np.arange(64) > 4)
    assert not is_split_of(tmp_path / "new" / "other", toy)


def test_the_report_is_that_of_the_new_split_and_a_yaml_of_ones_own_stays(call, toy, configs, tmp_path):
    encoders = {"text": {"model": "m", "weights": "w"}}
    (toy / "report.json").write_text(json.dumps({"settings": {"split": "user-time"}, "encoders": encoders}))
    words = ["resplit", "-d", "toy", "--split", "random", "--output", tmp_path / "new", "--name", "other"]
    own = configs / "dataset" / "other.yaml"
    own.write_text("inter_file_name: mine.inter\n")
    status, err = call(*words)
    assert status == 2 and "other.yaml is there, and was not written for this" in err
    assert own.read_text() == "inter_file_name: mine.inter\n"
    own.unlink()
    assert call(*words)[0] == 0
    report = json.loads((tmp_path / "new" / "other" / "report.json").read_text())
    assert report["encoders"] == encoders and report["split"] == "random" and "settings" not in report
    shutil.rmtree(tmp_path / "new" / "other")
    assert call(*words)[0] == 0  # the YAML is the one that it wrote itself
