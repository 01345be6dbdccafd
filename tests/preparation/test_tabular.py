"""Any table becomes a data set that trains, and check says what is wrong with one."""

import gzip

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from mambarec.base import files
from mambarec.base.errors import ConfigError, DataError
from mambarec.cli import prepare as program
from mambarec.config.configurator import Config
from mambarec.data import dataset
from mambarec.data.dataset import RecDataset
from mambarec.preparation.validation import popularity
from mambarec.running.run import run


@pytest.fixture
def call(tmp_path, configs, capsys):
    """call(*words) -> (exit status, standard output, standard error) of prepare.py on the data set 'mine'."""

    def invoke(command, *words):
        more = ["--threads", 1] if command == "table" else []
        status = program.main([str(word) for word in (command, "-d", "mine", "--data_path", tmp_path / "data", *more, *words)])
        return status, *capsys.readouterr()

    return invoke


@pytest.fixture
def visits(tmp_path):
    """30 users, 20 items, each user with 8 of them; the first row lacks its item."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{u}", i, 1 + i % 5, f"2024-01-{1 + n:02d} 10:00:00")
        for u in range(30)
        for n, i in enumerate(rng.permutation(20)[:8])
    ]
    frame = pd.DataFrame([("u0", None, 3, "2024-01-01"), *rows], columns=["who", "what", "stars", "when"])
    frame["what"] = frame["what"].astype("Int64")
    frame.to_csv(tmp_path / "visits.csv", index=False)
    frame.to_csv(tmp_path / "visits.tsv.gz", index=False, sep="\t")
    frame.to_parquet(tmp_path / "visits.parquet")
    items = pd.DataFrame(
        {"what": range(19), "title": [f'Thing "{n}", good' for n in range(19)], "more": [" a\nb"] * 18 + [None]}
    )
    items["file"] = [f"http://x.org/pictures/{n}.jpg?size=2" for n in range(19)]
    items.to_csv(tmp_path / "items.csv", index=False)
    return ["--user-column", "who", "--item-column", "what", "--rating-column", "stars", "--time-column", "when"]


def test_overwrite_never_removes_the_table_that_is_read(call, visits, tmp_path):
    assert call("table", "--interactions", tmp_path / "visits.csv", *visits)[0] == 0
    inside = (tmp_path / "visits.csv").rename(tmp_path / "data" / "mine" / "visits.csv")
    status, _, err = call("table", "--interactions", inside, *visits, "--overwrite")
    assert status == 2 and "visits.csv lies in" in err and inside.exists()


@pytest.mark.parametrize("name", ["visits.csv", "visits.tsv.gz", "visits.parquet"])
def test_each_form_gives_the_same_data_set(call, visits, tmp_path, name):
    assert call("table", "--interactions", tmp_path / name, *visits, "--split", "user-time", "--k-core", 3)[0] == 0
    frame = pd.read_csv(tmp_path / "data" / "mine" / "mine.inter", sep="\t")
    assert len(frame) == 240 and frame.timestamp.min() == pd.Timestamp("2024-01-01 10:00").timestamp()
    assert frame.sort_values("timestamp", kind="stable").groupby("userID").x_label.apply(list).map(tuple).unique().tolist() == [
        (0, 0, 0, 0, 0, 0, 1, 2)
    ]


def test_texts_and_pictures_of_items(call, visits, tmp_path):
    words = [
        "--interactions",
        tmp_path / "visits.csv",
        *visits,
        "--items",
        tmp_path / "items.csv",
        "--text-columns",
        "title,more",
    ]
    status, _, err = call("table", *words, "--image-column", "file")
    assert status == 2 and "http://x.org/pictures/0.jpg?size=2" in err and "--images" in err
    assert call("table", *words, "--image-column", "file", "--images", tmp_path / "pictures")[0] == 0
    frame = pd.read_csv(tmp_path / "data" / "mine" / "items.csv", dtype=str, keep_default_na=False)
    by_id = frame.set_index("original_id")
    assert by_id.loc["0", "text"] == 'Thing "0", good a b' and by_id.loc["18", "text"] == 'Thing "18", good'
    assert by_id.loc["3", "image"] == str(tmp_path / "pictures" / "3.jpg")
    assert by_id.loc["19", "text"] == by_id.loc["19", "image"] == ""
    assert frame.item_id.tolist() == [str(n) for n in range(20)]


def test_a_column_of_lists_is_the_text_of_its_entries(call, visits, tmp_path):
    texts = [["soft", "it's nice"], [], None, ["one"], *[["x"]] * 16]
    pd.DataFrame({"what": range(20), "about": texts}).to_parquet(tmp_path / "items.parquet")
    words = ["--items", tmp_path / "items.parquet", "--text-columns", "about"]
    assert call("table", "--interactions", tmp_path / "visits.parquet", *visits, *words)[0] == 0
    items = pd.read_csv(tmp_path / "data" / "mine" / "items.csv", keep_default_na=False)
    found = dict(zip(items["original_id"].astype(int), items["text"], strict=True))
    assert [found.get(item, "") for item in range(4)] == ["soft it's nice", "", "", "one"]


def test_what_it_writes_trains_and_passes_the_check(call, visits, configs, tmp_path):
    assert call("table", "--interactions", tmp_path / "visits.csv", *visits, "--k-core", 3)[0] == 0
    places = {"data_path": str(tmp_path / "data"), "results_dir": str(tmp_path / "results"), "use_gpu": False, "threads": 1}
    assert 0 <= run(Config("BPR", "mine", {**places, "epochs": 1, "embedding_size": 8}))["test"]["recall@20"] <= 1
    status, out, _ = call("check")
    assert status == 0 and "nothing is wrong" in out and "240" in out and "180 / 30 / 30" in out and "40.0000%" in out


def test_the_yaml_declares_what_there_is_and_is_completed_later(call, visits, configs, tmp_path):
    path = configs / "dataset" / "mine.yaml"
    words = ["table", "--interactions", tmp_path / "visits.csv", *visits]
    assert call(*words)[0] == 0
    assert path.read_text().splitlines()[1:] == ["inter_file_name: mine.inter"]
    path.write_text("inter_file_name: mine.inter\nepochs: 7\n")
    assert call(*words, "--overwrite", "--items", tmp_path / "items.csv", "--text-columns", "title")[0] == 0
    assert path.read_text() == "inter_file_name: mine.inter\nepochs: 7\ntext_feature_file: text_feat.npy\n"


def test_the_yaml_no_longer_declares_what_an_overwritten_folder_had(call, visits, configs, tmp_path):
    path = configs / "dataset" / "mine.yaml"
    words = ["table", "--interactions", tmp_path / "visits.csv", *visits]
    assert call(*words, "--items", tmp_path / "items.csv", "--text-columns", "title")[0] == 0
    assert "text_feature_file: text_feat.npy" in path.read_text()
    assert call(*words, "--overwrite")[0] == 0
    assert path.read_text().splitlines()[1:] == ["inter_file_name: mine.inter"]


@pytest.fixture
def overwrite(call, visits, configs, tmp_path):
    """overwrite(yaml, *words) -> what stands in the YAML of 'mine' after its folder was written over an older one."""

    def invoke(text, *words):
        (tmp_path / "data" / "mine").mkdir(parents=True)
        path = configs / "dataset" / "mine.yaml"
        path.write_text(text)
        assert call("table", "--interactions", tmp_path / "visits.csv", *visits, "--overwrite", *words)[0] == 0
        return path.read_text()

    return invoke


def test_the_yaml_of_a_data_set_made_by_hand_fits_the_files_that_replace_it(call, overwrite, tmp_path):
    text = overwrite(
        "# by hand\ninter_file_name: 'log.inter'\nfield_separator: ','\nUSER_ID_FIELD: who\n"
        '"vision_feature_file": clip.npy   # CLIP\naudio_feature_file: sound.npy\nepochs: 7   # enough\n',
        *("--items", tmp_path / "items.csv", "--text-columns", "title"),
    )
    assert text == "# by hand\nepochs: 7   # enough\ntext_feature_file: text_feat.npy\ninter_file_name: mine.inter\n"
    assert call("check")[1].count("wrong: ") == 1  # text_feat.npy is not made yet


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("text_feature_file:\n  my_text.npy\nepochs: 7\n", "epochs: 7\ninter_file_name: mine.inter\n"),
        ("text_feature_file:   # of BERT\n  my_text.npy   # 768 wide\n# long\nepochs: 7\n", "# long\nepochs: 7\n"),
        ("text_feature_file: >-\n  my_text.npy\n\n# long\nepochs: 7\n", "# long\nepochs: 7\n"),
        ("inter_file_name:\n- a.inter\n# long\nepochs: 7\n", "# long\nepochs: 7\ninter_file_name: mine.inter\n"),
        ("epochs: 7\r\ntext_feature_file: my.npy\r\nseed: 1", "epochs: 7\nseed: 1\n"),
        ("epochs: 7\n? text_feature_file\n: my.npy\nseed: 1", "epochs: 7\nseed: 1\n"),
        ("  text_feature_file: my.npy\n  epochs: 7\n", "epochs: 7\ninter_file_name: mine.inter\n"),
        (
            "# mine\n{inter_file_name: a.inter, text_feature_file: my.npy, seed: [1, 2], note: '1e-4'}\n",
            '# mine\nseed:\n- 1\n- 2\n"note": "1e-4"\ninter_file_name: mine.inter\n',
        ),
        ("{inter_file_name: mine.inter,\n text_feature_file: my.npy}", "inter_file_name: mine.inter\n"),
        ("text_feature_file: &it my.npy\nnote: *it\n", "note: my.npy\ninter_file_name: mine.inter\n"),
        ("note: &it my.npy\ntext_feature_file: *it\nepochs: 7\n", "note: my.npy\nepochs: 7\ninter_file_name: mine.inter\n"),
    ],
)
def test_lines_of_an_overwritten_folder_go_in_whatever_form_they_have(overwrite, before, after):
    text = overwrite(before)
    assert text.replace("inter_file_name: mine.inter\n", "") == after.replace("inter_file_name: mine.inter\n", "")
    assert text.count("inter_file_name: mine.inter\n") == 1
    assert "text_feature_file" not in yaml.safe_load(text)


def test_a_yaml_in_flow_style_gets_the_lines_of_new_features(overwrite, tmp_path):
    text = overwrite("{inter_file_name: mine.inter, epochs: 7}", "--items", tmp_path / "items.csv", "--text-columns", "title")
    assert text == "inter_file_name: mine.inter\nepochs: 7\ntext_feature_file: text_feat.npy\n"


def test_a_yaml_that_was_there_before_the_first_folder_keeps_its_lines(call, visits, configs, tmp_path):
    path = configs / "dataset" / "mine.yaml"
    path.write_text("text_feature_file: my_text.npy   # made by us\n")
    words = ["table", "--interactions", tmp_path / "visits.csv", *visits]
    assert call(*words)[0] == 0
    assert path.read_text() == "text_feature_file: my_text.npy   # made by us\ninter_file_name: mine.inter\n"
    assert call(*words, "--overwrite")[0] == 0
    assert path.read_text() == "inter_file_name: mine.inter\n"


def test_the_yaml_keeps_the_lines_of_the_old_folder_where_the_new_one_does_not_get_there(
    call, visits, configs, tmp_path, monkeypatch
):
    path, old = configs / "dataset" / "mine.yaml", tmp_path / "data" / "mine"
    path.write_text("inter_file_name: log.inter\ntext_feature_file: my_text.npy\n")
    old.mkdir(parents=True)
    (old / "log.inter").touch()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_exchange", fail)
    words = ["table", "--interactions", tmp_path / "visits.csv", *visits, "--overwrite"]
    assert call(*words)[0] != 0
    assert [one.name for one in old.iterdir()] == ["log.inter"]
    assert path.read_text() == "inter_file_name: log.inter\ntext_feature_file: my_text.npy\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--user-column", "who", "--item-column", "item"],
            "no column 'item' (--item-column); it has: who, what, stars, when",
        ),
        (["--user-column", "who", "--item-column", "what", "--split", "global-time"], "--time-column"),
        (["--user-column", "who", "--item-column", "what", "--min-rating", "3"], "--rating-column"),
        (["--user-column", "who", "--item-column", "what", "--text-columns", "title"], "--items"),
        (["--user-column", "stars", "--item-column", "what", "--time-column", "who"], "time is neither a number nor a date"),
    ],
)
def test_a_mistake_ends_with_one_message_and_status_2(call, visits, tmp_path, words, message):
    status, _, err = call("table", "--interactions", tmp_path / "visits.csv", *words)
    assert status == 2 and message in err and not (tmp_path / "data" / "mine").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--item-column", "who"], "--user-column and --item-column both name the column 'who'"),
        (["--item-column", "what", "--time-column", "what"], "--item-column and --time-column both name the column 'what'"),
        (["--item-column", "what", "--min-rating", "0,5"], "0,5; expected a number. The decimal sign is a point: 0.5"),
        (["--item-column", "what", "--max-malformed", "0,01"], "The decimal sign is a point: 0.01"),
        (["--item-column", "what", "--weights", "x.pth"], "--weights x.pth is for --image-model: name one, or leave it out"),
        (["--item-column", "what", "--download"], "--download is for --text-model or --image-model: name one"),
    ],
)
def test_options_that_cannot_be_meant_are_a_sentence(call, visits, tmp_path, capsys, words, message):
    words = ["table", "--interactions", tmp_path / "visits.csv", "--user-column", "who", "--rating-column", "stars", *words]
    try:
        status, _, err = call(*words)
    except SystemExit as stop:
        status, err = stop.code, capsys.readouterr().err
    assert status == 2 and message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--text-model", "any"], "--text-model needs texts; name their columns in --items by --text-columns"),
        (
            ["--text-model", "any", "--items", "items.csv", "--image-column", "file"],
            "--text-model needs texts; name their columns in --items by --text-columns",
        ),
        (["--image-model", "statistics"], "--image-model needs pictures"),
        (["--image-model", "statistics", "--items", "items.csv", "--text-columns", "title"], "--image-model needs pictures"),
    ],
)
def test_a_model_without_what_it_encodes_is_refused_before_a_file_is_read(call, configs, tmp_path, words, message):
    status, _, err = call("table", "--interactions", "nowhere.csv", "--user-column", "who", "--item-column", "what", *words)
    assert status == 2 and message in err and not (configs / "dataset" / "mine.yaml").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--text-columns", "title", "--text-model", "any"],
            "--text-model any has nothing to encode: no item that is kept has a text",
        ),
        (["--image-column", "file", "--image-model", "statistics"], "no item that is kept has a picture"),
    ],
)
def test_a_model_whose_column_is_empty_is_refused_before_the_folder_is_there(call, visits, tmp_path, words, message):
    pd.DataFrame({"what": range(19), "title": "", "file": None}).to_csv(tmp_path / "items.csv", index=False)
    status, _, err = call(
        "table", "--interactions", tmp_path / "visits.csv", *visits, "--items", tmp_path / "items.csv", *words
    )
    assert status == 2 and message in err and not (tmp_path / "data" / "mine").exists()


def test_pictures_of_a_folder_are_encoded_where_the_column_of_pictures_is_empty(call, visits, tmp_path):
    pd.DataFrame({"what": range(19), "file": None}).to_csv(tmp_path / "items.csv", index=False)
    (tmp_path / "pictures").mkdir()
    for item in range(19):
        Image.new("RGB", (4, 4), (item * 10, 0, 0)).save(tmp_path / "pictures" / f"{item}.png")
    words = ["--image-column", "file", "--images", tmp_path / "pictures", "--image-model", "statistics"]
    visited = ["--interactions", tmp_path / "visits.csv", *visits, "--items", tmp_path / "items.csv"]
    assert call("table", *visited, *words)[0] == 0
    assert np.load(tmp_path / "data" / "mine" / "image_feat.npy").std(0).any()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_name_that_looks_like_a_pattern_is_a_name(call, visits, tmp_path, suffix):
    frame = pd.read_csv(tmp_path / "visits.csv")
    for name, first in ((f"log1.{suffix}", "a"), (f"log[1].{suffix}", "b")):
        renamed = frame.assign(who=first + frame["who"])
        (renamed.to_csv if suffix == "csv" else renamed.to_parquet)(tmp_path / name, index=False)
    assert call("table", "--interactions", tmp_path / f"log[1].{suffix}", *visits, "--k-core", 3)[0] == 0
    maps = pd.read_csv(tmp_path / "data" / "mine" / "u_id_mapping.csv", sep="\t")
    assert maps["user_id"].str.startswith("b").all()


def test_an_encoding_is_refused_where_no_file_is_text(call, visits, tmp_path):
    words = ["table", *visits, "--encoding", "latin-1", "--k-core", 3, "--interactions"]
    status, _, err = call(*words, tmp_path / "visits.parquet")
    assert status == 2 and "--encoding iso8859-1 is for text files, and there is none" in err
    assert call(*words, tmp_path / "visits.parquet", "--items", tmp_path / "items.csv", "--text-columns", "title")[0] == 0


def test_a_text_model_without_metadata_is_refused_before_a_file_is_read(call):
    status, _, err = call("amazon", "--ratings", "nowhere.csv", "--text-model", "any")
    assert status == 2 and "--text-model needs texts; name their file by --meta" in err


@pytest.mark.parametrize(
    ("header", "given", "meant"),
    [("User,item", "user", "User"), (" user ,item", " user", "user"), ('"USER",item', "user", "USER")],
)
def test_a_column_in_another_spelling_is_named(call, tmp_path, header, given, meant):
    (tmp_path / "v.csv").write_text(header + "\n" + "".join(f"u{n % 9},i{n % 8}\n" for n in range(72)))
    words = ("--interactions", tmp_path / "v.csv", "--user-column", given, "--item-column", "item")
    status, _, err = call("table", *words)
    assert status == 2 and f"no column '{given}' (--user-column)" in err and f"Did you mean '{meant}'?" in err


def test_a_column_of_parquet_with_blanks_around_its_name_is_named(call, tmp_path):
    pd.DataFrame({"user ": ["a"], "item": ["b"]}).to_parquet(tmp_path / "v.parquet")
    status, _, err = call("table", "--interactions", tmp_path / "v.parquet", "--user-column", "user", "--item-column", "item")
    assert status == 2 and "Did you mean 'user '?" in err


@pytest.mark.parametrize(
    ("above", "line"),
    [("Export of the shop\n", 2), ("Export of the shop, May\n", 2), ("Shop;;\n\n\n", 4), ("sep=,\nShop\n", 3)],
)
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_title_above_the_header_is_said(call, visits, tmp_path, above, line, separator):
    text = above + (tmp_path / "visits.csv").read_text().replace(",", separator)
    (tmp_path / "visits.csv").write_text(text)
    status, _, err = call("table", "--interactions", tmp_path / "visits.csv", *visits)
    assert status == 2 and f"visits.csv: the header seems to be in line {line}. Remove the lines above it" in err


def test_a_title_above_the_header_of_items_is_said(call, visits, tmp_path):
    (tmp_path / "items.csv").write_text("Our articles\n\n" + (tmp_path / "items.csv").read_text())
    words = ["--interactions", tmp_path / "visits.csv", *visits, "--items", tmp_path / "items.csv", "--text-columns", "title"]
    status, _, err = call("table", *words)
    assert status == 2 and "items.csv: the header seems to be in line 3" in err


@pytest.mark.parametrize("date", ["21.05.2020", "05/21/2020", "21-05-2020 13:45"])
def test_the_form_of_dates_is_said_where_there_is_another(call, tmp_path, date):
    (tmp_path / "v.csv").write_text("user,item,time\n" + "".join(f"u{n % 9},i{n % 8},{date}\n" for n in range(72)))
    words = ("--interactions", tmp_path / "v.csv", "--user-column", "user", "--item-column", "item", "--time-column", "time")
    status, _, err = call("table", *words)
    assert status == 2 and date in err and "Write dates with the year first, such as 2020-05-21 or 2020-05-21 13:45:00" in err


def test_a_decimal_comma_in_a_column_is_said(call, visits, tmp_path):
    text = (tmp_path / "visits.csv").read_text().replace(",", "\t").replace("\t3\t", "\t3,5\t")
    (tmp_path / "visits.tsv").write_text(text)
    status, _, err = call("table", "--interactions", tmp_path / "visits.tsv", *visits)
    assert status == 2 and "rating is not a number" in err and "Write decimals with a point, 0.5 and not 0,5" in err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.jsonl", b'{"who": "a", "what": "b"}\n' * 9, "log.jsonl holds JSON lines"),
        ("log.json", b'[\n {"who": "a", "what": "b"}]\n', "log.json holds JSON. This command"),
        ("log.jsonl", gzip.compress(b'{"who": "a", "what": "b"}\n' * 9, mtime=0), "pandas.read_json('log.jsonl', lines=True)"),
        ("log.jsonl", '{"who": "a"}\n'.encode("utf-16"), "log.jsonl holds JSON lines"),
        ("log.xlsx", b"PK\x03\x04" + bytes(99), "log.xlsx is a zip archive or a workbook of Excel"),
        ("log.db", b"SQLite format 3\0" + bytes(99), "log.db is a database of SQLite"),
    ],
)
@pytest.mark.parametrize("option", ["--interactions", "--items"])
def test_a_file_that_is_no_table_is_named_by_what_it_is(call, visits, tmp_path, name, content, message, option):
    (tmp_path / name).write_bytes(content)
    files = {"--interactions": tmp_path / "visits.csv", option: tmp_path / name}
    texts = ["--text-columns", "title"] if option == "--items" else []
    status, _, err = call("table", *(word for pair in files.items() for word in pair), *visits, *texts)
    assert status == 2 and message in err and "Traceback" not in err


def test_a_file_without_a_header_is_told_and_read_with_columns(call, visits, tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text("".join((tmp_path / "visits.csv").read_text().splitlines(keepends=True)[1:]))
    words = ["table", "--interactions", path, *visits]
    status, _, err = call(*words)
    assert status == 2 and "no column 'who'" in err and "The first line looks like data." in err and "--columns" in err
    assert call(*words, "--columns", "who,what,stars,when")[0] == 0
    frame = pd.read_csv(tmp_path / "data" / "mine" / "mine.inter", sep="\t")
    assert len(frame) == 240


@pytest.mark.parametrize(
    ("header", "columns", "is_said"),
    [
        ("user,item", "who,what", True),
        ('"User ID","Item-ID"', "who,what", True),
        ("user1,item1", "user1,item1", True),
        ("u3,i4", "who,what", False),
        ("anna,i4", "who,what", False),
    ],
)
def test_a_header_that_is_read_as_data_is_said(call, tmp_path, header, columns, is_said):
    lines = [f"u{n % 20},i{n // 20}" for n in range(200)]
    (tmp_path / "v.csv").write_text("\n".join([header, *lines]) + "\n")
    user, item = columns.split(",")
    named = ["--user-column", user, "--item-column", item, "--columns", columns]
    status, out, _ = call("table", "--interactions", tmp_path / "v.csv", *named)
    said = "The first line looks like a header, and is read as data. If it is one, leave --columns out"
    assert status == 0 and (said in " ".join(out.split())) == is_said


def test_words_that_stand_below_are_data_with_columns(call, tmp_path):
    lines = [f"{user},{item}" for user in ("anna", "marco", "eva", "otto", "ida") for item in "abcde"]
    (tmp_path / "v.csv").write_text("\n".join(lines) + "\n")
    named = ["--user-column", "user", "--item-column", "item", "--columns", "user,item"]
    status, out, _ = call("table", "--interactions", tmp_path / "v.csv", *named)
    assert status == 0 and "looks like" not in out


def test_columns_of_parquet_have_names_already(call, visits, tmp_path):
    words = ["table", "--interactions", tmp_path / "visits.parquet", *visits, "--columns", "who,what,stars,when"]
    status, _, err = call(*words)
    assert status == 2 and "visits.parquet is Parquet, whose columns have names: leave --columns out" in err
    assert not (tmp_path / "data" / "mine").exists()


def test_words_that_stand_below_too_are_no_header(call, tmp_path):
    (tmp_path / "words.csv").write_text("anna,tea\nanna,milk\nmarco,tea\n")
    status, _, err = call("table", "--interactions", tmp_path / "words.csv", "--user-column", "user", "--item-column", "item")
    assert status == 2 and "The first line looks like data." in err


def test_columns_that_seem_swapped_are_noted(call, visits, tmp_path):
    frame = pd.read_csv(tmp_path / "visits.csv").rename(columns={"who": "user", "what": "product"})
    frame.to_csv(tmp_path / "named.csv", index=False)
    words = ["table", "--interactions", tmp_path / "named.csv", "--user-column", "product", "--item-column", "user"]
    status, out, _ = call(*words)
    assert (
        status == 0
        and "--user-column product and --item-column user: swap them if they are the wrong way round" in " ".join(out.split())
    )
    status, out, _ = call(*words[:3], "--user-column", "user", "--item-column", "product", "--overwrite")
    assert status == 0 and "swap them" not in out and "looks like data" not in out


@pytest.mark.parametrize(
    ("form", "python_form"),
    [("%d/%m/%Y", "%d/%m/%Y"), ("%d.%m.%y %H:%M", "%d.%m.%y %H:%M"), ("%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M %p")],
)
def test_dates_of_a_named_form_are_read(call, visits, tmp_path, form, python_form):
    frame = pd.read_csv(tmp_path / "visits.csv", dtype={"what": "Int64"})
    days = pd.to_datetime(frame["when"], format="mixed").dt.normalize()
    frame.assign(when=days.dt.strftime(python_form)).to_csv(tmp_path / "own.csv", index=False)
    words = ["table", "--interactions", tmp_path / "own.csv", *visits, "--split", "user-time", "--k-core", 3]
    assert call(*words)[0] == 2  # the year is not first
    status, _, err = call(*words, "--time-format", form)
    assert status == 0, err
    times = pd.read_csv(tmp_path / "data" / "mine" / "mine.inter", sep="\t").timestamp
    assert sorted(times.unique()) == [pd.Timestamp(f"2024-01-0{day}").timestamp() for day in range(1, 9)]


def test_a_form_of_dates_that_is_none_or_fits_none_is_refused(call, visits, tmp_path):
    words = ["table", "--interactions", tmp_path / "visits.csv", *visits]
    status, _, err = call(*words, "--time-format", "%d/%m/%Y")
    assert status == 2 and "time is neither a number nor a date" in err and "--time-format %d/%m/%Y" in err
    status, _, err = call(*words, "--time-format", "day")
    assert status == 2 and "--time-format day: expected the parts of a date, such as %d/%m/%Y" in err
    status, _, err = call(*words, "--time-format", "%Q")
    assert status == 2 and "--time-format %Q: " in err
    status, _, err = call(*words[:-2], "--time-format", "%Y")
    assert status == 2 and "--time-format %Y needs --time-column" in err


def test_a_preparation_without_items_says_nothing_of_texts(call, visits, tmp_path):
    status, out, _ = call("table", "--interactions", tmp_path / "visits.csv", *visits)
    assert status == 0 and "items with text" not in out


@pytest.mark.parametrize(("separator", "named"), [(" ", "blanks"), ("  ", "blanks"), ("^", "'^'"), (":", "':'"), ("~", "'~'")])
def test_a_separator_that_is_not_known_is_named(call, tmp_path, separator, named):
    rows = [separator.join((f"u{n % 7}", f"i{n % 5}", "3")) for n in range(40)]
    path, header = tmp_path / "log.csv", separator.join(("user_id", "item_id", "rating"))
    path.write_text("\n".join([header, *rows]) + "\n")
    words = ["table", "--interactions", path, "--user-column", "user_id", "--item-column", "item_id"]
    status, _, err = call(*words)
    assert status == 2 and f"log.csv has one column, {header!r}: its fields are separated by {named}. Separate them by" in err
    path.write_text("\n".join(rows) + "\n")
    status, _, err = call(*words, "--columns", "user_id,item_id,rating")
    assert status == 2 and "too few fields" in err and "If the fields have another separator, write a comma, a tab" in err


def test_binary_files_are_no_table(call, tmp_path):
    words = ["--user-column", "user_id", "--item-column", "item_id"]
    np.save(tmp_path / "log.npy", np.zeros((20, 3)))
    status, _, err = call("table", "--interactions", tmp_path / "log.npy", *words)
    assert status == 2 and "log.npy is an array of NumPy. This command reads text and Parquet" in err
    (tmp_path / "log.csv").write_bytes(np.random.default_rng(0).bytes(5000))
    status, _, err = call("table", "--interactions", tmp_path / "log.csv", *words)
    assert status == 2 and "log.csv is no table: it holds binary data" in err


def test_a_gz_table_that_is_cut_short_is_an_error(call, visits, tmp_path):
    path = tmp_path / "cut.csv.gz"
    whole = gzip.compress((tmp_path / "visits.csv").read_bytes() * 200)
    path.write_bytes(whole[: len(whole) // 2])
    status, _, err = call("table", "--interactions", path, *visits)
    assert status == 2 and "cut.csv.gz" in err and "cut short" in err


def test_check_lists_all_that_is_wrong(call, toy, configs, tmp_path, capsys):
    def check():
        status = program.main(["check", "-d", "toy", "--data_path", str(toy.parent)])
        return status, capsys.readouterr().out

    (toy / "i_id_mapping.csv").write_text("asin,itemID\n" + "".join(f"a{n},{n}\n" for n in range(64)))  # tabs or commas
    status, out = check()
    assert status == 0 and "image_feat.npy 64 x 24, 0 rows of zeros" in out
    assert "popularity, test  Recall@20 0." in out
    features = np.load(toy / "image_feat.npy")
    np.save(toy / "image_feat.npy", np.vstack([features[:1] * np.nan, features[1:]]))
    np.save(toy / "text_feat.npy", np.load(toy / "text_feat.npy")[:-1])
    (toy / "u_id_mapping.csv").write_text("user_id\tuserID\na\t0\n")
    (toy / "items.csv").write_text("item_id,original_id,text\n" + "".join(f"{n},same,\n" for n in range(64)))
    status, out = check()
    assert status == 1 and out.count("wrong: ") == 4 and "4 problems" in out
    for phrase in (
        "NaN or Inf in 1 of 64 rows, the first is row 0",
        "has 63 rows; expected 64",
        "u_id_mapping.csv has 1 row",
        "'same' is there twice",
    ):
        assert phrase in out
    (toy / "toy.inter").write_text("userID\titemID\tx_label\nx\t0\t0\n0\t-1\t0\n0\t1\t7\n")
    status, out = check()
    assert status == 1 and out.count("wrong: ") == 3 and "line 2: userID is 'x'" in out and "line 4: x_label is 7" in out


@pytest.fixture
def check_toy(toy, configs, capsys):
    """check_toy() -> (exit status, standard output) of the check of 'toy'."""

    def check():
        status = program.main(["check", "-d", "toy", "--data_path", str(toy.parent)])
        return status, capsys.readouterr().out

    return check


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_check_reads_interactions_as_a_training_does(toy, check_toy, encoding):
    lines = (toy / "toy.inter").read_text().splitlines()
    text = "\n".join([f"{lines[0]}\twörd", *(f"{line}\tgrün" for line in lines[1:])])
    (toy / "toy.inter").write_bytes(text.encode(encoding))
    status, out = check_toy()
    assert status == 0 and "381 / 48 / 48" in out and "nothing is wrong" in out


def test_check_names_what_the_yaml_does_not_name(toy, check_toy, configs):
    yaml_file = configs / "dataset" / "toy.yaml"
    yaml_file.write_text("inter_file_name: toy.inter\ntext_feature_file: text_feat.npy\ntaste: 3\n")
    np.save(toy / "image_mask.npy", np.arange(64) > 2)  # goes with image_feat.npy
    status, out = check_toy()
    assert status == 0 and "there are 2 warnings" in out
    assert "image_feat.npy (64 x 24) is not read, nor its mask image_mask.npy, since toy.yaml does not name it" in out
    assert "add the line 'vision_feature_file: image_feat.npy'" in out
    assert "WARNING: toy.yaml has the key 'taste', which no model of this program reads" in out
    yaml_file.write_text("inter_file_name: toy.inter\nvision_feature_file: clip.npy\ntext_feature_file: text_feat.npy\n")
    (toy / "image_feat.npy").rename(toy / "clip.npy")
    np.save(toy / "image_feat.npy", np.load(toy / "clip.npy"))
    status, out = check_toy()
    assert (
        status == 0 and "is not read, nor its mask image_mask.npy: the visual features that toy.yaml names are clip.npy" in out
    )
    (toy / "image_feat.npy").unlink()
    status, out = check_toy()  # now no feature file goes with the mask
    assert status == 1 and "image_mask.npy goes with no feature file of toy.yaml" in out
    assert "clip_mask.npy for clip.npy and text_mask.npy for text_feat.npy" in out
    yaml_file.write_text("inter_file_name: toy.inter\nvision_feature: clip.npy\n")
    status, out = check_toy()
    assert status == 1 and "did you mean 'vision_feature_file'?" in out


def test_a_model_that_reads_features_names_those_that_the_yaml_does_not_name(toy, configs, make_config):
    (configs / "dataset" / "toy.yaml").write_text("inter_file_name: toy.inter\n")
    with pytest.raises(DataError, match=r"does not name: add the line 'vision_feature_file: image_feat.npy' and the line"):
        RecDataset(make_config("VBPR")).check_features()


def test_check_warns_where_a_training_does(toy, check_toy):
    np.save(toy / "text_feat.npy", np.zeros((64, 16), dtype=np.float32))
    status, out = check_toy()
    assert status == 0 and "WARNING: the text features are the same for all items, so they tell nothing" in out
    assert out.endswith("nothing is wrong, but there is 1 warning\n")


def test_check_notes_users_who_have_every_item(toy, check_toy, make_config):
    lines = [f"0\t{item}\t0" for item in range(64)] + ["1\t0\t0", "1\t1\t1", "1\t2\t2"]
    (toy / "toy.inter").write_text("\n".join(["userID\titemID\tx_label", *lines]) + "\n")
    status, out = check_toy()
    assert status == 0 and "note: 64 pairs of users who have every item left out of training" in out


def write_tiny(toy, lines, n_items):
    """Interactions of so many items, and features of theirs, in place of the toy data's."""
    (toy / "toy.inter").write_text("\n".join(["userID\titemID\tx_label", *lines]) + "\n")
    for name in ("image", "text"):
        np.save(toy / f"{name}_feat.npy", np.eye(n_items, dtype=np.float32))


