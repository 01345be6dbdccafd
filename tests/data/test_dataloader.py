"""Batches for training and evaluation: shapes of each mode, what an epoch holds, negatives, masks."""

from collections import Counter

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.stats import chisquare

import mambarec.data.dataloader as dataloader
from mambarec.base.errors import DataError
from mambarec.data.dataloader import EvalDataLoader, TrainDataLoader, user_batches
from mambarec.data.dataset import RecDataset

MODES = [
    # settings, rows of a batch
    ({}, 3),
    ({"use_neg_sampling": False}, 2),
    ({"use_full_sampling": True}, None),
    ({"use_neighborhood_loss": True}, 5),
]


@pytest.fixture
def load(make_config, make_loader):
    """load(seed=0, **overrides) -> TrainDataLoader on the toy data."""
    return lambda seed=0, **overrides: make_loader(make_config("BPR", **overrides), seed)


@pytest.fixture
def load_pairs(toy, load):
    """load_pairs([(user, item), ...], ...) -> TrainDataLoader of these training pairs; user 0 is evaluated on other items."""

    def make(pairs, **overrides) -> TrainDataLoader:
        evaluated = max(item for _, item in pairs) + 1
        rows = [*((user, item, 0) for user, item in pairs), (0, evaluated, 1), (0, evaluated + 1, 2)]
        (toy / "toy.inter").write_text("userID\titemID\tx_label\n" + "".join("{}\t{}\t{}\n".format(*row) for row in rows))
        return load(**overrides)

    return make


@pytest.fixture
def dataset(make_config):
    return RecDataset(make_config("BPR"))


def training_pairs(dataset: RecDataset) -> list[tuple[int, int]]:
    return list(zip(dataset.users["train"].tolist(), dataset.items["train"].tolist(), strict=True))


def epoch(loader: TrainDataLoader) -> torch.Tensor:
    return torch.cat(list(loader), dim=-1)


# batches


