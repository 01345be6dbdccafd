"""VBPR's two ways to the items of a batch."""

import torch
from mambarec.models.vbpr import VBPR


def test_items_of_a_small_batch_are_those_of_the_whole_catalogue_with_the_same_gradients(make_config, make_loader):
    config = make_config("VBPR")
    model = VBPR(config, make_loader(config))
    few = torch.tensor([5, 0, 63, 5])  # gathered first, projected after
    many = few.repeat(16)  # the whole catalogue is projected
    gradients = []
    for rows in (few, many):
        model.zero_grad()
        vectors = model.item_vectors(rows)[:4]
        torch.testing.assert_close(vectors, model.representations()[1][few])
        vectors.square().sum().backward()
        gradients.append([model.projection.weight.grad, model.item_embedding.grad])
    torch.testing.assert_close(*gradients)
