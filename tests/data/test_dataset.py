"""A data set on disk: what its files may hold, what an error says, what is noted, and what the fingerprint covers."""

import pickle
import shutil

import numpy as np
import pytest
import scipy.sparse as sp

from mambarec.base.errors import DataError
from mambarec.data import interactions
from mambarec.data.dataset import RecDataset

HEADER = "userID\titemID\tx_label"
GOOD = ["0\t0\t0", "0\t1\t0", "1\t2\t0", "0\t2\t1", "1\t0\t1", "1\t1\t2"]


def table(*rows: str, header: str = HEADER) -> str:
    return "\n".join([header, *rows]) + "\n"


@pytest.fixture
def read(toy, make_config):
    """read("the text of toy.inter", **overrides) -> RecDataset of a model without features."""

    def make(text: str, of_finished_run: bool = False, **overrides) -> RecDataset:
        (toy / "toy.inter").write_text(text)
        return RecDataset(make_config("BPR", **overrides), of_finished_run)

    return make


@pytest.fixture
def multimodal(toy, make_config):
    """A model that reads features, on the toy data."""
    return make_config("MambaRec")


def assert_error(make, *phrases: str) -> None:
    with pytest.raises(DataError) as caught:
        make()
    for phrase in phrases:
        assert phrase in str(caught.value)


def pairs(dataset: RecDataset, split: str) -> list[tuple[int, int]]:
    return list(zip(dataset.users[split].tolist(), dataset.items[split].tolist(), strict=True))


# reading interactions


def test_pairs_are_split_by_label_in_the_order_of_the_file(read):
    dataset = read(table(*GOOD))
    assert pairs(dataset, "train") == [(0, 0), (0, 1), (1, 2)]
    assert pairs(dataset, "valid") == [(0, 2), (1, 0)]
    assert pairs(dataset, "test") == [(1, 1)]
    assert (dataset.n_users, dataset.n_items, len(dataset)) == (2, 3, 3)
    assert (dataset.get_user_num(), dataset.get_item_num(), dataset.user_num, dataset.item_num) == (2, 3, 2, 3)
    assert dataset.notes == []
    assert all(part[split].dtype == np.int64 for part in (dataset.users, dataset.items) for split in part)


def test_columns_are_found_by_name_and_others_left_alone(read):
    text = table("words\t0\t7\t0", "\t1\t8\t0", "x\t2\t9\t0", header="note\tlabel\tproduct\tuser")
    keys = {"USER_ID_FIELD": "user", "ITEM_ID_FIELD": "product", "inter_splitting_label": "label"}
    dataset = read(text, **keys)
    assert [pairs(dataset, split) for split in ("train", "valid", "test")] == [[(0, 7)], [(0, 8)], [(0, 9)]]
    assert list(dataset.df.columns) == ["user", "product"]


