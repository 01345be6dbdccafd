"""What a person sees of runs that are being trained: a row for each on a terminal or in a notebook, or lines in a log."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mambarec.base.logger import get_logger
from mambarec.base.stopping import stop
from mambarec.base.words import duration

LINE_SECONDS = 60.0
_BAR = 12  # characters of the bar of a run


@dataclass(frozen=True)
class Status:
    """How far a run has come. Epochs count from 1.

    epoch: the one that is being trained, of at most `cap`; step: how many of its `steps` are done. saved: the last epoch that
    is in the checkpoint, 0 when none is. loss, value: of the last finished epoch and the last evaluation. patience:
    evaluations without a better value that are left. seconds_left: what the rest takes at most, at the pace so far.
    """

    epoch: int
    cap: int
    step: int
    steps: int
    saved: int
    metric: str
    loss: float | None
    value: float | None
    best: float | None
    patience: int
    seconds_left: float | None

    @property
    def time_left(self) -> str:
        return "unknown" if self.seconds_left is None else duration(self.seconds_left)

    def __str__(self) -> str:
        parts = [f"epoch {self.epoch}/{self.cap}"]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.5f}")
        if self.value is not None:
            parts.append(f"validation {self.metric} {self.value:.5f} (best {self.best:.5f})")
        parts.append(f"patience {self.patience}")
        if self.seconds_left is not None:
            parts.append(f"at most {self.time_left} left")
        return ", ".join(parts)


Watch = Callable[[Status], None]


def watch_nothing(status: Status) -> None:
    """For a run that nobody watches."""


class _Lines:
    """For a log: a line of each run when a minute has passed since its last."""

    def __init__(self) -> None:
        self.shown: dict[str, float] = {}

    def show(self, name: str, status: Status | None) -> None:
        now = time.monotonic()
        if now - self.shown.setdefault(name, now) >= LINE_SECONDS and status:
            self.shown[name] = now
            get_logger().info("%s: %s", name, status)


class _Nothing:
    """Where the runs' own lines are enough."""

    def show(self, name: str, status: Status | None) -> None:
        pass


class _Table:
    """For a terminal and for a notebook: a table with a row for each run."""

    def __init__(self, live: Any, with_bars: bool = False) -> None:
        """live: shows what its `update` gets in place of what it showed before. with_bars: a row has a progress bar too."""
        self.live, self.with_bars = live, with_bars
        self.rows: dict[str, Status] = {}

    def show(self, name: str, status: Status | None) -> None:
        if status:
            self.rows[name] = status
        else:
            self.rows.pop(name, None)
        self.live.update(self._table() if self.rows else "", refresh=True)

    def _table(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        metric = next(iter(self.rows.values())).metric
        table.add_column("\nrunning", ratio=1, min_width=10)
        if self.with_bars:
            table.add_column("\n", width=_BAR)
        for title in (
            "\nepoch",
            "\nof it",
            "\nloss",
            f"validation\n{metric}",
            "\nbest",
            "patience\nleft",
            "time left\nat most",
        ):
            table.add_column(title, justify="right", no_wrap=True)
        for name, status in self.rows.items():
            numbers = (f"{number:.4f}" if number is not None else "" for number in (status.loss, status.value, status.best))
            share = f"{status.step / status.steps:.0%}" if status.steps else ""
            done = status.epoch - 1 + (status.step / status.steps if status.steps else 0)
            bar = [ProgressBar(total=status.cap, completed=done, width=_BAR)] if self.with_bars else []
            table.add_row(name, *bar, f"{status.epoch}/{status.cap}", share, *numbers, str(status.patience), status.time_left)
        return table


class _Cell:
    """The output of a notebook's cell that shows a table, which replaces the one before."""

    def __init__(self) -> None:
        self.handle: Any = None

    def update(self, table: Any, refresh: bool) -> None:
        from IPython.display import HTML, display

        shown = table or HTML("")
        if self.handle:
            self.handle.update(shown)
        elif table:
            self.handle = display(shown, display_id=True)


@contextmanager
def watching(lines: bool = True) -> Iterator[_Table | _Lines | _Nothing]:
    """Show runs while open. lines: in a log too, where nothing else says how they come on."""
    if "ipykernel" in sys.modules and lines:  # in a notebook, where rich shows itself as HTML
        cell = _Cell()
        try:
            yield _Table(cell, with_bars=True)
        finally:
            cell.update("", refresh=True)
        return
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        yield _Lines() if lines else _Nothing()
        return
    from rich.console import Console  # here, since it takes time to load
    from rich.live import Live

    def show_cursor() -> None:
        os.write(1, b"\x1b[?25h")

    stop.last_acts.append(show_cursor)
    try:
        with Live(console=Console(highlight=False), auto_refresh=False, transient=True) as live:
            yield _Table(live)
    finally:
        stop.last_acts.remove(show_cursor)