@pytest.mark.parametrize(("settings", "rows"), MODES)
def test_batches_have_the_shape_of_their_mode(load, settings, rows):
    loader = load(train_batch_size=32, **settings)
    total = 48 if rows is None else 381  # users, or training pairs
    batches = list(loader)
    widths = [32] * (total // 32) + [total % 32] * (total % 32 > 0)
    assert [tuple(batch.shape) for batch in batches] == [(width,) if rows is None else (rows, width) for width in widths]
    assert len(loader) == len(batches)
    assert all(batch.dtype == torch.int64 and batch.is_contiguous() for batch in batches)


@pytest.mark.parametrize("settings", [settings for settings, rows in MODES if rows])
def test_an_epoch_has_every_training_pair_once(load, settings):
    loader = load(**settings)
    for _ in range(2):
        users, items = epoch(loader)[:2].tolist()
        assert Counter(zip(users, items, strict=True)) == Counter(training_pairs(loader.dataset))


def test_an_epoch_of_full_sampling_has_every_training_user_once(load_pairs):
    loader = load_pairs([(0, 0), (0, 1), (2, 1), (4, 2)], use_full_sampling=True)
    assert sorted(epoch(loader).tolist()) == [0, 2, 4]


@pytest.mark.parametrize(("settings", "rows"), MODES)
def test_epochs_differ_in_order(load, settings, rows):
    loader = load(**settings)
    assert not torch.equal(epoch(loader), epoch(loader))


@pytest.mark.parametrize(("settings", "rows"), MODES)
def test_loaders_with_the_same_seed_give_the_same_batches(load, settings, rows):
    first, second, other = load(seed=3, **settings), load(seed=3, **settings), load(seed=4, **settings)
    for _ in range(2):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(epoch(first), epoch(other))


def test_a_generator_put_back_repeats_the_epoch(load):
    loader = load()
    epoch(loader)
    state = loader.generator.get_state()
    second = epoch(loader)
    loader.generator.set_state(state)
    assert torch.equal(epoch(loader), second)


@pytest.mark.parametrize(("settings", "rows"), MODES)
def test_writing_into_a_batch_does_not_change_what_follows(load, settings, rows):
    untouched, written = load(seed=5, **settings), load(seed=5, **settings)
    for _ in range(2):
        for expected, batch in zip(untouched, written, strict=True):
            assert torch.equal(batch, expected)
            batch.fill_(-1)


# negatives


def test_negatives_are_training_items_outside_the_history_of_the_user(load_pairs):
    pairs = [(0, 0), (0, 2), (0, 6), (1, 2), (1, 4), (2, 6)]  # 1, 3, 5 and 7 are not in training
    loader = load_pairs(pairs, train_batch_size=4)
    seen = {user: set() for user in range(3)}
    for _ in range(60):
        users, _, negatives = epoch(loader).tolist()
        for user, negative in zip(users, negatives, strict=True):
            seen[user].add(negative)
    assert seen == {0: {4}, 1: {0, 6}, 2: {0, 2, 4}}


def test_negatives_of_the_toy_are_never_in_the_history(load):
    loader = load()
    trained = set(training_pairs(loader.dataset))
    for _ in range(3):
        users, _, negatives = epoch(loader).tolist()
        assert not trained.intersection(zip(users, negatives, strict=True))


def test_negatives_are_uniform(load_pairs):
    loader = load_pairs([(0, item) for item in (0, 1, 2)] + [(1, item) for item in (3, 4, 5, 6)], train_batch_size=64)
    drawn = torch.cat([epoch(loader) for _ in range(1000)], dim=1)
    counts = torch.bincount(drawn[2, drawn[0] == 0], minlength=7)
    assert counts[:3].sum() == 0
    assert chisquare(counts[3:].numpy()).pvalue > 0.001


def test_a_user_who_has_every_item_is_left_out_of_training_and_noted(load_pairs):
    loader = load_pairs([(0, 0), (0, 1), (0, 2), (1, 1)])
    assert loader.dataset.notes[-1] == "3 pairs of users who have every item left out of training"
    for _ in range(20):
        users, positives, negatives = epoch(loader).tolist()
        assert (users, positives) == ([1], [1])
        assert negatives[0] in {0, 2}
    assert len(loader) == 1


def test_no_negatives_at_all_are_an_error(load_pairs):
    with pytest.raises(DataError, match=r"toy\.inter: every user has every training item"):
        load_pairs([(0, 0), (0, 1), (1, 0), (1, 1)])


def test_the_neighbours_of_a_positive_share_a_training_user_and_the_others_do_not(load):
    loader = load(use_neighborhood_loss=True)
    shared = (loader.inter_matrix("csr").T @ loader.inter_matrix("csr")).toarray()
    np.fill_diagonal(shared, 0)
    usable = (shared > 0).sum(1) <= 0.8 * len(np.unique(loader.dataset.items["train"]))
    near_seen = set()
    for _ in range(5):
        _, positives, _, near, far = epoch(loader).numpy()
        kept = usable[positives]
        assert kept.any()
        assert (shared[positives[kept], near[kept]] > 0).all()
        assert (shared[positives[kept], far[kept]] == 0).all()
        assert not near[~kept].any()
        assert not far[~kept].any()
        near_seen.update(near[kept].tolist())
    assert len(near_seen) > 20


def test_an_item_with_too_many_neighbours_gets_item_zero_twice(load_pairs):
    # 4 shares a user with each of the five others, more than 80% of the six
    loader = load_pairs([(0, 1), (0, 2), (0, 4), (1, 3), (1, 4), (1, 5), (1, 6)], use_neighborhood_loss=True)
    neighbours = {1: {2, 4}, 2: {1, 4}, 3: {4, 5, 6}, 5: {3, 4, 6}, 6: {3, 4, 5}}
    near_seen, far_seen = ({item: set() for item in range(1, 7)} for _ in range(2))
    for _ in range(100):
        for positive, near, far in epoch(loader)[[1, 3, 4]].T.tolist():
            near_seen[positive].add(near)
            far_seen[positive].add(far)
    assert near_seen == {**neighbours, 4: {0}}
    assert far_seen == {**{item: set(range(1, 7)) - others for item, others in neighbours.items()}, 4: {0}}


# what models read


@pytest.mark.parametrize(("form", "kind"), [("coo", sp.coo_matrix), ("csr", sp.csr_matrix)])
def test_inter_matrix_is_a_sparse_matrix_of_the_training_pairs(load, form, kind):
    loader = load()
    matrix = loader.inter_matrix(form)
    assert isinstance(matrix, kind)
    assert matrix.shape == (48, 64)
    assert set(zip(*map(np.ndarray.tolist, matrix.nonzero()), strict=True)) == set(training_pairs(loader.dataset))
    assert set(matrix.data.tolist()) == {1.0}


def test_history_items_per_u_is_the_set_of_training_items_of_each_user(load):
    loader = load()
    expected = {}
    for user, item in training_pairs(loader.dataset):
        expected.setdefault(user, set()).add(item)
    assert loader.history_items_per_u == expected


# evaluation


@pytest.mark.parametrize("batch_size", [1, 5, 48, 1000])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluation_hides_the_training_items_of_each_user(make_config, split, batch_size):
    config = make_config("BPR", eval_batch_size=batch_size)
    dataset = RecDataset(config)
    loader = EvalDataLoader(config, dataset, split)
    users = []
    for batch_users, mask in loader:
        assert len(batch_users) <= batch_size
        assert mask.shape[0] == 2
        trained = training_pairs(dataset)
        expected = {(row, item) for row, user in enumerate(batch_users.tolist()) for other, item in trained if other == user}
        assert set(map(tuple, mask.T.tolist())) == expected
        assert mask.shape[1] == len(expected)
        users += batch_users.tolist()
    assert users == sorted(set(dataset.users[split].tolist()))
    assert len(loader) == len(list(loader))


def test_the_scores_of_a_batch_of_a_large_catalogue_are_bounded(make_config, monkeypatch):
    monkeypatch.setattr(dataloader, "_MOST_SCORES", 10 * 64 + 1)  # of 64 items
    config = make_config("BPR")
    dataset = RecDataset(config)
    users = np.arange(48)
    assert {len(batch[0]) for batch in EvalDataLoader(config, dataset, "test")} == {10, 8}
    assert [len(batch[0]) for batch in user_batches(dataset, users, config)] == [10, 10, 10, 10, 8]
    monkeypatch.setattr(dataloader, "_MOST_SCORES", 1)
    assert torch.cat([batch[0] for batch in user_batches(dataset, users, config)]).tolist() == users.tolist()


def test_evaluation_takes_only_the_users_of_its_split(toy, make_config):
    text = "userID\titemID\tx_label\n0\t0\t0\n1\t1\t0\n2\t2\t0\n2\t3\t0\n2\t0\t1\n0\t1\t2\n2\t1\t2\n0\t2\t2\n"
    (toy / "toy.inter").write_text(text)
    config = make_config("BPR")
    valid, test = (EvalDataLoader(config, RecDataset(config), split) for split in ("valid", "test"))
    assert [(users.tolist(), mask.tolist()) for users, mask in valid] == [([2], [[0, 0], [2, 3]])]
    assert [(users.tolist(), mask.tolist()) for users, mask in test] == [([0, 2], [[0, 1, 1], [0, 2, 3]])]
    assert (valid.n_relevant.tolist(), test.n_relevant.tolist()) == ([1], [2, 1])


def test_writing_into_a_mask_does_not_change_the_next_evaluation(dataset):
    loader = EvalDataLoader(dataset.config, dataset, "test")
    before = [mask.clone() for _, mask in loader]
    for _, mask in loader:
        mask.fill_(0)
    assert all(torch.equal(mask, expected) for (_, mask), expected in zip(loader, before, strict=True))
