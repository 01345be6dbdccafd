"""The Amazon dumps with known defects: what is kept, dropped and listed is what a hand would find."""

import ast
import gzip
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mambarec.cli import prepare as program
from mambarec.preparation.amazon import item_text
from mambarec.preparation.features.vectors import RECORD
from mambarec.preparation.readers.lines import parse_record

USERS, ITEMS = [f"A{n:013d}" for n in range(4)], [f"B{n:09d}" for n in range(4)]
PAIRS = [(user, item, 5.0, 100 + place) for place, (user, item) in enumerate((u, i) for u in USERS for i in ITEMS)]


@pytest.fixture
def call(tmp_path, configs, capsys):
    """call(*words) -> (exit status, standard output, standard error) of `amazon -d mine`, 2-core."""

    def invoke(*words, dataset="mine"):
        words = ["amazon", "-d", dataset, "--data_path", tmp_path / "data", "--k-core", 2, "--threads", 1, *words]
        status = program.main([str(word) for word in words])
        return status, *capsys.readouterr()

    return invoke


def ratings(*rows) -> str:
    return "".join(f"{user},{item},{rating},{time}\n" for user, item, rating, time in rows)


def inter(tmp_path) -> pd.DataFrame:
    return pd.read_csv(tmp_path / "data" / "mine" / "mine.inter", sep="\t")


def report(tmp_path) -> dict:
    return json.loads((tmp_path / "data" / "mine" / "report.json").read_text(encoding="utf-8"))


def test_ratings_with_defects_give_what_a_hand_finds(call, tmp_path):
    path = tmp_path / "ratings.csv"
    bad = b"short,line\nA1,B1,x,5\nA1,B1,1.0,5,more\nA\xff,B1,1.0,5\n,B1,1.0,5\nA1,B1,nan,5\n"
    lonely = ratings(("A_lonely", ITEMS[0], 5.0, 1))
    again = ratings((USERS[0], ITEMS[0], 1.0, 90), (USERS[1], ITEMS[0], 2.0, 500))  # an older and a newer one
    path.write_bytes(bad + lonely.encode() + ratings(*PAIRS).encode() + b"\n" + again.encode())
    (tmp_path / "data" / ".mine.new" / "spill").mkdir(parents=True)  # of a preparation that was killed
    status, out, _ = call("--ratings", path, "--max-malformed", 0.3)
    assert status == 0 and "5 lines could not be used" in out and "left out, no user: 1 (line 5)" in out
    frame = inter(tmp_path)
    assert list(frame) == ["userID", "itemID", "rating", "timestamp", "x_label"] and len(frame) == 16
    assert frame.loc[(frame.userID == 0) & (frame.itemID == 0), ["rating", "timestamp"]].values.tolist() == [[5.0, 100]]
    assert frame.loc[(frame.userID == 1) & (frame.itemID == 0), ["rating", "timestamp"]].values.tolist() == [[2.0, 500]]
    found = report(tmp_path)
    assert found["read"] == {"interactions": 19, "users": 5, "items": 4}
    assert [(row["interactions"], row["users"], row["items"]) for row in found["dropped"]] == [(2, 0, 0), (1, 1, 0)]
    assert found["splits"] == {"train": 8, "valid": 4, "test": 4}
    source = found["sources"][0]
    assert (source["lines"], source["rows"], source["malformed"]) == (25, 19, 5)
    assert source["left_out"] == [{"reason": "no user", "count": 1, "lines": [5]}]
    assert [(one["line"], one["reason"]) for one in source["malformed_lines"]] == [
        (1, "too few fields"),
        (2, "rating is not a number"),
        (3, "too many fields"),
        (4, "not UTF-8"),
        (6, "rating is not a number"),
    ]
    maps = pd.read_csv(tmp_path / "data" / "mine" / "u_id_mapping.csv", sep="\t")
    assert maps.values.tolist() == [[user, number] for number, user in enumerate(USERS)]
    assert not list((tmp_path / "data").glob(".*"))


def test_too_many_malformed_lines_stop_it_and_leave_nothing(call, tmp_path, configs):
    path = tmp_path / "ratings.csv"
    path.write_text(ratings(*PAIRS) + "short,line\n")
    status, _, err = call("--ratings", path)
    assert status == 2 and "1 of 17 lines cannot be used (5.9%), more than --max-malformed 0.01" in err
    assert "line 17, too few fields: 'short,line'" in err
    assert not list((tmp_path / "data").iterdir()) and not (configs / "dataset" / "mine.yaml").exists()


