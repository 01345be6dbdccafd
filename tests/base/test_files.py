import io

import numpy as np
import pytest

from mambarec.base.errors import DataError
from mambarec.base.files import is_intact, replacing, replacing_folder, sealed, write_text


def test_the_new_content_replaces_the_old_at_the_end_of_the_block(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_failure_keeps_the_old_content_and_leaves_nothing_beside_it(tmp_path, failure):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(failure), replacing(path) as file:
        file.write(b"half")
        raise failure
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def test_a_text_is_written_into_a_folder_that_is_made_for_it(tmp_path):
    write_text(tmp_path / "deep" / "b.txt", "ü\n")
    assert (tmp_path / "deep" / "b.txt").read_bytes() == "ü\n".encode()


def test_every_byte_of_a_seal_counts():
    archive = io.BytesIO()
    np.savez(archive, values=np.arange(3))
    assert is_intact(archive.getvalue()) is None
    content = sealed(archive.getvalue())
    assert is_intact(content) is True
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        assert is_intact(bytes(damaged)) is False, place


def test_what_is_wrong_within_a_hidden_folder_is_said_of_the_final_one(tmp_path):
    with pytest.raises(DataError, match=f"^{tmp_path}/made/table.csv is empty$"), replacing_folder(tmp_path / "made") as new:
        raise DataError(f"{new / 'table.csv'} is empty")


def test_an_error_of_the_system_within_a_hidden_folder_names_the_final_file(tmp_path):
    with pytest.raises(FileNotFoundError) as error, replacing_folder(tmp_path / "made") as new:
        (new / "deep" / "absent.csv").read_text()
    assert error.value.filename == str(tmp_path / "made" / "deep" / "absent.csv")
