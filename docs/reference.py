"""Writes two pages of the reference from the code: the command line from the parsers, the keys from the YAMLs.

It is started in this way:

    python docs/reference.py             writes docs/reference/commands.md and docs/reference/keys.md
    python docs/reference.py --check     exit status 1 where a page is not up to date
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
sys.path.insert(0, str(ROOT / "src"))

from mambarec.base.places import CONFIGS  # noqa: E402
from mambarec.cli import COMMANDS, prepare, recommend, report, train  # noqa: E402
from mambarec.config import configurator  # noqa: E402
from mambarec.mmrec import export  # noqa: E402

WRITTEN = "<!-- python docs/reference.py writes this page. Do not edit it. -->\n"


# the command line


class _Caught(Exception):
    """Carries a parser out of the function that makes it."""


def parser_of(parse: Callable[[list[str]], Any]) -> argparse.ArgumentParser:
    """The parser that a function makes for its arguments."""

    def stop(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise _Caught(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", stop):
        try:
            parse(["-h"])
        except _Caught as caught:
            return caught.args[0]
    raise AssertionError("it parsed nothing")


# The commands with parsers of their own; the others of COMMANDS are a name for one of these.
PARSES: dict[str, Callable[[list[str]], Any]] = {
    "train": train.parse,
    "prepare": prepare.parse,
    "recommend": recommend.parse,
    "report": report.parse,
    "plugin": export.main,
}
SAME = {
    "compare": "`mambarec compare` has the options of [`mambarec train`](#mambarec-train).",
    "search": "`mambarec search …` is `mambarec train --search …`, and has its options.",
    "runs": "`mambarec runs …` is `mambarec report runs …`, and has its options.",
    "status": "`mambarec status …` is `mambarec report runs --unfinished …`, and has its options.",
}
PROGRAMS = {"train": "main.py", "prepare": "prepare.py", "recommend": "recommend.py", "report": "report.py"}


def subcommands(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Name -> what it is for, and its parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (texts[name], one) for name, one in action.choices.items()}
    return {}


def commands_page() -> str:
    parts = [
        WRITTEN,
        "# Command line\n",
        "The command `mambarec` works wherever the package is installed. The programs in `src/` do the same: "
        "`python main.py …` is `mambarec train …`, and `prepare.py`, `recommend.py` and `report.py` are the commands "
        "of these names. Every command has `--help`.\n",
        "A value in round brackets is the default. `…` after a name means that several values can be given.\n",
    ]
    parts += ["| command | what it does |", "|---|---|"]
    parts += [f"| [`mambarec {name}`](#mambarec-{name}) | {_cell(text)} |" for name, (text, _, _) in COMMANDS.items()]
    for name, (text, _, _) in COMMANDS.items():
        parts.append(f"\n## mambarec {name}\n\n{_sentence(text)}\n")
        if name in SAME:
            parts.append(SAME[name])
            continue
        parser = parser_of(PARSES[name])
        if name in PROGRAMS:
            parts.append(f"In `src/`: `python {PROGRAMS[name]} …`\n")
        if name == "train":
            parts.append(
                "Any [key](keys.md) can be set too: `--learning_rate 5e-4`. Several values make a grid: "
                "`--mmd_weight 0.1 0.2`.\n"
            )
        some = subcommands(parser)
        if not some:
            parts += _options(parser)
        for second, (about, one) in some.items():
            parts.append(f"\n### mambarec {name} {second}\n\n{_sentence(one.description or about)}\n")
            parts += _options(one)
    return "\n".join(parts) + "\n"


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A table of a parser's options."""
    yield "| option | what it does |"
    yield "|---|---|"
    formatter = parser._get_formatter()
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        names = [f"`{name}`" for name in action.option_strings] or [f"`{action.metavar or action.dest}`"]
        value = "" if not action.option_strings or action.nargs == 0 else f" {_value(action)}"
        text = formatter._expand_help(action) if action.help else ""
        required = "Required. " if action.required and action.option_strings else ""
        yield f"| {', '.join(names)}{value} | {required}{_cell(_sentence(text))} |"
    yield ""


