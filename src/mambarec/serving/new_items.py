"""Items that arrived after training, recommended from their features by a finished run, beside the items it was trained on.

A folder of new items holds `items.csv`, whose column `original_id` names them, and the feature files of the data set under the
same names, a row per item; a mask beside one of them, bool (N,), is false at items without the modality. `prepare.py items`
makes such a folder. The model says what vector a new item gets (`for_new_items`); a model whose scores are no inner
products of vectors gives it the mean of its neighbours' scores, with the weights of nn.new_items.

Items and users pass through in blocks: what is computed of the items lies in a temporary file, so memory does not grow.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mambarec.base.bounded import array_head, first_line
from mambarec.base.errors import DataError, RunError
from mambarec.base.words import amount, command
from mambarec.data.dataloader import user_batches
from mambarec.data.encoders import encoder_text, read_encoders
from mambarec.data.missing import mask_file, read_mask, stray_masks
from mambarec.evaluation.topk_evaluator import best_items, masked_scores, representations_once
from mambarec.nn.new_items import NEIGHBOURS, Links, TrainingItems
from mambarec.running.trained import Trained
from mambarec.serving.identifiers import item_identifiers, user_identifiers
from mambarec.serving.vectors import inner_products

ITEMS = "items.csv"
_BLOCK = 4096  # new items in memory at a time
_LONGEST = 500  # bytes of an id
_LARGEST = 1e15  # whose squares float32 can add up


class Arrivals:
    """The new items of a folder, ready to be scored; a context manager. `len` is their number N.

    boost: what their scores are multiplied by. `analysis.cold` chooses it on validation.

    DataError, before anything is computed, where the folder has no items, an id twice or one that the data set has, or
    features that do not fit those of the run.
    """

    def __init__(self, trained: Trained, folder: Path, boost: float = 1.0):
        self.trained, self.folder, self.boost = trained, folder, boost
        self._ids, self._blocks = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115, closed by __exit__
        self._id_width, self._n = self._read_ids()
        self.known, self.tables = training_items(trained)
        _check_encoders(trained.dataset.folder, folder)
        names = [folder / path.name for path in trained.dataset.feature_files.values()]
        if stray := stray_masks(folder, names, f"{trained.dataset.name}.yaml"):
            raise DataError(stray[0])
        self._files = {m: _Rows(self._file(m), len(self), table.shape[1]) for m, table in self.tables.items()}
        self._masks = {m: mask for m in self.tables if (mask := self._mask(m)) is not None}
        if len(self._masks) == len(self.tables):
            bare = ~np.any(list(self._masks.values()), axis=0)
            if bare.any():
                item = self.ids(np.flatnonzero(bare)[:1])[0]
                raise DataError(
                    f"{folder}: item '{item}' has none of {', '.join(self.tables)}, so nothing is known of it; leave it out"
                )
        self._compute()

    def __enter__(self) -> "Arrivals":
        return self

    def __exit__(self, *_: object) -> None:
        self._ids.close()
        self._blocks.close()

    def __len__(self) -> int:
        return self._n

    def ids(self, numbers: np.ndarray) -> list[str]:
        """The ids of some of the new items, 0 … N-1."""
        return [_at(self._ids, int(number), self._id_width) for number in numbers]

    def number(self, item: str) -> int:
        """Which of the new items has this id; DataError where none has."""
        for start in range(0, len(self), _BLOCK):
            ids = self.ids(np.arange(start, min(start + _BLOCK, len(self))))
            if item in ids:
                return start + ids.index(item)
        raise DataError(f"{self.folder / ITEMS} has no item '{item}'; its first is '{self.ids(np.arange(1))[0]}'")

    def best(self, batch: list[Tensor], k: int) -> tuple[Tensor, Tensor]:
        """The largest scores of new items for the users batch[0] (B,), and the numbers of the items: two (B, min(k, N))."""
        found = None
        raw = self._raw(batch)
        for start, arrays in self._stored():
            values, places = self._scores(batch, arrays, raw).topk(min(k, len(arrays[0])))
            places += start
            if found is not None:
                values, places = torch.cat((found[0], values), 1), torch.cat((found[1], places), 1)
                values, order = values.topk(min(k, values.shape[1]))
                places = places.gather(1, order)
            found = values, places
        assert found is not None
        return found

    def scorer(self, number: int) -> Callable[[list[Tensor]], Tensor]:
        """A function of users batch[0] (B,): the scores (B,) that they give to one new item."""
        start, arrays = next((start, arrays) for start, arrays in self._stored() if number < start + len(arrays[0]))
        one = [array[number - start : number - start + 1] for array in arrays]
        return lambda batch: self._scores(batch, one, self._raw(batch))[:, 0]

    # scoring

    @torch.no_grad()
    def _compute(self) -> None:
        """Write what scores the items into the temporary file: their vectors, or the neighbours whose scores count."""
        trained, model = self.trained, self.trained.model
        device = next(iter(self.tables.values())).device
        self._users = None
        vectors: Any = None
        if (tables := inner_products(trained)) is not None:
            self._users = tables[0]
            vectors = model.for_new_items()
        for start in range(0, len(self), _BLOCK):
            stop = min(start + _BLOCK, len(self))
            features = {m: torch.from_numpy(rows.read(start, stop)).to(device) for m, rows in self._files.items()}
            has = {m: torch.from_numpy(mask[start:stop]).to(device) for m, mask in self._masks.items()}
            links = self.known.link(features, has)
            parts = [vectors(features, links)] if vectors else _neighbours(links)
            if not all(part.isfinite().all() for part in parts):
                raise RunError(f"{trained.config['model']} gives NaN or Inf to new items of {self.folder}: it has diverged")
            for part in parts:
                np.save(self._blocks, part.float().cpu().numpy() if part.is_floating_point() else part.int().cpu().numpy())

    def _stored(self) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Blocks of the file: the number of the first item, and the arrays of the block."""
        self._blocks.seek(0)
        n_arrays = 1 if self._users is not None else 2
        for start in range(0, len(self), _BLOCK):
            yield start, [np.load(self._blocks, allow_pickle=False) for _ in range(n_arrays)]

    def _raw(self, batch: list[Tensor]) -> Tensor | None:
        """The scores (I, B) of the data set's items, none hidden, where those of new items are made of them."""
        if self._users is not None:
            return None
        return masked_scores(self.trained.model, [batch[0], batch[1][:, :0]], self.trained.dataset).T.contiguous()

    def _scores(self, batch: list[Tensor], arrays: list[np.ndarray], raw: Tensor | None) -> Tensor:
        """Scores (B, N) of a block."""
        parts = [torch.from_numpy(array).to(batch[0].device) for array in arrays]
        if self._users is not None:
            return self.boost * (self._users[batch[0]] @ parts[0].T)
        assert raw is not None
        index, weight = parts[0].long(), parts[1]
        taken = torch.nn.functional.embedding_bag(index, raw, per_sample_weights=weight, mode="sum")
        return self.boost * taken.T

    # reading

    def _read_ids(self) -> tuple[int, int]:
        """Put the ids into their temporary file; returns the bytes of each and how many there are."""
        path = self.folder / ITEMS
        if not self.folder.is_dir():
            raise DataError(
                f"{self.folder} is no folder; expected one with {ITEMS} and feature files. "
                f"`{command('prepare', 'items')}` makes it"
            )
        if not path.is_file():
            raise DataError(f"{path} does not exist; expected the ids of the new items in a column original_id")
        width = max((len(one) for chunk in _id_chunks(path) for one in chunk), default=0)
        if not width:
            raise DataError(f"{path} has no row; expected one for each new item")
        if width > _LONGEST:
            raise DataError(f"{path}: an original_id has {width:,} bytes; at most {_LONGEST} are read")
        known, hashes, n = item_identifiers(self.trained.dataset), [], 0
        for chunk in _id_chunks(path):
            texts = [one.decode() for one in chunk]
            there = known.has(texts)
            if there.any():
                row = int(there.argmax())
                raise DataError(
                    f"{path}, row {n + row + 1}: the data set {self.trained.dataset.name} has an item '{texts[row]}' already; "
                    "a new item needs an id of its own"
                )
            self._ids.write(np.array(chunk, dtype=f"S{width}").tobytes())
            hashes.append(np.array([int.from_bytes(hashlib.blake2b(one, digest_size=8).digest()) for one in chunk], np.uint64))
            n += len(chunk)
        every = np.concatenate(hashes)
        values, first = np.unique(every, return_index=True)
        if len(values) < n:
            again = int(np.setdiff1d(np.arange(n), first)[0])
            raise DataError(f"{path}, row {again + 1}: the original_id '{_at(self._ids, again, width)}' is there twice")
        return width, n

    def _file(self, modality: str) -> Path:
        return self.folder / self.trained.dataset.feature_files[modality].name

    def _mask(self, modality: str) -> np.ndarray | None:
        """Which items have the modality, bool (N,); None without a file."""
        path = mask_file(self._file(modality))
        if not path.exists():
            return None
        return read_mask(path, len(self), may_be_empty=True)


