"""The dense item graphs that MMRec's models import, against their formulas."""

import pytest
import torch

from mambarec.mmrec.dense_graphs import (
    build_knn_neighbourhood,
    build_knn_normalized_graph,
    build_sim,
    compute_normalized_laplacian,
)


def test_similarity_is_the_cosine():
    similarity = build_sim(torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(similarity, torch.tensor([[1, 0.5**0.5, 0], [0.5**0.5, 1, 0], [0, 0, 0]]))


def test_a_neighbourhood_keeps_the_largest_of_each_row():
    kept = build_knn_neighbourhood(torch.tensor([[1.0, 0.3, 0.5], [0.2, 0.1, 0.9], [0.0, 2.0, 1.0]]), 2)
    assert torch.equal(kept, torch.tensor([[1.0, 0.0, 0.5], [0.2, 0.0, 0.9], [0.0, 2.0, 1.0]]))


def test_the_laplacian_divides_by_the_roots_of_both_row_sums():
    normalised = compute_normalized_laplacian(torch.tensor([[0.0, 4.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    torch.testing.assert_close(normalised, torch.tensor([[0.0, 2.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]))


@pytest.mark.parametrize("norm_type", ["sym", "rw", "none"])
def test_the_sparse_graph_is_the_dense_one(norm_type):
    similarity = build_sim(torch.randn(12, 5, generator=torch.Generator().manual_seed(0)))
    dense = build_knn_normalized_graph(similarity, 4, False, norm_type)
    torch.testing.assert_close(build_knn_normalized_graph(similarity, 4, True, norm_type).to_dense(), dense)
    kept = build_knn_neighbourhood(similarity, 4)
    expected = {"sym": compute_normalized_laplacian(kept), "rw": kept / kept.sum(1, keepdim=True), "none": kept}
    torch.testing.assert_close(dense, expected[norm_type])


def test_another_normalisation_is_an_error():
    with pytest.raises(ValueError, match="norm_type=both; expected one of sym, rw, none"):
        build_knn_normalized_graph(torch.eye(3), 1, True, "both")


def test_a_learned_graph_has_a_finite_gradient():
    features = torch.randn(6, 3, requires_grad=True, generator=torch.Generator().manual_seed(0))
    compute_normalized_laplacian(build_knn_neighbourhood(build_sim(features), 3)).sum().backward()
    assert features.grad.isfinite().all() and features.grad.abs().sum() > 0
