"""What models and data sets there are, and where their files and YAMLs lie."""

import ast
import difflib
import hashlib
import importlib
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from mambarec.base.contract import contract
from mambarec.base.errors import ConfigError, ModelError
from mambarec.base.files import real
from mambarec.base.places import ANCHOR, CHECKOUT, CONFIGS, DATA, HOME, MODELS, at_home, shown
from mambarec.base.settings import Settings
from mambarec.base.words import command, is_python, listed, option
from mambarec.config.data_folder import yaml_lines
from mambarec.config.keys import MirrorGradientSettings, RunSettings
from mambarec.config.yaml_files import read_yaml

_PACKAGES = {"sklearn": "scikit-learn", "cv2": "opencv-python", "PIL": "pillow", "yaml": "pyyaml"}  # named otherwise on PyPI
TUNED_BUDGET = "budget"  # begins the comment of a tuned file that says how long the search was


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


def shared_yaml(name: str) -> Path:
    """A YAML that all runs read, overall.yaml or mg.yaml."""
    return CONFIGS / name


def config_file(name: str) -> Path | None:
    """The YAML of this name, such as dataset/baby.yaml, in the first of `config_folders` that has it; None if none has."""
    return next((path for folder in config_folders() if (path := folder / name).exists()), None)


def model_folder(overrides: Mapping[str, Any]) -> Path | None:
    """The folder of models beside src/models, if one is named: on the command line, or in overall.yaml."""
    given = "model_path" in overrides
    folder = overrides["model_path"] if given else read_yaml(shared_yaml("overall.yaml")).get("model_path")
    if folder is None:
        return None
    if not isinstance(folder, str):
        raise ConfigError(f"model_path={folder!r}; expected one folder")
    place = real((Path.cwd() if given else ANCHOR) / at_home(folder))
    if not place.is_dir():
        raise ConfigError(f"model_path: {place} is no folder; name the one with the models' files, such as MMRec's src/models")
    if not any(map(_class_in, place.glob("*.py"))) and not any(place.glob("*.yaml")):
        raise ConfigError(f"model_path: {place} has no file of a model; name the folder that has, such as MMRec's src/models")
    return place


def model_yamls(model: str, folder: Path | None = None) -> list[Path]:
    """The YAMLs of a model; the first is the one that is read."""
    return [path for place in _model_configs(folder) if (path := place / f"{model}.yaml").exists()]


def model_values(model: str, folder: Path | None = None) -> dict[str, Any]:
    """What the YAML of a model sets; nothing where it has none."""
    places = model_yamls(model, folder)
    return read_yaml(places[0]) if places else {}


def find_model(name: str, folder: Path | None = None) -> tuple[str, Path]:
    """The name of a model as its YAML spells it, and its file; ConfigError where there is none of this name."""
    files = model_files(folder)
    spelled = _spelled(name, list(files), "model", [folder, MODELS] if folder else [MODELS])
    return spelled, files[spelled]


def code_files(file: Path) -> list[Path]:
    """A model's file, and the files beside it that it imports, directly or by one another, by name."""
    found, waiting = [file], [file]
    while waiting:
        beside = [file.with_name(f"{name}.py") for name in _imported(waiting.pop())]
        waiting += (new := [path for path in dict.fromkeys(beside) if path.is_file() and path not in found])
        found += new
    return [file, *sorted(found[1:])]


def code_digest(file: Path) -> str:
    """The SHA-256 of a model's code."""
    content = [path.read_bytes() for path in code_files(file)]
    return hashlib.sha256(content[0] if len(content) == 1 else b"\0".join(content)).hexdigest()


