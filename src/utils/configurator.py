"""Configuration: overall.yaml < dataset/<name>.yaml < model/<Name>.yaml < command line, checked as it is merged.

Keys and file names are MMRec's. A value that is a list where one value is expected is a grid axis: on the command line
(`--mmd_weight 0.1 0.2`), under a YAML's `hyper_parameters` (MMRec's convention), or in `search_space` with --search.
"""

import copy
import difflib
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from utils.errors import ConfigError
from utils.metrics import METRICS

SRC = Path(__file__).resolve().parents[1]
CONFIGS = SRC / "configs"
MODELS = SRC / "models"

# Keys that do not change a run's numbers and therefore not its name: where things lie, which device of its kind, logging.
NEUTRAL_KEYS = frozenset(
    "data_path results_dir gpu_id hyper_parameters search_space checkpoint_seconds tensorboard save_recommended_topk".split()
)
_FEATURE_KEY = re.compile(r"\w+_feature_file")  # any modality may be declared, so any such key is known
_POSITIVE = frozenset(
    "embedding_size train_batch_size eval_batch_size learning_rate eval_step topk stopping_step beta knn_k "
    "reduction_factor approximate_knn_above attention_reduction mmd_kernel_bandwidth cl_temperature".split()
)
_NOT_NEGATIVE = frozenset(
    "seed threads epochs min_epochs weight_decay n_layers n_ui_layers gpu_id checkpoint_seconds "
    "mmd_weight cl_loss reg_weight".split()
)
# One value for all trials of a command: where, on what, and by what they are chosen.
_SINGLE = frozenset("data_path results_dir use_gpu gpu_id threads valid_metric metrics topk field_separator".split())
# The type of keys whose default is null, by example.
_NULLABLE: dict[str, Any] = {
    "feature_map": [1],
    "attention_reduction": 16,
    "train_features": True,
    "contrast": "both",
    "align_on": "dream",
    "approximate_knn_above": 1,
}
# Keys that came after runs had been made, with the value that leaves the names of those runs as they were.
_LATER: dict[str, Any] = {"approximate_knn_above": None}
LEARNERS = ("adam", "sgd", "adagrad", "rmsprop")
PRECISIONS = ("fp32", "bf16")


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a float (YAML 1.1 wants 1.0e-4) and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$|^[-+]?(\d[\d_]*\.\d*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf)$|^\.nan$"),
    list("-+0123456789."),
)


