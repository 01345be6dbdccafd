"""Configuration: overall.yaml < dataset/<name>.yaml < model/<Name>.yaml < command line, checked as it is merged.

With `tuned: true` the values of tuned/<data set>/<Model>.yaml come between the model's YAML and the command line.

Keys and file names are MMRec's. A value that is a list where one value is expected is a grid axis: on the command line
(`--mmd_weight 0.1 0.2`), under a YAML's `hyper_parameters` (MMRec's convention), or in `search_space` with --search.
"""

import copy
import difflib
import hashlib
import itertools
import math
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from mambarec.base.bounded import read_text
from mambarec.base.errors import ConfigError
from mambarec.base.files import real
from mambarec.base.places import ANCHOR, CHECKOUT, CONFIGS, HOME, MODELS
from mambarec.evaluation.metrics import METRICS

# Keys that do not change a run's numbers and therefore not its name: where things lie, which device of its kind and how it is
# given the same work, logging.
NEUTRAL_KEYS = frozenset(
    "data_path results_dir model_path gpu_id cuda_graphs hyper_parameters search_space model_identity checkpoint_seconds "
    "tensorboard save_recommended_topk tuned".split()
)
# What other programs, and this one's messages, call a key.
_OTHER_NAMES = {"patience": "stopping_step", "lr": "learning_rate", "batch_size": "train_batch_size"}
# Keys that models got later, with the value that computes what was computed before: with it they change no run's name.
_LATER = {"mmd_normalize": None, "propagation": "full", "fanouts": None, "layer_size": None}
_FEATURE_KEY = re.compile(r"\w+_feature_file")  # any modality may be declared, so any such key is known
_POSITIVE = frozenset(
    "embedding_size epochs train_batch_size eval_batch_size learning_rate eval_step topk stopping_step beta knn_k "
    "reduction_factor attention_reduction mmd_kernel_bandwidth cl_temperature "
    "temp bm_temp um_temp user_graph_k fanouts layer_size".split()
)
_NOT_NEGATIVE = frozenset(
    "seed threads min_epochs weight_decay n_layers n_ui_layers gpu_id checkpoint_seconds "
    "approximate_knn_above mmd_weight cl_loss reg_weight num_layer n_mm_layers noise".split()
)
# What a machine cannot hold, or torch cannot take. Any other whole number may have 53 bits, as many as JSON keeps everywhere.
_AT_MOST = {
    "embedding_size": 2**16,
    "epochs": 10**9,
    "topk": 10**6,
    "knn_k": 10**6,
    "seed": 2**32 - 1,
    "threads": 1024,
    "n_layers": 1000,
    "n_ui_layers": 1000,
}
_LARGEST = 2**53
_YAML_BYTES, _YAML_VALUES, _TRIALS = 2**20, 100_000, 100_000  # of a file; in a file, its aliases written out; of a grid
# One value for all trials of a command: where, on what, and by what they are chosen.
_SINGLE = frozenset(
    "data_path results_dir model_path tuned use_gpu gpu_id cuda_graphs threads valid_metric metrics topk "
    "field_separator".split()
)
# The type of keys whose default is null, by example.
_NULLABLE: dict[str, Any] = {
    "feature_map": [1],
    "modalities": ["all"],
    "attention_reduction": 16,
    "train_features": True,
    "mmd_normalize": True,
    "contrast": "both",
    "align_on": "dream",
    "approximate_knn_above": 1,
    "fanouts": [10],
    "layer_size": 4,
}
TUNED_BUDGET = "budget"  # begins the comment of a tuned file that says how long the search was
# What overall.yaml must set, by example: the program reads these of every run.
_REQUIRED: dict[str, Any] = {
    **dict.fromkeys(
        "use_gpu cuda_graphs filter_out_cod_start_users is_multimodal_model end2end save_recommended_topk".split(), True
    ),
    **dict.fromkeys("tensorboard req_training use_neg_sampling use_full_sampling use_neighborhood_loss mg".split(), True),
    **dict.fromkeys("gpu_id threads seed epochs min_epochs stopping_step train_batch_size eval_step".split(), 1),
    **dict.fromkeys("embedding_size eval_batch_size".split(), 1),
    **dict.fromkeys("learning_rate weight_decay checkpoint_seconds".split(), 1.0),
    **dict.fromkeys("data_path results_dir field_separator USER_ID_FIELD ITEM_ID_FIELD NEG_PREFIX".split(), "word"),
    **dict.fromkeys("inter_splitting_label precision learner valid_metric".split(), "word"),
    "learning_rate_scheduler": [1.0],
    "metrics": ["word"],
    "topk": [1],
}
LEARNERS = ("adam", "sgd", "adagrad", "rmsprop")
PRECISIONS = ("fp32", "bf16")


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a float (YAML 1.1 wants 1.0e-4) and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set = set()
        for place, _ in node.value:
            if place.tag.endswith(":merge"):
                continue
            key = self.construct_object(place, deep=True)
            if not isinstance(key, str | int | float | None):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r}: expected a word", place.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$|^[-+]?(\d[\d_]*\.\d*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf)$|^\.nan$"),
    list("-+0123456789."),
)