def test_check_says_where_a_training_would_have_no_negatives_or_too_few_items(toy, check_toy, make_config):
    write_tiny(toy, ["0\t0\t0", "1\t0\t0", "0\t1\t1", "1\t1\t2"], 2)
    status, out = check_toy()
    assert status == 1 and out.count("wrong: ") == 1 and "there are no negatives to sample" in out
    assert "WARNING: topk 50 is more than the 2 items" in out
    with pytest.raises(ConfigError, match="knn_k=10: toy has 2 items"):
        run(make_config("MambaRec"))


def test_check_warns_of_too_few_items_for_a_model_and_names_it(toy, check_toy, make_config):
    write_tiny(toy, ["0\t0\t0", "1\t1\t0", "0\t2\t1", "1\t2\t2"], 3)
    status, out = check_toy()
    assert "WARNING: MambaRec cannot train with knn_k=10: toy has 3 items. Set its knn_k to at most 3\n" in out
    assert status == 0 and "wrong: " not in out
    assert run(make_config("BPR", epochs=1))["epochs"] == 1


@pytest.mark.parametrize(("more", "times"), [([], 1), (["99\t1\t1\t0\t1"] * 2, 2)])
def test_check_counts_each_pair_once_and_reads_again_only_what_training_leaves_out(toy, check_toy, monkeypatch, more, times):
    read = []
    whole = dataset.read_interactions
    monkeypatch.setattr(dataset, "read_interactions", lambda *given: read.append(1) or whole(*given))
    text = (toy / "toy.inter").read_text()
    (toy / "toy.inter").write_text("\n".join([*text.splitlines(), text.splitlines()[1], *more]) + "\n")
    status, out = check_toy()
    assert status == 0 and f"381 / {48 + len(more) // 2} / 48" in out and len(read) == times
    assert "image_feat.npy 64 x 24" in out and "text_feat.npy 64 x 16" in out


