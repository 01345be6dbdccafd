"""Runs as the analysis functions are given them: a Run of the Python interface, its directory, or several of these."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Protocol, runtime_checkable

from mambarec.base import arguments


@runtime_checkable
class OfPython(Protocol):
    """What is needed of a `mr.Run`. data_path: the folder above the data set's, if the data have moved."""

    directory: Path
    data_path: Path | None


Runs = OfPython | str | Path | Iterable[OfPython | str | Path]


def run_places(runs: Runs) -> list[tuple[Path, Path | None]]:
    """The directory of each run, and the folder of its data if it is another one now; ConfigError for anything else."""
    several = [runs] if isinstance(runs, str | PurePath | OfPython) else runs
    if not isinstance(several, Iterable) or isinstance(several, bytes | Mapping):
        raise arguments.refused("runs", runs, _EXPECTED)
    found = [_place(run) for run in several]
    if not found:
        raise arguments.refused("runs", [], f"at least one: {_EXPECTED}")
    return found


_EXPECTED = "a run, the directory of one, or a list of these"


def _place(run: object) -> tuple[Path, Path | None]:
    if isinstance(run, OfPython):
        return run.directory, run.data_path
    if not isinstance(run, str | PurePath) or not str(run):
        raise arguments.refused("runs", run, _EXPECTED)
    return arguments.place("runs", run), None
