"""What may stand on a console: text from files and names, without what a terminal would obey."""

import argparse
import difflib
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from mambarec.base.places import at_home, version

# Control characters but the line feed and the tab, marks that turn the direction of writing, invisible tags, lone surrogates.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: object) -> str:
    """A text as a console may show it: what moves the cursor, hides or turns text is written as an escape, such as \\x1b.

    Every message, log line and table goes through this; files that other programs read keep the text as it is.
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def show(*parts: object, sep: str = " ", end: str = "\n", file: IO[str] | None = None, flush: bool = False) -> None:
    """`print` of what is `printable`."""
    print(*map(printable, parts), sep=sep, end=end, file=file, flush=flush)


class _Gathered(argparse._StoreAction):
    """Stores a value. Of an option with a list of values that is given twice, the later values join the earlier ones."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:  # type: ignore[no-untyped-def]
        earlier = getattr(namespace, self.dest, None)
        several = self.nargs == "+" or (self.nargs is None and isinstance(values, list))
        if several and isinstance(earlier, list) and earlier is not self.default:
            values = [*earlier, *values]
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """argparse's, with options that take dashes or underscores, and errors that are one `printable` line.

    The errors repeat words of the command line. A list of values may be given in several parts, as `-m BPR -m VBPR`.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.register("type", Path, at_home)  # of the options whose type is Path
        self.register("action", None, _Gathered)

    def add_version(self) -> None:
        """Add the option --version."""
        self.add_argument("--version", action="version", version=f"mambarec {version()}", help="show the version, and exit")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[override]
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._spelled(word) for word in words], namespace)

    def _spelled(self, word: str) -> str:
        """An option as it was declared, where the word differs from it by dashes and underscores alone."""
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in self._option_string_actions:
            return word
        declared = {known.replace("_", "-"): known for known in self._option_string_actions}
        return declared.get(name.replace("_", "-"), name) + equals + value

    def option(self, name: str) -> argparse.Action | None:
        """The option of this name, with dashes or underscores; None where there is none."""
        return self._option_string_actions.get(self._spelled(f"--{name}"))

    def check_no_stray_word(self, words: Sequence[str]) -> None:
        """An error where a word stands behind an option that has all its values, as `--jobs 2 3`.

        argparse would give it to an earlier option that it does not know, which is a configuration key.
        """
        owner, takes, left = "", math.inf, math.inf  # the option before, how many words it takes, and how many of them to come
        for word in map(self._spelled, words):
            name, equals, _ = word.partition("=")
            if re.match(r"--?[A-Za-z]", word):
                action = self._option_string_actions.get(name)
                owner, takes = name, {None: 1, "?": 1, 0: 0}.get(action.nargs, math.inf) if action else math.inf
                left = 0 if action and equals else takes
            elif left == 0:
                values = "one value" if takes else "no value"
                self.error(f"'{word}' belongs to no option: {owner} takes {values}{' behind =' * (takes == math.inf)}")
            else:
                left -= 1

    def _known(self) -> list[str]:
        """The long options of this parser and of its commands."""
        commands = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        others = [name for action in commands for one in action.choices.values() for name in one._known()]
        return [name for name in (*self._option_string_actions, *others) if name.startswith("--")]

    def error(self, message: str) -> NoReturn:
        if unknown := re.match(r"unrecognized arguments: (--[\w-]+)", message):
            known = self._known()
            near = difflib.get_close_matches(unknown[1], known, n=1, cutoff=0.7)
            if unknown[1] in known:  # argparse asks the parser of all commands
                message += "; another command has this option"
            elif near:
                message += f"; did you mean '{near[0]}'?"
        program = self.prog if self.prog.startswith("mambarec ") else f"python {self.prog}"
        end = "" if message.endswith("?") else "."
        self.exit(2, printable(f"error: {message}{end} `{program} -h` shows the options") + "\n")