@pytest.mark.parametrize("change", [lambda t: t.replace("\n", "\r\n"), lambda t: "\ufeff" + t, lambda t: t + "\n\n"])
def test_windows_line_ends_a_byte_order_mark_and_blank_lines_do_no_harm(read, change):
    assert pairs(read(change(table(*GOOD))), "test") == [(1, 1)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_text_in_any_usual_encoding_is_read(toy, make_config, encoding):
    rows = [f"{row}\tgrün" for row in GOOD]
    (toy / "toy.inter").write_bytes(table(*rows, header=f"{HEADER}\twörd").encode(encoding))
    assert pairs(RecDataset(make_config("BPR")), "train") == [(0, 0), (0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("change", "by_pandas"),
    [
        (lambda t: t, False),
        (lambda t: t.replace("\n", "\r\n"), False),
        (lambda t: t.replace("2\t0\n", "2.0\t0\n"), True),
        (lambda t: t.replace("0\t0\t0\n", '"0"\t0\t0\n'), True),
        (lambda t: t.replace("\n0\t0\t0\n", "\n0\t0\t0\t\n"), True),
    ],
)
def test_pandas_is_asked_for_what_numpy_does_not_read(read, monkeypatch, change, by_pandas):
    asked = []
    examined = interactions._examined
    monkeypatch.setattr(interactions, "_examined", lambda *given: asked.append(1) or examined(*given))
    assert pairs(read(change(table(*GOOD))), "train") == [(0, 0), (0, 1), (1, 2)]
    assert bool(asked) == by_pandas


def test_another_separator_can_be_named(read):
    assert pairs(read(table(*GOOD).replace("\t", ","), field_separator=","), "test") == [(1, 1)]


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        (table(*GOOD, header=f"{HEADER}\t"), {}),
        (table(*(f"{row}\t5" for row in GOOD[:3]), *GOOD[3:], header=f"{HEADER}\trating"), {}),
        (table(*GOOD[:3], " ", *GOOD[3:], "  "), {}),
        (table(*GOOD[:3], "#", *GOOD[3:], " #").replace("\t", ",").replace("#", "\t"), {"field_separator": ","}),
    ],
    ids=["a separator behind the header", "no rating in some rows", "lines of spaces", "lines of tabs between commas"],
)
def test_what_lacks_nothing_that_is_read_is_read(read, text, overrides):
    dataset = read(text, **overrides)
    assert pairs(dataset, "train") == [(0, 0), (0, 1), (1, 2)] and pairs(dataset, "test") == [(1, 1)]


def test_the_line_of_a_defect_is_that_of_the_file_behind_blank_lines(read):
    text = table(*GOOD[:2], "\t", "1,x,0").replace("0\t", "0,").replace("1\t", "1,")
    assert_error(lambda: read(text.replace(HEADER, HEADER.replace("\t", ",")), field_separator=","), "line 5: itemID is 'x'")


@pytest.mark.parametrize("form", ["coo", "csr"])
def test_inter_matrix_is_a_binary_sparse_matrix_of_the_training_pairs(read, form):
    matrix = read(table(*GOOD)).inter_matrix(form)
    assert isinstance(matrix, {"coo": sp.coo_matrix, "csr": sp.csr_matrix}[form])  # a matrix, as models for MMRec expect
    assert matrix.dtype == np.float64
    assert matrix.toarray().tolist() == [[1, 1, 0], [0, 0, 1]]


# interactions that cannot be used


