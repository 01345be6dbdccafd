"""Nearest neighbours: in blocks, approximate, and kept on disk."""

import sys

import numpy as np
import pytest
import torch

import mambarec.nn.neighbours
from mambarec.base.errors import ConfigError
from mambarec.nn.neighbours import approximate, exact, nearest_neighbours, neighbour_search, recall


def rows(n, width, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def cosine(features):
    """Of every row with every row, as it is defined."""
    return features @ features.T / (features.norm(dim=1)[:, None] * features.norm(dim=1))


@pytest.mark.parametrize("block", [1, 3, 7, 20, 64])
@pytest.mark.parametrize("k", [1, 5, 20, 30])
def test_nearest_neighbours_in_blocks_are_those_of_all_pairs(block, k):
    features = rows(20, 6, seed=4)
    values, indices = exact(features, k, block)
    expected_values, expected_indices = cosine(features).topk(min(k, 20))
    assert torch.equal(indices, expected_indices)
    torch.testing.assert_close(values, expected_values)


def test_nearest_neighbours_begin_with_the_item_itself_and_fall():
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(4))
    values, indices = nearest_neighbours(features, 5)
    assert indices[:, 0].tolist() == list(range(20))
    torch.testing.assert_close(values[:, 0], torch.ones(20))
    assert (values.diff(dim=1) <= 0).all()


@pytest.mark.parametrize("k", [1, 4, 12])
@pytest.mark.parametrize("block", [1, 7, 16, 60])
def test_an_item_is_its_own_first_neighbour_also_where_others_are_equal_or_nothing(block, k):
    features = rows(60, 5)
    features[10:30], features[40:43] = features[10], 0
    features[31:35] = features[30] * torch.tensor([0.1, 3.0, 7.0, 100.0])[:, None]
    values, indices = exact(features, k, block)
    assert indices[:, 0].tolist() == list(range(60))
    assert all(len(set(row)) == k for row in indices.tolist())
    unit = torch.nn.functional.normalize(features)
    torch.testing.assert_close(values, (unit @ unit.T).gather(1, indices))
    torch.testing.assert_close(values, (unit @ unit.T).topk(k).values)


