"""Recommendations of a finished run as tables, a block of users at a time: what evaluation ranks, with scores and reasons."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mambarec.base.errors import DataError, RunError
from mambarec.base.text import read_text, trimmed_text
from mambarec.base.words import option
from mambarec.data.dataloader import user_batches
from mambarec.data.dataset import RecDataset
from mambarec.evaluation.topk_evaluator import best_items, masked_scores, representations_once
from mambarec.running.trained import Trained
from mambarec.serving.identifiers import Identifiers, item_identifiers, user_identifiers
from mambarec.serving.vectors import unit_features, vectors


def evaluated_users(dataset: RecDataset) -> np.ndarray:
    """The users of the test split (N,), those of topk.npz."""
    return np.unique(dataset.users["test"])


def trained_users(dataset: RecDataset) -> np.ndarray:
    """All users with a training pair (N,); of others a model knows nothing."""
    return np.unique(dataset.users["train"])


def about_strangers(dataset: RecDataset, users: np.ndarray) -> str:
    """A sentence on those of some users (N,) who have no training pair; empty where all have one."""
    n = int((~np.isin(users, trained_users(dataset))).sum())
    return f"{n:,} of the users have no training pair: the model knows nothing of them" if n else ""


def listed_users(path: Path) -> list[str]:
    """The ids in a text file, one a line, quoted or not; DataError where there is none."""
    if not path.exists():
        words = " ".join(f"{path}".replace(",", " ").split())
        raise DataError(f"--users {path}: there is no such file. For ids in place of a file, write --user {words}")
    ids = [one for line in read_text(path).splitlines() if (one := trimmed_text(line))]
    if not ids:
        raise DataError(f"{path} names no user; expected one id on each line")
    return ids


def known_users(dataset: RecDataset, ids: Iterable[str]) -> tuple[np.ndarray, list[str]]:
    """The users (N,) with these ids, each once, in this order, and the ids that the data do not have.

    DataError where the data have none of them.
    """
    identifiers, names = user_identifiers(dataset), list(dict.fromkeys(ids))
    numbers = identifiers.find(names)
    unknown = [name for name, number in zip(names, numbers, strict=True) if number < 0]
    if len(unknown) == len(names):
        some = ", ".join(map(repr, unknown[:5])) + (" …" if len(unknown) > 5 else "")
        raise DataError(f"the data set {dataset.name} has none of these users: {some}; {identifiers.hint}")
    return numbers[numbers >= 0], unknown


@torch.no_grad()
def recommend(
    trained: Trained, users: np.ndarray, k: int, include_seen: bool = False, n_reasons: int = 0
) -> Iterator[pd.DataFrame]:
    """Yield tables of user, item, rank (from 1) and score, a row per recommendation, for blocks of eval_batch_size users.

    users: (N,) numbers. include_seen: training items may be recommended. n_reasons: so many of the user's training items,
    nearest to the recommended one by the cosine of the raw features, stand beside it for each modality, as
    <modality>_seen_1, <modality>_cosine_1, …
    """
    dataset = trained.dataset
    user_ids, item_ids = user_identifiers(dataset), item_identifiers(dataset)
    reasons = _Reasons(trained, item_ids, n_reasons) if n_reasons else None
    width = max(k, *trained.config["topk"])  # as many as evaluation sorts: ties then fall as they do there
    with representations_once(trained.model):
        for batch in user_batches(dataset, users, trained.config, hide_seen=not include_seen):
            best = best_items(masked_scores(trained.model, batch, dataset), width)
            scores, items = (part[:, :k].cpu().numpy() for part in best)  # (B, k)
            there = items >= 0
            rows, ranks = np.nonzero(there)
            block, items = batch[0].cpu().numpy(), items[there]
            columns = {"user": user_ids.of(block[rows]), "item": item_ids.of(items), "rank": ranks + 1, "score": scores[there]}
            yield pd.DataFrame(columns | (reasons.columns(block, rows, items) if reasons else {}))


@torch.no_grad()
def score_table(trained: Trained, users: np.ndarray) -> pd.DataFrame:
    """The scores (N, I) of users for all items that occur in some split, those that a user had among them.

    users: (N,) numbers. The index and the columns are original ids.
    """
    dataset, blocks = trained.dataset, []
    user_ids, item_ids = user_identifiers(dataset), item_identifiers(dataset)
    with representations_once(trained.model):
        for batch in user_batches(dataset, users, trained.config, hide_seen=False):
            blocks.append(masked_scores(trained.model, batch, dataset)[:, item_ids.present].cpu().numpy())
    return pd.DataFrame(np.concatenate(blocks), index=user_ids.index(users), columns=item_ids.index(item_ids.present))


@torch.no_grad()
def recommend_to_basket(trained: Trained, items: Sequence[str], k: int, include_seen: bool = False) -> pd.DataFrame:
    """The k best items for a user outside the data set who has these items, named by id: columns item, rank, score.

    The user's vector is the mean of the items' vectors, those that score. It is an approximation: in LightGCN a trained user's
    vector also has layers of longer walks, and an embedding of its own. RunError where scores are no inner products of vectors.
    """
    ids = item_identifiers(trained.dataset)
    numbers = np.unique(ids.numbers(list(items)))
    table = vectors(trained)[1]
    scores = (table[numbers].mean(0) @ table.T)[None]  # (1, I)
    scores[:, trained.dataset.absent_items] = -torch.inf
    if not include_seen:
        scores[:, numbers] = -torch.inf
    values, best = (part[0].numpy() for part in best_items(scores, k))
    there = best >= 0
    return pd.DataFrame({"item": ids.of(best[there]), "rank": np.arange(1, there.sum() + 1), "score": values[there]})


class _Reasons:
    """For each recommended item, the items that the user had which are nearest to it in each modality."""

    def __init__(self, trained: Trained, item_ids: Identifiers, n: int):
        self.n, self.item_ids = n, item_ids
        self.history = trained.dataset.inter_matrix("csr")
        self.features, self.masks = unit_features(trained), trained.dataset.masks()
        most = int(np.diff(self.history.indptr).max())
        if n > most:
            raise RunError(f"{option('explain', n)}: no user has more than {most} training items to name")
        if not self.features:
            raise RunError(f"{trained.config['model']} reads no item features, so there is nothing to explain its choice by")

    def columns(self, users: np.ndarray, rows: np.ndarray, items: np.ndarray) -> dict[str, object]:
        """Columns of ids and cosines for the items (R,) that users[rows] are recommended; missing where there are fewer."""
        starts = np.searchsorted(rows, np.arange(len(users) + 1))
        columns: dict[str, object] = {}
        for modality, table in self.features.items():
            nearest = np.full((len(items), self.n), -1)
            cosine = np.full((len(items), self.n), np.nan, dtype=np.float32)
            for user, start, stop in zip(users, starts[:-1], starts[1:], strict=True):
                own = items[start:stop]
                seen = self.history.indices[self.history.indptr[user] : self.history.indptr[user + 1]]
                similarity = table[own] @ table[seen].T  # (k, items that the user had)
                similarity[torch.from_numpy(own[:, None] == seen)] = -torch.inf  # an item does not explain itself
                if modality in self.masks:  # nor does one whose features only stand in
                    has = self.masks[modality]
                    similarity[torch.from_numpy(~(has[own][:, None] & has[seen]))] = -torch.inf
                values, places = similarity.topk(min(self.n, len(seen)))
                found = values.numpy() > -np.inf  # (k, n), or narrower
                nearest[start:stop, : found.shape[1]] = np.where(found, seen[places.numpy()], -1)
                cosine[start:stop, : found.shape[1]] = np.where(found, values.numpy(), np.nan)
            for place in range(self.n):
                columns[f"{modality}_seen_{place + 1}"] = self.item_ids.of(nearest[:, place])
                columns[f"{modality}_cosine_{place + 1}"] = cosine[:, place]
        return columns
