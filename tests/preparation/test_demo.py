"""The generated demo data is what data/README.md says it is."""

import numpy as np
import pandas as pd
import pytest

from mambarec.base.errors import DataError
from mambarec.preparation.demo import ensure_demo, write_demo
from mambarec.preparation.validation import check


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "demo"
    ensure_demo(folder)
    return folder


def test_it_has_the_promised_size_and_a_long_tail(demo):
    frame = pd.read_csv(demo / "demo.inter", sep="\t")
    assert frame.userID.nunique() == 2000 and 950 <= frame.itemID.nunique() <= 1000
    assert len(frame) >= 20_000 and not frame.duplicated(["userID", "itemID"]).any()
    counts = frame[frame.x_label == 0].itemID.value_counts()
    assert counts.head(len(counts) // 5).sum() > 0.4 * counts.sum()  # a fifth of the items has most of a half
    assert counts.quantile(0.25) <= 12
    assert frame.groupby("userID").x_label.nunique().eq(3).all()


def test_features_have_a_row_per_item_and_show_different_parts_of_the_taste(demo):
    image, text = np.load(demo / "image_feat.npy"), np.load(demo / "text_feat.npy")
    items = pd.read_csv(demo / "demo.inter", sep="\t").itemID
    assert len(image) == len(text) == items.max() + 1 == items.nunique()
    centred = [feature - feature.mean(0) for feature in (image, text)]
    cosines = [(unit := feature / np.linalg.norm(feature, axis=1, keepdims=True)) @ unit.T for feature in centred]
    upper = np.triu_indices(len(image), 1)
    assert abs(np.corrcoef(cosines[0][upper], cosines[1][upper])[0, 1]) < 0.05


def test_the_same_seed_gives_the_same_files_and_another_seed_others(demo, tmp_path):
    write_demo(tmp_path)
    for name in ("demo.inter", "image_feat.npy", "text_feat.npy"):
        assert (tmp_path / name).read_bytes() == (demo / name).read_bytes()
    write_demo(tmp_path, seed=1)
    assert (tmp_path / "demo.inter").read_bytes() != (demo / "demo.inter").read_bytes()


def test_it_is_generated_once(demo):
    before = (demo / "demo.inter").stat().st_mtime_ns
    ensure_demo(demo)
    assert (demo / "demo.inter").stat().st_mtime_ns == before


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):  # mambarec.base.errors makes a sentence of it
        ensure_demo(tmp_path / "file" / "demo")


def test_what_is_in_its_folder_stays(tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    ensure_demo(folder)  # an empty folder holds nothing to lose
    (folder / "demo.inter").unlink()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"has files and no demo\.inter"):
        ensure_demo(folder)
    (problem,) = check("demo", tmp_path).problems
    assert "has files and no demo.inter" in problem and (folder / "notes.txt").read_text() == "mine"


def test_checking_it_generates_it(tmp_path):
    findings = check("demo", tmp_path / "data")
    assert findings.problems == [] and findings.figures["users"] == "2,000"
    assert (tmp_path / "data" / "demo" / "demo.inter").exists()