def _load(text: str) -> Any:
    """What a YAML text holds; ValueError where that is more, or of another kind, than a setting can be."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _written_out(node, {}) > _YAML_VALUES:
            raise ValueError(f"it has more than {_YAML_VALUES:,} values, its aliases written out")
        content = loader.construct_document(node)
    except RecursionError:
        raise ValueError("its lists are nested too deeply") from None
    finally:
        loader.dispose()
    _check_plain(content)
    return content


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node has, each alias replaced by what it stands for. known: by the node's id; 0 while it is open."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 0
        parts = itertools.chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    elif not known[id(node)]:
        raise ValueError("an alias stands within what it names")
    return known[id(node)]


def _check_plain(value: Any) -> None:
    """ValueError unless a value is made of words, numbers, truth values, nulls, lists, and mappings of words to these."""
    if isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(key, str):
                raise ValueError(f"key {key!r}: expected a word; put it between quotes if it is meant")
            _check_plain(one)
    elif isinstance(value, list):
        for one in value:
            _check_plain(one)
    elif not (value is None or isinstance(value, str | int | float)):
        raise ValueError(f"{value!r} is a {type(value).__name__}; put it between quotes to have a word")


def parse_value(text: str) -> Any:
    """Read one command-line word as YAML: numbers, true/false, null, [lists], else a string."""
    try:
        return _load(text)
    except (yaml.YAMLError, ValueError):
        return text


def nearest_key(key: str, known: Iterable[str]) -> str | None:
    """The key that was probably meant: one of another name, or one that is spelt alike."""
    known = sorted(known)
    meant = _OTHER_NAMES.get(key.lower())
    return meant if meant in known else next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.6)), None)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; ConfigError names the file and the line that does not parse.

    No tag makes an object, and aliases cannot make much of little.
    """
    try:
        content = _load(read_text(path, _YAML_BYTES))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; expected 'key: value' lines")
    return content


def model_files(folder: str | Path | None = None) -> dict[str, Path]:
    """Name -> file of every model in src/models and in `folder`, whose files win over those of the same name.

    A name is spelled as its YAML is, else as the class in the file is; a file with neither is no model.
    """
    yamls = [path for place in reversed(_model_configs(folder)) for path in place.glob("*.yaml")]
    spelled = {path.stem.lower(): path.stem for path in yamls}
    files = {path.stem: path for place in (MODELS, folder) if place for path in sorted(Path(place).glob("*.py"))}
    named = {spelled.get(stem) or _class_in(path): path for stem, path in sorted(files.items())}
    return {name: path for name, path in named.items() if name}


def _model_configs(folder: str | Path | None) -> list[Path]:
    """Where a model's YAML may lie; the first that has it wins."""
    return [*([Path(folder), Path(folder).parent / "configs" / "model"] if folder else []), CONFIGS / "model"]


def _class_in(path: Path) -> str | None:
    """The class whose name is the file's, in any case."""
    classes = re.findall(r"^class (\w+)", path.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE)
    return next((name for name in classes if name.lower() == path.stem.lower()), None)


def available_models(folder: str | Path | None = None) -> list[str]:
    """Names of the models in src/models, and in `folder`, as their YAML spells them."""
    return list(model_files(folder))


def available_datasets() -> list[str]:
    """Names of the data sets that have a YAML in one of `dataset_folders`."""
    return sorted({path.stem for folder in dataset_folders() for path in folder.glob("*.yaml")})


def dataset_folders() -> list[Path]:
    """Where the YAMLs of data sets lie; new ones are written into the first, and a file there wins over those of the others."""
    return [place / "dataset" for place in config_folders()]