@pytest.mark.parametrize("n", [30, 900])
def test_in_the_approximate_search_too(faiss, n, monkeypatch):
    monkeypatch.setattr(mambarec.nn.neighbours, "_BLOCK", 50)
    features = torch.cat((rows(n - 20, 6), torch.ones(20, 6)))[torch.randperm(n, generator=torch.Generator().manual_seed(1))]
    values, indices = approximate(features, 4)
    assert indices[:, 0].tolist() == list(range(n))
    assert all(len(set(row)) == 4 for row in indices.tolist())
    torch.testing.assert_close(values, cosine(features).gather(1, indices))


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder where even small sets of neighbours are kept, and the number of times that they were computed."""
    calls = []

    def counted(features, k):
        calls.append(k)
        return exact(features, k)

    monkeypatch.setattr(mambarec.nn.neighbours, "_KEPT_ABOVE", 0)
    monkeypatch.setattr(mambarec.nn.neighbours, "exact", counted)
    folder = tmp_path / ".graphs"
    with neighbour_search(folder):
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
    assert set(np.load(path).files) == {"similarity", "index", "recall"}


def test_a_folder_that_cannot_be_written_stops_nothing(kept):
    folder, _ = kept
    folder.write_text("a file")
    assert nearest_neighbours(rows(20, 4), 3)[1].shape == (20, 3)


@pytest.fixture
def faiss():
    return pytest.importorskip("faiss", reason="the extra [serving] is not installed")


def clustered_rows(n=2000, width=16, n_clusters=40):
    """Rows around centres, as the features of items are."""
    return 4 * rows(n_clusters, width, seed=1)[torch.arange(n) % n_clusters] + rows(n, width, seed=2)


def test_the_approximate_search_finds_most_neighbours_and_the_same_again(faiss):
    features = clustered_rows()
    similarity, neighbour = approximate(features, 10)
    assert similarity.shape == neighbour.shape == (2000, 10) and neighbour.dtype == torch.int64
    torch.testing.assert_close(similarity, cosine(features).gather(1, neighbour))
    found = (neighbour[:, :, None] == exact(features, 10)[1][:, None, :]).any(1).float().mean().item()
    assert found > 0.8
    for one, again in zip((similarity, neighbour), approximate(features, 10), strict=True):
        assert torch.equal(one, again)


@pytest.mark.parametrize("n", [3, 50, 100])
def test_the_approximate_search_of_few_rows_is_exact(faiss, n):
    features = rows(n, 8)
    for one, other in zip(approximate(features, 5), exact(features, 5), strict=True):
        torch.testing.assert_close(one, other)


def test_a_row_whose_clusters_have_too_few_rows_is_compared_with_all(faiss, monkeypatch):
    monkeypatch.setattr(mambarec.nn.neighbours, "_PROBED", 1)
    monkeypatch.setattr(mambarec.nn.neighbours, "_PER_CLUSTER", 3)
    features = rows(200, 4)
    for one, other in zip(approximate(features, 50), exact(features, 50), strict=True):
        torch.testing.assert_close(one, other)


def test_recall_is_the_share_of_the_nearest_that_were_found():
    features = rows(100, 8)
    found = exact(features, 10)[1]
    assert recall(features, found) == 1
    found[:, 4:] = cosine(features).argmin(1, keepdim=True)
    assert recall(features, found) == pytest.approx(3 / 9)  # the row itself counts for nothing
    assert recall(features, found[:, 3:]) == pytest.approx(1 / 6)
    assert recall(features, found[:, :1]) == 1


def test_all_of_equally_near_neighbours_count_as_found():
    features = torch.ones(50, 4)
    assert recall(features, torch.arange(50).roll(7)[:, None].expand(50, 3)) == 1


def test_many_equal_rows_are_searched_in_blocks(faiss, monkeypatch):
    features = torch.cat((rows(1000, 8), torch.ones(3000, 8)))
    largest = []
    matmul = torch.Tensor.__matmul__

    def noted(a, b):
        result = matmul(a, b)
        largest.append(result.numel())
        return result

    monkeypatch.setattr(mambarec.nn.neighbours, "_BLOCK", 100)
    monkeypatch.setattr(torch.Tensor, "__matmul__", noted)
    values = approximate(features, 5)[0]
    assert max(largest) <= 100 * 4000 * 2
    torch.testing.assert_close(values[1000:], torch.ones(3000, 5))


def test_only_more_rows_than_the_limit_are_searched_approximately_and_noted(faiss, tmp_path):
    features = clustered_rows()
    with neighbour_search(tmp_path, approximate_above=1999) as search:
        found = nearest_neighbours(features, 10)
        nearest_neighbours(features[:1999], 10)
    assert torch.equal(found[1], approximate(features, 10)[1])
    share = recall(features, found[1])
    assert search.notes == [f"neighbours of 2,000 items found approximately: {share:.1%} of those of 256 items"]


def test_both_searches_are_kept_apart(faiss, tmp_path, monkeypatch):
    monkeypatch.setattr(mambarec.nn.neighbours, "_KEPT_ABOVE", 0)
    features = clustered_rows()
    notes = []
    for limit in (None, 0, None, 0):
        with neighbour_search(tmp_path, limit) as search:
            found = nearest_neighbours(features, 10)[1]
        assert torch.equal(found, (exact if limit is None else approximate)(features, 10)[1])
        notes += search.notes
    assert len(list(tmp_path.iterdir())) == 2
    assert len(notes) == 2 and notes[0] == notes[1]  # the share is kept too


def test_the_approximate_search_without_faiss_is_an_error_that_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with neighbour_search(tmp_path, 0), pytest.raises(ConfigError, match=r"\[serving\]"):
        nearest_neighbours(rows(20, 4), 3)
