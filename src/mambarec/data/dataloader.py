"""Batches for training and evaluation, made on the device by tensor operations alone.

Shapes are MMRec's, so that models written for it find what they expect: (3, B) users, positives, negatives; (2, B)
without negative sampling; (B,) users with `use_full_sampling`; (5, B) with `use_neighborhood_loss`.
"""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mambarec.base.errors import DataError
from mambarec.base.words import amount
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset
from mambarec.data.sampling import ComplementSampler

_MOST_SCORES = 2**28  # that an evaluation holds at a time


class TrainDataLoader:
    """Shuffled training batches; iterating over it is one epoch.

    Negatives are uniform over the items that occur in training, less those the user has there. `generator` drives
    shuffling and sampling; its state is part of a checkpoint.
    """

    def __init__(self, config: Config, dataset: RecDataset, generator: torch.Generator):
        self.config, self.dataset, self.generator = config, dataset, generator
        self.device = config["device"]
        self.batch_size = config["train_batch_size"]
        self.full_sampling = config["use_full_sampling"]
        self.neg_sampling = config["use_neg_sampling"]
        self.neighbourhood = config["use_neighborhood_loss"]

        users, items = dataset.users["train"], dataset.items["train"]
        train_items, ranks = np.unique(items, return_inverse=True)
        self.train_items = torch.from_numpy(train_items).to(self.device)
        self.pairs = torch.from_numpy(np.stack((users, items))).to(self.device)  # (2, E)
        if self.full_sampling:
            self.rows = torch.from_numpy(np.unique(users)).to(self.device)
        elif self.neg_sampling:
            self.sampler = ComplementSampler(users, ranks, dataset.n_users, len(train_items), self.device)
            has_negative = self.sampler.n_free[self.pairs[0]] > 0
            if not has_negative.all():
                n_left = amount(int((~has_negative).sum()), "pair")
                dataset.notes.append(f"{n_left} of users who have every item left out of training")
                self.pairs = self.pairs[:, has_negative]
            if not self.pairs.shape[1]:
                raise DataError(
                    f"{dataset.path}: every user has every training item, so there are no negatives to sample. Use data "
                    "in which some users lack some items"
                )
        if self.neighbourhood:
            self._neighbours = _ItemNeighbours(dataset, self.device)

    def __len__(self) -> int:
        size = len(self.rows) if self.full_sampling else self.pairs.shape[1]
        return -(-size // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        table = self.rows[None] if self.full_sampling else self.pairs
        order = torch.randperm(table.shape[1], generator=self.generator, device=self.device)
        table = table[:, order]
        if self.full_sampling:
            table = table[0]
        elif self.neg_sampling:
            negatives = self.train_items[self.sampler.sample(table[0], self.generator)]
            table = torch.cat((table, negatives[None]))  # (3, E)
            if self.neighbourhood:
                table = torch.cat((table, self._neighbours.sample(table[1], self.train_items, self.generator)))  # (5, E)
        for start in range(0, table.shape[-1], self.batch_size):
            yield table[..., start : start + self.batch_size].clone()  # models may write into a batch

    def inter_matrix(self, form: str = "coo"):
        """See RecDataset.inter_matrix."""
        return self.dataset.inter_matrix(form)

    @cached_property
    def history_items_per_u(self) -> dict[int, set[int]]:
        """MMRec's name for the training items of each user; built only when a model asks for it."""
        grouped = self.dataset.df.groupby(self.dataset.uid_field)[self.dataset.iid_field]
        return {int(user): set(items.tolist()) for user, items in grouped}


class _ItemNeighbours:
    """For `use_neighborhood_loss`: an item that shares a training user with the positive one, and one that does not.

    The second may be the positive item itself. Items without neighbours, or with more than 80% of the training items as
    neighbours, get item 0 twice. Both as in MMRec.
    """

    def __init__(self, dataset: RecDataset, device: torch.device):
        interactions = dataset.inter_matrix("csr")
        shared = (interactions.T @ interactions).tocsr()
        shared.setdiag(0)
        shared.eliminate_zeros()
        shared.sort_indices()
        trained, rank = np.unique(dataset.items["train"], return_inverse=True)
        ranks = np.zeros(dataset.n_items, dtype=np.int64)
        ranks[dataset.items["train"]] = rank
        rows = np.repeat(np.arange(dataset.n_items), np.diff(shared.indptr))
        self.starts = torch.from_numpy(shared.indptr[:-1].astype(np.int64)).to(device)
        self.counts = torch.from_numpy(np.diff(shared.indptr).astype(np.int64)).to(device)
        self.neighbours = torch.from_numpy(np.append(shared.indices, 0).astype(np.int64)).to(device)
        self.outside = ComplementSampler(rows, ranks[shared.indices], dataset.n_items, len(trained), device)
        self.usable = (self.counts > 0) & (self.counts <= 0.8 * len(trained))

    def sample(self, items: Tensor, train_items: Tensor, generator: torch.Generator) -> Tensor:
        """Return (2, B): a neighbour and a non-neighbour of each of `items` (B,)."""
        uniform = torch.rand(len(items), generator=generator, device=items.device, dtype=torch.float64)
        near = self.neighbours[self.starts[items] + (uniform * self.counts[items]).long()]
        far = train_items[self.outside.sample(items, generator).clamp(max=len(train_items) - 1)]
        return torch.stack((near, far)) * self.usable[items]


def _users_at_a_time(config: Config, dataset: RecDataset) -> int:
    """eval_batch_size, or so many that their scores (B, I) take a gibibyte."""
    return min(config["eval_batch_size"], max(1, _MOST_SCORES // dataset.n_items))


def user_batches(dataset: RecDataset, users: np.ndarray, config: Config, hide_seen: bool = True) -> Iterator[list[Tensor]]:
    """Batches as EvalDataLoader's over any users (N,); with hide_seen false nothing is hidden. Made one at a time."""
    device, size = config["device"], _users_at_a_time(config, dataset)
    history = dataset.inter_matrix("csr")
    for start in range(0, len(users), size):
        block = users[start : start + size]
        seen = history[block if hide_seen else block[:0]]
        rows = np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr))
        mask = np.stack((rows, seen.indices.astype(np.int64)))
        yield [torch.from_numpy(block).to(device), torch.from_numpy(mask).to(device)]


class EvalDataLoader:
    """Batches `[users (B,), mask (2, M)]` over the users of one split; mask holds row in batch and training item to hide.

    `relevant_keys`: sorted user * n_items + item of the split's pairs; `n_relevant` (N,): how many each user has.
    """

    def __init__(self, config: Config, dataset: RecDataset, split: str):
        device = config["device"]
        self.dataset, self.split, self.batch_size = dataset, split, _users_at_a_time(config, dataset)
        users, n_relevant = np.unique(dataset.users[split], return_counts=True)
        self.users = torch.from_numpy(users).to(device)
        self.n_relevant = torch.from_numpy(n_relevant).to(device)
        keys = np.sort(dataset.users[split] * dataset.n_items + dataset.items[split])
        self.relevant_keys = torch.from_numpy(keys).to(device)

        history = dataset.inter_matrix("csr")[users]
        rows = np.repeat(np.arange(len(users)), np.diff(history.indptr))
        self.offsets = history.indptr
        self.mask = torch.from_numpy(np.stack((rows, history.indices.astype(np.int64)))).to(device)

    def __len__(self) -> int:
        return -(-len(self.users) // self.batch_size)

    def __iter__(self) -> Iterator[list[Tensor]]:
        for start in range(0, len(self.users), self.batch_size):
            stop = min(start + self.batch_size, len(self.users))
            mask = self.mask[:, self.offsets[start] : self.offsets[stop]].clone()
            mask[0] -= start
            yield [self.users[start:stop], mask]