def recommend_with_new(
    trained: Trained, users: np.ndarray, k: int, arrivals: Arrivals, include_seen: bool = False
) -> Iterator[pd.DataFrame]:
    """Yield tables as serving.lists.recommend does, of the data set's items and the new ones together; `new` tells which.

    The scores of the data set's items are what they are without new ones, to the bit.
    """
    dataset = trained.dataset
    user_ids, item_ids = user_identifiers(dataset), item_identifiers(dataset)
    width = max(k, *trained.config["topk"])
    with torch.no_grad(), representations_once(trained.model):
        for batch in user_batches(dataset, users, trained.config, hide_seen=not include_seen):
            old, items = (part[:, :k] for part in best_items(masked_scores(trained.model, batch, dataset), width))
            new, numbers = arrivals.best(batch, k)
            both, order = torch.cat((old, new), 1).sort(dim=1, descending=True, stable=True)  # of equal ones the old first
            ordered = torch.cat((items, numbers + dataset.n_items), 1).gather(1, order)
            scores, listed = (part[:, :k].cpu().numpy() for part in (both, ordered))  # (B, k)
            rows, ranks = np.nonzero(listed >= 0)
            chosen, block = listed[rows, ranks], batch[0].cpu().numpy()
            is_new = chosen >= dataset.n_items
            names = pd.Series(item_ids.of(np.where(is_new, -1, chosen)).astype("string"))
            names[is_new] = arrivals.ids(chosen[is_new] - dataset.n_items)
            yield pd.DataFrame(
                {
                    "user": user_ids.of(block[rows]),
                    "item": names.to_numpy(),
                    "rank": ranks + 1,
                    "score": scores[rows, ranks],
                    "new": is_new,
                }
            )


