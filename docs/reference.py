"""Writes two pages of the reference from the code: the command line from the parsers, the keys from classes and YAMLs.

It is started in this way:

    python docs/reference.py             writes docs/reference/commands.md and docs/reference/keys.md
    python docs/reference.py --check     exit status 1 where a page is not up to date
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
sys.path.insert(0, str(ROOT / "src"))

from mambarec.base.commands import COMMANDS  # noqa: E402
from mambarec.base.places import CONFIGS  # noqa: E402
from mambarec.cli import prepare, recommend, report, train  # noqa: E402
from mambarec.config import description  # noqa: E402
from mambarec.config.yaml_files import read_yaml  # noqa: E402
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
    parts += [f"| [`mambarec {name}`](#mambarec-{name}) | {_cell(one.about)} |" for name, one in COMMANDS.items()]
    for name, command in COMMANDS.items():
        parts.append(f"\n## mambarec {name}\n\n{_sentence(command.about)}\n")
        if name in SAME:
            parts.append(SAME[name])
            continue
        parser = parser_of(PARSES[name])
        if name != "plugin":
            parts.append(f"In `src/`: `python {command.program} …`\n")
        if name == "train":
            parts.append(
                "Any [key](keys.md) can be set too. The most used ones are `--seed 1 2 3`, `--epochs 40`, `--threads 1` and "
                "`--learning_rate 5e-4`. In the name of a key, `-` and `_` are the same. Several values make a grid: "
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
        if action.dest == "help" or isinstance(action, argparse._SubParsersAction):
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


def keys_page() -> str:
    parts = [
        WRITTEN,
        "# Keys by model\n",
        "A key is a setting with a name. Set it on the command line with `--key value`, in Python with `key=value`, or in "
        "a YAML with `key: value`. [Settings and grids](../guides/settings.md) says how the files are merged.\n",
        "Each table has the value that is used when nothing else is said, the values that are allowed, what the key means, and "
        "where the value comes from. `mambarec train -m MambaRec --help` shows the same.\n",
        "## All models\n",
        "The values are those of `src/configs/overall.yaml`. A model's or a data set's YAML can change them.\n",
        *_table(description.of_run()),
        "### Mirror gradient\n",
        f"{description.read_values(CONFIGS / 'mg.yaml').about}\n",
        *_table(description.of_mirror_gradient()),
        "### What a data set changes\n",
    ]
    known = {key.name for key in description.of_run()}
    for path in sorted((CONFIGS / "dataset").glob("*.yaml")):
        changed = [key for key in description.read_values(path).keys if key.name in known]
        if changed:
            text = ", ".join(f"`{key.name}: {key.value}`" for key in changed)
            parts.append(f"- {path.stem}: {text}")
    parts.append("")
    for path in sorted((CONFIGS / "model").glob("*.yaml"), key=lambda path: path.stem.lower()):
        one, keys = description.read_values(path), description.of_model(path.stem)
        identity = read_yaml(path).get("model_identity")
        parts += [f"## {path.stem}\n", f"{_cell(one.about)}\n", *_table(keys)]
        for name, (lines, source) in one.spaces.items():
            option = "`--search wide`" if name.startswith("wide") else "`--search`"
            space = ", ".join(f"`{line}`" for line in lines)
            parts.append(f"{option} tries{f' (source: {source})' if source else ''}: {space}.\n")
        if identity:
            entries = ", ".join(f"`{entry}`" for entry in identity)
            parts.append(f"These make another model, which has a row of its own: {entries}.\n")
    return "\n".join(parts) + "\n"


def _table(keys: list[description.Key]) -> Iterator[str]:
    yield "| key | value | allowed | meaning | source of the value |"
    yield "|---|---|---|---|---|"
    for key in keys:
        value = f"`{key.value}`" if key.value else ""
        yield f"| `{key.name}` | {value} | {_cell(key.accepts)} | {_cell(key.meaning)} | {_cell(key.source)} |"
    yield ""


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
