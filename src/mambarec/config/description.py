"""What the keys are, in words: for --help and for the reference.

The meaning, the type and the range come from the classes that declare them, the values and their sources from the YAMLs.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mambarec.config.catalogue as catalogue
from mambarec.base.settings import Settings, accepts
from mambarec.config.keys import MirrorGradientSettings, RunSettings, keys_with


@dataclass
class Key:
    """A key with its value as the YAML writes it, and with the YAML's comment, which says where the value comes from."""

    name: str
    value: str
    source: str = ""
    meaning: str = ""
    accepts: str = ""

    def text(self) -> str:
        """The text beside the key in --help."""
        default = f"Default: {self.value}{f' ({self.source})' if self.source else ''}." if self.value else ""
        kind = f"{self.accepts[:1].upper()}{self.accepts[1:]}." if self.accepts else ""
        return " ".join(filter(None, [self.meaning, kind, default]))


@dataclass
class Values:
    """A YAML as its readers see it: the comment that it begins with, its keys, and its search spaces with their comments."""

    about: str
    keys: list[Key] = field(default_factory=list)
    spaces: dict[str, tuple[list[str], str]] = field(default_factory=dict)


def read_values(path: Path) -> Values:
    """The keys of a YAML with the comments beside and below them. A comment above a key is of no key."""
    about: list[str] = []
    found = Values("")
    is_head, space = True, ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("#"):
            about += [line.lstrip("# ")] if is_head else []
            continue
        is_head = False
        if match := re.fullmatch(r"(\w+):(?:\s+([^#\s].*?))?(?:\s+#\s*(.*))?", line):
            space = match[1] if match[1].endswith("search_space") else ""
            if space:
                found.spaces[space] = ([], match[3] or "")
            else:
                found.keys.append(Key(match[1], match[2] or "", match[3] or ""))
        elif found.keys and (match := re.fullmatch(r"\s+#\s*(.*)", line)):
            found.keys[-1].source += f" {match[1]}"
        elif space and (match := re.fullmatch(r"\s+(\w+:\s*.*?)(?:\s+#\s*(.*))?", line)):
            found.spaces[space][0].append(match[1])
    found.about = " ".join(about)
    return found


def of_run() -> list[Key]:
    """The keys of overall.yaml."""
    return _described(read_values(catalogue.shared_yaml("overall.yaml")).keys, [RunSettings])


def of_mirror_gradient() -> list[Key]:
    """The keys of mg.yaml."""
    return _described(read_values(catalogue.shared_yaml("mg.yaml")).keys, [MirrorGradientSettings])


def of_model(model: str, folder: Path | None = None) -> list[Key]:
    """The keys that a model's YAML sets and its class declares."""
    path = catalogue.model_files(folder)[model]
    settings = catalogue.declared_settings(model, path)
    keys = [key for place in catalogue.model_yamls(model, folder)[:1] for key in read_values(place).keys]
    keys = [key for key in keys if key.name not in keys_with("grid")]
    known = {key.name for key in keys}
    if settings:
        unset = {name: one for name, one in settings.model_fields.items() if name not in known}
        keys += [Key(name, "" if one.is_required() else json.dumps(one.get_default())) for name, one in unset.items()]
    return _described(keys, [settings, RunSettings] if settings else [RunSettings])


def described(models: Sequence[str], folder: Path | None = None) -> Iterator[tuple[str, list[Key]]]:
    """Title and keys: of each model, of every run, of the mirror gradient. ConfigError where there is no such model."""
    for model in [catalogue.find_model(model, folder)[0] for model in models]:
        yield f"keys of {model}", of_model(model, folder)
    yield "keys of every run", of_run()
    yield "keys of the mirror gradient, with --mg", of_mirror_gradient()


def _described(keys: list[Key], classes: Sequence[type[Settings]]) -> list[Key]:
    """Keys with the meaning and the range of the first class that declares them."""
    for key in keys:
        declared = next((one.model_fields[key.name] for one in classes if key.name in one.model_fields), None)
        if declared:
            key.meaning, key.accepts = declared.description or "", accepts(declared)
    return keys
