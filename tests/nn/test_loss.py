"""Shared losses: hand-worked numbers, and the shapes that models written for MMRec expect."""

import math

import pytest
import torch

from mambarec.nn.loss import BPRLoss, EmbLoss, L2Loss, bpr_logistic


def test_bpr_loss_is_the_mean_of_minus_log_sigmoid():
    # sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4
    loss = BPRLoss()(torch.tensor([2.0, math.log(3) - 1]), torch.tensor([2.0, -1.0]))
    assert loss.shape == ()
    assert float(loss) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2, abs=1e-6)


def test_bpr_loss_of_a_negative_far_ahead_is_bounded_by_gamma():
    far, zero = torch.tensor([1000.0]), torch.tensor([0.0])
    assert float(BPRLoss()(zero, far)) == pytest.approx(10 * math.log(10))
    assert float(BPRLoss(gamma=1e-3)(zero, far)) == pytest.approx(3 * math.log(10))
    assert float(BPRLoss()(far, zero)) == pytest.approx(0, abs=1e-7)


def test_bpr_loss_pulls_the_scores_apart():
    # d/dx -log sigmoid(x) = sigmoid(x) - 1 = -1/4 at ln 3, halved by the mean over two
    pos = torch.tensor([math.log(3), math.log(3)], requires_grad=True)
    neg = torch.zeros(2, requires_grad=True)
    BPRLoss()(pos, neg).backward()
    assert pos.grad.tolist() == pytest.approx([-1 / 8, -1 / 8], abs=1e-6)
    assert neg.grad.tolist() == pytest.approx([1 / 8, 1 / 8], abs=1e-6)


def test_emb_loss_is_the_sum_of_the_norms_over_the_rows_of_the_last():
    # |(3, 4)| = 5 and |(5, 12)| = 13, over 2 rows
    loss = EmbLoss()(torch.tensor([[3.0, 4.0]]), torch.tensor([[5.0, 0.0], [0.0, 12.0]]))
    assert loss.shape == (1,)
    assert float(loss) == pytest.approx((5 + 13) / 2)


def test_emb_loss_takes_other_norms():
    assert float(EmbLoss(norm=1)(torch.tensor([[3.0, -4.0], [0.0, 1.0]]))) == pytest.approx(8 / 2)


def test_l2_loss_is_half_the_sum_of_squares_of_all_embeddings():
    loss = L2Loss()(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[-4.0]]))
    assert loss.shape == (1,)
    assert float(loss) == pytest.approx((1 + 4 + 9 + 16) / 2)


def test_bpr_logistic_is_the_mean_softplus_of_the_margin():
    user, positive, negative = torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [3.0, 1.0]]), torch.zeros(2, 2)
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-1))) / 2
    assert bpr_logistic(user, positive, negative).item() == pytest.approx(expected, rel=1e-6)


def test_bpr_logistic_keeps_its_gradient_where_the_margin_is_large():
    negative = torch.tensor([[100.0]], requires_grad=True)
    bpr_logistic(torch.ones(1, 1), torch.zeros(1, 1), negative).backward()
    assert negative.grad.item() == pytest.approx(1.0)
