"""`python -m benchmarks.copies RUN …`: where a copy of a training item stands, entered as a new item, for the item's own users.

An item's own users have it in training. A rank is among all items of the data set, those of training too, as a share of their
number. A copy's rank is the one that its score would have in the original's place. Medians are over pairs of user and item.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from mambarec.base.errors import exit_status
from mambarec.evaluation.topk_evaluator import representations_once
from mambarec.running.trained import Trained, load_trained
from mambarec.serving.new_items import vectors_as_new


@torch.no_grad()
def median_ranks(trained: Trained, n_items: int, seed: int = 0) -> tuple[float, float]:
    """The median rank of a copy, and of its original, as shares of the catalogue.

    n_items: so many training items are drawn from `seed`.
    """
    dataset, model = trained.dataset, trained.model.eval()
    users, items = dataset.users["train"], dataset.items["train"]
    present = np.unique(items)
    chosen = np.random.default_rng(seed).choice(present, min(n_items, len(present)), replace=False)
    copies, originals = [], []
    with representations_once(model):
        user_vectors, item_vectors = model.representations()  # type: ignore[operator]
        vectors = vectors_as_new(trained, chosen)  # (N, D)
        for place, item in enumerate(chosen):
            own = torch.from_numpy(np.unique(users[items == item]))
            scores = user_vectors[own] @ item_vectors.T  # (B, I)
            copy = user_vectors[own] @ vectors[place]
            others = scores.clone()
            others[:, item] = -torch.inf
            copies += ((others > copy[:, None]).sum(1) + 1).tolist()
            originals += ((others > scores[:, item, None]).sum(1) + 1).tolist()
    return float(np.median(copies)) / dataset.n_items, float(np.median(originals)) / dataset.n_items


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.copies", description="Ranks of training items entered again as new ones.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="directories of finished runs")
    parser.add_argument("--items", type=int, default=500, metavar="N", help="training items that are copied (500)")
    options = parser.parse_args()

    def work() -> None:
        print(f"{'run':60}{'copy':>8}{'original':>10}")
        for run in options.runs:
            trained = load_trained(run)
            copy, original = median_ranks(trained, options.items)
            name = f"{trained.config['model']} on {trained.config['dataset']}, {run.name}"
            print(f"{name:60}{copy:8.2%}{original:10.2%}", flush=True)

    sys.exit(exit_status(work, "stopped"))


if __name__ == "__main__":
    main()
