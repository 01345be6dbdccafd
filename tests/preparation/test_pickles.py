"""Matrices in pickles: what they hold is read, and nothing that they name is called."""

import os
import pickle
import struct

import numpy as np
import pytest
from scipy import sparse

from mambarec.base.errors import DataError
from mambarec.preparation.readers.pickles import read_matrix

DENSE = np.array([[0, 1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 0]])
FORMS = ("csr_matrix", "csc_matrix", "coo_matrix", "csr_array", "coo_array")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "int32", "bool"])
def test_a_matrix_is_read_as_pickle_reads_it(tmp_path, form, protocol, dtype):
    matrix = getattr(sparse, form)(DENSE.astype(dtype))
    (tmp_path / "train_mat").write_bytes(pickle.dumps(matrix, protocol))
    found = read_matrix(tmp_path / "train_mat")
    assert found.shape == (3, 4)
    np.testing.assert_array_equal(found.toarray(), DENSE.astype(dtype))


@pytest.mark.parametrize("form", ["csr_matrix", "coo_matrix"])
def test_a_matrix_of_older_libraries_is_read(tmp_path, form):
    """They name other modules, and a coo_matrix has row and col."""
    matrix = getattr(sparse, form)(DENSE)
    if form == "coo_matrix":
        row, column = matrix.__dict__.pop("coords")
        matrix.__dict__ |= {"row": row, "col": column}
    content = pickle.dumps(matrix, 3).replace(b"numpy._core", b"numpy.core").replace(b"scipy.sparse._", b"scipy.sparse.")
    (tmp_path / "old").write_bytes(content)
    np.testing.assert_array_equal(read_matrix(tmp_path / "old").toarray(), DENSE)


class Evil:
    """Calls something when pickle reads it."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def with_state(**changes):
    matrix = sparse.csr_matrix(DENSE)
    matrix.__dict__.update(changes)
    return matrix


NESTED = ()
for _ in range(60):
    NESTED = (NESTED, NESTED)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "thing",
    [
        Evil(os.mkdir, "made"),
        Evil(eval, "__import__('os').mkdir('made')"),
        Evil(sparse.csr_matrix, (10**15, 10**15)),
        Evil(np.zeros, 10**15),
        Evil(np.load, "/etc/passwd"),
        [sparse.csr_matrix(DENSE)],
        {"a": 1},
        DENSE,
        sparse.lil_matrix(DENSE),
        with_state(data=Evil(os.mkdir, "made")),
        with_state(_shape=(10**12, 4)),
        with_state(_shape=NESTED),
        with_state(indices=np.array([0, 1, 99])),
        with_state(indices=np.array([[0, 1, 2]])),
        with_state(indptr=np.array([0, 2, 2, 9])),
        with_state(data=np.array([1, 2, None], dtype=object)),
        with_state(data=None),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_no_matrix_of_numbers_is_refused_and_not_run(tmp_path, monkeypatch, thing, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train_mat").write_bytes(pickle.dumps(thing, protocol))
    with pytest.raises(DataError, match=r"train_mat is no pickle of a sparse matrix of SciPy: .*Save a csr_matrix"):
        read_matrix(tmp_path / "train_mat")
    assert [path.name for path in tmp_path.iterdir()] == ["train_mat"]


GOOD = pickle.dumps(sparse.csr_matrix(DENSE), 4)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        GOOD[:-1],
        GOOD[: len(GOOD) // 2],
        b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b"x.",  # a buffer that is longer than the file
        b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".",  # a place that would need 64 GB
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02)" + b"q\x00h\x00\x86" * 200 + b".",  # a tree of 2 ** 200 leaves
        b"cos\nmkdir\n(S'made'\ntR.",
        b"(S'made'\nios\nmkdir\n.",
        b"\x80\x02cos\nmkdir\nX\x04\x00\x00\x00made\x81.",
        b"Pmade\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x97.",
    ],
)
def test_a_damaged_or_hostile_file_is_a_sentence(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mat").write_bytes(content)
    with pytest.raises(DataError, match="mat is no pickle"):
        read_matrix(tmp_path / "mat")
    assert [path.name for path in tmp_path.iterdir()] == ["mat"]


def test_a_flipped_bit_is_read_or_refused(tmp_path):
    for place in range(len(GOOD)):
        content = bytearray(GOOD)
        content[place] ^= 1 << place % 8
        (tmp_path / "mat").write_bytes(content)
        try:
            assert read_matrix(tmp_path / "mat").nnz <= 3
        except DataError as error:
            assert str(error).startswith(str(tmp_path / "mat"))
