"""What a preparation read, dropped and wrote, and why: printed at its end and kept as report.json."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambarec.base.errors import DataError
from mambarec.base.words import amount, option

NO_DATE = "time is neither a number nor a date"  # a reason
LISTED = 100  # lines of a file that the report keeps word for word
_LONGEST = 200  # characters of such a line
_DECIMAL_COMMA = re.compile(r"\b\d+,\d+\b")
_SEPARATORS = "If the fields have another separator, write a comma, a tab, a semicolon, | or :: between them"
_DATES = "Write dates with the year first, such as 2020-05-21 or 2020-05-21 13:45:00"
_LINES = 5  # line numbers that are shown for each reason


@dataclass
class Tally:
    """How many rows there are of one kind, and the lines of the first."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, count: int, lines: Iterable[int | None]) -> None:
        self.count += count
        self.lines = sorted([*self.lines, *(line for line in lines if line is not None)])[:_LINES]

    def __str__(self) -> str:
        lines = ", ".join(f"{line:,}" for line in self.lines)
        more = ", …" if self.lines and self.count > len(self.lines) else ""
        return f"{self.count:,}" + (f" (line{'s' * (self.count > 1)} {lines}{more})" if lines else "")


def _no_place(places: Sequence[int]) -> list[tuple[int | None, str]]:
    return [(None, "")] * len(places)


@dataclass
class Source:
    """A file that was read, and what became of each of its rows.

    lines: rows that the file has, counted apart from the others; None where nothing counts them. rows: those that were used or
    could have been. refused: rows that cannot be used, by reason. left_out: rows without a user or an item. locate: gives line
    and content of rows that the engine has read, by their places. name: what the reader calls the file, if it is not its path.
    """

    path: Path
    kind: str
    rows: int = 0
    lines: int | None = None
    refused: dict[str, Tally] = field(default_factory=dict)
    left_out: dict[str, Tally] = field(default_factory=dict)
    malformed: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    locate: Callable[[Sequence[int]], list[tuple[int | None, str]]] = _no_place
    name: str | None = None

    @property
    def n_refused(self) -> int:
        return sum(tally.count for tally in self.refused.values())

    @property
    def n_left_out(self) -> int:
        return sum(tally.count for tally in self.left_out.values())

    def note(self, text: str) -> None:
        if text:
            self.notes.append(text)

    def reject(self, line: int | None, reason: str, content: bytes | str) -> None:
        """Count a line that cannot be used, and keep it while there are few. line: its number from 1, where it is known."""
        self.refuse(reason, 1, [(line, content)])

    def refuse(self, reason: str, count: int, first: Sequence[tuple[int | None, bytes | str]]) -> None:
        """Count rows that cannot be used. first: line and content of the first of them."""
        self.refused.setdefault(reason, Tally()).add(count, (line for line, _ in first))
        for line, content in first[: LISTED - len(self.malformed)]:
            text = content.decode("utf-8", "backslashreplace") if isinstance(content, bytes) else content
            self.malformed.append({"line": line, "reason": reason, "content": text.strip("\r\n")[:_LONGEST]})

    def leave_out(self, reason: str, count: int, lines: Iterable[int | None]) -> None:
        """Count rows that hold no user or item, which is no mistake of theirs."""
        self.left_out.setdefault(reason, Tally()).add(count, lines)

    def check(self, share: float | None, options: Collection[str] = ()) -> None:
        """DataError when more than this share of the lines cannot be used, or none can; None: when one cannot.

        options: of `encoding` and `time-format`, those that the command has, for its hints.
        """
        total = self.rows + self.n_refused
        if not total:
            raise DataError(f"{self.path} holds no line of {self.kind}")
        self.malformed.sort(key=lambda one: one["line"] or 0)
        if self.n_refused > (share or 0) * total or not self.rows:
            examples = "; ".join(_example(one) for one in self.malformed[:3])
            commas = any("not a number" in one["reason"] and _DECIMAL_COMMA.search(one["content"]) for one in self.malformed)
            hint = ". Write decimals with a point, 0.5 and not 0,5; only between semicolons a comma is read as one" * commas
            if "not UTF-8" in self.refused:
                read = f"Text that is not in UTF-8 can be read by {option('encoding')}, such as latin-1"
                hint += f". {read if 'encoding' in options else 'Save the file as UTF-8'}"
            if NO_DATE in self.refused:
                hint += f". {_DATES}"
                hint += f", or say their form, such as {option('time-format', '%d/%m/%Y')}" * ("time-format" in options)
            hint += f". {_SEPARATORS}" * (not self.rows and list(self.refused) == ["too few fields"])
            hint += ". Put fields that contain the separator between quotes" * ("too many fields" in self.refused)
            allowed = f", more than {option('max-malformed', share)} allows" if share is not None and share < 1 else ""
            raise DataError(
                f"{self.path}: {self.n_refused:,} of {total:,} lines cannot be used ({self.n_refused / total:.1%}){allowed}. "
                f"The first: {examples}{hint}"
            )

    def account(self) -> None:
        """RuntimeError unless each line of the file was used, refused or left out."""
        found = self.rows + self.n_refused + self.n_left_out
        if self.lines is not None and found != self.lines:
            raise RuntimeError(f"{self.path} has {self.lines:,} lines, but {found:,} are accounted for")

    def plain(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "path": self.name or str(self.path),
            "bytes": self.path.stat().st_size,
            "lines": self.rows + self.n_refused + self.n_left_out,
            "rows": self.rows,
            "refused": _plain(self.refused),
            "left_out": _plain(self.left_out),
            "malformed": self.n_refused,
            "malformed_lines": self.malformed,
            "notes": self.notes,
        }

    def text(self) -> list[str]:
        """What became of the file's lines, then what was noted of it."""
        total = self.rows + self.n_refused + self.n_left_out
        lines = [f"{self.name or self.path}: {amount(total, 'line')} read; used: {self.rows:,}"]
        if self.n_refused:
            reasons = "; ".join(f"{reason}: {tally}" for reason, tally in self.refused.items())
            lines[0] += f"; refused: {self.n_refused:,}"
            lines += [
                f"  refused: {reasons}",
                f"  {amount(self.n_refused, 'line')} could not be used, such as {_example(self.malformed[0])}",
            ]
        if self.n_left_out:
            lines[0] += f"; left out: {self.n_left_out:,}"
            lines += [f"  left out, {reason}: {tally}" for reason, tally in self.left_out.items()]
        return lines + [f"  {note}" for note in self.notes]


