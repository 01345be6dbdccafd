"""The picture files of a data set in one LMDB store: key = item id in decimal digits, value = the bytes of the file.

A write is on disk when it returns, or not there at all; a process that is killed leaves a store that goes on from there.
"""

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import lmdb

from mambarec.base.errors import DataError, RunError
from mambarec.base.files import write_text
from mambarec.base.words import command

_NAME = "name"  # the file, beside LMDB's own, with a name that no other store has
_MAP_SIZE = 2**26  # bytes at first; it doubles whenever the pictures need more


class ImageStore:
    """Pictures by item id. A context manager; the folder of the store is made on first use unless it is read only."""

    def __init__(self, path: Path, read_only: bool = False):
        """DataError when there is no store to read or the files are none, RunError when the place cannot be written."""
        self.path = path
        is_new = not (path / "data.mdb").exists()
        if read_only and not (path / "data.mdb").exists():
            raise DataError(
                f"{path} does not exist. `{command('prepare', 'images', '--images', 'FOLDER')}` packs pictures into it"
            )
        try:
            self._environment = lmdb.open(str(path), map_size=_MAP_SIZE, readonly=read_only, max_dbs=0)
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError) as error:
            raise DataError(f"{path} is no image store ({error}); remove it and pack the pictures again") from None
        except lmdb.Error as error:
            raise RunError(f"{path} cannot be opened: {error}") from None
        used = (self._environment.info()["last_pgno"] + 1) * self._environment.stat()["psize"]
        size = (path / "data.mdb").stat().st_size
        if size < min(used, self._environment.info()["map_size"]):  # a page that the file lacks would end the process
            self._environment.close()
            raise DataError(f"{path} is cut short: {size:,} of {used:,} bytes; remove it and pack the pictures again")

        if is_new:
            write_text(path / _NAME, uuid.uuid4().hex)

    def __enter__(self) -> "ImageStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._environment.close()

    def __len__(self) -> int:
        return self._environment.stat()["entries"]

    @property
    def version(self) -> str:
        """Another one after every write, and in every other store. A store of before stores had names has the number alone."""
        name = (self.path / _NAME).read_text(encoding="utf-8") if (self.path / _NAME).exists() else ""
        return f"{name} {self._environment.info()['last_txnid']}".strip()

    def items(self) -> set[int]:
        """The ids of the items that have a picture."""
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            return {int(key) for key in cursor.iternext(values=False)}

    def put(self, pictures: Iterable[tuple[int, bytes]]) -> None:
        """Store these pictures, all of them or, where it raises, none; the store grows as it must."""
        pictures = list(pictures)
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for item, content in pictures:
                        transaction.put(_key(item), content)
                return
            except lmdb.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()["map_size"])
            except lmdb.Error as error:
                raise RunError(f"{self.path} cannot be written: {error}") from None

    def read(self, items: Iterable[int]) -> Iterator[bytes | None]:
        """The pictures of these items in their order, None where there is none."""
        with self._environment.begin() as transaction:
            for item in items:
                yield transaction.get(_key(item))


def _key(item: int) -> bytes:
    return str(item).encode()
