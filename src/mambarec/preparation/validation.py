"""`python prepare.py check -d NAME`: everything that would stop a training or spoil it, and the figures of the data set."""

import argparse
import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mambarec.base.console import show
from mambarec.base.errors import DataError, UserError
from mambarec.base.words import amount
from mambarec.config.catalogue import config_file, keys_owners
from mambarec.config.configurator import Config
from mambarec.config.data_folder import feature_arrays, feature_key, feature_line
from mambarec.config.keys import IGNORED_OF_MMREC, RunSettings, modality_of
from mambarec.config.yaml_files import read_yaml
from mambarec.data.dataloader import EvalDataLoader, TrainDataLoader
from mambarec.data.dataset import RecDataset
from mambarec.data.id_maps import numbers_items, read_id_map
from mambarec.data.interactions import SPLITS
from mambarec.data.missing import mask_file, read_mask
from mambarec.evaluation.topk_evaluator import TopKEvaluator
from mambarec.preparation.demo import ensure_demo
from mambarec.preparation.features.items import FILE as ITEMS
from mambarec.preparation.options import add_dataset
from mambarec.running.sizes import check_sizes, topk_warnings
from mambarec.training.health import feature_warnings

_MODEL = "MambaRec"  # reads every modality that is declared
_BLOCK = 4096  # rows of features in memory


