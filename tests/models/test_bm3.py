"""BM3's distances and targets."""

import torch
from mambarec.models.bm3 import BM3, distance

from mambarec.nn.alignment import Distinct, distinct


def test_distances_of_distinct_rows_are_those_of_the_batch():
    one, other = torch.randn(5, 8), torch.randn(5, 8)
    batch = torch.tensor([4, 0, 4, 4, 2, 0])
    part = distinct(batch)
    torch.testing.assert_close(distance(one[part.values], other[part.values], part), distance(one[batch], other[batch]))


def test_the_loss_has_no_negatives(make_config, make_loader):
    torch.manual_seed(0)
    config = make_config("BM3", train_batch_size=32, dropout=0.0)
    loader = make_loader(config)
    model, batch = BM3(config, loader), next(iter(loader))
    assert batch.shape == (2, 32)
    assert torch.equal(model.calculate_loss(batch), model.calculate_loss(torch.cat((batch, batch[:1]))))


def test_a_target_has_no_gradient_and_loses_coordinates_while_training(make_config, make_loader):
    config = make_config("BM3", dropout=0.5)
    model, vectors = BM3(config, make_loader(config)).train(), torch.ones(100, 8, requires_grad=True)
    part = distinct(torch.arange(100))
    target = model.target(vectors, part, 100)
    assert not target.requires_grad
    assert 0.3 < (target == 0).double().mean() < 0.7
    assert torch.equal(model.eval().target(vectors, part, 100), vectors)


def test_a_user_has_one_mask_where_the_batch_stands_as_it_is(make_config, make_loader):
    config = make_config("BM3", dropout=0.5, embedding_size=64)
    model, batch = BM3(config, make_loader(config)).train(), torch.tensor([3, 1, 3, 3, 0])
    target = model.target(torch.ones(5, 64), Distinct(batch, None, None), 4)  # as on a GPU
    assert torch.equal(target[0], target[2]) and torch.equal(target[0], target[3])
    assert not torch.equal(target[0], target[1]) and set(target.unique().tolist()) == {0.0, 2.0}
