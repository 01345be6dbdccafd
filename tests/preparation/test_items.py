"""items.csv is read in the order of the numbers, or refused with what is wrong."""

import pytest

from mambarec.base.errors import DataError
from mambarec.preparation.features.items import read_items


def test_items_come_in_the_order_of_their_numbers(tmp_path):
    (tmp_path / "items.csv").write_text('item_id,original_id,text\n1,B,"one, and\nmore"\n0,NA,\n')
    items = read_items(tmp_path, "text")
    assert items.index.tolist() == [0, 1]
    assert items["original_id"].tolist() == ["NA", "B"] and items["text"].tolist() == ["", "one, and\nmore"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("item_id,original_id\n0,a\n", "has no column 'text'; it has: item_id, original_id"),
        ("item_id\toriginal_id\ttext\n0\ta\tx\n", r"has '\\t' between its columns; separate them by commas"),
        ("item_id,original_id,text\n", "no rows"),
        ("item_id,original_id,text\n0,a,x\n2,b,x\n", r"row 2: item_id is '2'; expected each of 0 … 1 once"),
        ("item_id,original_id,text\n0,a,x\n0,b,x\n", r"row 2: item_id is '0'"),
        ("item_id,original_id,text\n0,a,x\nx,b,x\n", r"row 2: item_id is 'x'"),
        ("item_id,original_id,text\n0,a,x\n1,a,x\n", "the original_id 'a' is there twice"),
        ("item_id,original_id,text,text\n0,a,x,y\n", "has the column 'text' twice"),
        ("item_id,original_id,text\n0,a,x, y\n1,b,x, y\n", "more fields than its header"),
        ("", "cannot be read"),
        (b"item_id,original_id,text\n0,a,\xff\n", "UTF-8"),
        (None, "does not exist"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / "items.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read_items(tmp_path, "text")
