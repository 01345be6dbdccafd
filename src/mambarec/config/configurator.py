"""Configuration: overall.yaml < dataset/<name>.yaml < model/<Name>.yaml < command line, checked as it is merged.

With `tuned: true` the values of tuned/<data set>/<Model>.yaml come between the model's YAML and the command line.

Keys and file names are MMRec's. A value that is a list where one value is expected is a grid axis: on the command line
(`--mmd_weight 0.1 0.2`), under a YAML's `hyper_parameters` (MMRec's convention), or in `search_space` with --search.
"""

import copy
import difflib
import itertools
import json
import math
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from mambarec.base.errors import ConfigError
from mambarec.base.files import real
from mambarec.base.places import ANCHOR, DATA, at_home
from mambarec.base.settings import Settings, checked, later, like, only_with, takes_list
from mambarec.base.words import command, decimal_hint, is_python, option
from mambarec.config.catalogue import (
    code_digest,
    config_file,
    config_folders,
    declared_settings,
    find_dataset,
    find_model,
    keys_owners,
    meant,
    model_folder,
    model_yamls,
    shared_yaml,
    tuned_file,
)
from mambarec.config.keys import (
    FEATURE_KEY,
    IGNORED_OF_MMREC,
    LARGEST,
    NEUTRAL_KEYS,
    FeatureFileSettings,
    MirrorGradientSettings,
    RunSettings,
    is_feature_line,
    keys_with,
    likely_feature_keys,
    nearest_key,
)
from mambarec.config.yaml_files import parse_value, read_yaml
from mambarec.evaluation.metrics import METRICS

_TRIALS = 100_000  # of a grid
_SINGLE = keys_with("single")
_OF_YAMLS = frozenset(keys_with("grid"))
_OF_PROGRAM = frozenset(keys_with("result")) - {"tuned"}
_OF_ANY_CASE = ("valid_metric", "learner", "metrics")
_GIVEN = "command line"  # the source of what no YAML says


class UndeclaredKey(ConfigError, KeyError):
    """A key that was read, and that neither the model's file nor this program declares."""

    __str__ = Exception.__str__  # KeyError's puts quotes around it

    def __init__(self, model: str, key: str, file: Path):
        super().__init__(f"the key '{key}' was read, and nobody declares it; declare it in {model}Settings, in {file}")


class Axis(list):
    """Several values for one key, told apart from one value that is a list."""


