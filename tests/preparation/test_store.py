"""The image store keeps what a write has finished, grows, and reads in the order asked for."""

import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

import mambarec.preparation.features.store as module
from mambarec.base.errors import DataError
from mambarec.preparation.features.store import ImageStore

SRC = Path(__file__).resolve().parents[2] / "src"


def test_pictures_come_back_in_the_order_asked_for(tmp_path):
    with ImageStore(tmp_path / "images.lmdb") as store:
        store.put([(10, b"ten"), (2, b"two")])
        store.put([(1, b"one")])
    with ImageStore(tmp_path / "images.lmdb", read_only=True) as store:
        assert list(store.read([2, 3, 10, 1])) == [b"two", None, b"ten", b"one"]
        assert len(store) == 3 and store.items() == {1, 2, 10}


def test_another_program_finds_them_by_the_digits_of_the_item(tmp_path):
    with ImageStore(tmp_path / "images.lmdb") as store:
        store.put([(73, b"bytes")])
    with lmdb.open(str(tmp_path / "images.lmdb"), readonly=True) as environment, environment.begin() as transaction:
        assert transaction.get(b"73") == b"bytes"


def test_it_grows_as_pictures_need(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAP_SIZE", 2**16)
    pictures = [(item, bytes([item]) * 300_000) for item in range(10)]
    with ImageStore(tmp_path / "images.lmdb") as store:
        store.put(pictures[:5])
        store.put(pictures[5:])
        assert list(store.read(range(10))) == [content for _, content in pictures]


def test_its_version_changes_with_writes_only(tmp_path):
    with ImageStore(tmp_path / "images.lmdb") as store:
        store.put([(0, b"a")])
        version = store.version
        list(store.read([0]))
        assert store.version == version
        store.put([(1, b"b")])
        assert store.version != version


KILLED = """
import os, signal, sys
sys.path.insert(0, {src!r})
from pathlib import Path
from mambarec.preparation.features.store import ImageStore
def pictures():
    yield 2, b"2" * 10_000
    os.kill(os.getpid(), signal.SIGKILL)
with ImageStore(Path({path!r})) as store:
    store.put([(0, b"0" * 10_000), (1, b"1" * 10_000)])
    store.put(pictures())
"""


def test_a_killed_writer_leaves_the_writes_it_had_finished(tmp_path):
    path = tmp_path / "images.lmdb"
    process = subprocess.run([sys.executable, "-c", KILLED.format(src=str(SRC), path=str(path))], check=False)
    assert process.returncode == -signal.SIGKILL
    with ImageStore(path) as store:
        assert store.items() == {0, 1} and next(store.read([1])) == b"1" * 10_000
        store.put([(2, b"2")])
        assert len(store) == 3


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "images.lmdb").mkdir()
    (tmp_path / "images.lmdb" / "data.mdb").write_bytes(b"no store" * 4096)
    with pytest.raises(DataError, match="is no image store"):
        ImageStore(tmp_path / "images.lmdb")
    with pytest.raises(DataError, match="does not exist"):
        ImageStore(tmp_path / "none.lmdb", read_only=True)
