"""Models, whoever wrote their files: found in src/models or in `model_path`, imported, and kept away from the data.

A file that is up to date, imports from `mambarec` and reads no `data_path`, such as ours, is taken as it is. Of another, a
subclass is made whose methods run with what `mmrec.legacy` provides, and whose constructor sees a configuration with these keys
changed:

data_path: a folder with links to the data set's files, in which the model may write; it is thrown away with the model. Graphs
that models keep there are named by k alone, and would be taken for those of other features in the next run. So graphs that lie
in the data set's folder are not linked. Where items lack a modality, its file has what stands in for them.

user_graph_dict_file, item_graph_dict_file: when read, the file is there. It is the data set's own, or is made in that folder.
"""

import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy import sparse

from mambarec.base.contract import contract
from mambarec.base.errors import ConfigError, ModelError
from mambarec.base.logger import get_logger
from mambarec.base.places import MODELS
from mambarec.base.stopping import stop
from mambarec.config.catalogue import import_model, model_files
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset, is_graph
from mambarec.mmrec.legacy import mmrec_rooms, needs, provided
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.graph import most_shared

METHODS = ("pre_epoch_processing", "calculate_loss", "post_epoch_processing", "full_sort_predict")
NEIGHBOURS = 200  # in a graph of users, as in MMRec
_ITEM_GRAPH = re.compile(r"item_graph_dict_(\d+)\.npy")  # with the k of the script of DA-MRS
_SEES_DATA = re.compile("data_path|_graph_dict_file")


def load_model_class(name: str, folder: str | None = None) -> type[GeneralRecommender]:
    """The class `name` of the file of that name, in lower case, in `folder` or else src/models.

    ConfigError when there is no such class, or when the file imports what is not installed. ModelError when importing it fails.
    """
    path = model_files(folder)[name]
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    looked_at = [text]
    if path.parent != MODELS:
        looked_at += [other.read_text(encoding="utf-8-sig", errors="replace") for other in sorted(path.parent.glob("*.py"))]
    needed = [*mmrec_rooms("\n".join(looked_at), path.parent), *needs(looked_at)]
    with contract(name, "import"), provided(needed, torch.device("cpu")):
        if path.parent != MODELS and (MODELS / path.name).exists():
            get_logger().info("%s is %s, not src/models/%s", name, path, path.name)
        module = import_model(name, path)
    if not hasattr(module, name):
        raise ConfigError(f"{path} defines no class '{name}'")
    model = getattr(module, name)
    return _adapted(model, needed) if needed or _SEES_DATA.search(text) else model


def _adapted(model: type[GeneralRecommender], needed: list) -> type[GeneralRecommender]:
    """A subclass of the same name, as this file's docstring says."""

    def __init__(self, config, dataloader):
        self.__dict__["run_device"] = config["device"]  # nn.Module is not set up yet
        view = _View(self, config, dataloader.dataset)
        with provided(needed, config["device"]), view.data_untouched():
            super(adapted, self).__init__(view.config, dataloader)
        self.__dict__["registered"] = frozenset(super(adapted, self).state_dict())

    def state_dict(self, *args, **kwargs):
        """What was there when the model was built; some assign a parameter to a second name later."""
        state = super(adapted, self).state_dict(*args, **kwargs)
        for name in state.keys() - self.registered:
            del state[name]
        return state

    def method(point: str) -> Callable:
        def run(self, *args):
            with provided(needed, self.run_device):
                return getattr(super(adapted, self), point)(*args)

        return run

    methods = {"__init__": __init__, "state_dict": state_dict, "__doc__": model.__doc__}
    methods |= {point: method(point) for point in METHODS} if needed else {}
    adapted = type(model.__name__, (model,), methods)
    return adapted


