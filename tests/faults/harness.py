"""What the tests of kills, full disks, rights and damage share: commands in processes of their own, and what may befall them.

A command runs in a fork of a process that has imported the program already. There it can be killed before the n-th step that
changes the disk, or in the middle of a write, when a file grows beyond some bytes; or lose root's power over rights.

WHOLE is false in `make test`, where a test tries a seeded sample, and true in `make faults`, where it tries all.
"""

import ctypes
import hashlib
import importlib
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

WHOLE = os.environ.get("FAULTS") == "whole"
DOORS = {
    "main": "mambarec.cli.train",
    "prepare": "mambarec.cli.prepare",
    "report": "mambarec.cli.report",
    "recommend": "mambarec.cli.recommend",
    "export_plugin": "mambarec.mmrec.export",
}
_CHANGES = frozenset("os.rename os.remove os.rmdir os.mkdir os.link os.symlink os.truncate shutil.rmtree ctypes.dlopen".split())
_FORKS = multiprocessing.get_context("forkserver")
_IMPORTED = [
    *DOORS.values(),
    "pandas",
    "duckdb",
    "matplotlib.pyplot",
    "faiss",
    "optuna",
    "sqlalchemy.orm",
    "alembic.command",
    "mambarec.preparation.tabular",
    "mambarec.preparation.amazon",
    "faults.harness",
]
_FORKS.set_forkserver_preload(_IMPORTED)


@dataclass
class Ending:
    """How a command ended. status: its exit status, or minus the signal. steps: how often it changed the disk below `root`."""

    status: int
    out: str
    err: str
    steps: int = 0

    @property
    def is_explained(self) -> bool:
        """Whether it ended well, or with one line that says what is wrong and no traceback."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        clean = "Traceback" not in self.err + self.out
        return clean and (self.status == 0 or (self.status in (1, 2, 130) and (len(errors) == 1 or self.status == 130)))


@dataclass(frozen=True)
class Befalls:
    """What befalls a command. step: SIGKILL before its n-th change below `root`. size: a signal when a file grows beyond.

    as_user: rights hold for it. full: standard output is a full disk. interrupt: Ctrl-C in place of SIGKILL.
    limit: as `size`, but an error of the write in place of a signal. workers: each trial has a process of its own, as in use.
    """

    step: int | None = None
    size: int | None = None
    limit: int | None = None
    as_user: bool = False
    full: bool = False
    interrupt: bool = False
    workers: bool = False


@cache
def _start_forks() -> None:
    """Start the process that is forked; it takes the places of modules from the environment alone."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    forkserver.ensure_running()
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def call(door: str, words: Sequence[Any], configs: Path, root: Path, befalls: Befalls | None = None) -> Ending:
    """Run a command, such as `main` with its words, with the settings in `configs`."""
    _start_forks()
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        arguments = (door, [str(word) for word in words], str(configs), str(root), befalls or Befalls(), place)
        for name in ("out", "err"):
            os.mkfifo(Path(place, name))  # a file would have the limits of the command's
        process = _FORKS.Process(target=_work, args=arguments)
        process.start()
        with ThreadPoolExecutor(2) as readers:
            out, err = readers.map(lambda name: Path(place, name).read_text(errors="replace"), ("out", "err"))
        process.join(300)
        assert process.exitcode is not None, f"{door} {words} has closed its output and goes on"
        steps = Path(place, "steps")
        return Ending(process.exitcode or 0, out, err, int(steps.read_text() or 0) if steps.exists() else 0)


def _work(door: str, words: list[str], configs: str, root: str, befalls: Befalls, place: str) -> None:
    """In the fork: end it as an interpreter would that runs the door's file."""
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{place}/{name}", os.O_WRONLY), number)
    if befalls.full:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = [door, *words]
    module = importlib.import_module(DOORS.get(door, door))
    import torch

    import mambarec.config.catalogue as catalogue
    from mambarec.experiments.trials import one_after_the_other

    torch.set_num_threads(1)
    catalogue.CONFIGS = Path(configs)
    if not befalls.workers and hasattr(module, "LocalProcesses"):
        module.LocalProcesses = lambda jobs: one_after_the_other
    steps = _Steps(root, befalls)
    if befalls.as_user:
        lose_power_over_rights()
    if befalls.size is not None or befalls.limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN if befalls.size is None else signal.SIG_DFL)
        limit = befalls.size if befalls.size is not None else befalls.limit
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, _no_limit()))
    sys.addaudithook(steps.audit)
    status = 1
    try:
        status = module.main(words)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    steps.over = True
    try:
        sys.stdout.flush()
    except OSError:
        status = 120
    resource.setrlimit(resource.RLIMIT_FSIZE, (_no_limit(), _no_limit()))
    Path(place, "steps").write_text(str(steps.count))
    os._exit(status or 0)


