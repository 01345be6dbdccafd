"""What may stand on a console: text from files and names, without what a terminal would obey."""

import argparse
import re
from typing import IO, NoReturn

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


class Parser(argparse.ArgumentParser):
    """argparse's, whose errors are `printable`: they repeat words of the command line."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))