def test_a_missing_file_of_interactions_points_to_the_demo(toy, make_config):
    (toy / "toy.inter").unlink()
    assert_error(lambda: RecDataset(make_config("BPR")), str(toy / "toy.inter"), "does not exist", "data/README.md", "-d demo")


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        (table(*GOOD).replace("\t", ","), ["userID,itemID,x_label", "'userID', 'itemID', 'x_label'", "separated by '\\t'"]),
        (table("0\t1", header="userID\titemID"), ["no column 'x_label'", "['userID', 'itemID']", "inter_splitting_label"]),
        (table(*GOOD, "u7\t0\t0"), ["line 8", "userID is 'u7'", "whole number"]),
        (table("0\tB002\t0", *GOOD), ["line 2", "itemID is 'B002'", "whole number"]),
        (table(*GOOD, "1.5\t0\t0"), ["line 8", "userID is", "1.5", "whole number"]),
        (table(*GOOD, "\t0\t0"), ["line 8", "userID is empty", "whole number"]),
        (table(*GOOD, "1\t\t0"), ["line 8", "itemID is empty", "whole number"]),
        (table(*GOOD, "1\t0"), ["line 8", "2 fields", "expected the 3 of the header", "Add what is missing"]),
        (
            table("0\t0", "", header=HEADER.replace("x_label", "x_label\tnote")),
            ["line 2", "2 fields", "expected at least the first 3 of"],
        ),
        (table(*GOOD, "\t"), ["line 8", "2 fields", "expected the 3 of the header"]),
        ("\n\n" + table(*GOOD, "", "1\t0\t0\t9"), ["line 11", "4 fields"]),
        (table(*GOOD[:2], "", "", "u7\t0\t0"), ["line 6", "userID is 'u7'"]),
        (table(*GOOD[:2], "", "-7\t0\t0"), ["line 5", "userID is -7"]),
        (table(*GOOD, "-4\t0\t0"), ["line 8", "userID is -4", "0 to 99999"]),
        (table(*GOOD, "0\t-1\t0"), ["line 8", "itemID is -1", "0 to 99999"]),
        (table(*GOOD, "1000000000\t0\t0"), ["line 8", "userID is 1000000000", "0 to 99999", "3 distinct ids"]),
        (table(*GOOD, f"0\t{2**63}\t0"), ["line 8", f"itemID is {2**63}", "0 to 99999"]),
        (table(*GOOD, "1\t0\t3", "1\t0\t-1"), ["line 8", "x_label is 3", "0 (train), 1 (validation) or 2 (test)", "2 rows"]),
        (table(*GOOD[3:]), ["no row of the train split", "x_label 0", "each of 0, 1, 2"]),
        (table(*GOOD[:3], GOOD[5]), ["no row of the valid split", "x_label 1"]),
        (table(*GOOD[:5]), ["no row of the test split", "x_label 2"]),
        (table(), ["has a header but no rows"]),
        ("", ["cannot be read as a table", "'\\t'"]),
        (table(*GOOD, "1\t0\t0\t9"), ["line 8", "4 fields", "expected the 3 of the header"]),
        (table(*(f"{n}\t{row}" for n, row in enumerate(GOOD))), ["line 2", "4 fields", "expected the 3 of the header"]),
        (table(*(f"{row}\t1" for row in GOOD), header=f"{HEADER}\tuserID"), ["column 'userID' twice"]),
        (table('"0\t0\t0', *GOOD), ["line 2", "userID is '\"0'", "whole number"]),
    ],
    ids=lambda value: None if isinstance(value, str) else value[0],
)
def test_interactions_that_cannot_be_used_are_an_error(read, text, phrases):
    assert_error(lambda: read(text), "toy.inter", *phrases)


def test_a_file_that_is_not_text_is_an_error(toy, make_config):
    (toy / "toy.inter").write_bytes(b"\xff\x00\x80" * 10)
    assert_error(lambda: RecDataset(make_config("BPR")), "toy.inter", "cannot be read")


def test_a_split_that_cannot_be_evaluated_at_all_is_an_error(read):
    assert_error(lambda: read(table("0\t0\t0", "1\t0\t1", "0\t1\t2")), "toy.inter", "valid split", "1 user without training")


def test_pairs_in_two_splits_are_an_error_with_a_line_for_each_two(read):
    with pytest.raises(DataError) as caught:
        read(table(*GOOD, "0\t1\t2", "1\t2\t1", "1\t1\t1"))
    train, test, both = str(caught.value).splitlines()
    assert "1 of the 3 pairs of training are in validation too (4 pairs), such as user 1 with item 2;" in train
    assert "1 of the 3 pairs of training are in test too (2 pairs), such as user 0 with item 1;" in test
    assert "1 of the 4 pairs of validation are in test too (2 pairs), such as user 1 with item 1;" in both


def test_a_run_that_is_older_than_this_rule_can_still_be_opened(read):
    dataset = read(table(*GOOD, "0\t1\t2"), of_finished_run=True)
    assert (0, 1) not in pairs(dataset, "test") and (0, 1) in pairs(dataset, "train")
    assert dataset.notes == ["1 pair of validation or test left out of evaluation, because training has the same"]


# oddities that are handled and noted