def test_the_order_of_2018_is_noticed_and_can_be_said(call, tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(ratings(*((item, user, rating, time) for user, item, rating, time in PAIRS)))
    status, _, err = call("--ratings", path)
    assert status == 2 and "--columns item user rating timestamp" in err
    assert call("--ratings", path, "--columns", "item", "user", "rating", "timestamp")[0] == 0
    assert (tmp_path / "data" / "mine" / "i_id_mapping.csv").read_text().splitlines()[:2] == ["asin\titemID", f"{ITEMS[0]}\t0"]


def test_ratings_of_2023_have_a_header(call, tmp_path):
    path = tmp_path / "ratings.csv.gz"
    path.write_bytes(gzip.compress(("user_id,parent_asin,rating,timestamp\n" + ratings(*PAIRS)).encode()))
    status, _, err = call("--ratings", path, "--columns", "user", "item", "rating", "timestamp")
    assert status == 2 and "--columns is for a file without a header" in err
    assert call("--ratings", path)[0] == 0 and len(inter(tmp_path)) == 16


@pytest.mark.parametrize("fields", ["reviewerID asin overall unixReviewTime", "user_id parent_asin rating timestamp"])
def test_reviews_of_each_year_are_read(call, tmp_path, fields):
    lines = [json.dumps(dict(zip(fields.split(), pair, strict=True)) | {"text": "é'\""}) for pair in PAIRS]
    lines[3:3] = ["{cut", json.dumps({fields.split()[0]: "x"}), "[1, 2]", ""]
    path = tmp_path / "reviews.json.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode() + b'\n{"a": "\xff"}'))
    assert call("--reviews", path, "--max-malformed", 0.5)[0] == 0
    assert len(inter(tmp_path)) == 16
    reasons = [(one["line"], one["reason"]) for one in report(tmp_path)["sources"][0]["malformed_lines"]]
    names = fields.split()[1]
    assert reasons == [
        (4, "neither JSON nor a Python literal"),
        (5, "no field parent_asin or asin"),
        (6, "no record of fields"),
        (21, "not UTF-8"),
    ], names


def test_a_name_that_is_a_path_is_a_mistake(call, tmp_path):
    (tmp_path / "ratings.csv").write_text(ratings(*PAIRS))
    status, _, err = call("--ratings", tmp_path / "ratings.csv", dataset="a/b")
    assert status == 2 and "-d a/b" in err and not (tmp_path / "data").exists()


@pytest.mark.parametrize("option", ["--ratings", "--reviews", "--meta"])
def test_a_gz_that_is_cut_short_is_an_error_and_leaves_nothing(call, tmp_path, option):
    good = tmp_path / "good.csv"
    good.write_text(ratings(*PAIRS))
    rng = np.random.default_rng(0)
    lines = "".join(f"{{'asin': 'B{n:09d}', 'title': '{n}'}}\n" for n in rng.integers(0, 10**9, 20_000))
    whole = gzip.compress((ratings(*PAIRS) * 900 if option == "--ratings" else lines).encode())
    cut = tmp_path / "cut.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    words = [option, cut, "--max-malformed", 1] + (["--ratings", good] if option == "--meta" else [])
    status, _, err = call(*words)
    assert status == 2 and str(cut) in err and "cut short" in err
    assert not list((tmp_path / "data").iterdir())


META = [
    {
        "asin": ITEMS[0],
        "title": "A  title",
        "brand": "Brand",
        "categories": [["Baby", "Toys"], ["Other"]],
        "description": "Of it.",
    },
    {"asin": ITEMS[1], "title": 'It\'s "quoted"', "store": "Shop", "category": ["One", "Two"], "description": ["a", "b\nc"]},
    {"asin": "B_stranger", "title": "not kept"},
    {"asin": ITEMS[0], "title": "again"},
    {"asin": ITEMS[2], "title": None, "price": 3.5},
]


@pytest.mark.parametrize("write", [repr, json.dumps], ids=["literals of 2014", "JSON"])
def test_texts_are_joined_and_the_first_of_an_item_counts(call, tmp_path, write):
    path, meta = tmp_path / "ratings.csv", tmp_path / "meta.json"
    path.write_text(ratings(*PAIRS))
    meta.write_text("".join(f"{write(one)}\n" for one in META) + "{'asin': \n", encoding="utf-8")
    assert call("--ratings", path, "--meta", meta, "--max-malformed", 0.2)[0] == 0
    frame = pd.read_csv(tmp_path / "data" / "mine" / "items.csv", dtype=str, keep_default_na=False)
    assert frame.values.tolist() == [
        ["0", ITEMS[0], "A title Brand Baby Toys Of it."],
        ["1", ITEMS[1], 'It\'s "quoted" Shop One Two a b c'],
        ["2", ITEMS[2], ""],
        ["3", ITEMS[3], ""],
    ]
    found = report(tmp_path)
    assert found["sources"][1]["malformed"] == 1
    assert "meta.json has 3 of the 4 items" in found["notes"]
    assert found["sources"][1]["notes"] == ["1 further line about an item; the first that has a text counts"]


def test_a_record_that_is_code_is_not_executed(tmp_path):
    trace = tmp_path / "executed"
    with pytest.raises(ValueError, match="neither JSON"):
        parse_record(f"{{'asin': open({str(trace)!r}, 'w')}}".encode())
    assert not trace.exists()
    eval(f"{{'asin': open({str(trace)!r}, 'w')}}")["asin"].close()
    assert trace.exists()  # the trap works


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4))
def test_a_record_is_what_literal_eval_and_json_make_of_it(record):
    literal = repr(record)
    assert parse_record(literal.encode("utf-8", "replace")) == ast.literal_eval(literal.encode("utf-8", "replace").decode())
    assert parse_record(json.dumps(record).encode()) == json.loads(json.dumps(record))