def _imported(file: Path) -> list[str]:
    """What a file imports, by the names that files beside it would have: x for x, models.x and `from models import x`.

    `mambarec` is this package, and no file of that name.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return []  # the import of the model will say it
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    files = [name.lstrip(".").removeprefix("models.") for name in names if name.partition(".")[0] != "mambarec"]
    return [name.partition(".")[0] for name in files]


def find_dataset(name: str, data: Path = DATA) -> str:
    """The name of a data set as its YAML spells it; ConfigError where there is none of this name.

    data: the folder of all data sets. One that lies there without a YAML is named with the YAML that it needs.
    """
    known = [one.lower() for one in available_datasets()]
    lines = yaml_lines(data / name) if re.fullmatch(r"\w[\w.-]{,99}", name) and name.lower() not in known else []
    if lines:
        path = shown(dataset_folders()[0] / f"{name}.yaml")
        quoted = [f"'{line}'" for line in lines]
        raise ConfigError(
            f"the data set '{name}' has a folder, {shown(data / name)}, and no YAML: write {path} with the "
            f"line{'s' * (len(lines) > 1)} {listed(quoted)}"
        )
    return _spelled(name, available_datasets(), "data set", dataset_folders())


def as_spelled(dataset: str) -> str:
    """As `find_dataset`; a name without a YAML stays as it is, since results may come from elsewhere."""
    return next((one for one in available_datasets() if one.lower() == dataset.lower()), dataset)


def _spelled(name: str, available: list[str], kind: str, folders: Sequence[Path]) -> str:
    if name in available:
        return name
    for candidate in available:
        if candidate.lower() == name.lower():
            return candidate
    lower = {candidate.lower(): candidate for candidate in available}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    if "," in name:
        names = name.replace(",", " ").split()
        hint = f" Several names are a list: {names}" if is_python() else f" Separate several names by spaces: {' '.join(names)}"
    elif other := meant(name):
        hint = f" {other}"
    elif near:
        hint = f" Did you mean '{lower[near[0]]}'?"
    else:
        hint = f" `{command('prepare', 'table', '-d', name)}` makes one of your own tables" if kind == "data set" else ""
    places = " or ".join(shown(folder) for folder in folders)
    raise ConfigError(f"there is no {kind} '{name}' in {places}; there are: {', '.join(available)}.{hint}")


def meant(word: str) -> str:
    """How to give a word that is the name of a model or of a data set; '' for any other."""
    for letter, kind, names in (("-m", "model", available_models()), ("-d", "data set", available_datasets())):
        if word.lower() in [name.lower() for name in names]:
            return f"{word} is a {kind}: write {option(letter, word)}"
    return ""


MMREC_ROOMS = ("common", "models", "utils", "utils_package")  # the last: utils, in MENTOR's and COHESION's repositories


@lru_cache
def _declared(model: str, path: Path, changed: int) -> type[Settings] | None:
    if not _declares(model, path):
        return None
    with contract(model, "import"):
        try:
            return getattr(import_model(model, path), f"{model}Settings")
        except ModuleNotFoundError as error:
            _check_no_file_beside(model, path, (error.name or "").removeprefix("models."), error)
            raise ConfigError(
                f"{model}: {path} declares its keys, so it imports from mambarec; it imports {error.name}, which is MMRec's"
            ) from error


def _declares(model: str, path: Path) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    return re.search(rf"^class {model}Settings\(", text, flags=re.MULTILINE) is not None


def _check_no_file_beside(model: str, path: Path, imported: str, error: Exception) -> None:
    """ConfigError where a model's file imports a file beside it in a way that does not work."""
    if not path.with_name(f"{imported}.py").is_file():
        return
    if _declares(model, path):
        how = f"{path.name} declares its keys, so it cannot import this file; write its code into {path.name}"
    else:
        how = f"write `from models.{imported} import …`, as in MMRec"
    raise ConfigError(f"{model}: {path} imports {imported}, a file beside it: {how}") from error


def declared_settings(model: str, path: Path) -> type[Settings] | None:
    """The class `<Model>Settings` of a model's file; None for a file without one, such as MMRec's, which is not imported.

    Raises ConfigError or ModelError where the file cannot be imported.
    """
    return _declared(model, path, path.stat().st_mtime_ns)


def import_model(name: str, path: Path) -> ModuleType:
    """The module in a model's file; ConfigError where it imports what is not installed."""
    try:
        if path.parent == MODELS:
            return importlib.import_module(f"mambarec.models.{path.stem}")
        spec = spec_from_file_location(f"{path.stem} of {path.parent}", path)
        module = module_from_spec(spec)  # type: ignore[arg-type]
        sys.modules[module.__name__] = module  # torch_geometric looks for its classes' modules there
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        return module
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in MMREC_ROOMS:
            raise
        _check_no_file_beside(name, path, missing, error)
        package = _PACKAGES.get(missing, missing)
        raise ConfigError(f"{name}: {path} imports {missing}, which is not installed: pip install {package}") from error


def keys_owners(key: str, folder: Path | None = None) -> str:
    """Whose key this is, in words: the models that declare it or whose YAML sets it, or the mirror gradient; else ''."""
    if key in MirrorGradientSettings.model_fields:
        return f"the mirror gradient; add {option('mg', True)}"
    return ", ".join(name for name, path in model_files(folder).items() if key in _own_keys(name, path, folder))


def _own_keys(model: str, path: Path, folder: Path | None) -> set[str]:
    """The keys that a model declares, or that its YAML sets."""
    keys = set(model_values(model, folder))
    with suppress(ConfigError, ModelError):  # a file that cannot be imported says so when it is asked for
        if settings := declared_settings(model, path):
            return settings.model_fields.keys() | (keys & RunSettings.model_fields.keys())
    return keys


def tuned_file(model: str, dataset: str) -> str:
    """The YAML of a model's tuned values on a data set, within src/configs; it need not exist."""
    return f"tuned/{dataset}/{model}.yaml"


def tuned_budget(path: Path) -> str:
    """What a tuned file says of its search's budget; 'unknown' for one that was written by hand."""
    found = re.search(rf"^# {TUNED_BUDGET}: (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return found[1] if found else "unknown"