def test_check_notes_the_items_that_lack_each_modality_once(toy, check_toy):
    for name, n in (("image", 3), ("text", 5)):
        np.save(toy / f"{name}_mask.npy", np.arange(64) >= n)
    status, out = check_toy()
    assert status == 0 and out.count("3 items without visual; mean stands in") == 1
    assert out.count("5 items without text; mean stands in") == 1


def test_check_and_training_refuse_a_pair_in_two_splits_alike(toy, check_toy, make_config):
    with (toy / "toy.inter").open("a") as file:
        first = next(line for line in (toy / "toy.inter").read_text().splitlines()[1:] if line.endswith("\t0"))
        file.write(f"{first[:-1]}2\n")
    with pytest.raises(DataError) as caught:
        run(make_config("BPR"))
    status, out = check_toy()
    assert status == 1 and f"wrong: {caught.value}\n" in out and "1 of the 381 pairs of training are in test too" in out


def test_check_of_a_data_set_without_a_yaml_names_those_that_are_there(tmp_path, configs, capsys):
    assert program.main(["check", "-d", "nothing", "--data_path", str(tmp_path)]) == 1
    assert "there is no data set 'nothing'" in capsys.readouterr().out


def test_the_ranking_by_popularity_does_not_depend_on_the_metrics_of_trainings(make_config):
    usual = popularity(RecDataset(make_config("BPR")))
    config = make_config("BPR", topk=[5, 10], metrics=["NDCG"], valid_metric="NDCG@10")
    assert popularity(RecDataset(config)) == usual


def test_the_ranking_by_popularity_is_that_of_a_hand_worked_set(toy, make_config):
    """Items 0, 1, 2 have 4, 2, 1 training users; users 2 and 3 have had item 0, so the others come first for them."""
    train = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (0, 2), (3, 0)]
    held_out = [(3, 1, 1), (3, 2, 2), (2, 1, 2), (2, 2, 2)]
    rows = [f"{user}\t{item}\t0" for user, item in train] + [f"{user}\t{item}\t{label}" for user, item, label in held_out]
    (toy / "toy.inter").write_text("\n".join(["userID\titemID\tx_label", *rows]) + "\n")
    dataset = RecDataset(make_config("BPR"))
    second = 1 / np.log2(3)  # user 3 finds item 2 in second place, user 2 both of theirs
    assert popularity(dataset) == f"Recall@20 1.0000, NDCG@20 {(second + 1) / 2:.4f}"