def test_users_without_training_rows_are_left_out_of_evaluation(read):
    dataset = read(table(*GOOD, "2\t0\t1", "2\t1\t2", "3\t0\t2"))
    assert dataset.notes == ["2 users without training pairs left out of evaluation"]
    assert (pairs(dataset, "valid"), pairs(dataset, "test")) == ([(0, 2), (1, 0)], [(1, 1)])
    assert dataset.n_users == 4


def test_users_without_training_rows_can_be_kept_in_evaluation(read):
    dataset = read(table(*GOOD, "2\t0\t1"), filter_out_cod_start_users=False)
    assert dataset.notes == []
    assert pairs(dataset, "valid") == [(0, 2), (1, 0), (2, 0)]


def test_items_without_training_rows_stay_and_are_counted(read):
    dataset = read(table(*GOOD, "0\t5\t2"))  # 3 and 4 are nowhere
    assert dataset.n_items == 6
    assert dataset.n_cold_items == 1
    assert dataset.present_items.tolist() == [0, 1, 2, 5] and dataset.absent_items.tolist() == [3, 4]
    assert dataset.notes == [
        "2 item numbers below the largest are in no split; they take no part",
        "1 item without training pairs: never sampled as negatives, still ranked",
    ]
    assert dataset.summary().startswith("toy: 2 users, 4 items")
    assert pairs(dataset, "test") == [(1, 1), (0, 5)]


def test_repeated_pairs_count_once(read):
    dataset = read(table(GOOD[0], *GOOD, GOOD[1], GOOD[4]))
    assert dataset.notes == ["3 repeated pairs collapsed"]
    assert pairs(dataset, "train") == [(0, 0), (0, 1), (1, 2)]
    assert pairs(dataset, "valid") == [(0, 2), (1, 0)]
    assert dataset.inter_matrix().toarray().max() == 1


# features


def test_features_are_float32_tables_with_a_row_per_item(toy, multimodal):
    np.save(toy / "text_feat.npy", np.arange(64 * 3).reshape(64, 3))  # integers are numbers too
    dataset = RecDataset(multimodal)
    features = dataset.features()
    assert {name: (part.shape, part.dtype) for name, part in features.items()} == {
        "visual": ((64, 24), np.float32),
        "text": ((64, 3), np.float32),
    }
    np.testing.assert_array_equal(features["text"][5], [15, 16, 17])
    assert dataset.feature_widths() == {"visual": 24, "text": 3}


def test_features_in_fortran_order_and_half_precision_are_read_right(toy, multimodal):
    values = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float16)
    np.save(toy / "text_feat.npy", np.asfortranarray(values))
    np.testing.assert_array_equal(RecDataset(multimodal).features()["text"], values.astype(np.float32))


def test_what_a_model_writes_into_its_features_stays_out_of_the_file(toy, multimodal):
    before = (toy / "image_feat.npy").read_bytes()
    table = RecDataset(multimodal).features()["visual"]
    table += 1
    assert (toy / "image_feat.npy").read_bytes() == before
    np.testing.assert_array_equal(table, np.load(toy / "image_feat.npy") + 1)


def test_a_model_without_features_reads_none(toy, make_config):
    (toy / "text_feat.npy").unlink()
    dataset = RecDataset(make_config("BPR"))
    assert (dataset.modalities, dataset.features()) == ([], {})


@pytest.mark.parametrize(("missing", "rest"), [("image", "text"), ("text", "visual")])
def test_a_missing_feature_file_suggests_the_other_modality(toy, multimodal, missing, rest):
    (toy / f"{missing}_feat.npy").unlink()
    phrases = [f"{missing}_feat.npy does not exist", "data/README.md", f"--modalities {rest}", "-d demo"]
    assert_error(lambda: RecDataset(multimodal).features(), *phrases)


def test_a_model_that_knows_no_modalities_goes_without_a_missing_one(toy, make_config):
    (toy / "image_feat.npy").unlink()
    dataset = RecDataset(make_config("BPR", is_multimodal_model=True))
    assert list(dataset.features()) == ["text"]
    assert len(dataset.notes) == 1
    assert "image_feat.npy: the model gets no visual features" in dataset.notes[0]


