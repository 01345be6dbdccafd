"""The name of a public data set is for this data set alone."""

import numpy as np
import pandas as pd
import pytest

from mambarec.cli import prepare as program
from mambarec.config.catalogue import available_datasets
from mambarec.preparation import public
from mambarec.preparation.public import PUBLIC, Public, check_size


@pytest.fixture
def call(tmp_path, configs, capsys):
    """call(command, name, *words) -> (exit status, standard error) of prepare.py on ratings of 30 users and 20 items."""
    rng = np.random.default_rng(0)
    rows = [(f"u{user}", f"i{item}", 5, n) for user in range(30) for n, item in enumerate(rng.permutation(20)[:8])]
    pd.DataFrame(rows).to_csv(tmp_path / "ratings.csv", index=False, header=False)
    pd.DataFrame(rows, columns=["user", "item", "stars", "time"]).to_csv(tmp_path / "visits.csv", index=False)

    def invoke(command, name, *words):
        given = {
            "amazon": ["--ratings", tmp_path / "ratings.csv", "--k-core", 1, "--threads", 1],
            "table": [
                "--interactions",
                tmp_path / "visits.csv",
                "--user-column",
                "user",
                "--item-column",
                "item",
                "--threads",
                1,
            ],
            "mmssl": ["--folder", tmp_path],
            "resplit": ["--split", "random", "--output", tmp_path / "data"],
        }[command]
        status = program.main(list(map(str, [command, "-d", name, "--data_path", tmp_path / "data", *given, *words])))
        return status, capsys.readouterr().err

    return invoke


def test_every_public_name_is_a_data_set(known_toy):
    assert set(PUBLIC) <= set(available_datasets())  # others are of whoever runs this


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table", "baby"], "-d baby is the name of a public data set, and `mambarec prepare amazon` makes it"),
        (["table", "Baby"], "-d Baby is the name of a public data set"),
        (["table", "demo"], "it is generated"),
        (["mmssl", "sports"], "-d sports is the name"),
        (["amazon", "tiktok"], "`mambarec prepare mmssl` makes it"),
        (["amazon", "baby", "--split", "user-time"], "whose split is --split random"),
        (
            ["amazon", "baby"],
            "with 19,445 users, 7,050 items and 160,792 pairs; these files give 30 users, 20 items and 240 pairs. "
            "Give -d another name",
        ),
        (["resplit", "toy", "--name", "baby"], "--name baby is the name of a public data set"),
    ],
)
def test_other_data_may_not_take_the_name(call, configs, tmp_path, words, message):
    before = {path.name: path.read_text() for path in (configs / "dataset").iterdir()}
    status, err = call(*words)
    assert status == 2 and message in err
    assert not (tmp_path / "data" / words[1]).exists()
    assert before == {path.name: path.read_text() for path in (configs / "dataset").iterdir()}


def test_the_same_set_may_be_prepared_and_its_yaml_stays(call, configs, tmp_path, monkeypatch):
    monkeypatch.setitem(public.PUBLIC, "baby", Public("amazon", (30, 20, 240)))
    before = (configs / "dataset" / "baby.yaml").read_text()
    assert call("amazon", "baby")[0] == 0
    assert (tmp_path / "data" / "baby" / "baby.inter").exists()
    assert (configs / "dataset" / "baby.yaml").read_text() == before


def test_sizes_are_those_of_the_public_sets_that_are_here():
    check_size("baby", 19_445, 7_050, 160_792)
    check_size("mine", 1, 1, 1)