def _no_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_FSIZE)[1]


class _Steps:
    """Counts what changes the disk below a folder, and ends the process before one of these."""

    def __init__(self, root: str, befalls: Befalls):
        self.root, self.befalls, self.count, self.over = root, befalls, 0, False

    def audit(self, event: str, arguments: tuple) -> None:
        if self.over or not (event in _CHANGES or (event == "open" and isinstance(arguments[2], int))):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if event != "ctypes.dlopen" and not any(str(one).startswith(self.root) for one in arguments[:2]):
            return
        self.count += 1
        if self.count == self.befalls.step:
            os.kill(os.getpid(), signal.SIGINT if self.befalls.interrupt else signal.SIGKILL)


def lose_power_over_rights() -> None:
    """Give up what lets root read and write where the rights say no, for this process; nothing for other users."""
    if os.geteuid():
        return

    class Header(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

    class Data(ctypes.Structure):
        _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]

    libc, header, data = ctypes.CDLL(None, use_errno=True), Header(0x20080522, 0), (Data * 2)()
    if libc.capget(ctypes.byref(header), data) or not (data[0].effective or data[1].effective):
        return
    for one in data:
        one.effective = one.permitted = one.inheritable = 0
    if libc.capset(ctypes.byref(header), data):
        raise OSError(ctypes.get_errno(), "capset")


class Disk:
    """A small file system in memory, as large as one likes, or read-only."""

    def __init__(self, place: Path):
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], check=True, capture_output=True)

    def resize(self, kilobytes: int, read_only: bool = False) -> None:
        size = max(4, kilobytes)
        options = f"remount,size={size}k,{'ro' if read_only else 'rw'}"
        subprocess.run(["mount", "-o", options, str(self.place)], check=True, capture_output=True)

    @property
    def used(self) -> int:
        """Kilobytes."""
        state = os.statvfs(self.place)
        return (state.f_blocks - state.f_bfree) * state.f_frsize // 1024

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.place)], check=False, capture_output=True)


def sample(numbers: Iterable[int], few: int, seed: int = 0, always: bool = False) -> list[int]:
    """The first of some numbers, the last and some between, always the same; all in the whole form, but for `always`."""
    every = sorted(numbers)
    if (WHOLE and not always) or len(every) <= few:
        return every
    if few == 1:
        return [every[len(every) // 2]]
    return sorted({every[0], every[-1], *random.Random(seed).sample(every[1:-1], few - 2)})


def quick(cases: Sequence[Any], *chosen: int) -> list[Any]:
    """Cases of a test, of which `make test` tries those chosen by their numbers."""
    return [case if number in chosen else pytest.param(*case, marks=pytest.mark.slow) for number, case in enumerate(cases)]


def contents(folder: Path, but: Sequence[str] = ()) -> dict[str, str]:
    """The SHA-256 of each file below a folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in but)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass
class Tally:
    """How often something was tried, and how it went; the figures of docs/reliability.md."""

    rows: dict[str, list[int]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def count(self, kind: str, went_well: bool, *details: Any) -> None:
        """Note how it went; a test that noted a loss fails at its end, after all that it tries."""
        row = self.rows.setdefault(kind, [0, 0])
        row[0] += 1
        row[1] += went_well
        if not went_well:
            self.lost.append(f"{kind}: {details}")

    def add(self, rows: dict[str, list[int]]) -> None:
        """Count what another process tried."""
        for kind, (tried, well) in rows.items():
            row = self.rows.setdefault(kind, [0, 0])
            row[0] += tried
            row[1] += well


TALLY = Tally()