def config_folders() -> list[Path]:
    """Where YAMLs lie: in a checkout src/configs, else the user's configs/ and then the package's."""
    return [CONFIGS] if HOME == CHECKOUT else [HOME / "configs", CONFIGS]


def config_file(name: str) -> Path | None:
    """The YAML of this name, such as dataset/baby.yaml, in the first of `config_folders` that has it; None if none has."""
    return next((path for folder in config_folders() if (path := folder / name).exists()), None)


class Axis(list):
    """Several values for one key, told apart from one value that is a list."""


class Config(Mapping):
    """The merged configuration of one model on one data set.

    `config[key]` is None for a key that is not set, as in MMRec. Values are checked against the type of the key's
    default and its range. `trials()` gives one Config per grid point, without axes. model_file: where the model's class is.
    """

    def __init__(self, model: str, dataset: str, overrides: Mapping[str, Any] | None = None, search: bool = False):
        """overrides: key -> value, or key -> Axis (a list, where the default is one value). Raises ConfigError."""
        overrides = dict(overrides or {})
        folder = model_folder(overrides)
        files = model_files(folder)
        model = _spelled(model, list(files), "model", f"{folder} or src/models" if folder else "src/models")
        self.model_file = files[model]
        dataset = _spelled(dataset, available_datasets(), "data set", "src/configs/dataset")
        self._values: dict[str, Any] = {}
        self._source: dict[str, str] = {}
        self._read: set[str] = set()
        self._lazy: dict[str, Callable[[], Any]] = {}
        self._left_out: list[str] = []
        self.axes: dict[str, list] = {}

        layers = [CONFIGS / "overall.yaml", *filter(None, [config_file(f"dataset/{dataset}.yaml")])]
        layers += [path for place in _model_configs(folder) if (path := place / f"{model}.yaml").exists()][:1]
        contents = [(path.name, read_yaml(path)) for path in layers]
        asked = ChainMap(overrides, *(content for _, content in reversed(contents)))
        tuned = tuned_file(model, dataset) if asked.get("tuned") is True else None
        if asked.get("mg"):
            contents.insert(1, ("mg.yaml", read_yaml(CONFIGS / "mg.yaml")))
        self._listed: dict[str, list[str]] = {}  # the keys under hyper_parameters, by the YAML that lists them
        for name, content in contents:
            self._listed[name] = content.get("hyper_parameters") or []
            if not isinstance(self._listed[name], list) or not all(isinstance(key, str) for key in self._listed[name]):
                raise ConfigError(f"{name}: hyper_parameters={self._listed[name]!r}; expected a list of keys")
        self._grid_keys = {"seed", *itertools.chain(*self._listed.values())}
        for name, content in contents:
            self._merge(name, content)
        if tuned:
            self._merge(tuned, self._tuned_values(tuned, model, folder))
        missing = [key for key in _REQUIRED if key not in self._values and key not in self.axes]
        if missing:
            raise ConfigError(f"overall.yaml does not set '{missing[0]}', which every run reads")
        if search:
            self._merge("search_space", self._search_space(model))
        unknown = [key for key in overrides if not self.knows(key)]
        if unknown:
            raise ConfigError(self._unknown(unknown[0], model, folder))
        self._grid_keys |= {key for key in overrides if key in self.axes or self._values.get(key) is not None}
        self._merge("command line", overrides)

        self._values.update(model=model, dataset=dataset, model_path=folder and str(folder), tuned=tuned or False)
        if self.model_file.parent == folder:  # the file is no part of this version
            self._values["model_code"] = hashlib.sha256(self.model_file.read_bytes()).hexdigest()
        self._resolve_paths()
        self._check_evaluation()
        self._set_device()

    # the mapping

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return self._lazy[key]() if key in self._lazy else self._values.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self):
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def knows(self, key: str) -> bool:
        """Whether `key` may be given for this model and data set."""
        return key in self._values or key in self.axes or _FEATURE_KEY.fullmatch(key) is not None

    # grids

    def trials(self) -> list["Config"]:
        """One Config per point of the grid, seeds innermost; [self] when nothing is a grid axis."""
        axes = dict(sorted(self.axes.items(), key=lambda item: item[0] == "seed"))
        count = math.prod(map(len, axes.values()))
        if count > _TRIALS:
            raise ConfigError(f"{' x '.join(axes)} makes {count:,} trials; at most {_TRIALS:,} can be planned")
        points = itertools.product(*axes.values())
        return [self.at(**dict(zip(axes, point, strict=True))) for point in points]

    def at(self, **values: Any) -> "Config":
        """A copy without axes that has these values, which are not checked."""
        trial = copy.copy(self)
        trial._values = {**self._values, **values}
        trial._read, trial.axes = set(), {}
        return trial

    def lazily(self, **makers: Callable[[], Any]) -> "Config":
        """A copy in which the values of some keys are made when they are read; what is read of it counts as read of this."""
        view = copy.copy(self)
        view._lazy = makers
        return view

    # what a run is made of

    def plain(self) -> dict[str, Any]:
        """Every key and value, fit for JSON, in the order in which they were merged, which is that of the modalities."""
        return {key: str(value) if key == "device" else value for key, value in self._values.items()}

    def identity(self) -> dict[str, Any]:
        """The keys and values that a run's numbers depend on: its name is a hash of these and of the data."""
        later = {key for key, value in _LATER.items() if self._values.get(key) == value}
        values = {key: value for key, value in self.plain().items() if key not in NEUTRAL_KEYS | later}
        return {**values, "device": self._values["device"].type, "threads": torch.get_num_threads()}

    def unread(self) -> list[str]:
        """A line for each key of the model's or data set's YAML that nothing has read so far."""
        yamls = {f"{self._values['model']}.yaml", f"{self._values['dataset']}.yaml"}
        ignored = {"hyper_parameters", "search_space", "model_identity", *self._read}
        lines = list(self._left_out)
        for key, source in self._source.items():
            if source in yamls and key not in ignored:
                near = difflib.get_close_matches(key, self._read - {key}, n=1, cutoff=0.7)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                lines.append(f"{source} sets '{key}', but nothing read it{hint}")
        return lines

    # merging and checking

    def _merge(self, source: str, content: Mapping[str, Any]) -> None:
        for key, value in content.items():
            default = self.axes[key][0] if key in self.axes else self._values.get(key)
            default = _NULLABLE.get(key, _REQUIRED.get(key)) if default is None else default
            several = isinstance(value, Axis) or (isinstance(value, list) and key in self._grid_keys)
            lists = several and bool(value) and all(isinstance(one, list) for one in value)
            is_axis = several and (lists or not isinstance(default, list))
            if is_axis and not value:
                raise ConfigError(f"{source}: '{key}' has an empty list of values")
            if is_axis and key in _SINGLE:
                raise ConfigError(f"{source}: {key} takes one value, not {list(value)}")
            if is_axis and key in self._listed.get(source, ()):
                value = self._usable(key, value, default, source)
            checked = [_check(key, one, default, source) for one in value] if is_axis else _check(key, value, default, source)
            self.axes.pop(key, None)
            self._values.pop(key, None)
            if is_axis and len(checked) > 1:
                self.axes[key] = list(dict.fromkeys(map(_hashable, checked)))
            else:
                self._values[key] = checked[0] if is_axis else checked
            self._source[key] = source

    def _usable(self, key: str, values: list, default: Any, source: str) -> list:
        """The values of an axis of MMRec's kind that can be used, or all if none can; `unread` says what is left out."""
        wrong = {str(one): expected for one in values if (expected := _typed(one, default)[1])}
        if len(wrong) == len(values):
            return values
        self._left_out += [f"{source}: {key}={one} is left out of the grid; expected {text}" for one, text in wrong.items()]
        return [one for one in values if str(one) not in wrong]

    def _search_space(self, model: str) -> dict[str, list]:
        space = self["search_space"]
        if not space:
            raise ConfigError(f"--search: {model}.yaml has no search_space; name the axes yourself (--key value value …)")
        if not isinstance(space, dict):
            raise ConfigError(f"{model}.yaml: search_space={space!r}; expected 'key: [values]' lines")
        for key in space:
            if not self.knows(key):
                raise ConfigError(f"search_space: {self._unknown(key, model, None)}")
        self._grid_keys |= set(space)
        return space

    def _tuned_values(self, name: str, model: str, folder: Path | None) -> dict[str, Any]:
        path = config_file(name)
        if path is None:
            path = config_folders()[0] / name
            there = ", ".join(sorted(one.stem for one in path.parent.glob("*.yaml"))) or "no model"
            raise ConfigError(
                f"tuned: there is no {path}; {path.parent.name} has tuned values of {there}. A search writes them: python "
                f"main.py -m {model} -d {path.parent.name} --search --save-best. Without --tuned the model's YAML is used"
            )
        content = read_yaml(path)
        for key in content:
            if not self.knows(key):
                raise ConfigError(f"{path}: {self._unknown(key, model, folder)}")
        return content

    def _unknown(self, key: str, model: str, folder: Path | None) -> str:
        if owners := keys_owners(key, folder):
            return f"{model} has no key '{key}'; it is a key of {owners}"
        known = sorted({*self._values, *self.axes})
        near = nearest_key(key, known)
        hint = f"; did you mean '--{near}'?" if near else f". It knows: {', '.join(known)}"
        return f"{model} has no key '{key}'{hint}"

    def _resolve_paths(self) -> None:
        """Make paths absolute: those of the YAMLs start at `ANCHOR`, those of the command line at the current directory."""
        for key in ("data_path", "results_dir"):
            anchor = Path.cwd() if self._source[key] == "command line" else ANCHOR
            self._values[key] = f"{real(anchor / self._values[key])}/"

    def _check_evaluation(self) -> None:
        names = [name.lower() for name in self._values["metrics"]]
        for name in names:
            if name not in METRICS:
                raise ConfigError(f"metrics: '{name}' is not a metric; there are {', '.join(METRICS)}")
        metric, _, cutoff = self._values["valid_metric"].lower().partition("@")
        if metric not in names or cutoff not in map(str, self._values["topk"]):
            raise ConfigError(
                f"valid_metric={self._values['valid_metric']} is not computed: metrics are {names}, topk {self._values['topk']}"
            )

    def _set_device(self) -> None:
        if self._values["threads"]:
            torch.set_num_threads(self._values["threads"])
        if self._values["use_gpu"] and torch.cuda.is_available():
            if self._values["gpu_id"] >= torch.cuda.device_count():
                raise ConfigError(f"gpu_id={self._values['gpu_id']}: this machine has {torch.cuda.device_count()} GPU(s)")
            self._values["device"] = torch.device("cuda", self._values["gpu_id"])
            torch.backends.cudnn.allow_tf32 = False  # fp32 is float32 in convolutions too, as it is in torch's products
        else:
            self._values["device"] = torch.device("cpu")


