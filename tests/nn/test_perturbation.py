"""The noise of contrasted views."""

import torch

from mambarec.nn.perturbation import perturb


def test_noise_has_its_length_and_stays_in_the_orthant():
    torch.manual_seed(0)
    vectors = torch.randn(50, 3, 8)
    moved = perturb(vectors, torch.rand_like(vectors), 0.1) - vectors
    torch.testing.assert_close(moved.norm(dim=-1), torch.full((50, 3), 0.1))
    assert (moved.sign() == vectors.sign()).all()


def test_noise_equals_hand_worked_fractions():
    moved = perturb(torch.tensor([[1.0, -2.0, 0.0]]), torch.tensor([[0.6, 0.8, 0.0]]), 0.5)
    torch.testing.assert_close(moved, torch.tensor([[1.3, -2.4, 0.0]]))


def test_the_gradient_is_that_of_the_vectors():
    vectors = torch.randn(4, 8, requires_grad=True)
    perturb(vectors, torch.rand(4, 8), 0.1).sum().backward()
    assert torch.equal(vectors.grad, torch.ones(4, 8))
