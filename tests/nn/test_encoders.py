"""LightGCN as a part of other models."""

import torch

from mambarec.nn.encoders import LightGCN_Encoder


def test_its_vectors_are_lightgcns_and_dropout_keeps_their_mean(make_config, make_loader):
    config = make_config("LightGCN", n_layers=1)
    loader = make_loader(config)
    torch.manual_seed(0)
    encoder = LightGCN_Encoder(config, loader)
    users, items = encoder.get_embedding()
    matrix = torch.from_numpy(loader.inter_matrix("csr").toarray()).float()
    scaled = matrix / (matrix.sum(1, keepdim=True) * matrix.sum(0)).sqrt().clamp(min=1e-6)
    table = encoder.embedding_dict
    torch.testing.assert_close(users, (table["user_emb"] + scaled @ table["item_emb"]).detach() / 2, atol=1e-5, rtol=1e-4)
    assert items.shape == (loader.dataset.n_items, 8) and not users.requires_grad

    batch = next(iter(loader))
    user, item = encoder(batch)
    assert user.shape == item.shape == (batch.shape[1], 8)
    other, _ = encoder(batch)
    assert not torch.equal(user, other)
    (user.sum() + item.sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())