def best_users(trained: Trained, users: np.ndarray, arrivals: Arrivals, item: str, k: int) -> pd.DataFrame:
    """The k of these users (N,) who score a new item highest: columns item, user, rank, score. item: its id."""
    scores_of = arrivals.scorer(arrivals.number(item))
    best = np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64)
    with torch.no_grad(), representations_once(trained.model):
        for batch in user_batches(trained.dataset, users, trained.config, hide_seen=False):
            scores = np.concatenate((best[0], scores_of(batch).cpu().numpy()))
            of = np.concatenate((best[1], batch[0].cpu().numpy()))
            order = np.argsort(-scores, kind="stable")[:k]
            best = scores[order], of[order]
    ids = user_identifiers(trained.dataset).of(best[1])
    return pd.DataFrame({"item": item, "user": ids, "rank": np.arange(1, len(ids) + 1), "score": best[0]})


def training_items(trained: Trained, k: int | None = None) -> tuple[TrainingItems, dict[str, Tensor]]:
    """What new items are linked to, and the raw features by which they are: those that the model reads, or all declared ones.

    k: neighbours in each modality; without it the run's knn_k, or 10 for a model without. RunError without features.
    """
    tables = getattr(trained.model, "features", None) or {}
    if not tables:
        declared = trained.dataset.declared_features()
        tables = {m: torch.from_numpy(table).to(trained.config["device"]) for m, table in declared.items()}
    if not tables:
        raise RunError(f"data set {trained.dataset.name} has no item features, so new items cannot be linked to its items")
    device = next(iter(tables.values())).device
    rows = torch.from_numpy(np.unique(trained.dataset.items["train"])).to(device)
    masks = {m: mask.to(device) for m, mask in item_masks(trained).items()}
    return TrainingItems(tables, rows, k or trained.config.get("knn_k") or NEIGHBOURS, masks), tables


def item_masks(trained: Trained) -> dict[str, Tensor]:
    """Of the features that `training_items` gives, which items have the modality: bool (I,), on the CPU, where one does not."""
    reads_features = bool(getattr(trained.model, "features", None))
    masks = trained.dataset.masks() if reads_features else trained.dataset.declared_masks()
    return {m: torch.from_numpy(mask) for m, mask in masks.items()}