def _plain(tallies: dict[str, Tally]) -> list[dict[str, Any]]:
    return [{"reason": reason, "count": tally.count, "lines": tally.lines} for reason, tally in tallies.items()]


@dataclass(frozen=True)
class Count:
    interactions: int
    users: int
    items: int


class Report:
    """Fills as a preparation goes; `plain` is report.json, `text` what is printed."""

    def __init__(self, command: list[str], settings: dict[str, Any], names: Mapping[Path, str] | None = None):
        """names: what the reader calls a file, where it is not its path."""
        self.command, self.settings, self.names = command, settings, names or {}
        self.sources: list[Source] = []
        self.steps: list[tuple[str, Count]] = []  # the first says what was read, each other what is left after it
        self.splits: dict[str, int] = {}
        self.notes: list[str] = []

    def source(self, path: Path, kind: str) -> Source:
        """A new file to count lines of; DataError where there is no such file."""
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise DataError(f"{path} {what}; expected a file of {kind}")
        self.sources.append(Source(path, kind, name=self.names.get(path)))
        return self.sources[-1]

    def left(self, step: str, count: Count) -> None:
        self.steps.append((step, count))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def dropped(self) -> list[dict[str, Any]]:
        """For each step but the first how many interactions, users and items it took away."""
        return [
            {
                "reason": step,
                "interactions": before.interactions - after.interactions,
                "users": before.users - after.users,
                "items": before.items - after.items,
            }
            for (_, before), (step, after) in zip(self.steps, self.steps[1:], strict=False)
        ]

    def plain(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "settings": self.settings,
            "sources": [source.plain() for source in self.sources],
            "read": vars(self.steps[0][1]),
            "dropped": self.dropped(),
            "kept": vars(self.steps[-1][1]),
            "splits": self.splits,
            "notes": self.notes,
        }

    def text(self) -> str:
        rows = [(self.steps[0][0], vars(self.steps[0][1]))]
        rows += [
            (f"- {row['reason']}", {key: -row[key] for key in ("interactions", "users", "items")}) for row in self.dropped()
        ]
        rows.append(("kept", vars(self.steps[-1][1])))
        width = max(len(name) for name, _ in rows)
        lines = [f"{'':{width}} {'interactions':>14} {'users':>12} {'items':>12}"]
        lines += [f"{name:{width}} {row['interactions']:>14,} {row['users']:>12,} {row['items']:>12,}" for name, row in rows]
        lines.append("train / validation / test: " + " / ".join(f"{count:,}" for count in self.splits.values()))
        for source in self.sources:
            lines += source.text()
        return "\n".join([*lines, *self.notes])


def _example(malformed: dict[str, Any]) -> str:
    place = f"line {malformed['line']}, " if malformed["line"] else ""
    return f"{place}{malformed['reason']}: {malformed['content'][:60]!r}"