def test_a_text_has_the_parts_that_are_strings():
    assert item_text({"title": ["x", 3], "brand": float("inf"), "categories": [], "description": ""}) == "x"
    assert item_text({}) == ""


def test_image_features_are_put_in_the_order_of_the_items(call, tmp_path):
    path, images = tmp_path / "ratings.csv", tmp_path / "features.b"
    path.write_text(ratings(*PAIRS))
    records = np.zeros(5, RECORD)
    records["name"] = [ITEMS[2].encode(), b"B_stranger", ITEMS[0].encode(), ITEMS[3].encode(), ITEMS[2].encode()]
    records["feature"] = np.array([9, 8, 1, np.nan, 3])[:, None]
    records.tofile(images)
    assert call("--ratings", path, "--image-features", images)[0] == 0
    folder = tmp_path / "data" / "mine"
    table, mask = np.load(folder / "image_feat.npy"), np.load(folder / "image_mask.npy")
    assert table.shape == (4, 4096) and table.dtype == np.float32 and mask.tolist() == [True, False, True, False]
    np.testing.assert_array_equal(table[:, [0, -1]], [[1, 1], [2, 2], [3, 3], [2, 2]])
    assert (folder / "missing_images.csv").read_text().splitlines() == [
        "item_id,original_id,reason",
        f"1,{ITEMS[1]},no image",
        f"3,{ITEMS[3]},NaN or Inf",
    ]
    images.write_bytes(images.read_bytes()[:-1])
    status, _, err = call("--ratings", path, "--image-features", images, dataset="other")
    assert status == 2 and "cut short" in err and not (tmp_path / "data" / "other").exists()


def test_a_data_set_is_replaced_only_when_told(call, tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(ratings(*PAIRS))
    assert call("--ratings", path)[0] == 0
    (tmp_path / "data" / "mine" / "text_feat.npy").write_text("of the old numbers")
    status, _, err = call("--ratings", path, "--min-rating", 5)
    assert status == 2 and "--overwrite" in err and (tmp_path / "data" / "mine" / "text_feat.npy").exists()
    assert call("--ratings", path, "--overwrite")[0] == 0
    assert not (tmp_path / "data" / "mine" / "text_feat.npy").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ratings", "/nowhere.csv"], "/nowhere.csv does not exist"),
        (["--ratings", "{good}", "--min-rating", "6"], "no interaction is left of 16: 16 by rating below 6"),
        (["--ratings", "{good}", "--k-core", "9"], "(9-core)"),
        (["--ratings", "{good}", "--meta", "/nowhere.json"], "/nowhere.json does not exist"),
        (["--ratings", "{good}", "--columns", "user", "user", "rating", "timestamp"], "expected each of user, item"),
        (["--reviews", "{good}", "--columns", "user", "item", "rating", "timestamp"], "--columns is for --ratings"),
    ],
)
def test_a_mistake_ends_with_one_message_and_status_2(call, tmp_path, words, message):
    (tmp_path / "good.csv").write_text(ratings(*PAIRS))
    status, _, err = call(*(word.format(good=tmp_path / "good.csv") for word in words))
    assert status == 2 and message in err and not (tmp_path / "data" / "mine").exists()


def test_a_field_without_a_value_gives_way_to_the_next_that_names_the_same(call, tmp_path):
    lines = [json.dumps({"user_id": u, "parent_asin": None, "asin": i, "rating": r, "timestamp": t}) for u, i, r, t in PAIRS]
    (tmp_path / "reviews.json").write_text("\n".join(lines))
    assert call("--reviews", tmp_path / "reviews.json")[0] == 0 and len(inter(tmp_path)) == 16


def test_hints_name_options_that_the_command_has(call, tmp_path):
    (tmp_path / "latin.csv").write_text(ratings(*PAIRS).replace("A000", "\u00e9000"), encoding="latin-1")
    status, _, error = call("--ratings", tmp_path / "latin.csv")
    assert status == 2 and "Save the file as UTF-8" in error and "--encoding" not in error
    dates = "".join(f"{user},{item},{rating},01/02/2017\n" for user, item, rating, _ in PAIRS)
    (tmp_path / "dates.csv").write_text(dates)
    status, _, error = call("--ratings", tmp_path / "dates.csv")
    assert status == 2 and "Write dates with the year first" in error and "--time-format" not in error
    pd.DataFrame(PAIRS, columns=["user_id", "parent_asin", "rating", "timestamp"]).to_parquet(tmp_path / "r.parquet")
    status, _, error = call("--ratings", tmp_path / "r.parquet")
    assert status == 2 and "prepare table` reads Parquet" in error and "--columns" not in error