@dataclass
class Findings:
    """What was found, of which the problems, the warnings and the notes are those of a training.

    problems: what must be mended. warnings: what spoils a training, and does not stop it. figures: name and value, as the
    paper's Table 1 and beyond. notes: what is as it is.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
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
    for warning in findings.warnings:
        show(f"WARNING: {warning}")
    for problem in findings.problems:
        show(f"wrong: {problem}")
    warned = f", but there {'are' if len(findings.warnings) > 1 else 'is'} {amount(len(findings.warnings), 'warning')}"
    nothing = "nothing is wrong" + warned * bool(findings.warnings)
    show(amount(len(findings.problems), "problem") if findings.problems else nothing)
    return 1 if findings.problems else 0


def check(name: str, data_path: Path) -> Findings:
    """Read the data set `name` below `data_path` as a training of a model with all modalities does."""
    findings = Findings()
    with findings.collecting():
        ensure_demo(data_path / name)
        dataset = RecDataset(_config(name, data_path))
        findings.notes = dataset.notes  # the same list, so that what the checks below note is in it too
        _interactions(dataset, findings)
        findings.figures["ranking by popularity, test"] = popularity(dataset)
        _neighbours(dataset, findings)
        with findings.collecting():
            check_sizes(_config(name, data_path, knn_k=1), dataset)  # a large knn_k is a warning above
        with findings.collecting():
            _negatives(dataset.config, dataset)
        findings.warnings += topk_warnings(dataset.config, dataset)
        findings.problems += dataset.stray_masks()
        with findings.collecting():
            dataset.check_names()
        _undeclared(dataset, findings)
        _keys(dataset, findings)
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
    """The figures of all pairs, those among them that a training leaves out."""
    users, items = len(dataset.present_users), len(dataset.present_items)
    trained_users, trained_items = (len(np.unique(side["train"])) for side in (dataset.users, dataset.items))
    if trained_users < users:  # the pairs of the others are not in `dataset`
        dataset = RecDataset(_config(dataset.name, dataset.folder.parent, filter_out_cod_start_users=False))
    counts = [len(dataset.users[split]) for split in SPLITS]
    n = sum(counts)
    findings.figures |= {
        "users": f"{users:,}",
        "items": f"{items:,}",
        "interactions": f"{n:,}",
        "density": f"{n / (users * items):.4%} (sparsity {1 - n / (users * items):.2%})",
        "train / validation / test": " / ".join(f"{number:,}" for number in counts),
        "users outside training": f"{users - trained_users:,}",
        "items outside training": f"{items - trained_items:,}",
    }


def _neighbours(dataset: RecDataset, findings: Findings) -> None:
    """Warn where the data set has too few items for one model. Others, such as BPR, train on it."""
    k = dataset.config["knn_k"]
    if isinstance(k, int) and k > dataset.n_items:
        findings.warnings.append(
            f"{_MODEL} cannot train with knn_k={k}: {dataset.name} has {dataset.n_items:,} items. Set its knn_k to at most "
            f"{dataset.n_items:,}"
        )


def _negatives(config: Config, dataset: RecDataset) -> None:
    """Note the users who have every item; DataError where all do."""
    TrainDataLoader(config, dataset, torch.Generator())


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
    config = dataset.config.at(topk=[20], metrics=["Recall", "NDCG"], valid_metric="Recall@20")
    test = EvalDataLoader(config, dataset, "test")
    metrics = TopKEvaluator(config).evaluate(_Popularity(counts), test).metrics
    return f"Recall@20 {metrics['recall@20']:.4f}, NDCG@20 {metrics['ndcg@20']:.4f}"


def _features(dataset: RecDataset, modality: str, findings: Findings) -> None:
    path = dataset.feature_files[modality]
    one = _with_one(dataset, modality)
    table = one.features()[modality]
    findings.notes += [note for note in one.notes if note not in findings.notes]
    findings.warnings += feature_warnings({modality: torch.from_numpy(table)})
    zero = sum(int((~table[start : start + _BLOCK].any(axis=1)).sum()) for start in range(0, len(table), _BLOCK))
    text = f"{path.name} {table.shape[0]:,} x {table.shape[1]:,}, {amount(zero, 'row')} of zeros"
    if mask_file(path).exists() and mask_file(path) != path:
        mask = read_mask(mask_file(path), dataset.n_items)
        text += f", {amount(int((~mask).sum()), 'row')} of items without the modality"
    findings.figures[modality] = text


def _undeclared(dataset: RecDataset, findings: Findings) -> None:
    """Name the files that may hold features and that the YAML does not name: a warning where it names no others instead."""
    yaml, declared = f"{dataset.name}.yaml", dataset.feature_files
    for path, (rows, width) in feature_arrays(dataset.folder).items():
        if path in declared.values():
            continue
        key = feature_key(path.name)
        if key is None and rows != dataset.n_items:
            continue  # it may be anything
        mask = f", nor its mask {mask_file(path).name}" if mask_file(path).exists() else ""
        text = f"{path} ({rows:,} x {width:,}) is not read{mask}"
        modality = modality_of(key) if key else None
        if other := declared.get(modality or ""):
            findings.notes.append(f"{text}: the {modality} features that {yaml} names are {other.name}")
        elif key or not declared:
            findings.warnings.append(f"{text}, since {yaml} does not name it; add {feature_line(path.name)}")
        else:
            findings.notes.append(f"{text}, since {yaml} does not name it")


def _keys(dataset: RecDataset, findings: Findings) -> None:
    """Warn of the keys of the data set's YAML that no model here reads. One that looks like another key is an error before."""
    path = config_file(f"dataset/{dataset.name}.yaml")
    for key in read_yaml(path) if path else ():
        is_known = key in RunSettings.model_fields or key in IGNORED_OF_MMREC or modality_of(key)
        if not is_known and not keys_owners(key):
            findings.warnings.append(f"{dataset.name}.yaml has the key '{key}', which no model of this program reads")


def _with_one(dataset: RecDataset, modality: str) -> RecDataset:
    """The data set of a run that reads one modality. Its interactions are not read again."""
    one = copy.copy(dataset)
    one.config = _config(dataset.name, dataset.folder.parent, modalities=[modality])
    one.notes = []
    return one


def _numbered(path: Path, size: int, present: np.ndarray, kind: str) -> None:
    """DataError unless a table, where there is one, has the original id of each number below `size` that occurs once."""
    if not path.exists():
        return
    frame = read_id_map(path)
    if frame.shape[1] != 2 and path.name != ITEMS:
        raise DataError(f"{path} has the columns {frame.columns.tolist()}; expected two, original id and number")
    columns = [column for column in frame if numbers_items(frame[column], size, present)]
    if not columns:
        raise DataError(
            f"{path} has {amount(len(frame), 'row')}; expected one for each of {amount(size, kind)}, with the numbers 0 … "
            f"{size - 1}"
        )
    if path.name == ITEMS and "original_id" not in frame:
        return
    ids = frame["original_id"] if path.name == ITEMS else frame.drop(columns=columns[-1]).iloc[:, 0]
    if ids.duplicated().any():
        raise DataError(f"{path}: the original id {ids[ids.duplicated()].iloc[0]!r} is there twice")