def vectors_as_new(trained: Trained, items: np.ndarray, k: int | None = None) -> Tensor:
    """The vectors (N, D) that some items (N,) of the data set would have if they were new; of models with `for_new_items`.

    k: as in `training_items`.
    """
    known, tables = training_items(trained, k)
    rows = torch.from_numpy(items)
    features = {m: table[rows] for m, table in tables.items()}
    has = {m: mask[rows].to(tables[m].device) for m, mask in item_masks(trained).items() if m in tables}
    vectors: Any = trained.model.for_new_items()
    return vectors(features, known.link(features, has))


def _neighbours(links: Links) -> list[Tensor]:
    """Index and weight of all neighbours of N items, (N, k M) each."""
    return [torch.cat(tuple(part.values()), 1) for part in (links.neighbour, links.weight)]


class _Rows:
    """A feature file of new items, read block by block; DataError where its shape or a number does not fit."""

    def __init__(self, path: Path, n: int, width: int):
        self.path = path
        try:
            with path.open("rb") as file:
                self.shape, fortran, self.dtype = array_head(file)
                self.start = file.tell()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}; expected the features of the new items") from None
        except ValueError as error:
            raise DataError(f"{path} cannot be read: {error}") from None
        if len(self.shape) != 2 or self.dtype.kind not in "fiu" or fortran:
            raise DataError(f"{path}: expected a two-dimensional array of numbers, row by row, found {self.dtype} {self.shape}")
        if self.shape[0] != n:
            raise DataError(f"{path} has {amount(self.shape[0], 'row')}; expected {n:,}, one per row of {ITEMS}")
        if self.shape[1] != width:
            raise DataError(
                f"{path} is {self.shape[1]} wide, and the run was trained on features {width} wide: they are of another encoder"
            )
        if path.stat().st_size != self.start + n * width * self.dtype.itemsize:
            raise DataError(f"{path} is not as long as its head says; write it again")
        self._check()

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows as float32 (stop - start, D)."""
        size = self.shape[1] * self.dtype.itemsize
        with self.path.open("rb") as file:
            file.seek(self.start + start * size)
            content = file.read((stop - start) * size)
        return np.frombuffer(bytearray(content), self.dtype).reshape(stop - start, self.shape[1]).astype(np.float32)

    def _check(self) -> None:
        for start in range(0, self.shape[0], _BLOCK):
            table = self.read(start, min(start + _BLOCK, self.shape[0]))
            bad = ~(np.abs(table) <= _LARGEST).all(1)
            if bad.any():
                row = int(bad.argmax())
                what = "NaN or Inf" if not np.isfinite(table[row]).all() else f"a number above {_LARGEST:g}"
                raise DataError(f"{self.path}: row {start + row} holds {what}; mend it, or leave the item out")


def _id_chunks(path: Path) -> Iterator[list[bytes]]:
    """The column original_id in blocks, UTF-8; DataError where the file is no such table."""
    try:
        options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
        header = pd.read_csv(path, nrows=0, **options).columns
        if "original_id" not in header:
            raise DataError(f"{path} has no column original_id; it has: {', '.join(map(str, header))}")
        with pd.read_csv(path, usecols=["original_id"], index_col=False, chunksize=_BLOCK, **options) as chunks:
            for chunk in chunks:
                ids = chunk["original_id"].str.strip()
                if (ids == "").any():
                    raise DataError(f"{path}, row {int(ids.index[ids == ''][0]) + 1}: original_id is empty")
                yield [one.encode() for one in ids]
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a comma-separated table: {first_line(error)}") from None


def _at(file: IO[bytes], number: int, width: int) -> str:
    file.seek(number * width)
    return file.read(width).rstrip(b"\0").decode()


def _check_encoders(data: Path, new: Path) -> None:
    """DataError where both folders name their encoders in report.json, and one of these is another."""
    there, here = read_encoders(data), read_encoders(new)
    for kind in there.keys() & here.keys():
        if there[kind]["weights"] != here[kind]["weights"]:
            raise DataError(
                f"{new}: its {kind} features are of {encoder_text(here[kind])}, those of {data} of "
                f"{encoder_text(there[kind])}. Make them with the same encoder: `{command('prepare', 'items')}`"
            )