def _value(action: argparse.Action) -> str:
    """What stands after an option."""
    if action.choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in action.choices)
    name = action.metavar or action.dest.upper()
    several = {"+": f"{name} …", "?": f"[{name}]"}.get(str(action.nargs), name)
    return " ".join([name] * action.nargs) if isinstance(action.nargs, int) else several


def _sentence(text: str) -> str:
    """A text that begins with a capital, if it begins with a word, and ends with a stop."""
    is_word = re.match(r"[a-z]+(?=[\s,;:.]|$)(?!\.\w)", text)
    return (text[:1].upper() + text[1:] if is_word else text).rstrip(".") + "." if text else ""


def _cell(text: str) -> str:
    """Text in a cell of a table."""
    return re.sub(r"<(?!/)", "&lt;", text).replace("|", "\\|")


# the keys


# What keys mean that many models have; a model's YAML says it only where it is different.
SHARED = {
    "modalities": "which item features the model reads: all that the data set declares, or some of them",
    "embedding_size": "width of the vectors of users and items",
    "feat_embed_dim": "width of the projected features",
    "n_layers": "graph layers; in models with an item graph and `n_ui_layers`, the layers of the item graph",
    "n_ui_layers": "layers of the graph of users and items",
    "n_mm_layers": "layers of the item graph",
    "knn_k": "neighbours of an item in the item graph",
    "reg_weight": "weight of the penalty on large parameters (L2)",
    "cl_loss": "weight of the contrastive loss",
    "cl_weight": "weight of the contrastive loss",
    "dropout": "share that is dropped at random in training",
    "mm_image_weight": "weight of the visual item graph; the other modalities share the rest",
    "train_features": "whether the raw item features are trained too",
    "evaluate_on": "which vectors are evaluated: see [Models](../models.md)",
}


@dataclass
class Key:
    """A key of a YAML: its value as it is written, and the comment beside and below it."""

    name: str
    value: str
    comment: str
    group: str


@dataclass
class Settings:
    """A YAML as its readers see it: the comment that it begins with, its keys, and its search space."""

    about: str
    keys: list[Key] = field(default_factory=list)
    space: list[str] = field(default_factory=list)
    space_comment: str = ""


def read_settings(path: Path) -> Settings:
    """The keys of a YAML with their comments. A comment above keys, after the first blank line, is their group."""
    about, group = [], []
    found = Settings("")
    is_head, last = True, ""  # what the line before was: a comment, a key or nothing
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            is_head, last = False, ""
        elif line.startswith("#"):
            group = group if last == "comment" or is_head else []
            (about if is_head else group).append(line.lstrip("# "))
            last = "comment"
        elif match := re.fullmatch(r"(\w+):(?:\s+([^#\s].*?))?(?:\s+#\s*(.*))?", line):
            group = group if last else []
            is_head, last = False, "key"
            if match[1] == "search_space":
                found.space_comment = match[3] or ""
            else:
                found.keys.append(Key(match[1], match[2] or "", match[3] or "", " ".join(group)))
        elif match := re.fullmatch(r"\s+#\s*(.*)", line):
            found.keys[-1].comment += f" {match[1]}"
        elif match := re.fullmatch(r"\s+(\w+:\s*.*?)(?:\s+#\s*(.*))?", line):
            found.space.append(match[1])
    found.about = " ".join(about)
    return found