class _View:
    """What a model's constructor sees of the configuration and of the data set's folder."""

    def __init__(self, model: GeneralRecommender, config: Config, dataset: RecDataset):
        self.model, self.settings, self.dataset = weakref.ref(model), config, dataset
        self.config = config.lazily(
            data_path=lambda: f"{self.place.parent}/",
            user_graph_dict_file=lambda: self.graph("user"),
            item_graph_dict_file=lambda: self.graph("item"),
        )

    @cached_property
    def place(self) -> Path:
        """A folder with links to the files of the data set's, made when it is asked for; it goes when the model does."""
        folder = Path(tempfile.mkdtemp(prefix="mambarec-"))
        stop.last_acts.append(weakref.finalize(self.model(), shutil.rmtree, folder, ignore_errors=True))
        place = folder / self.dataset.name
        place.mkdir()
        files = list(self.dataset.folder.iterdir())
        for path in files:
            if not is_graph(path):
                (place / path.name).symlink_to(path.resolve())
        graphs = sorted(path.name for path in files if is_graph(path) and "graph_dict" not in path.name)
        if graphs:
            self.dataset.notes.append(
                f"{', '.join(graphs)}: kept from the model, since it may be a graph of an earlier training"
            )
        self._put_stand_ins(place)
        return place

    def _put_stand_ins(self, place: Path) -> None:
        """Of modalities that some item lacks, files with what stands in, in place of the links."""
        masks = self.dataset.masks()
        for modality, table in self.dataset.features().items() if masks else ():
            path = self.dataset.feature_files[modality]
            if modality in masks and path.is_relative_to(self.dataset.folder) and ".." not in path.parts:
                link = _own_link(place, path.relative_to(self.dataset.folder))
                made = place.parent / f"{modality}.npy"
                np.save(made, table)
                link.unlink()
                link.symlink_to(made)

    def graph(self, kind: str) -> str:
        """The name of the 'user' or 'item' graph's file in `place`, which is there afterwards."""
        name = self.dataset.graph_file(self.settings, kind)
        link = self.place / name
        if link.exists():  # it was asked for before
            return name
        if (own := self.dataset.folder / name).exists():
            link.symlink_to(own.resolve())
            get_logger().warning(
                "warning: %s is read as it is. Remove it, and the graph is made from the training pairs",
                own,
            )
        else:
            get_logger().info("%s has no %s; it is made from the training pairs", self.dataset.folder, name)
            interactions, made = self.dataset.inter_matrix("csr"), self.place.parent / name
            numbered = _ITEM_GRAPH.fullmatch(name) if kind == "item" else None
            k, fewest = (int(numbered[1]), 2) if numbered else (NEIGHBOURS, 1)
            write_graph(made, interactions if kind == "user" else interactions.T, k, fewest)
            link.symlink_to(made)
        return name

    @contextmanager
    def data_untouched(self) -> Iterator[None]:
        """ModelError when the data set's folder has other files at the end; what went into `place` is noted."""
        before = _state(self.dataset.folder)
        try:
            yield
        except OSError as error:
            if "place" in vars(self) and isinstance(error.filename, str):
                error.filename = error.filename.replace(str(self.place), str(self.dataset.folder))
                path = Path(error.filename)
                if isinstance(error, FileNotFoundError) and is_graph(path) and path.exists():
                    raise ModelError(
                        f"{path} is kept from {self.settings['model']}, since a file of this name may be a graph of an earlier "
                        "training. Save it under another name, such as .npy"
                    ) from error
            raise
        after, name = _state(self.dataset.folder), self.settings["model"]
        changed = sorted(file for file in before.keys() | after.keys() if before.get(file) != after.get(file))
        if changed:
            raise ModelError(
                f"{name}.__init__ wrote into data_path: {', '.join(changed)} in {self.dataset.folder}. A model may put "
                "new files into config['data_path'] + config['dataset'], a folder of its own, and not change the data's"
            )
        made = [path.name for path in self.place.iterdir() if not path.is_symlink()] if "place" in vars(self) else []
        if made:
            self.dataset.notes.append(
                f"{', '.join(sorted(made))}: written by {name}, kept apart from the data, and not for long"
            )


def _own_link(place: Path, relative: Path) -> Path:
    """The link to a file in `place`. A linked folder on the way becomes a folder with links."""
    for parent in reversed(relative.parents[:-1]):
        if (folder := place / parent).is_symlink():
            target = folder.resolve()
            folder.unlink()
            folder.mkdir()
            for path in target.iterdir():
                (folder / path.name).symlink_to(path.resolve())
    return place / relative


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    states = {path.name: path.stat() for path in folder.iterdir()}
    return {name: (state.st_size, state.st_mtime_ns) for name, state in states.items()}


def write_graph(path: Path, interactions: sparse.spmatrix, k: int = NEIGHBOURS, fewest: int = 1) -> None:
    """Write {row: [the k rows that share most columns with it, how many]} of a binary matrix, as MMRec's models read it.

    Rows that share fewer than `fewest` columns are no neighbours. Both are lists, the counts are floats, and numpy.load needs
    allow_pickle: the models change the lists, and expect just this.
    """
    offsets, *parts = most_shared(interactions, k)
    rows = zip(*(np.split(part, offsets[1:-1]) for part in parts), strict=True)
    graph = {
        row: [ids[counts >= fewest].tolist(), counts[counts >= fewest].astype(float).tolist()]
        for row, (ids, counts) in enumerate(rows)
    }
    with path.open("wb") as file:
        np.save(file, np.array(graph, dtype=object), allow_pickle=True)