class Config(Mapping):
    """The merged configuration of one model on one data set.

    Values are checked by the classes that declare their keys: `RunSettings`, and `<Model>Settings` of the model's file.
    `config[key]` is None for a declared key that is not set, and an error for a key that nobody declares. For a model whose
    file declares nothing, as MMRec's, any key may be read and is None where it is not set; a value has the type of the YAML's.
    `trials()` gives one Config per grid point, without axes. model_file: where the model's class is.
    """

    def __init__(self, model: str, dataset: str, overrides: Mapping[str, Any] | None = None, search: bool | str = False):
        """overrides: key -> value, or key -> Axis (a list, where the default is one value). Raises ConfigError.

        search: the keys of the YAML's search_space are axes; those of wide_search_space with 'wide'.
        """
        overrides = dict(overrides or {})
        _check_settable(overrides)
        folder = model_folder(overrides)
        model, self.model_file = find_model(model, folder)
        data = overrides.get("data_path")
        given = isinstance(data, str) and "\0" not in data  # what is no path is an error below
        dataset = find_dataset(dataset, real(Path.cwd() / at_home(f"{data}")) if given else DATA)
        self._values: dict[str, Any] = {}
        self._source: dict[str, str] = {}
        self._read: set[str] = set()
        self._lazy: dict[str, Callable[[], Any]] = {}
        self._made: set[str] = set()  # keys that a copy makes values of
        self.left_out: list[str] = []  # a line for each value of a grid that cannot be used
        self.axes: dict[str, list] = {}

        contents = _yaml_contents(model, dataset, folder)
        asked = ChainMap(overrides, *(content for _, content in reversed(contents)))
        tuned = tuned_file(model, dataset) if asked.get("tuned") is True else None
        declared = declared_settings(model, self.model_file)
        self._schemas: list[type[Settings]] = [RunSettings, *([declared] if declared else [])]
        if declared:
            contents.insert(1, (declared.__name__, _defaults(declared)))
        if asked.get("mg"):
            _check_no_own(MirrorGradientSettings, *contents[-1])
            self._schemas.append(MirrorGradientSettings)
            contents.insert(1, ("mg.yaml", read_yaml(shared_yaml("mg.yaml"))))
        if declared:
            for name, content in contents:
                self._check_known(name, content, model, folder)
        # the keys under hyper_parameters, by the YAML that lists them
        self._listed = {name: _hyper_parameters(name, content) for name, content in contents}
        self._grid_keys = {"seed", *itertools.chain(*self._listed.values())}
        for name, content in contents:
            self._merge(name, content)
        if tuned:
            self._merge(tuned, self._tuned_values(tuned, model, folder))
        self._check_complete(model)
        if search:
            space = search_space_key(search)
            self._merge(space, self._search_space(space, model, folder))
        unknown = [key for key in overrides if not self.knows(key)]
        if unknown:
            raise ConfigError(self._unknown(unknown[0], model, folder, is_given=True))
        self._grid_keys |= {key for key in overrides if key in self.axes or self._values.get(key) is not None}
        self._merge(_GIVEN, overrides)
        self._check_effect()

        self._values.update(model=model, dataset=dataset, model_path=folder and str(folder), tuned=tuned or False)
        if self.model_file.parent == folder:  # the file is no part of this version
            self._values["model_code"] = code_digest(self.model_file)
        self._resolve_paths()
        self._check_evaluation()
        self._set_device()
        own = declared.model_fields if declared else {}
        known = {*RunSettings.model_fields, *MirrorGradientSettings.model_fields, *own}
        self._declared: set[str] | None = known if declared else None
        # of keys that came later: the value that stands for what a run was before
        self.later: dict[str, Any] = dict(itertools.chain(*(later(one).items() for one in self._schemas)))
        del self._schemas  # a class of a model's file cannot go to another process

    # the mapping

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        if self._declared is not None and key not in self._declared and key not in self._values:
            raise UndeclaredKey(self["model"], key, self.model_file)
        return self._lazy[key]() if key in self._lazy else self._values.get(key)

    def peek(self, key: str) -> Any:
        """The value of a key, or None, without counting as read by the model."""
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
        return key in self._values or key in self.axes or FEATURE_KEY.fullmatch(key) is not None

    def is_given(self, key: str) -> bool:
        """Whether the value of a key comes from the caller, and not from a YAML."""
        return self._source.get(key) == _GIVEN

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
        trial._read, trial._made, trial.axes = set(), set(), {}
        return trial

    def lazily(self, **makers: Callable[[], Any]) -> "Config":
        """A copy in which the values of some keys are made when they are read; what is read of it counts as read of this."""
        view = copy.copy(self)
        view._lazy = makers
        self._made |= makers.keys()
        return view

    # what a run is made of

    def plain(self) -> dict[str, Any]:
        """Every key and value, fit for JSON, in the order in which they were merged, which is that of the modalities."""
        return {key: str(value) if key == "device" else value for key, value in self._values.items()}

    def computed(self) -> list[str]:
        """The metrics of an evaluation, as 'recall@20'."""
        return [f"{name.lower()}@{cutoff}" for name in self._values["metrics"] for cutoff in self._values["topk"]]

    @property
    def cap(self) -> int:
        """The most epochs that a run can have: one without training."""
        epochs = self["epochs"]
        return epochs if self["req_training"] else 1

    def identity(self) -> dict[str, Any]:
        """The keys and values that a run's numbers depend on: its name is a hash of these and of the data."""
        as_before = {key for key, value in self.later.items() if self._values.get(key) == value}
        values = {key: value for key, value in self.plain().items() if key not in NEUTRAL_KEYS | as_before}
        return {**values, "device": self._values["device"].type, "threads": torch.get_num_threads()}

    def unread(self) -> list[str]:
        """A line for each key that nothing has read so far: of the two YAMLs, or the model's own that was given."""
        yamls = {f"{self._values['model']}.yaml", f"{self._values['dataset']}.yaml"}
        given = {_GIVEN, search_space_key(True), search_space_key("wide"), self._values["tuned"]}
        ignored = NEUTRAL_KEYS | self._read
        lines = list(self.left_out)
        for key, source in self._source.items():
            if key not in ignored and (source in yamls or (source in given and key not in RunSettings.model_fields)):
                near = difflib.get_close_matches(key, self._read - {key}, n=1, cutoff=0.7)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                sets = f"{option(key).rstrip('=')} is given" if source == _GIVEN else f"{source} sets '{key}'"
                lines.append(f"{sets}, but nothing read it{hint}")
        return lines

    def unset(self) -> list[str]:
        """The keys that a model without declared settings names and has read, and that are None because nothing sets them."""
        if self._declared is not None:
            return []
        text = self.model_file.read_text(encoding="utf-8", errors="replace")
        named = {key for key in self._read if re.search(rf"['\"]{re.escape(key)}['\"]", text)}
        return sorted(named - self._values.keys() - self._made)

    # merging and checking

    def _merge(self, source: str, content: Mapping[str, Any]) -> None:
        for key, value in content.items():
            earlier = self.axes.get(key, [self._values.get(key)])
            default = next((one for one in earlier if isinstance(one, float)), earlier[0])  # of [0, 0.1] the wider type
            declared = self._field(key)
            one_is_list = takes_list(declared[0].model_fields[declared[1]]) if declared else isinstance(default, list)
            several = isinstance(value, Axis) or (isinstance(value, list) and key in self._grid_keys)
            lists = several and bool(value) and all(isinstance(one, list) for one in value)
            is_axis = several and (lists or not one_is_list)
            if is_axis and not value:
                raise ConfigError(f"{_place(source)}'{key}' has an empty list of values")
            if is_axis and key in _SINGLE:
                raise ConfigError(f"{_place(source)}{key} takes one value, not {list(value)}")
            if is_axis and key in NEUTRAL_KEYS - _OF_YAMLS:
                raise ConfigError(f"{_place(source)}{key} changes no result: several values would make the same run. Give one")
            if is_axis and key in self._listed.get(source, ()):
                value = self._usable(key, value, default, source)
            written = value if is_axis else [value]
            checked = [self._check(key, one, default, source) for one in written]
            if key not in self._values and key not in self.axes:
                checked = [_as_written(one, found) for one, found in zip(written, checked, strict=True)]
            else:
                checked = [next((there for there in earlier if _same(key, one, there)), one) for one in checked]
            self.axes.pop(key, None)
            self._values.pop(key, None)
            if len(checked) > 1:
                self.axes[key] = distinct(checked)
            else:
                self._values[key] = checked[0]
            self._source[key] = source

    def _field(self, key: str) -> tuple[type[Settings], str] | None:
        """The class that declares a key, the model's before others, and the key's name in it; None if nobody does."""
        for one in reversed(self._schemas):
            if key in one.model_fields:
                return one, key
        return (FeatureFileSettings, "file") if FEATURE_KEY.fullmatch(key) else None

    def _check(self, key: str, value: Any, default: Any, source: str) -> Any:
        """`value` in the type of the key, or else of `default`; ConfigError that names what was expected."""
        try:
            _check_bounds(value)
            declared = self._field(key)
            return checked(*declared, value) if declared else like(value, default)
        except ValueError as error:
            written = repr(value) if len(repr(value)) < 200 else f"{repr(value)[:200]}…"
            hint = _written(key, value, default) if source == _GIVEN else decimal_hint(value)
            raise ConfigError(f"{_place(source)}{key}={written}; {error}{hint}") from None

    def _check_complete(self, model: str) -> None:
        """ConfigError where a declared key has no value."""
        for one in self._schemas:
            for key, declared in one.model_fields.items():
                if declared.is_required() and key not in self._values and key not in self.axes:
                    owner = "overall.yaml" if one is RunSettings else f"{model}.yaml"
                    raise ConfigError(f"{owner} does not set '{key}', which {one.__name__} declares without a default")

    def _check_effect(self) -> None:
        """ConfigError where a grid would train several equal runs, because its key has no effect."""
        conditions = {key: value for one in self._schemas for key, value in only_with(one).items()}
        for key in conditions.keys() & self.axes.keys():
            other, word = conditions[key]
            values = self.axes.get(other) or [self._values[other]]
            if values != [word]:
                needed, has = option(other, word), option(other, *(one for one in values if one != word))
                raise ConfigError(f"{key} has an effect only with {needed}. With {has}, its values make equal runs")

    def _check_known(self, name: str, content: Mapping[str, Any], model: str, folder: Path | None) -> None:
        """ConfigError where a YAML sets a key that nobody declares.

        In the YAML of a data set and in overall.yaml it is one that looks like a known key and belongs to no model. Any other
        key may be there, for models of MMRec's form or of a folder of their own; `unread` names it.
        """
        for key in content:
            if self._field(key) or key in IGNORED_OF_MMREC:
                continue
            is_own = name == f"{model}.yaml"
            features = likely_feature_keys(key) if str(content[key]).endswith(".npy") else []
            known = itertools.chain(*(one.model_fields for one in self._schemas), features)
            is_misspelt = nearest_key(key, known, 0.8) or is_feature_line(key, content[key])
            if is_own or (is_misspelt and not keys_owners(key, folder)):
                raise ConfigError(f"{name}: {self._unknown(key, model, folder)}")

    def _usable(self, key: str, values: list, default: Any, source: str) -> list:
        """The values of an axis of MMRec's kind that can be used, or all if none can; `left_out` says which cannot."""
        usable, lines = [], []
        for one in values:
            try:
                self._check(key, one, default, source)
                usable.append(one)
            except ConfigError as error:
                expected = str(error).rpartition("; expected ")[2]
                lines.append(f"{source}: {key}={one} is left out of the grid; expected {expected}")
        self.left_out += lines if usable else []
        return usable or values

    def _search_space(self, name: str, model: str, folder: Path | None) -> dict[str, list]:
        """The axes of the YAML's search_space or wide_search_space."""
        space, is_wide = self._values.get(name), name == "wide_search_space"
        if not space:
            call = "mr.search(wide=True)" if is_wide else "mr.search()"
            asked = call if is_python() else "--search wide" if is_wide else "--search"
            raise ConfigError(
                f"{asked}: {model}.yaml has no {name}; name the axes yourself ({option('KEY', 'VALUE', 'VALUE')})"
            )
        if not isinstance(space, dict):
            raise ConfigError(f"{model}.yaml: {name}={space!r}; expected 'key: [values]' lines")
        for key in space:
            if not self.knows(key):
                raise ConfigError(f"{name}: {self._unknown(key, model, folder)}")
        self._grid_keys |= set(space)
        return space

    def _tuned_values(self, name: str, model: str, folder: Path | None) -> dict[str, Any]:
        path = config_file(name)
        if path is None:
            path = config_folders()[0] / name
            there = ", ".join(sorted(one.stem for one in path.parent.glob("*.yaml"))) or "no model"
            raise ConfigError(
                f"tuned: there is no {path}; {path.parent.name} has tuned values of {there}. A search writes them: "
                f"`{command('search', '-m', model, '-d', path.parent.name, '--save-best')}`. Without {option('tuned', True)} "
                "the model's YAML is used"
            )
        content = read_yaml(path)
        for key in content:
            if not self.knows(key):
                raise ConfigError(f"{path}: {self._unknown(key, model, folder)}")
        return content

    def _unknown(self, key: str, model: str, folder: Path | None, is_given: bool = False) -> str:
        """Why nobody has this key, with what was probably meant. is_given: by the command or the call, not by a YAML."""
        if owners := keys_owners(key, folder):
            return f"{model} has no key '{key}'; it is a key of {owners}"
        classes = self._schemas[1:] if self._values else self._schemas  # a model's YAML is looked through before any is merged
        declared = itertools.chain(*(one.model_fields for one in classes))
        known = sorted({*self._values, *self.axes, *declared, *likely_feature_keys(key)})
        if is_given:
            known = [name for name in known if name not in _OF_YAMLS | _OF_PROGRAM]
        near = nearest_key(key, known)
        meant = option(near).rstrip("=") if near and is_given else near
        hint = f"; did you mean '{meant}'?" if near else f". It knows: {', '.join(known)}"
        return f"{model} has no key '{key}'{hint}"

    def _resolve_paths(self) -> None:
        """Make paths absolute: those of the YAMLs start at `ANCHOR`, those of the command line at the current directory."""
        for key in ("data_path", "results_dir"):
            anchor = Path.cwd() if self._source[key] == _GIVEN else ANCHOR
            self._values[key] = f"{real(anchor / at_home(self._values[key]))}/"

    def _check_evaluation(self) -> None:
        names = [name.lower() for name in self._values["metrics"]]
        for name in names:
            if name not in METRICS:
                raise ConfigError(f"metrics: '{name}' is not a metric; there are {', '.join(METRICS)}")
        if self._values["valid_metric"].lower() not in self.computed():
            first = f"{self._values['metrics'][0]}@{self._values['topk'][0]}"
            raise ConfigError(
                f"valid_metric={self._values['valid_metric']} is not computed: metrics are {names}, topk "
                f"{self._values['topk']}. Give one that is: {option('valid_metric', first)}"
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


def _check_settable(overrides: Iterable[str]) -> None:
    """ConfigError for a key that a user cannot set."""
    for key in overrides:
        if key in _OF_YAMLS:
            raise ConfigError(f"{option(key)}: only a YAML sets this key. Several values of another key make a grid")
        if key in _OF_PROGRAM:
            hint = "; use_gpu and gpu_id choose it" if key == "device" else ""
            raise ConfigError(f"{option(key)}: the program sets this key itself{hint}")


def _check_no_own(settings: type[Settings], name: str, content: Iterable[str]) -> None:
    """ConfigError where a model's YAML has a key of its own that is called as one of `settings`."""
    if own := sorted(settings.model_fields.keys() & set(content)):
        raise ConfigError(
            f"{option('mg', True)}: {name} has a key of the same name: {', '.join(own)}. Leave it out of the YAML"
        )


def _yaml_contents(model: str, dataset: str, folder: Path | None) -> list[tuple[str, dict[str, Any]]]:
    """The names and contents of the YAMLs of every run, the data set and the model. A later one overrides an earlier one."""
    paths = [shared_yaml("overall.yaml"), config_file(f"dataset/{dataset}.yaml"), *model_yamls(model, folder)[:1]]
    return [(path.name, read_yaml(path)) for path in paths if path]


def _defaults(declared: type[Settings]) -> dict[str, Any]:
    """The values that a model's class gives its keys."""
    return {key: one.get_default() for key, one in declared.model_fields.items() if not one.is_required()}


def _hyper_parameters(name: str, content: Mapping[str, Any]) -> list[str]:
    """The keys that a YAML lists under hyper_parameters."""
    keys = content.get("hyper_parameters") or []
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ConfigError(f"{name}: hyper_parameters={keys!r}; expected a list of keys")
    return keys


def search_space_key(search: bool | str) -> str:
    """The key of a model's YAML that says what a search tries, by what --search says."""
    return "wide_search_space" if search == "wide" else "search_space"


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values of an axis, lists and mappings among them, each once and in order."""
    found: dict[Any, Any] = {}
    for value in values:
        found.setdefault(json.dumps(value) if isinstance(value, list | dict) else value, value)
    return list(found.values())


def _written(key: str, value: Any, default: Any) -> str:
    """How a value is written, where this one looks like a common slip."""
    several = isinstance(default, list)
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    if one is True and not is_python():
        return f". A key without a value is true; write {option(key, *(default if several else [default]))}"
    if isinstance(default, float) and (hint := decimal_hint(one)):
        return hint
    if isinstance(one, str) and "," in one:
        values = [parse_value(word) for word in one.replace(",", " ").split()]
        how = "are a list" if is_python() else "have spaces between them"
        return f". Several values {how}: {option(key, *values)}"
    return ""


def _place(source: str) -> str:
    """Where a value stands, before what is wrong with it; of an argument of a function, its name says that."""
    return "" if source == _GIVEN and is_python() else f"{source}: "


def _same(key: str, value: Any, default: Any) -> bool:
    """Whether a value is that of the YAML in another spelling, such as 1.0 for 1, so that a run keeps its name."""
    if key in _OF_ANY_CASE:
        return str(value).lower() == str(default).lower()
    return type(value) in (int, float, list) and value == default and not isinstance(default, bool)


def _as_written(value: Any, found: Any) -> Any:
    """A checked value with its whole numbers left whole, 50 and not 50.0: so the first value of a key is in a run's name."""
    if isinstance(value, list) and isinstance(found, list):
        return [_as_written(one, other) for one, other in zip(value, found, strict=True)]
    return value if type(value) is int and type(found) is float else found


def _check_bounds(value: Any) -> None:
    """ValueError where a value is none that any key has: an infinite number, one of too many bits, a word with NUL."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, int) and abs(one) >= LARGEST:
            raise ValueError(f"expected a number between {-LARGEST} and {LARGEST}")
        if isinstance(one, float) and not math.isfinite(one):
            raise ValueError("expected a finite number")
        if isinstance(one, str) and "\0" in one:
            raise ValueError("expected a word without the character NUL")


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
        elif re.fullmatch(r"-[A-Za-z]", word):
            raise ConfigError(f"this command has no option {word}; -h shows its options")
        elif key is None:
            hint = meant(word) or "write --key value"
            raise ConfigError(f"'{word}' belongs to no key; {hint}")
        else:
            pairs[key].append(word)
    values = {key: [parse_value(word) for word in words] for key, words in pairs.items()}
    return {key: True if not words else words[0] if len(words) == 1 else Axis(words) for key, words in values.items()}
