"""A data set on disk, read, checked and split: `<name>.inter` and one `.npy` file of item features per modality.

A defect of a file raises DataError with the file, the value found, what was expected and what to do; where the interactions
have several, it has a line for each. A pair in two splits is a defect: its figures would mean nothing. Oddities that do not
stop a run (repeated pairs, users or items outside training) are handled here and listed in `notes`.
"""

import hashlib
import mmap
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.sparse import coo_matrix

from mambarec.base.bounded import array_head
from mambarec.base.errors import ConfigError, DataError
from mambarec.base.files import file_digest
from mambarec.base.places import MODELS, at_home
from mambarec.base.words import amount, command, listed, option
from mambarec.config.catalogue import code_files
from mambarec.config.configurator import Config
from mambarec.config.data_folder import feature_arrays, feature_line
from mambarec.config.keys import modality_of
from mambarec.data.interactions import SPLITS, read_interactions, sentences_on_shared_pairs
from mambarec.data.missing import drawn_missing, mask_file, read_mask, stray_masks, with_stand_ins

# The largest numbers in features, by the kind of their type: floats whose squares float32 can add up, and exact integers.
_LARGEST = {"f": 1e15, "i": 2.0**24, "u": 2.0**24}
_TOO_LARGE = dict.fromkeys("iu", "float32 rounds larger whole numbers") | {"f": "the squares of larger numbers overflow there"}
_SMALLEST = 1e-15  # of a table's largest number, unless all are 0


def is_graph(path: Path) -> bool:
    """Whether a file in a data set's folder is a graph that MMRec's models have left there, of training pairs or features."""
    return path.suffix in (".pt", ".pth") or "graph_dict" in path.name or path.name == "inter.json"


def is_of_torch(modality: str) -> bool:
    """Whether models cannot keep their layers and parameters by this name, because PyTorch has something else by it."""
    from torch import nn  # a large part of a start, and few commands come here

    return any(hasattr(kept, modality) for kept in (nn.ModuleDict(), nn.ParameterDict()))


