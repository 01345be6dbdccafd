"""Nearest neighbours: in blocks, and kept on disk."""

import numpy as np
import pytest
import torch

import utils.neighbours
from utils.neighbours import exact, nearest_neighbours, neighbours_kept_in


def rows(n, width, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("block", [1, 7, 20, 64])
def test_nearest_neighbours_in_blocks_are_those_of_one_block(block):
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(4))
    values, indices = exact(features, 5, block)
    expected_values, expected_indices = exact(features, 5, block=20)
    assert values.shape == indices.shape == (20, 5)
    assert torch.equal(indices, expected_indices)
    torch.testing.assert_close(values, expected_values)


def test_nearest_neighbours_begin_with_the_item_itself_and_fall():
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(4))
    values, indices = nearest_neighbours(features, 5)
    assert indices[:, 0].tolist() == list(range(20))
    torch.testing.assert_close(values[:, 0], torch.ones(20))
    assert (values.diff(dim=1) <= 0).all()


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder where even small sets of neighbours are kept, and the number of times that they were computed."""
    calls = []

    def counted(features, k):
        calls.append(k)
        return exact(features, k)

    monkeypatch.setattr(utils.neighbours, "_KEPT_ABOVE", 0)
    monkeypatch.setattr(utils.neighbours, "exact", counted)
    folder = tmp_path / ".graphs"
    with neighbours_kept_in(folder):
        yield folder, calls


def test_neighbours_are_computed_once_for_the_same_content(kept):
    folder, calls = kept
    first, again = nearest_neighbours(rows(20, 4), 3), nearest_neighbours(rows(20, 4), 3)
    assert len(calls) == 1 and len(list(folder.iterdir())) == 1
    for one, other in zip(first, again, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_other_content_or_another_k_is_computed_anew(kept):
    _, calls = kept
    features = rows(20, 4)
    nearest_neighbours(features, 3)
    nearest_neighbours(features, 4)
    features[7, 2] += 1e-6
    nearest_neighbours(features, 3)
    assert len(calls) == 3


@pytest.mark.parametrize("damage", [b"", b"not an archive"])
def test_a_damaged_file_is_replaced(kept, damage):
    folder, calls = kept
    expected = nearest_neighbours(rows(20, 4), 3)
    path = next(folder.iterdir())
    path.write_bytes(damage)
    assert torch.equal(nearest_neighbours(rows(20, 4), 3)[1], expected[1])
    assert len(calls) == 2
    assert set(np.load(path).files) == {"similarity", "index"}


def test_a_folder_that_cannot_be_written_stops_nothing(kept):
    folder, _ = kept
    folder.write_text("a file")
    assert nearest_neighbours(rows(20, 4), 3)[1].shape == (20, 3)
