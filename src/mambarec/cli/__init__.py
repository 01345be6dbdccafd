"""The commands: `mambarec train -m MambaRec -d demo`, and the programs of src/, which are the same."""

import difflib
import importlib
import sys
from collections.abc import Callable

from mambarec.base.places import version
from mambarec.base.stopping import stop

# Command -> what it is for, the module whose main() it calls, and the words that come before its own.
COMMANDS: dict[str, tuple[str, str, list[str]]] = {
    "train": ("train a model, or several, or a grid of settings", "mambarec.cli.train", []),
    "compare": ("train several models and test the differences", "mambarec.cli.train", []),
    "search": ("search the settings of a model on validation", "mambarec.cli.train", ["--search"]),
    "prepare": ("make a data set from raw files, texts and pictures", "mambarec.cli.prepare", []),
    "recommend": ("lists for users, similar items, vectors of a finished run", "mambarec.cli.recommend", []),
    "report": ("tables, figures and pages of finished runs", "mambarec.cli.report", []),
    "runs": ("list the runs that there are", "mambarec.cli.report", ["runs"]),
    "status": ("list the runs that are not finished", "mambarec.cli.report", ["runs", "--unfinished"]),
    "plugin": ("copy MambaRec into a checkout of MMRec", "mambarec.mmrec.export", []),
}
_LISTENING = ("mambarec.cli.train", "mambarec.cli.report")  # they end on a signal by their own rules


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status, or 2 where there is no such command."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] == "--version":
        print(f"mambarec {version()}")
        return 0
    if words[0] not in COMMANDS:
        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"The commands are {', '.join(COMMANDS)}."
        print(f"error: there is no command {words[0]!r}. {hint}", file=sys.stderr)
        return 2
    _, module, before = COMMANDS[words[0]]
    if module in _LISTENING:
        stop.listen()  # before what takes long to import
    command: Callable[[list[str]], int] = importlib.import_module(module).main
    sys.argv = [f"mambarec {words[0]}", *words[1:]]  # what usage texts name, and what a run records
    return command([*before, *words[1:]])


def usage() -> str:
    """What there is, a line a command."""
    lines = [f"  {name:<10} {what}" for name, (what, _, _) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mambarec COMMAND ...",
            "",
            *lines,
            "",
            "mambarec COMMAND --help shows the options of each.",
            "mambarec --version shows the version.",
        ]
    )
