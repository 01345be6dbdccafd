"""Lazy Adam: the rule of torch.optim.SparseAdam for sparse gradients, that of Adam for dense ones."""

import pytest
import torch

from mambarec.training.adam import Adam, LazyAdam


def steps(optimizer, table, gradients):
    for gradient in gradients:
        table.grad = gradient.clone()
        optimizer.step()
    return table.detach().clone()


def sparse_gradients(n: int = 8) -> list[torch.Tensor]:
    generator, gradients = torch.Generator().manual_seed(1), []
    for _ in range(n):
        rows = torch.randperm(10, generator=generator)[:4].sort().values
        gradients.append(
            torch.sparse_coo_tensor(rows[None], torch.randn(4, 3, generator=generator), (10, 3), check_invariants=True)
        )
    return gradients


def table() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.arange(30.0).view(10, 3) / 10)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # which SparseAdam calls forth
def test_rows_are_updated_as_by_sparse_adam():
    one, other = table(), table()
    ours = steps(LazyAdam([one], lr=0.01), one, sparse_gradients())
    theirs = steps(torch.optim.SparseAdam([other], lr=0.01), other, sparse_gradients())
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_row_without_a_gradient_is_not_touched():
    one = table()
    optimizer = LazyAdam([one], lr=0.01)
    for rows in ([0, 4], [4]):
        one.grad = torch.sparse_coo_tensor(torch.tensor([rows]), torch.ones(len(rows), 3), (10, 3), check_invariants=True)
        before = one.detach().clone()
        optimizer.step()
        still = [row for row in range(10) if row not in rows]
        assert torch.equal(one[still], before[still]) and not (one[rows] == before[rows]).any()
    assert (optimizer.state[one]["exp_avg"][1:4] == 0).all()


def test_a_row_that_stands_twice_gets_the_sum():
    one, other = table(), table()
    twice = torch.sparse_coo_tensor(torch.tensor([[2, 2]]), torch.ones(2, 3), (10, 3), check_invariants=True)
    once = torch.sparse_coo_tensor(torch.tensor([[2]]), torch.full((1, 3), 2.0), (10, 3), check_invariants=True)
    assert torch.equal(steps(LazyAdam([one]), one, [twice]), steps(LazyAdam([other]), other, [once]))


def test_a_dense_gradient_is_adams_to_the_bit():
    gradients = [gradient.to_dense() for gradient in sparse_gradients()]
    one, other = table(), table()
    assert torch.equal(steps(LazyAdam([one], fused=True), one, gradients), steps(Adam([other], fused=True), other, gradients))


def test_its_state_goes_on_to_the_bit():
    one, other, gradients = table(), table(), sparse_gradients()
    whole = steps(LazyAdam([one], lr=0.01), one, gradients)
    first = LazyAdam([other], lr=0.01)
    steps(first, other, gradients[:3])
    second = LazyAdam([other], lr=0.01)
    second.load_state_dict(first.state_dict())
    assert torch.equal(steps(second, other, gradients[3:]), whole)
