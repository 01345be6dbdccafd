"""One trial in a process of its own: it comes from standard input, and what happens goes to standard output, pickled.

The process ends with the trial, so that its peak of memory is the trial's. It ends too when standard input ends, which is when
the program that started it has ended. A byte from there asks it to save and to end.
"""

import _thread
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import IO, Any

import torch

from mambarec.base.logger import silence_console
from mambarec.base.places import PACKAGE
from mambarec.base.stopping import SIGNALS, stop
from mambarec.base.words import argument_names, in_python
from mambarec.experiments.trials import Trial, attempt
from mambarec.running.watching import Status

_PROGRAM = f"import sys; sys.path[0] = {str(PACKAGE.parent)!r}; from mambarec.experiments.worker import work; work()"


def start(trial: Trial, errors: IO[bytes]) -> subprocess.Popen:
    """A new process that has got the trial; what it and its libraries print goes to `errors`."""
    pipe = subprocess.PIPE
    with _without_signals():
        command = [sys.executable, "-c", _PROGRAM, *sys.argv]
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors)
    try:
        pickle.dump((trial, torch.get_num_threads(), argument_names()), process.stdin)  # type: ignore[arg-type]
        process.stdin.flush()  # type: ignore[union-attr]
    except BrokenPipeError:  # it has died: its exit status will tell
        pass
    return process


@contextmanager
def _without_signals() -> Iterator[None]:
    """Processes that start in here get signals, the terminal's Ctrl-C among them, only when they are ready for them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def work() -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that started this one, which will ask
    stop.listen()
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    sys.argv = sys.argv[1:]  # the command that is recorded is that of the program
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    silence_console()

    def send(message: Any) -> None:
        pickle.dump(message, channel)
        channel.flush()

    commands = sys.stdin.buffer
    trial, threads, arguments = pickle.load(commands)
    Thread(target=_obey, args=[commands], daemon=True).start()
    torch.set_num_threads(trial.config["threads"] or threads)
    with in_python(arguments):
        outcome = attempt(trial, send)
    send((outcome.result, outcome.error, outcome.pruned))
    os._exit(0)  # the thread waits for input, which an orderly end would not survive


def _obey(commands: IO[bytes]) -> None:
    while commands.read(1):
        _thread.interrupt_main(signal.SIGTERM)
    stop.remove_unfinished()
    os._exit(1)


Message = Status | tuple[dict[str, Any] | None, str | None, int | None]
