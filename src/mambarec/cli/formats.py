"""The options --format and --output: the format of a file is the one that is named, or that of the file's ending."""

from collections.abc import Mapping
from pathlib import Path

from mambarec.base.errors import ConfigError


def format_help(usual: str, what: str = "table") -> str:
    """The help of --format. usual: the format where neither --format nor an ending chooses one. what: is in this format."""
    return f"the format of the {what}; the ending of --output chooses it; without one: {usual}"


def format_of(output: Path | None, form: str | None, endings: Mapping[str, str], usual: str) -> str:
    """The format of a file: `form` if one is named, else that of the file's ending, else the usual one.

    endings: ending -> format. A format's own name is an ending of it too. ConfigError for an ending of no format, and for one
    of another format than `form`.
    """
    endings = {**endings, **{f".{one}": one for one in endings.values()}}
    ending = output.suffix.lower() if output else ""
    of_ending = endings.get(ending)
    if form and of_ending not in (None, form):
        raise ConfigError(f"--output {output}: files of the format {form} do not end in {ending}. Leave --format out")
    if not (form or of_ending) and ending:
        raise ConfigError(f"--output {output}: no format has the ending {ending}. Use one of {', '.join(endings)}")
    return form or of_ending or usual
