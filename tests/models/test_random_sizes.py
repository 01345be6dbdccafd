"""BM3, LATTICE, PGL, SMORE, DRAGON, MENTOR, GUME and COHESION on random data sets of random sizes."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from mambarec.running.run import load_model_class
from mambarec.training.trainer import Trainer, init_seed

NAMES = ["BM3", "LATTICE", "PGL", "SMORE", "DRAGON", "MENTOR", "GUME", "COHESION"]
VARIANTS = {  # what computes other things than the defaults, for the second half of the seeds
    "BM3": {"n_layers": 2},
    "LATTICE": {"cf_model": "mf", "n_layers": 2, "graph_gradient": "every_batch"},
    "PGL": {"n_mm_layers": 2, "n_ui_layers": 1},
    "SMORE": {"n_layers": 2},
    "DRAGON": {"user_graph_pad": "resample", "evaluate_on": "last_forward"},
    "MENTOR": {"feature_mask": "trained"},
    "GUME": {"n_layers": 2, "n_ui_layers": 1},
    "COHESION": {"train_id": True, "dropout": 0.4, "user_graph_pad": "resample"},
}


def write_random(folder, rng) -> None:
    """Interactions and features in place of the toy's: users and items without training pairs, empty and equal feature rows."""
    n_users, n_items = rng.integers(4, 60, 2)
    chosen = rng.random((n_users, n_items)) < rng.uniform(0.1, 0.5)
    chosen[0, :3] = True
    users, items = chosen.nonzero()
    labels = rng.choice(3, len(users), p=[0.7, 0.15, 0.15])
    labels[:3] = [0, 1, 2]
    pairs = pd.DataFrame({"userID": users, "itemID": items, "x_label": labels})
    pairs.to_csv(folder / "toy.inter", sep="\t", index=False)
    for file in ("image_feat.npy", "text_feat.npy"):
        table = rng.normal(size=(items.max() + 1, rng.integers(1, 40))).astype(np.float32)
        table[rng.random(len(table)) < 0.1] = 0
        table[rng.random(len(table)) < 0.1] = table[-1]
        np.save(folder / file, table)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_training_evaluation_and_state_hold_on_random_sizes(name, seed, toy, make_config, make_loader):
    rng = np.random.default_rng([seed, NAMES.index(name)])
    write_random(toy, rng)
    size, batch = int(rng.integers(1, 5)) * 4, int(rng.integers(2, 60))
    overrides = VARIANTS[name] if seed % 2 else {}
    if "weight_size" in make_config(name):
        overrides = overrides | {"weight_size": [size, size], "feat_embed_dim": int(rng.integers(2, 20))}
    config = make_config(name, embedding_size=size, train_batch_size=batch, **overrides)
    loader = make_loader(config)

    def fresh():
        init_seed(seed)
        return load_model_class(name)(config, loader)

    model = fresh().train()
    model.pre_epoch_processing()
    loss = model.calculate_loss(next(iter(loader)))
    loss.backward()
    assert loss.isfinite()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        assert parameter.grad is None or parameter.grad.isfinite().all(), key

    trainer = Trainer(config, model, loader.generator)
    trainer._train_epoch(loader, 0)
    users = torch.arange(model.n_users)
    model.eval()
    with torch.no_grad():
        scores, again = (model.full_sort_predict([users, None]) for _ in range(2))
        assert scores.isfinite().all() and torch.equal(scores, again)
        other = fresh().eval()
        other.load_state_dict(copy.deepcopy(model.state_dict()))
        assert torch.equal(other.full_sort_predict([users, None]), scores)