def keys_page() -> str:
    parts = [
        WRITTEN,
        "# Keys by model\n",
        "A key is a setting with a name. Set it on the command line with `--key value`, in Python with `key=value`, or in "
        "a YAML with `key: value`. [Settings and grids](../guides/settings.md) says how the files are merged.\n",
        "Each table has the value that is used when nothing else is said, the type, the values that are allowed, and the "
        "comment of the YAML. The comment says what the key means and where the value comes from.\n",
        "## All models\n",
        "These are the keys of `src/configs/overall.yaml`. A model's or a data set's YAML can change their values.\n",
    ]
    overall = read_settings(CONFIGS / "overall.yaml")
    known = {key.name: key.comment for key in overall.keys}
    parts += _grouped(overall.keys)
    mirror = read_settings(CONFIGS / "mg.yaml")
    parts += ["### Mirror gradient\n", f"{mirror.about}\n", *_table(mirror.keys, known)]
    parts += ["### Keys that several models have\n", "| key | meaning |", "|---|---|"]
    parts += [f"| `{name}` | {meaning} |" for name, meaning in SHARED.items()]
    parts.append("\n### What a data set changes\n")
    for path in sorted((CONFIGS / "dataset").glob("*.yaml")):
        changed = [key for key in read_settings(path).keys if key.name in known]
        if changed:
            text = ", ".join(f"`{key.name}: {key.value}`" for key in changed)
            parts.append(f"- {path.stem}: {text}")
    parts.append("")
    for path in sorted((CONFIGS / "model").glob("*.yaml"), key=lambda path: path.stem.lower()):
        one = read_settings(path)
        identity = [key for key in one.keys if key.name == "model_identity"]
        parts += [f"## {path.stem}\n", f"{_cell(one.about)}\n"]
        for group in dict.fromkeys(key.group for key in one.keys if key not in identity):
            parts += [f"{_cell(group)}\n"] if group else []
            parts += _table([key for key in one.keys if key.group == group and key not in identity], known)
        if one.space:
            space = ", ".join(f"`{line}`" for line in one.space)
            source = f" (source: {one.space_comment})" if one.space_comment else ""
            parts.append(f"`--search` tries{source}: {space}.\n")
        if identity:
            parts.append(f"These make another model, which has a row of its own: `{identity[0].value}`.\n")
    return "\n".join(parts) + "\n"


def _grouped(keys: list[Key]) -> Iterator[str]:
    for group in dict.fromkeys(key.group for key in keys):
        title, _, rest = group.partition(";")
        if title:
            yield f"### {title[:1].upper()}{title[1:]}\n"
        if rest:
            yield f"{_sentence(rest.strip())}\n"
        yield from _table([key for key in keys if key.group == group], {})


def _table(keys: list[Key], known: dict[str, str]) -> Iterator[str]:
    """A table of keys; a key without a comment has that of `known`."""
    yield "| key | value | type | allowed | comment |"
    yield "|---|---|---|---|---|"
    for key in keys:
        value = configurator.parse_value(key.value)
        comment = key.comment or known.get(key.name, "")
        example = configurator._NULLABLE.get(key.name) if value is None else value
        cells = [f"`{key.name}`", f"`{key.value}`", _type(example), _allowed(key.name, example), _cell(comment)]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _type(value: Any) -> str:
    if isinstance(value, list):
        return f"list of {_type(value[0])}s" if value else "list"
    names = {bool: "true or false", int: "integer", float: "number", str: "word"}
    return names.get(type(value), "")


def _allowed(name: str, value: Any) -> str:
    if name == "learner":
        return ", ".join(configurator.LEARNERS)
    if name == "precision":
        return ", ".join(configurator.PRECISIONS)
    if name in configurator._POSITIVE:
        return "above 0"
    return "0 or more" if name in configurator._NOT_NEGATIVE else ""


def pages() -> dict[Path, str]:
    """Path -> text of the pages that are written from the code."""
    return {PAGES / "commands.md": commands_page(), PAGES / "keys.md": keys_page()}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where a page is not up to date")
    options = parser.parse_args(arguments)
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if options.check:
            print(f"{path.relative_to(ROOT)} is not up to date: python docs/reference.py writes it", file=sys.stderr)
        else:
            path.write_text(pages()[path], encoding="utf-8")
            print(path.relative_to(ROOT))
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
