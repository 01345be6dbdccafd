"""Original ids and numbers: MMRec's maps in each of their forms, and maps that do not fit."""

import numpy as np
import pytest

from mambarec.base.errors import DataError
from mambarec.serving.identifiers import Identifiers


@pytest.fixture
def read(tmp_path):
    """read(text, n=3) -> Identifiers of a map with this content."""

    def make(text: str, n: int = 3) -> Identifiers:
        path = tmp_path / "i_id_mapping.csv"
        path.write_text(text)
        return Identifiers.read("item", n, path, "itemID")

    return make


@pytest.mark.parametrize(
    "text",
    [
        "item_id\titemID\nB00\t0\nC11\t2\nA22\t1\n",
        "item_id,itemID\nB00,0\nA22,1\nC11,2\n",
        "itemID,item_id\n2,C11\n0,B00\n1,A22\n",
        "asin\tx\nB00\t0\nA22\t1\nC11\t2\n",
        'name,number\n"B00",0\n"A22",1\nC11,2\n',
    ],
)
def test_maps_are_read_whatever_their_separator_and_order_of_columns(read, text):
    ids = read(text)
    assert ids.of(np.array([2, 0, -1])).tolist()[:2] == ["C11", "B00"] and ids.of(np.array([2, 0, -1])).isna()[2]
    assert ids.numbers(["A22", "C11"]).tolist() == [1, 2]


def test_original_ids_stay_text(read):
    ids = read("item_id,itemID\n007,0\nNA,1\nÄ b,2\n")
    assert ids.of(np.arange(3)).tolist() == ["007", "NA", "Ä b"]
    assert ids.numbers(["NA"]).tolist() == [1]


def test_where_both_columns_are_numbers_the_name_decides(read):
    assert read("itemID,item_id\n0,2\n1,0\n2,1\n").of(np.arange(3)).tolist() == ["2", "0", "1"]
    assert read("item_id,itemID\n0,2\n1,0\n2,1\n").of(np.arange(3)).tolist() == ["1", "2", "0"]


def test_without_a_map_the_numbers_are_the_ids(tmp_path):
    ids = Identifiers.read("user", 3, tmp_path / "absent.csv", "userID")
    assert ids.of(np.array([2, 0])).tolist() == [2, 0] and ids.of(np.array([-1])).isna().all()
    assert ids.numbers(["1"]).tolist() == [1]
    with pytest.raises(DataError, match=r"there is no user '3' \(2 of 3 ids are unknown\).*0 … 2"):
        ids.numbers(["0", "3", "x"])
    assert ids.has(["1", " 1", "'1'", "01", "007", "\u0661", "1" * 5000, "-1", "1.0"]).tolist() == [True] * 3 + [False] * 6


def test_an_id_is_found_however_a_table_spells_it(read):
    ids = read("item_id,itemID\nCaf\u00e9,0\nb,1\n' c,2\n")
    assert ids.find(["Cafe\u0301", "Caf\u00e9", '"b"', " b ", "' c"]).tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,itemID\na,0\nb,1\n", r"none of its columns .* holds each of 0 … 2 once.*\(2 rows\)"),
        ("item_id,itemID\na,0\nb,1\nc,2\nd,3\n", r"\(4 rows\)"),
        ("item_id,itemID\na,0\nb,1\nc,1\n", r"none of its columns"),
        ("item_id,itemID\na,0\na,1\nc,2\n", r"the original id 'a' is there twice"),
        ("item_id,itemID,title\na,0,x\n", r"has the columns \['item_id', 'itemID', 'title'\]; expected two"),
        ("", r"cannot be read as a table"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(read, text, message):
    with pytest.raises(DataError, match=message):
        read(text)


def test_an_unknown_original_id_is_refused_with_an_example(read):
    with pytest.raises(
        DataError, match=r"there is no item 'Z' \(1 of 2 ids are unknown\); ids are the original ones, such as 'a'"
    ):
        read("item_id,itemID\na,0\nb,1\nc,2\n").numbers(["a", "Z"])


@pytest.mark.parametrize(
    "text",
    [
        ",item_id,itemID\n0,B00,0\n1,A22,1\n2,C11,2\n",
        "item_id,itemID\nB00,0.0\nA22,1.0\nC11,2.0\n",
        "item_id\titemID\n B00 \t 0\nA22\t 1 \nC11\t2\n",
    ],
    ids=["index", "floats", "blanks"],
)
def test_an_index_fractions_of_zero_and_blanks_do_no_harm(read, text):
    assert read(text).numbers(["A22", "C11"]).tolist() == [1, 2]


def test_a_map_whose_header_has_a_name_twice_or_a_name_too_few_is_refused(read):
    with pytest.raises(DataError, match="has the column 'itemID' twice"):
        read("itemID,itemID\na,0\nb,1\nc,2\n")
    with pytest.raises(DataError, match="more fields than its header"):
        read("item_id,itemID\n0,a,0\n1,b,1\n2,c,2\n")