def parse_value(text: str) -> Any:
    """Read one command-line word as YAML: numbers, true/false, null, [lists], else a string."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return text


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; ConfigError names the file and the line that does not parse."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}; expected 'key: value' lines")
    return content


def available_models() -> list[str]:
    """Names of the models in src/models, as their YAML spells them."""
    spelled = {path.stem.lower(): path.stem for path in (CONFIGS / "model").glob("*.yaml")}
    files = sorted(path.stem for path in MODELS.glob("*.py") if path.stem != "__init__")
    return [spelled.get(stem, stem) for stem in files]


def available_datasets() -> list[str]:
    """Names of the data sets that have a YAML in src/configs/dataset."""
    return sorted(path.stem for path in (CONFIGS / "dataset").glob("*.yaml"))


class Axis(list):
    """Several values for one key, told apart from one value that is a list."""


class Config(Mapping):
    """The merged configuration of one model on one data set.

    `config[key]` is None for a key that is not set, as in MMRec. Values are checked against the type of the key's
    default and its range. `trials()` gives one Config per grid point, without axes.
    """

    def __init__(self, model: str, dataset: str, overrides: Mapping[str, Any] | None = None, search: bool = False):
        """overrides: key -> value, or key -> Axis (a list, where the default is one value). Raises ConfigError."""
        model = _spelled(model, available_models(), "model", "src/models")
        dataset = _spelled(dataset, available_datasets(), "data set", "src/configs/dataset")
        overrides = dict(overrides or {})
        self._values: dict[str, Any] = {}
        self._source: dict[str, str] = {}
        self._read: set[str] = set()
        self.axes: dict[str, list] = {}

        layers = [CONFIGS / "overall.yaml", CONFIGS / "dataset" / f"{dataset}.yaml", CONFIGS / "model" / f"{model}.yaml"]
        if overrides.get("mg"):
            layers.insert(1, CONFIGS / "mg.yaml")
        contents = [(path.name, read_yaml(path)) for path in layers if path.exists()]
        self._grid_keys = {"seed"}
        for name, content in contents:
            names = content.get("hyper_parameters") or []
            if not isinstance(names, list):
                raise ConfigError(f"{name}: hyper_parameters={names!r}; expected a list of keys")
            self._grid_keys |= set(names)
        for name, content in contents:
            self._merge(name, content)
        if search:
            self._merge("search_space", self._search_space(model))
        unknown = [key for key in overrides if not self.knows(key)]
        if unknown:
            raise ConfigError(self._unknown(unknown[0], model))
        self._grid_keys |= {key for key in overrides if key in self.axes or self._values.get(key) is not None}
        self._merge("command line", overrides)

        self._values.update(model=model, dataset=dataset)
        self._resolve_paths()
        self._check_evaluation()
        self._set_device()

    # the mapping

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return self._values.get(key)

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
        points = itertools.product(*axes.values())
        return [self.at(**dict(zip(axes, point, strict=True))) for point in points]

    def at(self, **values: Any) -> "Config":
        """A copy without axes that has these values, which are not checked."""
        trial = copy.copy(self)
        trial._values = {**self._values, **values}
        trial._read, trial.axes = set(), {}
        return trial

    # what a run is made of

    def plain(self) -> dict[str, Any]:
        """Every key and value, fit for JSON, in the order in which they were merged, which is that of the modalities."""
        return {key: str(value) if key == "device" else value for key, value in self._values.items()}

    def identity(self) -> dict[str, Any]:
        """The keys and values that a run's numbers depend on: its name is a hash of these and of the data."""
        later = [key for key, value in _LATER.items() if self._values.get(key) == value]
        values = {key: value for key, value in self.plain().items() if key not in NEUTRAL_KEYS and key not in later}
        return {**values, "device": self._values["device"].type, "threads": torch.get_num_threads()}

    def unread(self) -> list[str]:
        """A line for each key of the model's or data set's YAML that nothing has read so far."""
        yamls = {f"{self._values['model']}.yaml", f"{self._values['dataset']}.yaml"}
        ignored = {"hyper_parameters", "search_space", *self._read}
        lines = []
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
            default = _NULLABLE.get(key) if default is None else default
            several = isinstance(value, Axis) or (isinstance(value, list) and key in self._grid_keys)
            lists = several and bool(value) and all(isinstance(one, list) for one in value)
            is_axis = several and (lists or not isinstance(default, list))
            if is_axis and not value:
                raise ConfigError(f"{source}: '{key}' has an empty list of values")
            if is_axis and key in _SINGLE:
                raise ConfigError(f"{source}: {key} takes one value, not {list(value)}")
            checked = [_check(key, one, default, source) for one in value] if is_axis else _check(key, value, default, source)
            self.axes.pop(key, None)
            self._values.pop(key, None)
            if is_axis and len(checked) > 1:
                self.axes[key] = list(dict.fromkeys(map(_hashable, checked)))
            else:
                self._values[key] = checked[0] if is_axis else checked
            self._source[key] = source

    def _search_space(self, model: str) -> dict[str, list]:
        space = self["search_space"]
        if not space:
            raise ConfigError(f"--search: {model}.yaml has no search_space; name the axes yourself (--key value value …)")
        if not isinstance(space, dict):
            raise ConfigError(f"{model}.yaml: search_space={space!r}; expected 'key: [values]' lines")
        for key in space:
            if not self.knows(key):
                raise ConfigError(f"search_space: {self._unknown(key, model)}")
        self._grid_keys |= set(space)
        return space

    def _unknown(self, key: str, model: str) -> str:
        known = sorted({*self._values, *self.axes})
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        hint = f"; did you mean '--{near[0]}'?" if near else f". It knows: {', '.join(known)}"
        return f"{model} has no key '{key}'{hint}"

    def _resolve_paths(self) -> None:
        """Make paths absolute: those of the YAMLs from src/, those of the command line from the current directory."""
        for key in ("data_path", "results_dir"):
            anchor = Path.cwd() if self._source[key] == "command line" else SRC
            self._values[key] = f"{(anchor / self._values[key]).resolve()}/"

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
        else:
            self._values["device"] = torch.device("cpu")


def _spelled(name: str, available: list[str], kind: str, place: str) -> str:
    for candidate in available:
        if candidate.lower() == name.lower():
            return candidate
    raise ConfigError(f"there is no {kind} '{name}' in {place}; there are: {', '.join(available)}")


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check(key: str, value: Any, default: Any, source: str) -> Any:
    """Return `value` in the type of `default`, or raise ConfigError that names what was expected."""
    value, expected = (None, None) if value is None and key in _NULLABLE else _typed(value, default)
    expected = expected or _out_of_range(key, value)
    if expected:
        raise ConfigError(f"{source}: {key}={value!r}; expected {expected}")
    return value


def _typed(value: Any, default: Any) -> tuple[Any, str | None]:
    """`value` in the type of `default`, and what was expected where it has none of that type."""
    if isinstance(default, bool):
        return value, None if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        return value, None if _is_int(value) else f"an integer, as its default {default} is"
    if isinstance(default, float):
        value = float(value) if _is_int(value) else value
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
    numbers = [number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int | float)]
    if any(not math.isfinite(number) for number in numbers):
        return "a finite number"
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
    if key == "field_separator" and len(value) != 1:
        return "one character"
    if key == "learning_rate_scheduler" and not (len(value) == 2 and value[1] > 0):
        return "[decay, epochs]: the learning rate is multiplied by decay ** (epoch / epochs)"
    return None


def _is_clip(value: Any) -> bool:
    norm = value.get("max_norm") if isinstance(value, dict) else value
    return isinstance(norm, int | float) and norm > 0


def override_pairs(words: Iterable[str]) -> dict[str, Any]:
    """Turn the command line's `--key value …` and `--key=value` words into overrides; several values make an Axis.

    A key without a value is true. Raises ConfigError for a word that belongs to no key and for a key given twice.
    """
    pairs: dict[str, list[str]] = {}
    key = None
    for word in words:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            if key in pairs:
                raise ConfigError(f"--{key} is given twice")
            pairs[key] = [value] if equals else []
        elif key is None:
            raise ConfigError(f"'{word}' belongs to no key; write --key value")
        else:
            pairs[key].append(word)
    values = {key: [parse_value(word) for word in words] for key, words in pairs.items()}
    return {key: True if not words else words[0] if len(words) == 1 else Axis(words) for key, words in values.items()}
