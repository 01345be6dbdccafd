"""Damaged and hostile data sets: interactions, features, masks, maps of ids, each refused with a sentence or read as it is."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faults.fuzzing import accepts, fuzz, mutated
from mambarec.data.dataset import RecDataset
from mambarec.preparation.features.items import read_items
from mambarec.preparation.validation import check as check_dataset
from mambarec.running.run import assemble, open_dataset
from mambarec.serving.identifiers import item_identifiers, user_identifiers
from mambarec.serving.lists import known_users, listed_users


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@st.composite
def heads(draw):
    """An .npy file whose head says what it likes."""
    dtype = draw(st.sampled_from(["<f4", ">f8", "<f2", "|O", "|S5", "<U3", "<c8", "<M8[s]", "|V4", "<i8", "|b1", "<f0", "zz"]))
    size = st.sampled_from([0, 1, 16, 64, -1, 2**31, 10**12, 2**62, 2**64, True, None, 1.5])
    shape = draw(st.tuples(size, size) | st.tuples(size) | st.tuples(size, size, size) | st.sampled_from(["x", [], None]))
    fields = {"descr": dtype, "fortran_order": draw(st.sampled_from([False, True, 2])), "shape": shape}
    if draw(st.integers(0, 9)) == 0:
        fields["more"] = 1
    text = draw(st.sampled_from([repr(fields), repr(fields), repr(fields), "[" * 5000, "{'descr':" * 900, "1"])) + "\n"
    version = draw(st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\7\0"]))
    length = len(text).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + length + text.encode() + bytes(draw(st.integers(0, 8192)))


def test_damaged_interactions_are_refused_or_used(make_config, toy):
    path = toy / "toy.inter"

    @fuzz(40)
    @given(mutated(path.read_bytes()))
    def check(content):
        path.write_bytes(content)
        accepts(".inter", lambda: assemble(make_config("BPR"), open_dataset(make_config("BPR"))))

    check()


@pytest.mark.parametrize("form", ["bytes", "head"])
def test_damaged_features_are_refused_or_read_as_they_stand(make_config, toy, form):
    path = toy / "image_feat.npy"

    @fuzz(40)
    @given(mutated(path.read_bytes()) if form == "bytes" else heads())
    def check(content):
        path.write_bytes(content)
        found = {}
        if accepts(f"features, {form}", lambda: found.update(RecDataset(make_config("VBPR")).features())):
            expected = np.load(io.BytesIO(content), allow_pickle=False)
            assert np.array_equal(found["visual"], expected.astype(np.float32))

    check()


def test_a_damaged_mask_is_refused_or_used(make_config, toy):
    path = toy / "image_mask.npy"
    valid = npy(np.ones(64, dtype=bool))

    @fuzz(30)
    @given(mutated(valid) | heads())
    def check(content):
        path.write_bytes(content)
        accepts("mask", lambda: check_dataset("toy", toy.parent) and None)

    check()


@pytest.mark.parametrize("separator", ["\t", ","])
def test_damaged_maps_of_ids_are_refused_or_used(make_config, toy, separator):
    for kind, n in (("u", 48), ("i", 64)):
        rows = pd.DataFrame({"original": [f'{kind}"{k}' for k in range(n)], "number": range(n)})
        rows.to_csv(toy / f"{kind}_id_mapping.csv", sep=separator, index=False)
    dataset = RecDataset(make_config("BPR"))
    path = toy / "i_id_mapping.csv"

    @fuzz(30)
    @given(mutated(path.read_bytes()))
    def check(content):
        path.write_bytes(content)

        def work():
            names = item_identifiers(dataset)
            assert names.of(np.arange(64)).size == 64 and user_identifiers(dataset)

        accepts("map of ids", work)

    check()


def test_a_damaged_table_of_items_is_refused_or_used(tmp_path):
    path = tmp_path / "items.csv"
    valid = "item_id,original_id,text\n" + "".join(f'{n},B{n},"a, text {n}"\n' for n in range(20))

    @fuzz(30)
    @given(mutated(valid.encode()))
    def check(content):
        path.write_bytes(content)
        accepts("items.csv", lambda: read_items(tmp_path, "text"))

    check()


def test_a_damaged_list_of_users_is_refused_or_used(make_config, tmp_path, toy):
    dataset = RecDataset(make_config("BPR"))
    path = tmp_path / "users.txt"

    @fuzz(30)
    @given(mutated("".join(f"{n}\n" for n in range(48)).encode()))
    def check(content):
        path.write_bytes(content)
        accepts("list of users", lambda: known_users(dataset, listed_users(path)))

    check()
