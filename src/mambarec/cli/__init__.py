"""The commands: `mambarec train -m MambaRec -d demo`, and the programs of src/, which are the same."""

import difflib
import importlib
import sys
from collections.abc import Callable

from mambarec.base.commands import COMMANDS
from mambarec.base.places import version
from mambarec.base.stopping import stop


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
    asked = COMMANDS[words[0]]
    if asked.module in {one.module for one in COMMANDS.values() if one.trains}:  # they end on a signal by their own rules
        stop.listen()  # before what takes long to import
    command: Callable[[list[str]], int] = importlib.import_module(asked.module).main
    sys.argv = [f"mambarec {words[0]}", *words[1:]]  # what usage texts name, and what a run records
    return command([*asked.before, *words[1:]])


def usage() -> str:
    """What there is, a line a command."""
    lines = [f"  {name:<10} {one.about}" for name, one in COMMANDS.items()]
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
