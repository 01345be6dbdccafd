"""What a preparation read, dropped and wrote, and why: printed at its end and kept as report.json."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.errors import DataError

LISTED = 100  # lines of a file that the report keeps word for word
_LONGEST = 200  # characters of such a line


@dataclass
class Source:
    """A file that was read. rows: how many of it were used or could have been."""

    path: Path
    kind: str
    rows: int = 0
    n_malformed: int = 0
    malformed: list[dict[str, Any]] = field(default_factory=list)

    def reject(self, line: int | None, reason: str, content: bytes | str) -> None:
        """Count a line that cannot be used, and keep it while there are few. line: its number from 1, where it is known."""
        self.n_malformed += 1
        if len(self.malformed) < LISTED:
            text = content.decode("utf-8", "backslashreplace") if isinstance(content, bytes) else content
            self.malformed.append({"line": line, "reason": reason, "content": text.rstrip("\r\n")[:_LONGEST]})

    def check(self, share: float) -> None:
        """DataError when more than this share of the lines cannot be used, or none can."""
        total = self.rows + self.n_malformed
        if not total:
            raise DataError(f"{self.path} holds no line of {self.kind}")
        if self.n_malformed > share * total or not self.rows:
            examples = "; ".join(_example(one) for one in self.malformed[:3])
            raise DataError(
                f"{self.path}: {self.n_malformed:,} of {total:,} lines cannot be used ({self.n_malformed / total:.1%}), "
                f"more than --max-malformed {share:g} allows. The first: {examples}"
            )

    def plain(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "path": str(self.path),
            "bytes": self.path.stat().st_size,
            "rows": self.rows,
            "malformed": self.n_malformed,
            "malformed_lines": self.malformed,
        }


@dataclass(frozen=True)
class Count:
    interactions: int
    users: int
    items: int


class Report:
    """Fills as a preparation goes; `plain` is report.json, `text` what is printed."""

    def __init__(self, command: list[str], settings: dict[str, Any]):
        self.command, self.settings = command, settings
        self.sources: list[Source] = []
        self.steps: list[tuple[str, Count]] = []  # the first says what was read, each other what is left after it
        self.splits: dict[str, int] = {}
        self.notes: list[str] = []

    def source(self, path: Path, kind: str) -> Source:
        """A new file to count lines of; DataError where it does not exist."""
        if not path.is_file():
            raise DataError(f"{path} does not exist; expected a file of {kind}")
        self.sources.append(Source(path, kind))
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
            if source.n_malformed:
                lines.append(
                    f"{source.path}: {source.n_malformed:,} lines could not be used, such as {_example(source.malformed[0])}"
                )
        return "\n".join([*lines, *self.notes])


def _example(malformed: dict[str, Any]) -> str:
    place = f"line {malformed['line']}, " if malformed["line"] else ""
    return f"{place}{malformed['reason']}: {malformed['content'][:60]!r}"