def test_a_modality_that_is_not_declared_is_an_error(make_config):
    dataset = RecDataset(make_config("MambaRec", modalities=["text", "audio"]))
    assert_error(dataset.features, "toy declares no 'audio'", "visual, text")


@pytest.mark.parametrize("wanted", [["text"], ["visual"], ["text", "visual"]])
def test_only_the_modalities_asked_for_are_read(make_config, wanted):
    dataset = RecDataset(make_config("MambaRec", modalities=wanted))
    for modality, path in dataset.feature_files.items():
        if modality not in wanted:
            np.save(path, np.full((64, 3), np.nan))
    assert list(dataset.features()) == wanted
    assert set(dataset.feature_widths()) == {"visual", "text"}  # widths are those of all that is declared


@pytest.mark.parametrize("wanted", ["text", ["text"]])
def test_the_suggestion_for_a_missing_feature_file_works(toy, make_config, wanted):
    (toy / "image_feat.npy").unlink()
    dataset = RecDataset(make_config("MambaRec", modalities=wanted))  # as --modalities text and --modalities [text] read
    assert {modality: part.shape for modality, part in dataset.features().items()} == {"text": (64, 16)}


def with_value(value: float) -> np.ndarray:
    features = np.ones((64, 3), dtype=np.float32)
    features[17, 1] = value
    return features


@pytest.mark.parametrize(
    ("features", "phrases"),
    [
        (np.ones((63, 3)), ["has 63 rows", "expected 64", "toy.inter", "itemID is 63"]),
        (np.ones((65, 3)), ["has 65 rows", "expected 64"]),
        (with_value(np.nan), ["NaN or Inf in 1 of 64 rows, the first is row 17"]),
        (with_value(np.inf), ["NaN or Inf in 1 of 64 rows, the first is row 17"]),
        (with_value(-np.inf), ["NaN or Inf in 1 of 64 rows, the first is row 17"]),
        (np.where(np.eye(64, 3, -17), np.nan, 1), ["NaN or Inf in 3 of 64 rows, the first is row 17", "image_mask.npy"]),
        (with_value(1e38), ["row 17 holds 1e+38", "from -1e+15 to 1e+15", "Scale the features", "overflow"]),
        (np.full((64, 3), 2**25), ["row 0 holds 3.35544e+07", "1.67772e+07", "float32 rounds larger whole numbers"]),
        (np.full((64, 3), 1e-40), ["nothing above 1e-40", "Scale the features"]),
        (np.ones((64, 0)), ["two-dimensional", "float64 (64, 0)"]),
        (np.ones(64), ["two-dimensional", "float64 (64,)"]),
        (np.ones((64, 2, 2)), ["two-dimensional", "float64 (64, 2, 2)"]),
        (np.full((64, 2), "a"), ["array of numbers", "<U1 (64, 2)"]),
        (np.full((64, 2), None), ["pickled objects", "never loaded", "numpy.save"]),
    ],
)
def test_features_that_cannot_be_used_are_an_error(toy, multimodal, features, phrases):
    np.save(toy / "image_feat.npy", features)
    assert_error(lambda: RecDataset(multimodal).features(), str(toy / "image_feat.npy"), *phrases)


@pytest.mark.parametrize("kept", [0, 5, 20, 1000])
@pytest.mark.parametrize("ask", [RecDataset.features, RecDataset.feature_widths])
def test_a_truncated_feature_file_is_an_error(toy, multimodal, kept, ask):
    path = toy / "image_feat.npy"
    path.write_bytes(path.read_bytes()[:kept])
    assert_error(lambda: ask(RecDataset(multimodal)), str(path), "cannot be read")


