"""`python prepare.py check -d NAME`: everything that would stop a training or spoil it, and the figures of the data set."""

import argparse
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mambarec.base.bounded import first_line
from mambarec.base.console import show
from mambarec.base.errors import DataError, UserError
from mambarec.config.configurator import Config
from mambarec.data.dataloader import EvalDataLoader
from mambarec.data.dataset import RecDataset
from mambarec.data.id_maps import numbers_items, read_id_map
from mambarec.data.interactions import SPLITS
from mambarec.evaluation.topk_evaluator import TopKEvaluator
from mambarec.preparation.options import add_dataset

_PARTS = ("training", "validation", "test")  # by label
_MODEL = "MambaRec"  # reads every modality that is declared
_BLOCK = 4096  # rows of features in memory


@dataclass
class Findings:
    """problems: what must be mended. figures: name and value, as the paper's Table 1 and beyond. notes: what is as it is."""

    problems: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Note the error that a block of checks ends with, and go on."""
        try:
            yield
        except UserError as error:
            self.problems += str(error).splitlines()


def add_parser(commands) -> None:
    """The command `check` of prepare.py."""
    text = "validate a data set as training would, and print its figures"
    description = f"{text.capitalize()}. Exit status 1 when something is wrong."
    parser = commands.add_parser("check", help=text, description=description, allow_abbrev=False)
    add_dataset(parser)
    parser.set_defaults(does=run)


def run(options: argparse.Namespace) -> int:
    """Print what was found; 1 when something is wrong."""
    findings = check(options.dataset, options.data_path)
    width = max(map(len, findings.figures), default=0)
    for name, value in findings.figures.items():
        show(f"{name:{width}}  {value}")
    for note in findings.notes:
        show(f"note: {note}")
    for problem in findings.problems:
        show(f"wrong: {problem}")
    count = len(findings.problems)
    show(f"{count} problem{'s' * (count > 1)}" if count else "nothing is wrong")
    return 1 if findings.problems else 0


def check(name: str, data_path: Path) -> Findings:
    """Read the data set `name` below `data_path` as a training of a model with all modalities does."""
    findings = Findings()
    with findings.collecting():
        dataset = RecDataset(_config(name, data_path))
        _interactions(dataset, findings)
        findings.figures["ranking by popularity, test"] = popularity(dataset)
        for modality in dataset.feature_files:
            with findings.collecting():
                _features(dataset, modality, findings)
        for kind, size, present, files in (
            ("user", dataset.n_users, dataset.present_users, ["u_id_mapping.csv"]),
            ("item", dataset.n_items, dataset.present_items, ["i_id_mapping.csv", "items.csv"]),
        ):
            for file in files:
                with findings.collecting():
                    _numbered(dataset.folder / file, size, present, kind)
    return findings


def _config(name: str, data_path: Path, **overrides) -> Config:
    return Config(_MODEL, name, {"data_path": str(data_path), "use_gpu": False, **overrides})


def _interactions(dataset: RecDataset, findings: Findings) -> None:
    columns = [dataset.uid_field, dataset.iid_field, dataset.config["inter_splitting_label"]]
    frame = pd.read_csv(dataset.path, sep=dataset.config["field_separator"], usecols=columns, index_col=False)[columns]
    frame = frame.set_axis(["user", "item", "label"], axis=1).drop_duplicates()
    users, items, n = frame["user"].nunique(), frame["item"].nunique(), len(frame[["user", "item"]].drop_duplicates())
    train = frame[frame["label"] == 0]
    findings.figures |= {
        "users": f"{users:,}",
        "items": f"{items:,}",
        "interactions": f"{n:,}",
        "density": f"{n / (users * items):.4%} (sparsity {1 - n / (users * items):.2%})",
        "train / validation / test": " / ".join(f"{(frame['label'] == label).sum():,}" for label in range(len(SPLITS))),
        "users outside training": f"{users - train['user'].nunique():,}",
        "items outside training": f"{items - train['item'].nunique():,}",
    }
    findings.notes += dataset.notes
    pairs = {label: set_of_pairs(frame[frame["label"] == label]) for label in range(len(SPLITS))}
    for first, second in itertools.combinations(pairs, 2):
        shared = len(pairs[first].intersection(pairs[second]))
        if shared:
            findings.problems.append(
                f"{dataset.path}: {shared:,} of the {len(pairs[first]):,} pairs of {_PARTS[first]} are in {_PARTS[second]} too "
                f"({len(pairs[second]):,} pairs); each pair of user and item belongs to one split"
            )


def set_of_pairs(frame: pd.DataFrame) -> pd.MultiIndex:
    """The distinct pairs of user and item."""
    return pd.MultiIndex.from_frame(frame[["user", "item"]]).unique()


class _Popularity(nn.Module):
    """Scores every item by its training interactions (I,), the same for every user."""

    def __init__(self, counts: Tensor):
        super().__init__()
        self.counts = counts

    def full_sort_predict(self, batch: list[Tensor]) -> Tensor:
        return self.counts.expand(len(batch[0]), -1).clone()


def popularity(dataset: RecDataset) -> str:
    """What the most popular items that a user has not had give on test: what a model must be above to have learned anything."""
    counts = torch.from_numpy(np.bincount(dataset.items["train"], minlength=dataset.n_items)).float()
    test = EvalDataLoader(dataset.config, dataset, "test")
    metrics = TopKEvaluator(dataset.config).evaluate(_Popularity(counts), test).metrics
    return f"Recall@20 {metrics['recall@20']:.4f}, NDCG@20 {metrics['ndcg@20']:.4f}"


def _features(dataset: RecDataset, modality: str, findings: Findings) -> None:
    path = dataset.feature_files[modality]
    one = _config(dataset.name, dataset.folder.parent, modalities=[modality])
    table = RecDataset(one).features()[modality]
    zero = sum(int((~table[start : start + _BLOCK].any(axis=1)).sum()) for start in range(0, len(table), _BLOCK))
    text = f"{path.name} {table.shape[0]:,} x {table.shape[1]:,}, {zero:,} rows of zeros"
    mask_path = path.with_name(path.name.replace("_feat.npy", "_mask.npy"))
    if mask_path != path and mask_path.exists():
        try:
            mask = np.load(mask_path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # its head is a Python literal, and almost anything may stand there
            raise DataError(f"{mask_path} cannot be read: {first_line(error)}") from None
        if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "biuf":
            raise DataError(f"{mask_path}: expected an array of true and false")
        if mask.shape != (dataset.n_items,) or not np.isin(mask, (0, 1)).all():
            raise DataError(
                f"{mask_path}: expected true or false for each of {dataset.n_items} items, found {mask.dtype} {mask.shape}"
            )
        text += f", {np.count_nonzero(mask == 0):,} rows that stand in for missing ones"
    findings.figures[modality] = text


def _numbered(path: Path, size: int, present: np.ndarray, kind: str) -> None:
    """DataError unless a table, where there is one, has the original id of each number below `size` that occurs once."""
    if not path.exists():
        return
    frame = read_id_map(path)
    columns = [column for column in frame if numbers_items(frame[column], size, present)]
    if not columns:
        raise DataError(
            f"{path} has {len(frame):,} rows; expected one for each of the {size:,} {kind}s, with the numbers 0 … {size - 1}"
        )
    ids = frame.drop(columns=columns[-1]).iloc[:, 0]
    if ids.duplicated().any():
        raise DataError(f"{path}: the original id {ids[ids.duplicated()].iloc[0]!r} is there twice")
