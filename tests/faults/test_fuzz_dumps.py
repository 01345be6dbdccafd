"""Damaged and hostile raw data: Amazon's dumps, tables, image features, pictures and their store."""

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faults.fuzzing import EXAMPLES, accepts, changed, fuzz, mutated
from mambarec.cli import prepare as program
from mambarec.preparation.features.backbones import Backbone
from mambarec.preparation.features.images import _prepare
from mambarec.preparation.features.store import ImageStore
from mambarec.preparation.features.vectors import RECORD
from mambarec.preparation.readers.lines import parse_record

SRC = Path(__file__).resolve().parents[2] / "src"
COLUMNS = "--user-column who --item-column what --rating-column stars --time-column when --interactions"
SIZE = RECORD.itemsize
USERS, ITEMS = [f"A{n:013d}" for n in range(6)], [f"B{n:09d}" for n in range(6)]
PAIRS = [(user, item, 5.0, 100 + n) for n, (user, item) in enumerate((user, item) for user in USERS for item in ITEMS)]
REVIEW_2018 = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1}
REVIEW_2023 = {"user_id": "A1", "parent_asin": "B1", "rating": 5.0, "timestamp": 1}


def ratings() -> bytes:
    return "".join(f"{user},{item},{rating},{time}\n" for user, item, rating, time in PAIRS).encode()


def reviews(names=("reviewerID", "asin", "overall", "unixReviewTime")) -> bytes:
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in PAIRS).encode()


def meta() -> bytes:
    return "".join(f"{{'asin': '{item}', 'title': 'a \\'t\\'', 'categories': [['x', 'y']]}}\n" for item in ITEMS).encode()


@pytest.fixture
def prepared(tmp_path, configs):
    """prepared(command, *words) -> exit status of prepare.py on the data set 'mine'."""

    def invoke(command, *words):
        more = ["-d", "mine", "--data_path", tmp_path / "data", "--k-core", "2", "--threads", "1", "--overwrite"]
        return program.main([str(word) for word in (command, *more, *words)])

    return invoke


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("form", ["ratings", "reviews", "reviews of 2023", "meta", "table"])
def test_a_damaged_dump_is_refused_or_used(prepared, tmp_path, form, packed):
    path, other = tmp_path / "dump", tmp_path / "ratings.csv"
    other.write_bytes(ratings())
    content, words = {
        "ratings": (ratings(), ["amazon", "--ratings", path]),
        "reviews": (reviews(), ["amazon", "--reviews", path]),
        "reviews of 2023": (
            reviews(("user_id", "parent_asin", "rating", "timestamp")).replace(b"A000", b"a'\\u00e9"),
            ["amazon", "--reviews", path],
        ),
        "meta": (meta(), ["amazon", "--ratings", other, "--meta", path]),
        "table": (
            b"who,what,stars,when\n" + ratings(),
            ["table", *COLUMNS.split(), path],
        ),
    }[form]

    @fuzz(4)
    @given(mutated(gzip.compress(content, mtime=0) if packed else content))
    def check(damaged):
        path.write_bytes(damaged)
        accepts(f"dump, {form}", lambda: prepared(*words, "--max-malformed", "1"))

    check()


def test_a_damaged_parquet_file_is_refused_or_used(prepared, tmp_path):
    path = tmp_path / "x.parquet"
    pd.DataFrame(PAIRS, columns=["who", "what", "stars", "when"]).to_parquet(path)

    @fuzz(8)
    @given(mutated(path.read_bytes()).map(lambda content: b"PAR1" + content[4:]))
    def check(damaged):
        path.write_bytes(damaged)
        words = ["table", "--interactions", path, "--user-column", "who", "--item-column", "what", "--time-column", "when"]
        accepts("Parquet", lambda: prepared(*words))

    check()


@fuzz(60)
@given(st.sampled_from([REVIEW_2018, REVIEW_2023]).flatmap(changed).map(json.dumps), st.booleans(), st.data())
def test_a_record_is_refused_by_a_value_error(text, as_literal, data):
    line = data.draw(mutated((repr(REVIEW_2018) if as_literal else text).encode()))
    from mambarec.preparation.amazon import _interaction, item_text

    def work():
        try:
            record = parse_record(line)
            item_text(record)
            _interaction(record)
        except ValueError:
            return 2

    accepts("record of a dump", work)


def test_damaged_image_features_are_refused_or_used(prepared, tmp_path):
    path, other = tmp_path / "x.b", tmp_path / "ratings.csv"
    other.write_bytes(ratings())
    records = np.zeros(6, RECORD)
    records["name"], records["feature"] = ITEMS, 1.0

    @fuzz(4)
    @given(
        mutated(records.tobytes()).map(lambda content: content[: len(content) // RECORD.itemsize * RECORD.itemsize] or content)
    )
    def check(damaged):
        path.write_bytes(damaged)
        accepts(".b", lambda: prepared("amazon", "--ratings", other, "--image-features", path))

    check()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_damaged_picture_has_features_or_a_reason(form):
    image = pytest.importorskip("PIL.Image", reason="needs the extra features")
    buffer = io.BytesIO()
    image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 30, 3), dtype=np.uint8)).save(buffer, form)
    backbone = Backbone("none", torch.nn.Identity(), lambda picture: torch.from_numpy(np.array(picture.resize((8, 8)))))

    @fuzz(8)
    @given(mutated(buffer.getvalue()))
    def check(damaged):
        def work():
            found = _prepare(damaged, backbone)
            return 2 if isinstance(found, str) and found else None

        accepts("picture", work)

    check()


LOOK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from mambarec.preparation.features.store import ImageStore
from mambarec.base.errors import UserError
for folder in sys.argv[2:]:
    try:
        with ImageStore(Path(folder), read_only=True) as store:
            print(len(store), store.version, len(store.items()), sum(map(bool, store.read(range(9)))))
    except UserError as error:
        print(error)
"""


def test_a_damaged_store_of_pictures_is_refused_or_used(tmp_path):
    """In a process of its own: LMDB reads by mapped memory."""
    with ImageStore(tmp_path / "whole") as store:
        store.put((n, bytes(5000)) for n in range(8))
    whole = (tmp_path / "whole" / "data.mdb").read_bytes()
    folders = []

    @fuzz(8)
    @given(st.integers(0, len(whole)).map(lambda size: whole[:size]) | st.binary(max_size=9000))
    def damage(content):
        folder = tmp_path / f"{len(folders)}"
        folder.mkdir()
        (folder / "data.mdb").write_bytes(content)
        folders.append(folder)

    damage()
    words = [sys.executable, "-c", LOOK, str(SRC), *map(str, folders)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600 + EXAMPLES)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert len(ended.stdout.splitlines()) >= len(folders)
