"""Uniformity, angles and maps of vectors with known answers; and the study that draws them from two trained models."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mambarec.analysis.embedding import angle_density, item_directions, tsne, uniformity
from mambarec.base.errors import RunError
from mambarec.cli import report

pytest.importorskip("matplotlib", reason="figures need the extra [report]")
pytest.importorskip("sklearn", reason="t-SNE needs the extra [report]")


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_uniformity_is_zero_for_one_direction_and_known_for_opposite_ones():
    assert uniformity(np.tile([0.6, 0.8], (5, 1))) == pytest.approx(0)
    assert uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)  # -2 * 2^2
    assert uniformity(np.array([[1.0, 0.0], [0.0, 1.0]])) == pytest.approx(-4)


def test_spread_vectors_are_more_uniform_than_a_bundle():
    noise = np.random.default_rng(0).normal(size=(50, 8))
    assert uniformity(unit(noise)) < uniformity(unit(noise + 3)) < 0


def test_the_density_of_angles_closes_the_circle_and_integrates_to_one():
    angles = np.random.default_rng(0).normal(np.pi, 0.3, 200)  # across the seam at 180 degrees
    density = angle_density(np.stack([np.cos(angles), np.sin(angles)], 1) * 5)
    values = density["density"].to_numpy()
    assert values[0] == pytest.approx(values[-1]) and abs(density["angle"][values.argmax()]) > 150
    assert np.trapezoid(values, np.deg2rad(density["angle"])) == pytest.approx(1)


def test_the_map_keeps_groups_together_is_centred_and_the_same_again():
    centres = np.repeat(np.eye(8)[:2], 20, axis=0)
    vectors = unit(centres + 0.05 * np.random.default_rng(0).normal(size=centres.shape))
    points = tsne(vectors)
    assert points.mean(0) == pytest.approx([0, 0], abs=1e-4) and np.array_equal(points, tsne(vectors))
    one, other = points[:20], points[20:]
    apart = np.linalg.norm(one.mean(0) - other.mean(0))
    assert max(np.linalg.norm(group - group.mean(0), axis=1).max() for group in (one, other)) < apart


def test_a_compact_record_has_no_vectors():
    with pytest.raises(RunError, match=r"kept\.record\.npz holds no model"):
        item_directions([Path("kept.record.npz")])


def test_numbers_that_no_interaction_has_are_not_drawn(make_run, toy):
    text = (toy / "toy.inter").read_text().splitlines()
    kept = [line for line in text if line.split("\t")[1] not in ("3", "7")]
    (toy / "toy.inter").write_text("\n".join(kept) + "\n")
    items, _ = item_directions([make_run("BPR")])
    assert not {3, 7} & set(items.tolist()) and len(items) == 62


def test_the_study_maps_the_items_of_both_models(toy, tmp_path, in_this_process):
    settings = {"data_path": toy.parent, "results_dir": tmp_path / "results", "embedding_size": 8, "train_batch_size": 512}
    settings |= {"epochs": 1, "threads": 1, "use_gpu": "false"}
    assert report.main(["embedding", "-d", "toy", *(f"--{key}={value}" for key, value in settings.items())]) == 0
    figures = tmp_path / "results" / "toy" / "figures"
    table, angles = (pd.read_csv(figures / f"{name}.csv") for name in ("embedding", "embedding-angles"))
    assert table.groupby("model", sort=False).size().to_dict() == {"VBPR": 64, "MambaRec": 64}
    assert all((figures / f"{name}.png").stat().st_size > 5000 for name in ("embedding", "embedding-angles"))
    runs = [next((tmp_path / "results" / "toy" / model).glob("seed*")) for model in ("VBPR", "MambaRec")]
    expected = [uniformity(directions) for directions in item_directions(runs)[1]]
    text = (figures / "embedding.txt").read_text()
    assert all(f"{value:.3f}" in text for value in expected) and "the same 64 items of each model" in text
    for frame in (table, angles):
        assert frame.groupby("model", sort=False)["uniformity"].first().tolist() == pytest.approx(expected)
