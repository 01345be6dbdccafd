"""Pictures are found by original id or by path, packed once, and what is left out is said."""

import pytest

from mambarec.base.errors import DataError
from mambarec.preparation.features.items import read_items
from mambarec.preparation.features.packing import STORE, pack_images
from mambarec.preparation.features.store import ImageStore


def packed(folder) -> dict[int, bytes]:
    with ImageStore(folder / STORE, read_only=True) as store:
        numbers = sorted(store.items())
        return dict(zip(numbers, store.read(numbers), strict=True))


def test_files_named_by_original_id_are_packed_from_all_folders_below(write_items, tmp_path, capsys):
    folder, images = write_items(4), tmp_path / "pictures"
    (images / "deep").mkdir(parents=True)
    for name in ("B0.jpg", "B0.png", "deep/B2.JPEG", "B3.txt", "stranger.png"):
        (images / name).write_bytes(name.encode())
    pack_images(folder, read_items(folder), images)
    assert packed(folder) == {0: b"B0.jpg", 2: b"deep/B2.JPEG"}
    said = capsys.readouterr().out
    assert "pictures of 2 of 4 items, 2 new" in said
    assert "1 pictures left out, named like no item" in said and "1 pictures left out, second pictures of an item" in said


def test_a_column_of_paths_starts_at_the_folder_of_images_or_the_data_set(write_items, tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"a")
    folder = write_items(3, picture=["a.png", "", "lost.png"])
    pack_images(folder, read_items(folder), tmp_path / "pictures", "picture")
    assert packed(folder) == {0: b"a"}
    assert "left out: item 2: " in capsys.readouterr().out
    (folder / "lost.png").write_bytes(b"found")
    pack_images(folder, read_items(folder), None, "picture")
    assert packed(folder) == {0: b"a", 2: b"found"}


def test_what_is_packed_is_not_read_again(write_items, tmp_path, monkeypatch):
    monkeypatch.setattr("mambarec.preparation.features.packing._PICTURES", 2)
    images = tmp_path / "pictures"
    images.mkdir()
    for item in range(5):
        (images / f"B{item}.png").write_bytes(b"first")
    folder = write_items(5)
    put, writes = ImageStore.put, []

    def stopped(store, pictures):
        writes.append(pictures)
        if len(writes) == 2:
            raise KeyboardInterrupt
        put(store, pictures)

    monkeypatch.setattr(ImageStore, "put", stopped)
    with pytest.raises(KeyboardInterrupt):
        pack_images(folder, read_items(folder), images)
    monkeypatch.setattr(ImageStore, "put", put)
    for item in range(5):
        (images / f"B{item}.png").write_bytes(b"second")
    pack_images(folder, read_items(folder), images)
    assert list(packed(folder).values()) == [b"first"] * 2 + [b"second"] * 3


def test_without_any_picture_the_error_says_what_was_looked_for(write_items, tmp_path):
    (tmp_path / "empty").mkdir()
    folder = write_items(2, picture=["", ""], lost=["/nowhere/a.png", ""])
    items = read_items(folder)
    for images, column, message in (
        (tmp_path / "empty", None, "is named B0.jpg"),
        (None, "picture", "column 'picture' is empty"),
        (None, "lost", "/nowhere/a.png"),
        (tmp_path / "absent", None, "is no folder"),
    ):
        with pytest.raises(DataError, match=message):
            pack_images(folder, items, images, column)
