"""Ctrl-C and SIGTERM: a process ends at once and leaves nothing half-written, or first finishes what would be lost."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether and how this process is to end. There is one, `stop`.

    signal: the one that came while work was being finished, else None. folders: where this process writes; the files that it
    has not completed there are removed at the end. The handler of a signal ends the process itself. It raises nothing, since an
    exception could come up inside a destructor, where Python prints it and goes on.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.folders: set[Path] = set()
        self.last_acts: list[Callable[[], None]] = []
        self.exit: Callable[[int], Any] = os._exit
        self._listens = False
        self._held: list[int] | None = None  # signals that came in a block that must not be left half-way
        self._unsaved: Callable[[], bool] = lambda: False
        self._words: Callable[[], str] = lambda: "stopped"

    def listen(self) -> None:
        """From now on SIGINT and SIGTERM end this process with status 130 or 143; one that is ignored stays so."""
        self._listens = True
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.on_signal)

    def listen_again(self) -> None:
        """After a library has put its own handlers in place, where this process listened."""
        if self._listens:
            self.listen()

    @contextmanager
    def guard(self, unsaved: Callable[[], bool], words: Callable[[], str]) -> Iterator[None]:
        """While open, a first signal that finds something `unsaved` only sets `signal`: who opened this saves, and calls `end`.

        A second signal ends the process all the same. words: one sentence to end with, what is saved and how to go on.
        """
        before = self._unsaved, self._words
        self._unsaved, self._words = unsaved, words
        try:
            yield
        finally:
            self._unsaved, self._words = before

    @contextmanager
    def held(self) -> Iterator[None]:
        """While open, a signal waits."""
        self._held = []
        try:
            yield
        finally:
            waiting, self._held = self._held, None
            for number in waiting:
                self.on_signal(number, None)

    def on_signal(self, number: int, frame: Any) -> None:
        """The handler of a signal."""
        if self._held is not None:
            self._held.append(number)
            return
        first, self.signal = self.signal is None, number
        if not (first and self._unsaved()):
            self.end()

    def end(self) -> None:
        """End the process here, with its last words and the status of the signal that came."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        words = self._words()
        for act in self.last_acts:
            act()
        self.remove_unfinished()
        start = "\n" if os.isatty(2) else ""  # the terminal shows ^C on the line of the moment
        with suppress(OSError):
            os.write(2, f"{start}{words}\n".encode())
        self.exit(128 + (self.signal or signal.SIGTERM))

    def remove_unfinished(self) -> None:
        """Remove this process's temporary files (base.files) from `folders`."""
        for folder in list(self.folders):
            for path in folder.glob(f"*.{os.getpid()}.tmp"):
                with suppress(OSError):
                    path.unlink()


stop = Stop()