def tuned_file(model: str, dataset: str) -> str:
    """The YAML of a model's tuned values on a data set, within src/configs; it need not exist."""
    return f"tuned/{dataset}/{model}.yaml"


def tuned_budget(path: Path) -> str:
    """What a tuned file says of its search's budget; 'unknown' for one that was written by hand."""
    found = re.search(rf"^# {TUNED_BUDGET}: (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return found[1] if found else "unknown"


def model_folder(overrides: Mapping[str, Any]) -> Path | None:
    """The folder of models beside src/models, if one is named: on the command line, or in overall.yaml."""
    given = "model_path" in overrides
    folder = overrides["model_path"] if given else read_yaml(CONFIGS / "overall.yaml").get("model_path")
    if folder is None:
        return None
    if not isinstance(folder, str):
        raise ConfigError(f"model_path={folder!r}; expected one folder")
    place = real((Path.cwd() if given else ANCHOR) / folder)
    if not place.is_dir():
        raise ConfigError(f"model_path: {place} is no folder; name the one with the models' files, such as MMRec's src/models")
    return place


def keys_owners(key: str, folder: Path | None = None) -> str:
    """Whose key this is, in words: the models whose YAML sets it, or the mirror gradient; '' where nobody has it."""
    if key in read_yaml(CONFIGS / "mg.yaml"):
        return "the mirror gradient; add --mg"
    places = [path for place in _model_configs(folder) for path in sorted(place.glob("*.yaml"))]
    return ", ".join(dict.fromkeys(path.stem for path in places if key in read_yaml(path)))


def _spelled(name: str, available: list[str], kind: str, place: str) -> str:
    for candidate in available:
        if candidate.lower() == name.lower():
            return candidate
    lower = {candidate.lower(): candidate for candidate in available}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    hint = f" Did you mean '{lower[near[0]]}'?" if near else ""
    raise ConfigError(f"there is no {kind} '{name}' in {place}; there are: {', '.join(available)}.{hint}")


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check(key: str, value: Any, default: Any, source: str) -> Any:
    """Return `value` in the type of `default`, or raise ConfigError that names what was expected."""
    value, expected = (None, None) if value is None and key in _NULLABLE else _typed(value, default)
    expected = expected or _out_of_range(key, value)
    if expected:
        shown = repr(value) if len(repr(value)) < 200 else f"{repr(value)[:200]}…"
        hint = _written(key, value, default) if source == "command line" else ""
        raise ConfigError(f"{source}: {key}={shown}; expected {expected}{hint}")
    return value


def _written(key: str, value: Any, default: Any) -> str:
    """How a value is written on the command line, where this one looks like a common slip."""
    several = isinstance(default, list)
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    if one is True:
        usual = " ".join(map(str, default)) if several else default
        return f". A key without a value is true; write --{key} {usual}"
    if isinstance(one, str) and "," in one:
        return f". Several values have spaces between them: --{key} {' '.join(one.replace(',', ' ').split())}"
    return ""


def _typed(value: Any, default: Any) -> tuple[Any, str | None]:
    """`value` in the type of `default`, and what was expected where it has none of that type."""
    if isinstance(default, bool):
        return value, None if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        return value, None if _is_int(value) else f"an integer, as its default {default} is"
    if isinstance(default, float):
        value = float(value) if _is_int(value) and abs(value) < _LARGEST else value
        return value, None if isinstance(value, float) else f"a number, as its default {default} is"
    if isinstance(default, str):
        is_word = isinstance(value, str | int | float) and not isinstance(value, bool)
        return str(value), None if is_word else "a word"
    if isinstance(default, list) and default:
        typed = [_typed(one, default[0]) for one in (value if isinstance(value, list) else [value])]
        wrong = [expected for _, expected in typed if expected]
        return [one for one, _ in typed], wrong[0] if wrong else None if typed else "at least one value"
    return value, None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _out_of_range(key: str, value: Any) -> str | None:
    """What `key` must be, when `value` is not that."""
    values = value if isinstance(value, list) else [value]
    numbers = [number for number in values if isinstance(number, int | float)]
    if any(isinstance(number, int) and abs(number) >= _LARGEST for number in numbers):
        return f"a number between {-_LARGEST} and {_LARGEST}"
    if any(not math.isfinite(number) for number in numbers):
        return "a finite number"
    if any(isinstance(one, str) and "\0" in one for one in values):
        return "a word without the character NUL"
    if any(number > _AT_MOST.get(key, math.inf) for number in numbers):
        return f"at most {_AT_MOST[key]:,}"
    if (key == "inter_file_name" or _FEATURE_KEY.fullmatch(key)) and not (value is None or isinstance(value, str)):
        return "the name of one file"
    if key in _POSITIVE and any(number <= 0 for number in numbers):
        return "a number above 0"
    if key in _NOT_NEGATIVE and any(number < 0 for number in numbers):
        return "a number not below 0"
    if key == "learner" and value.lower() not in LEARNERS:
        return f"one of {', '.join(LEARNERS)}"
    if key == "precision" and value not in PRECISIONS:
        return f"one of {', '.join(PRECISIONS)}"
    if key == "clip_grad_norm" and not (value is None or _is_clip(value)):
        return "a number above 0, or {max_norm: 5, norm_type: 2}"
    if key == "field_separator" and not (value == "\t" or (len(value) == 1 and value.isascii() and value.isprintable())):
        return "one character of ASCII"
    if key == "learning_rate_scheduler" and not (len(value) == 2 and value[1] > 0):
        return "[decay, epochs]: the learning rate is multiplied by decay ** (epoch / epochs)"
    return None


def _is_clip(value: Any) -> bool:
    parts = value if isinstance(value, dict) else {"max_norm": value}
    return "max_norm" in parts and all(
        name in ("max_norm", "norm_type")
        and isinstance(part, int | float)
        and not isinstance(part, bool)
        and 0 < part < _LARGEST
        for name, part in parts.items()
    )


def override_pairs(words: Iterable[str]) -> dict[str, Any]:
    """Turn the command line's `--key value …` and `--key=value` words into overrides; several values make an Axis.

    A key without a value is true, and its dashes may stand for underscores. Raises ConfigError for a word that belongs to no
    key and for a key given twice.
    """
    pairs: dict[str, list[str]] = {}
    key = None
    for word in words:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            key = key.replace("-", "_")
            if key in pairs:
                raise ConfigError(f"--{key} is given twice")
            pairs[key] = [value] if equals else []
        elif key is None:
            raise ConfigError(f"'{word}' belongs to no key; write --key value")
        else:
            pairs[key].append(word)
    values = {key: [parse_value(word) for word in words] for key, words in pairs.items()}
    return {key: True if not words else words[0] if len(words) == 1 else Axis(words) for key, words in values.items()}
