"""Full ranking: score every item for every user of a split, hide the training items, measure the top K."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambarec.base.contract import check_scores, contract
from mambarec.base.errors import ModelError
from mambarec.base.processes import current_processes
from mambarec.config.configurator import Config
from mambarec.data.dataloader import EvalDataLoader
from mambarec.data.dataset import RecDataset
from mambarec.evaluation.metrics import METRICS


@dataclass
class Evaluation:
    """Metrics of one model on one split.

    metrics: 'recall@20' -> mean over users. per_user: 'recall@20' -> float64 (N,). users: int64 (N,). topk: int32
    (N, K), best first; -1 where a user has fewer than K items left to recommend.
    """

    metrics: dict[str, float]
    per_user: dict[str, np.ndarray]
    users: np.ndarray
    topk: np.ndarray


class TopKEvaluator:
    """Computes the configured metrics at the configured cut-offs."""

    def __init__(self, config: Config):
        self.names = [name.lower() for name in config["metrics"]]
        self.cutoffs = sorted(set(config["topk"]))

    @torch.no_grad()
    def evaluate(self, model: Any, loader: EvalDataLoader) -> Evaluation:
        """The Evaluation of a recommender, in evaluation mode while it lasts; ModelError when its scores are unusable."""
        was_training = model.training
        model.eval()
        try:
            with representations_once(model):
                topk = self._lists(model, loader)  # (N, K)
        finally:
            model.train(was_training)

        hits = self._hits(topk, loader)
        columns = torch.tensor(self.cutoffs, device=hits.device) - 1
        per_user = {}
        for name in self.names:
            values = METRICS[name](hits, loader.n_relevant)[:, columns].cpu().numpy()  # (N, cut-offs)
            per_user.update({f"{name}@{k}": values[:, i].copy() for i, k in enumerate(self.cutoffs)})
        means = {name: float(values.mean()) for name, values in per_user.items()}
        return Evaluation(means, per_user, loader.users.cpu().numpy(), topk.to(torch.int32).cpu().numpy())

    def _lists(self, model: Any, loader: EvalDataLoader) -> Tensor:
        """The lists of all users; each of several processes makes those of some batches."""
        processes = current_processes()
        if processes.size == 1:
            return torch.cat([self._recommend(model, batch, loader.dataset) for batch in loader])
        topk = loader.users.new_zeros(len(loader.users), self.cutoffs[-1])
        blocks = topk.split(loader.batch_size)
        for number, batch in processes.mine(loader):
            blocks[number].copy_(self._recommend(model, batch, loader.dataset))
        return processes.sum(topk)

    def _recommend(self, model: Any, batch: list[Tensor], dataset: RecDataset) -> Tensor:
        width = self.cutoffs[-1]
        items = best_items(masked_scores(model, batch, dataset), width, type(model).__name__)[1]
        return torch.nn.functional.pad(items, (0, width - items.shape[1]), value=-1)

    @staticmethod
    def _hits(topk: Tensor, loader: EvalDataLoader) -> Tensor:
        """Whether each recommended item is among the user's pairs of the split, (N, K) bool."""
        keys = loader.users[:, None] * loader.dataset.n_items + topk
        position = torch.searchsorted(loader.relevant_keys, keys).clamp(max=len(loader.relevant_keys) - 1)
        return (loader.relevant_keys[position] == keys) & (topk >= 0)


def masked_scores(model: Any, batch: list[Tensor], dataset: RecDataset) -> Tensor:
    """Scores (B, I) of a batch [users (B,), mask (2, M)]; ModelError when of another shape.

    -inf at the pairs of the mask, and at the items that occur in no split.
    """
    name = type(model).__name__
    with contract(name, "full_sort_predict"):
        scores = model.full_sort_predict(batch)
    check_scores(name, scores, (len(batch[0]), dataset.n_items))
    rows, columns = batch[1]
    scores[rows, columns] = -torch.inf
    if len(dataset.absent_items):
        scores[:, torch.from_numpy(dataset.absent_items).to(scores.device)] = -torch.inf
    return scores


def best_items(scores: Tensor, k: int, model: str = "the model") -> tuple[Tensor, Tensor]:
    """The largest scores and their items, best first: two (B, min(k, I)); item -1 where the score is -inf.

    ModelError, which names `model`, where scores are NaN.
    """
    values, items = _largest(scores, min(k, scores.shape[1]))  # NaN would come first
    if torch.isnan(values).any():
        raise ModelError(f"{model}.full_sort_predict returned NaN; it has diverged (try a smaller learning_rate)")
    if torch.isposinf(values).any():
        raise ModelError(f"{model}.full_sort_predict returned Inf; it has diverged (try a smaller learning_rate)")
    return values, items.masked_fill(values == -torch.inf, -1)


def _largest(scores: Tensor, k: int, per_group: int = 10) -> tuple[Tensor, Tensor]:
    """scores.topk(k) of (B, I), faster on a CPU: the k groups of columns with the largest maxima, then the columns in them.

    Every value among the k largest lies in one of these groups. Of equal values another one may be chosen.
    """
    n_groups = scores.shape[1] // per_group
    if scores.is_cuda or n_groups < 2 * k:
        return scores.topk(k)
    rest = n_groups * per_group  # column c below it is in group c % n_groups, the others are in none
    best = scores[:, :rest].unflatten(1, (per_group, n_groups)).amax(1).topk(k, sorted=False).indices  # (B, k)
    members = best[:, None, :] + torch.arange(0, rest, n_groups)[:, None]  # (B, per_group, k)
    ungrouped = torch.arange(rest, scores.shape[1]).expand(len(scores), -1)
    candidates = torch.cat((members.flatten(1), ungrouped), 1)
    values, places = scores.gather(1, candidates).topk(k)
    return values, candidates.gather(1, places)


@contextmanager
def representations_once(model: Any) -> Iterator[None]:
    """While open, model.representations(), where the model has it, returns one result computed at the start. Can be nested."""
    if not hasattr(model, "representations"):
        yield
        return
    with contract(type(model).__name__, "representations"):
        result = model.representations()
    outer = vars(model).get("representations")
    model.representations = lambda: result  # on the instance, hiding the method of the class
    try:
        yield
    finally:
        if outer is None:
            del model.representations
        else:
            model.representations = outer
