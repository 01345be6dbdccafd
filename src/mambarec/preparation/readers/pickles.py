"""Sparse matrices of SciPy in pickle files, read without running code of the file.

A pickle is a program for a small machine, which can call whatever it names. Here it can name a few things only. Each of them
stands for an inert record of this module: no class and no function of SciPy or NumPy is called while the file is read. The
arrays are then made of the bytes that the records hold, after their types and sizes were checked.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from mambarec.base.bounded import first_line, read_bytes
from mambarec.base.errors import DataError

LARGEST = 2**30  # bytes of a file
_KINDS = "biuf"  # of numbers and truth values
# What a pickle of an array or a matrix is made of. Calls out of the file, extensions and old ways to make objects are not.
_OPCODES = frozenset(
    "PROTO FRAME STOP MARK MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD NEWOBJ "
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS".split()
)
# A matrix takes up to 200 instructions, and up to 15 that repeat a part. Many repeats would make a small file a large tree.
_MOST, _MOST_REPEATS = 1000, 24


class _Matrix:
    """A matrix of the file: its attributes as they stand there."""

    form = ""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ValueError("a matrix without attributes")
        self.state = state


class _Csr(_Matrix):
    form = "csr"


class _Csc(_Matrix):
    form = "csc"


class _Coo(_Matrix):
    form = "coo"


class _Ndarray:
    """Stands for the class numpy.ndarray."""


class _Dtype:
    """Stands for numpy.dtype: its code, such as f8, and its order of bytes."""

    def __init__(self, code: Any, *_: Any):
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def made(self) -> np.dtype:
        """A type of numbers; ValueError for any other."""
        if not isinstance(self.code, str) or len(self.code) > 3:
            raise ValueError("an array of an unknown type")
        dtype = np.dtype(self.code)
        if dtype.kind not in _KINDS or self.order == ">":  # SciPy's matrices have the bytes in this machine's order
            raise ValueError(f"an array of {dtype}; expected numbers")
        return dtype


class _Array:
    """Stands for an array: shape, type, order and bytes."""

    def __init__(self, state: Any = None):
        self.state = state

    def __setstate__(self, state: Any) -> None:
        self.state = tuple(state)[-4:]  # without the version that it begins with

    def made(self) -> np.ndarray:
        """The array, which has one dimension; ValueError where its parts do not fit one another."""
        shape, dtype, _, content = self.state
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or len(shape) != 1 or type(shape[0]) is not int:
            raise ValueError("an array without a type and a length")
        content = content.encode("latin-1") if isinstance(content, str) else content
        made = dtype.made()
        if not isinstance(content, bytes | bytearray) or len(content) != shape[0] * made.itemsize:
            raise ValueError(f"an array of {made} whose bytes do not fit its length")
        return np.frombuffer(bytes(content), made)


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, content: Any) -> int:
    """A whole number of NumPy's, as some shapes have."""
    return int(_Array(((1,), dtype, False, content)).made()[0])


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    return _Array((shape, dtype, order, content))


def _reconstructor(kind: Any, base: Any, state: Any) -> _Matrix:
    if not (isinstance(kind, type) and issubclass(kind, _Matrix)):
        raise ValueError("an object that is no matrix")
    return kind()


def _encoded(text: Any, encoding: Any) -> bytes:
    """Bytes, as protocol 2 writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("a text in an unknown encoding")
    return text.encode("latin-1")


# What a file may name, and what stands for it. The modules had other names in older versions.
_NAMED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Dtype,
    ("copyreg", "_reconstructor"): _reconstructor,
    ("copy_reg", "_reconstructor"): _reconstructor,
    ("builtins", "object"): object,
    ("__builtin__", "object"): object,
    ("_codecs", "encode"): _encoded,
}
for _core in ("numpy.core", "numpy._core"):
    _NAMED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _NAMED[f"{_core}.multiarray", "scalar"] = _scalar
    _NAMED[f"{_core}.numeric", "_frombuffer"] = _from_buffer
for _record in (_Csr, _Csc, _Coo):
    for _module in (f"scipy.sparse.{_record.form}", f"scipy.sparse._{_record.form}"):
        for _kind in ("matrix", "array"):
            _NAMED[_module, f"{_record.form}_{_kind}"] = _record


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMED:
            raise ValueError(f"it names {module}.{name}, which no matrix of numbers needs; nothing of it was run")
        return _NAMED[module, name]


def read_matrix(path: Path) -> sparse.coo_matrix:
    """The matrix of numbers in a pickle file, in the form 'coo'; the file has at most LARGEST bytes.

    DataError where the file is not a pickle of a csr, csc or coo matrix, and where it names anything else.
    """
    try:
        content = read_bytes(path, LARGEST)
        _check_instructions(content)
        found = _Unpickler(io.BytesIO(content), encoding="latin-1").load()
        if not isinstance(found, _Matrix):
            raise ValueError("it holds something else")
        return _made(found)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged program makes the machine raise almost anything
        raise DataError(
            f"{path} is no pickle of a sparse matrix of SciPy: {first_line(error)}. Save a csr_matrix with pickle.dump"
        ) from None


def _check_instructions(content: bytes) -> None:
    """ValueError unless the program has only what a matrix needs, and no length or place beyond its end. Nothing is run."""
    n_repeats = 0
    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name not in _OPCODES:
            raise ValueError(f"it has the instruction {opcode.name}, which no matrix of numbers needs; nothing of it was run")
        if "PUT" in opcode.name and (argument or 0) > _MOST:
            raise ValueError("it keeps a part at a place that no matrix needs")
        n_repeats += "GET" in opcode.name
        if number > _MOST or n_repeats > _MOST_REPEATS:
            raise ValueError("it has more instructions than a matrix of numbers needs; nothing of it was run")


def _made(record: _Matrix) -> sparse.coo_matrix:
    state = record.state
    shape = state.get("_shape", state.get("shape"))
    if not isinstance(shape, tuple) or len(shape) != 2 or not all(type(n) is int and 0 < n < 2**31 for n in shape):
        raise ValueError("it has no shape of users x items")
    data = _array(state["data"])
    if record.form == "coo":
        row, column = state["coords"] if "coords" in state else (state["row"], state["col"])
        return sparse.coo_matrix((data, (_array(row), _array(column))), shape=shape)
    form = sparse.csr_matrix if record.form == "csr" else sparse.csc_matrix
    matrix = form((data, _array(state["indices"]), _array(state["indptr"])), shape=shape)
    matrix.check_format(full_check=True)
    return matrix.tocoo()


def _array(value: Any) -> np.ndarray:
    if not isinstance(value, _Array):
        raise ValueError("a part of it is no array")
    return value.made()