def test_an_archive_of_arrays_is_an_error(toy, multimodal):
    with (toy / "image_feat.npy").open("wb") as file:
        np.savez(file, features=np.ones((64, 3)))
    assert_error(lambda: RecDataset(multimodal).features(), "image_feat.npy", "two-dimensional", "an archive")


def fingerprint(dataset):
    return dataset.fingerprint


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("in_array", [True, False], ids=["object array", "bare pickle"])
@pytest.mark.parametrize("ask", [RecDataset.features, RecDataset.feature_widths, fingerprint])
def test_a_pickle_is_never_executed(toy, multimodal, tmp_path, in_array, ask):
    trace, payload = tmp_path / "executed", Malicious(tmp_path / "executed")
    with (toy / "image_feat.npy").open("wb") as file:
        if in_array:
            np.save(file, np.array([payload], dtype=object), allow_pickle=True)
        else:
            pickle.dump(payload, file)
    if ask is fingerprint:
        ask(RecDataset(multimodal))
    else:
        assert_error(lambda: ask(RecDataset(multimodal)), "image_feat.npy", "pickled objects", "never loaded")
    assert not trace.exists()
    np.load(toy / "image_feat.npy", allow_pickle=True)
    assert trace.exists()  # the trap works


# the fingerprint


def test_fingerprint_does_not_change_with_the_location(toy, make_config, tmp_path):
    before = RecDataset(make_config("MambaRec")).fingerprint
    shutil.copytree(toy, tmp_path / "elsewhere" / "toy")
    assert RecDataset(make_config("MambaRec", data_path=str(tmp_path / "elsewhere"))).fingerprint == before


def flip_a_bit(content: bytes) -> bytes:
    return content[:-4] + bytes([content[-4] ^ 1]) + content[-3:]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("toy.inter", lambda content: content.replace(b"0\t14\t", b"0\t15\t", 1)),
        ("image_feat.npy", flip_a_bit),
        ("text_feat.npy", flip_a_bit),
    ],
)
def test_fingerprint_changes_with_the_content_of_any_file(toy, multimodal, name, change):
    before = RecDataset(multimodal).fingerprint
    content = (toy / name).read_bytes()
    (toy / name).write_bytes(change(content))
    assert RecDataset(multimodal).fingerprint != before
    (toy / name).write_bytes(content)
    assert RecDataset(multimodal).fingerprint == before


def test_fingerprint_tells_swapped_feature_files_apart(toy, multimodal):
    before = RecDataset(multimodal).fingerprint
    (toy / "image_feat.npy").rename(toy / "kept")
    (toy / "text_feat.npy").rename(toy / "image_feat.npy")
    (toy / "kept").rename(toy / "text_feat.npy")
    assert RecDataset(multimodal).fingerprint != before


def test_fingerprint_does_not_change_with_files_that_are_not_read(toy, make_config):
    before = RecDataset(make_config("BPR")).fingerprint
    (toy / "image_feat.npy").unlink()
    (toy / "notes.txt").write_text("nothing")
    assert RecDataset(make_config("BPR")).fingerprint == before


def test_summary_counts_the_pairs(read):
    assert read(table(*GOOD)).summary() == "toy: 2 users, 3 items, 3 / 2 / 1 train / validation / test pairs"


@pytest.mark.parametrize("modality", ["type", "keys", "training", "forward", "pop"])
def test_a_modality_whose_name_pytorch_uses_is_refused_by_all(modality, toy, make_config):
    np.save(toy / "more_feat.npy", np.ones((64, 12), np.float32))
    given = {f"{modality}_feature_file": "more_feat.npy"}
    for model in ("MambaRec", "SMORE"):
        with pytest.raises(DataError, match=f"{modality}_feature_file of toy.yaml: PyTorch uses the name '{modality}' itself"):
            RecDataset(make_config(model, **given)).check_features()
    RecDataset(make_config("BPR", **given)).check_features()
    RecDataset(make_config("MambaRec", sound_feature_file="more_feat.npy")).check_features()