class RecDataset:
    """Interactions by split, and the item features of the modalities that the data set declares.

    n_users, n_items: largest id + 1, the sizes of a model's tables and of the feature files. `present_users`, `present_items`:
    int64 arrays of the numbers that occur in some split, ascending; the others take no part in anything. `users[split]`,
    `items[split]`: int64 arrays of the pairs of 'train', 'valid', 'test', each pair once, in the order of the file.
    `df`: the training pairs as a frame, as MMRec's models expect.
    """

    def __init__(self, config: Config, of_finished_run: bool = False):
        """of_finished_run: a pair in two splits is left out of evaluation, as it was when such data could be trained on."""
        self.config = config
        self.name = config["dataset"]
        self.folder = Path(config["data_path"]) / self.name
        if not config["inter_file_name"]:
            raise DataError(f"{self.name}.yaml sets no inter_file_name; expected the name of its .inter file")
        self.path = self.folder / config["inter_file_name"]
        self.uid_field, self.iid_field = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
        self.notes: list[str] = []
        self.feature_keys = {modality: key for key in config if (modality := modality_of(key)) and config[key]}
        self.feature_files = {modality: self.folder / at_home(config[key]) for modality, key in self.feature_keys.items()}

        if not self.path.exists():
            above = self.folder.parent
            if (above / self.path.name).exists():
                raise DataError(
                    f"{self.path} does not exist, but {above / self.path.name} does. Name the folder above the data set's: "
                    f"{option('data_path', above.parent)}"
                )
            raise DataError(
                f"{self.path} does not exist. data/README.md says where to get {self.name}; put it there or name the folder "
                f"above it with {option('data_path')}. `{option('-d', 'demo')}` works at once, without any file"
            )
        columns = (self.uid_field, self.iid_field, config["inter_splitting_label"])
        users, items, labels = read_interactions(self.path, columns, config["field_separator"])
        self.n_users, self.n_items = int(users.max()) + 1, int(items.max()) + 1
        self.present_users, self.present_items = (np.flatnonzero(np.bincount(numbers)) for numbers in (users, items))
        self._note_absent()
        self.users, self.items = self._split(users, items, labels, of_finished_run)

    # MMRec's names

    @property
    def user_num(self) -> int:
        return self.n_users

    @property
    def item_num(self) -> int:
        return self.n_items

    @property
    def inter_num(self) -> int:
        return len(self.users["train"])

    def get_user_num(self) -> int:
        return self.n_users

    def get_item_num(self) -> int:
        return self.n_items

    @property
    def df(self):
        import pandas as pd  # a large part of a start, and only models of MMRec ask for it

        return pd.DataFrame({self.uid_field: self.users["train"], self.iid_field: self.items["train"]})

    def __len__(self) -> int:
        return self.inter_num

    # what runs ask for

    def inter_matrix(self, form: str = "coo"):
        """The training pairs as a binary SciPy sparse matrix (U, I), float64, 'coo' or 'csr'."""
        pairs = (self.users["train"], self.items["train"])
        matrix = coo_matrix((np.ones(self.inter_num), pairs), shape=(self.n_users, self.n_items))
        return matrix.asformat(form)

    @property
    def modalities(self) -> list[str]:
        """The modalities a run reads: those of the key `modalities`, or all that are declared; none for a model without."""
        if not self.config["is_multimodal_model"] or self.config["end2end"]:
            return []
        wanted = self.config["modalities"] or ["all"]
        if wanted == ["all"]:
            return list(self.feature_files)
        for modality in wanted:
            if modality not in self.feature_files:
                declared = ", ".join(self.feature_files) or "none"
                raise DataError(f"modalities: data set {self.name} declares no '{modality}'; it declares: {declared}")
        return wanted

    def features(self) -> dict[str, np.ndarray]:
        """The item features of `modalities`, each a float32 array (I, D).

        A float32 file is mapped, not read: its pages are fetched as they are used, and those that a model writes to become its
        own. Other types are converted in memory, but for float16 where a run with `propagation: sampled` does not train the
        features: that file is mapped too, and is what the array holds.

        Where an item lacks a modality (`masks`), what the key `missing` says stands in for its row.

        A missing file is an error for a model whose settings know the key `modalities`. Other models, which are MMRec's,
        go without that modality, as they do there.
        """
        self._check_feature_files()
        present = [modality for modality in self.modalities if self.feature_files[modality].exists()]
        for modality in self.modalities:
            if modality not in present:
                path = self.feature_files[modality]
                self.notes.append(f"1 feature file missing, {path}: the model gets no {modality} features")
        tables = {modality: self._read_feature(self.feature_files[modality]) for modality in present}
        for modality, mask in self.masks().items():
            tables[modality] = with_stand_ins(
                tables[modality], mask, self.config["missing"] or "mean", self.inter_matrix("csr")
            )
        return tables

    def check_features(self) -> None:
        """DataError where a model whose settings know the key `modalities` would get no features; no file is opened."""
        reads_some = self.config["is_multimodal_model"] and not self.config["end2end"]
        if "modalities" in self.config and not reads_some:
            key = "end2end" if self.config["end2end"] else "is_multimodal_model"
            raise ConfigError(f"{key}={self.config[key]} takes the item features away, and the model reads them; leave it out")
        if "modalities" in self.config and reads_some and not self.modalities:
            there = [feature_line(path.name) for path in feature_arrays(self.folder)]
            own = f"`{command('prepare', 'features', '-d', self.name)}` takes vectors of your own"
            how = f"{self._source('text')}; {self._source('visual')}; {own}"
            how = f"{self.folder} has some that {self.name}.yaml does not name: add {listed(there)}" if there else how
            raise DataError(
                f"the model reads item features, and the data set {self.name} has none. {how}. Models without features, such "
                "as BPR and LightGCN, need none"
            )
        self._check_feature_files()
        if self.modalities:
            self.check_names()
            if stray := self.stray_masks():
                raise DataError("\n".join(stray))

    def check_names(self) -> None:
        """DataError for a modality that no model can have."""
        for modality, key in self.feature_keys.items():
            if is_of_torch(modality):
                raise DataError(
                    f"{key} of {self.name}.yaml: PyTorch uses the name '{modality}' itself. Give the modality another word"
                )

    def stray_masks(self) -> list[str]:
        """A sentence for each mask in the folder that no feature file goes with, so that no run would read it."""
        return stray_masks(self.folder, self.feature_files.values(), f"{self.name}.yaml", self.n_items)

    def _check_feature_files(self) -> None:
        missing = [modality for modality in self.modalities if not self.feature_files[modality].exists()]
        if missing and "modalities" in self.config:
            there = [modality for modality, path in self.feature_files.items() if path.exists()]
            without = f"Or train without it: {option('modalities', *there)}. " if there else ""
            path = self.feature_files[missing[0]]
            raise DataError(
                f"{path} does not exist: the {missing[0]} features of {self.name}. {self._source(missing[0])}. {without}"
                f"`{option('-d', 'demo')}` works without any file"
            )

    def _source(self, modality: str) -> str:
        """Where the features of a modality come from, in words."""
        if not (self.folder / "items.csv").exists():  # not made here, so of one of the public data sets, most likely
            return f"data/README.md says where to get the {modality} features of public data sets"
        words = {"text": ("text", ""), "visual": ("images", " --images FOLDER")}.get(modality)
        if words is None:
            return f"`{command('prepare', 'features', '-d', self.name, '--modality', modality)}` makes them of your own vectors"
        return f"`{command('prepare', words[0], '-d', self.name)}{words[1]}` makes the {modality} features"

    def declared_features(self) -> dict[str, np.ndarray]:
        """The item features of every declared modality whose file exists, whether this run reads it or not: float32 (I, D)."""
        return {modality: self._read_feature(path) for modality, path in self.feature_files.items() if path.exists()}

    def masks(self) -> dict[str, np.ndarray]:
        """Of the modalities that the run reads and some item lacks, which items have it: modality -> bool (I,)."""
        return self._masks

    def declared_masks(self) -> dict[str, np.ndarray]:
        """The masks beside `declared_features`, of the modalities that some item lacks: modality -> bool (I,)."""
        masks = {m: read_mask(path, self.n_items) for m, path in self._mask_files(self.feature_files).items()}
        return {m: mask for m, mask in masks.items() if not mask.all()}

    def usable_items(self) -> dict[str, np.ndarray]:
        """Which item numbers occur in a split and have the modality: modality -> bool (I,), where one does not.

        A model makes its item graphs and alignments of these alone.
        """
        masks = dict(self.masks())
        if len(self.absent_items):
            for modality in self.modalities:
                masks[modality] = masks.get(modality, np.ones(self.n_items, dtype=bool)).copy()
                masks[modality][self.absent_items] = False
        return masks

    def feature_widths(self) -> dict[str, int]:
        """Width of each declared modality whose file exists, whether this run reads it or not."""
        paths = {modality: path for modality, path in self.feature_files.items() if path.exists()}
        return {modality: self._open_feature(path, mmap_mode="r").shape[1] for modality, path in paths.items()}

    @cached_property
    def _masks(self) -> dict[str, np.ndarray]:
        masks = {m: read_mask(path, self.n_items) for m, path in self._mask_files(self.modalities).items()}
        modality, share = self.config["missing_modality"], self.config["missing_share"] or 0.0
        if share and modality is None:
            raise ConfigError(f"missing_share={share}: name the modality that these items lack by missing_modality")
        if modality is not None and modality not in self.feature_files:
            declared = ", ".join(self.feature_files) or "none"
            raise DataError(f"missing_modality: data set {self.name} declares no '{modality}'; it declares: {declared}")
        if share and modality in self.modalities:
            mask = masks.setdefault(modality, np.ones(self.n_items, dtype=bool))
            mask[drawn_missing(self.present_items, share, self.config["missing_seed"])] = False
            if not mask.any():
                raise ConfigError(f"missing_share={share} leaves no item with {modality}; use less, or leave the modality out")
        for name, mask in masks.items():
            stands_in = self.config["missing"] or "mean"
            self._note(int((~mask[self.present_items]).sum()), "item", f"without {name}; {stands_in} stands in")
        return {name: mask for name, mask in masks.items() if not mask[self.present_items].all()}

    def _mask_files(self, modalities: Iterable[str]) -> dict[str, Path]:
        """The files of masks that are there, of some modalities."""
        files = {m: mask_file(self.feature_files[m]) for m in modalities if self.feature_files[m].exists()}
        return {m: path for m, path in files.items() if path.exists() and path != self.feature_files[m]}

    @cached_property
    def digests(self) -> list[tuple[str, str]]:
        """Name and hash of the content of every file that the run reads: interactions and item features."""
        masks = self._mask_files(self.modalities)
        paths = [self.path, *(self.feature_files[modality] for modality in self.modalities), *masks.values()]
        return [(path.name, file_digest(path)) for path in paths if path.exists()]

    @staticmethod
    def graph_file(config: Config, kind: str) -> str:
        """The name of the file with the graph of 'user' or 'item' that some of MMRec's models read."""
        return config.peek(f"{kind}_graph_dict_file") or f"{kind}_graph_dict.npy"

    def graphs_of(self, config: Config) -> dict[str, str]:
        """Name -> hash of the graph files here that the model's code asks for; models of src/models make their own."""
        if config.model_file.parent == MODELS:
            return {}
        code = [path.read_text(encoding="utf-8", errors="replace") for path in code_files(config.model_file)]
        kinds = [kind for kind in ("user", "item") if any(f"{kind}_graph_dict_file" in text for text in code)]
        names = [self.graph_file(config, kind) for kind in kinds]
        return {name: file_digest(self.folder / name) for name in names if (self.folder / name).exists()}

    @property
    def fingerprint(self) -> str:
        """Hash of `digests`."""
        return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in self.digests).encode()).hexdigest()

    def summary(self) -> str:
        counts = " / ".join(f"{len(self.users[split]):,}" for split in SPLITS)
        sizes = f"{amount(len(self.present_users), 'user')}, {amount(len(self.present_items), 'item')}"
        return f"{self.name}: {sizes}, {counts} train / validation / test pairs"

    # reading

    def _split(self, users: np.ndarray, items: np.ndarray, labels: np.ndarray, of_finished_run: bool):
        """Cut into splits, without repeated pairs, and with nothing in evaluation that cannot be scored."""
        empty = [f"no row of the {split} split (x_label {n})" for n, split in enumerate(SPLITS) if not (labels == n).any()]
        if empty:
            raise DataError(f"{self.path}: {', '.join(empty)}; each of 0, 1, 2 needs some")
        keys = users * self.n_items + items
        distinct, first = np.unique(keys * len(SPLITS) + labels, return_index=True)
        pairs = distinct // len(SPLITS)
        if (pairs[1:] == pairs[:-1]).any() and not of_finished_run:
            raise DataError("\n".join(sentences_on_shared_pairs(self.path, users, items, labels)))
        first.sort()
        self._note(len(keys) - len(first), "repeated pair", "collapsed")
        users, items, labels, keys = users[first], items[first], labels[first], keys[first]

        train = labels == 0
        leaked = ~train & np.isin(keys, keys[train])
        self._note(int(leaked.sum()), "pair", "of validation or test left out of evaluation, because training has the same")
        trained_users = np.zeros(self.n_users, dtype=bool)
        trained_users[users[train]] = True
        cold = ~train & ~trained_users[users] & bool(self.config["filter_out_cod_start_users"])
        self._note(len(np.unique(users[cold])), "user", "without training pairs left out of evaluation")
        self.n_cold_items = len(self.present_items) - len(np.unique(items[train]))
        self._note(self.n_cold_items, "item", "without training pairs: never sampled as negatives, still ranked")

        split_users, split_items = {}, {}
        for label, split in enumerate(SPLITS):
            rows = ~leaked & ~cold & (labels == label)
            if not rows.any():
                reasons = "; ".join(self.notes)
                raise DataError(f"{self.path}: the {split} split has no pair left that can be evaluated ({reasons})")
            split_users[split], split_items[split] = users[rows], items[rows]
        return split_users, split_items

    @cached_property
    def absent_items(self) -> np.ndarray:
        """The item numbers below the largest that occur in no split (N,), ascending."""
        return np.setdiff1d(np.arange(self.n_items), self.present_items)

    def _note_absent(self) -> None:
        for kind, present, size in (("user", self.present_users, self.n_users), ("item", self.present_items, self.n_items)):
            if present[0] == 1 and len(present) == size - 1:
                self.notes.append(f"{kind}s are numbered from 1; number 0 takes no part")
            else:
                text = "is in no split; it takes no part" if size - len(present) == 1 else "are in no split; they take no part"
                self._note(size - len(present), f"{kind} number", f"below the largest {text}")

    def _note(self, number: int, thing: str, text: str) -> None:
        if number:
            self.notes.append(f"{amount(number, thing)} {text}")

    def _read_feature(self, path: Path) -> np.ndarray:
        table = self._open_feature(path, mmap_mode="c")
        if table.size:
            largest = np.maximum(table.max(axis=1), -table.min(axis=1).astype(np.float64))  # NaN where a row has one
            bad = ~(largest <= _LARGEST[table.dtype.kind])
            if bad.any():
                row = int(bad.argmax())
                if (broken := ~np.isfinite(largest)).any():
                    rows = f"{broken.sum():,} of {amount(len(table), 'row')}"
                    raise DataError(
                        f"{path}: NaN or Inf in {rows}, the first is row {int(broken.argmax())}. Write numbers there. If "
                        f"these items have no such features, write zeros, and declare the items by {mask_file(path).name}, a "
                        "bool array that is false at them; the key 'missing' says what stands in"
                    )
                value = table[row][np.abs(table[row].astype(np.float64)).argmax()]
                raise DataError(
                    f"{path}: row {row} holds {value:g}; expected numbers from {-_LARGEST[table.dtype.kind]:g} to "
                    f"{_LARGEST[table.dtype.kind]:g}. Scale the features, to a mean of 0 and a deviation of 1 for instance. A "
                    f"model computes in float32, and {_TOO_LARGE[table.dtype.kind]}"
                )
            if 0 < largest.max() < _SMALLEST:
                raise DataError(
                    f"{path} holds nothing above {largest.max():g} in size. Scale the features, to a mean of 0 and a deviation "
                    "of 1 for instance. A model computes in float32, and the squares of such small numbers are 0 there"
                )
        if (
            table.dtype == np.float16
            and self.config.get("propagation") == "sampled"
            and self.config.get("train_features") is False
        ):
            if isinstance(table.base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
                table.base.madvise(mmap.MADV_RANDOM)  # a step takes rows from everywhere: read these, and not what follows
            return table.view(np.ndarray)
        return np.ascontiguousarray(table, dtype=np.float32).view(np.ndarray)

    def _open_feature(self, path: Path, mmap_mode: Literal["r", "c"]) -> np.ndarray:
        try:
            with path.open("rb") as file:
                if file.read(2) == b"PK":
                    raise DataError(f"{path}: expected a two-dimensional array of numbers, found an archive")
                file.seek(0)
                shape, _, dtype = array_head(file)
            if len(shape) != 2 or dtype.kind not in "fiu" or not shape[1]:
                raise DataError(f"{path}: expected a two-dimensional array of numbers, found {dtype} {shape}")
            table = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
        except ValueError as error:
            raise DataError(f"{path} cannot be read: {error}. Save a float array with numpy.save") from None
        except (EOFError, OSError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
        if len(table) != self.n_items:
            raise DataError(
                f"{path} has {amount(len(table), 'row')}; expected {self.n_items}, one per item of {self.path.name} (its "
                f"largest {self.iid_field} is {self.n_items - 1})"
            )
        return table
