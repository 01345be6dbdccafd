"""A stand-in of MMRec's program: an epoch on given batches, and a ranking. Arguments: data_path, batches.npz, seed.

Prints a line of JSON: the sum of the losses, the recommendations of the first users, and what modules were loaded.
"""

import importlib
import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import coo_matrix
from utils.configurator import Config


class Loader:
    """Training batches from a file, with the surface of MMRec's loader and data set."""

    def __init__(self, stored):
        self.stored, self.dataset = stored, self
        self.user_num, self.item_num = (int(size) for size in stored["shape"])

    def get_user_num(self):
        return self.user_num

    def get_item_num(self):
        return self.item_num

    def inter_matrix(self, form="coo", value_field=None):
        pairs = self.stored["pairs"]
        return coo_matrix((np.ones(pairs.shape[1]), tuple(pairs)), shape=(self.user_num, self.item_num)).asformat(form)

    def __iter__(self):
        for name in sorted(name for name in self.stored.files if name.startswith("batch")):
            yield torch.from_numpy(self.stored[name])


def train_epoch(model, loader, config):
    optimizer = torch.optim.Adam(model.parameters(), lr=config["learning_rate"], weight_decay=config["weight_decay"])
    total = 0.0
    model.pre_epoch_processing()
    model.train()
    for interaction in loader:
        optimizer.zero_grad()
        loss = model.calculate_loss(interaction)
        total += loss.item()
        loss.backward()
        optimizer.step()
    model.post_epoch_processing()
    return total


@torch.no_grad()
def recommend(model, users):
    model.eval()
    scores = model.full_sort_predict([users, torch.zeros(2, 0, dtype=torch.long)])
    return torch.topk(scores, 5).indices.tolist()


if __name__ == "__main__":
    data_path, batches, seed = sys.argv[1:]
    config = Config("MambaRec", "toy", {"data_path": data_path, "device": torch.device("cpu")})
    loader = Loader(np.load(batches))
    torch.set_num_threads(1)
    random.seed(int(seed))
    np.random.seed(int(seed))
    torch.manual_seed(int(seed))
    model = importlib.import_module("models.mambarec").MambaRec(config, loader).to(config["device"])
    result = {"loss": train_epoch(model, loader, config), "lists": recommend(model, torch.arange(10))}
    here = str(Path(__file__).parent)
    loaded = [name for name, module in sys.modules.items() if (getattr(module, "__file__", None) or "").startswith(here)]
    print(json.dumps({**result, "modules": sorted(loaded)}))
