"""The name of a public data set is for this data set alone."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mambarec.base.errors import ConfigError
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


PAGE = (Path(__file__).resolve().parents[2] / "data" / "README.md").read_text()
LINES = re.findall(r"^\| (\w+) \| ([^|]+) \|", PAGE.partition("\n## Public data sets\n")[2].partition("\n## ")[0], re.MULTILINE)
SIZES = {
    name: tuple(int(number.replace(",", "")) for number in text.split()) if re.fullmatch(r"[\d,]+( [\d,]+){2}", text) else None
    for name, text in LINES
    if name != "name"
}  # users, items, pairs


def test_the_page_on_data_has_every_public_data_set():
    assert set(SIZES) == set(PUBLIC) - {"demo"} and any(SIZES.values())


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_the_size_of_a_public_data_set_is_that_of_the_page_on_data(name, size):
    if size is None:
        assert PUBLIC[name].size is None
        return
    check_size(name, *size)
    for place in range(3):
        other = [number + (place == here) for here, number in enumerate(size)]
        with pytest.raises(ConfigError, match=f"is the name of a public data set with {size[0]:,} users"):
            check_size(name, *other)


def test_data_of_another_name_may_have_any_size():
    check_size("mine", *SIZES["baby"])
