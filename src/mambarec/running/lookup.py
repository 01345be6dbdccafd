"""Find runs by what they are: model, data set, seed and settings, finished or not."""

import difflib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from mambarec.base.bounded import parse_json, read_json
from mambarec.base.console import show
from mambarec.base.errors import ConfigError, RunError
from mambarec.base.places import RESULTS
from mambarec.base.words import count, is_python, option, resumed, value_text
from mambarec.config.keys import NEUTRAL_KEYS
from mambarec.config.yaml_files import parse_value
from mambarec.running import schema
from mambarec.running.directory import AGAIN, TABLE_FILES, RunDirectory, trial_name

SHOWN = 20  # candidates that an error lists
_RUN_NAME = re.compile(r"seed\d+-[0-9a-f]{10}")  # of a run's directory
_ALIKE = NEUTRAL_KEYS | {"model_code"}  # what is not shown to tell runs apart


class Described:
    """What has a run's settings, told by those that name it."""

    config: dict[str, Any]

    @property
    def model(self) -> str:
        return self.config["model"]

    @property
    def dataset(self) -> str:
        return self.config["dataset"]

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def valid_metric(self) -> str:
        """As metrics are named in the files of a run: 'recall@20'."""
        return self.config["valid_metric"].lower()


@dataclass(frozen=True)
class FoundRun(Described):
    """A run's directory with its settings, and its result where it is finished."""

    path: Path
    config: dict[str, Any]
    result: dict[str, Any] | None

    def state(self) -> str:
        """'finished', 'running' while a process holds the directory, 'pruned' by a search, or 'stopped'.

        'damaged' for a finished run that lacks a file of its record.
        """
        if self.result and not all((self.path / name).exists() for name in TABLE_FILES):
            return "damaged"
        if self.result or is_in_use(self.path):
            return "finished" if self.result else "running"
        return "pruned" if RunDirectory(self.path).is_pruned else "stopped"

    def progress(self) -> str:
        """Of a finished run its epochs, the best one and its validation metric; of another its last epoch. From 1.

        Of one whose epochs cannot be read it is the reason.
        """
        if self.result:
            valid = f"validation {self.valid_metric} {self.result['valid'][self.valid_metric]:.4f}"
            return f"{count(self.result['epochs'], 'epoch')}, best {self.result['best_epoch'] + 1}, {valid}"
        try:
            rows = RunDirectory(self.path).metrics()
        except RunError as error:
            return str(error)
        if not rows:
            return "no epoch ended yet"
        if not RunDirectory(self.path).is_stopped and not is_in_use(self.path):
            return "nothing saved yet: it starts anew"
        return f"epoch {rows[-1]['epoch'] + 1} of at most {self.config['epochs']}"


def check_places(places: Iterable[Path]) -> None:
    """RunError where a folder of runs does not exist; that of every run may not be there yet."""
    for path in places:
        if not path.exists() and path != RESULTS:
            raise RunError(f"{path} does not exist; name the folder of the runs by {option('results')}")


def find_runs(
    places: Iterable[Path],
    models: Sequence[str] = (),
    datasets: Sequence[str] = (),
    seeds: Sequence[int] = (),
    where: Sequence[str] | Mapping[str, Any] = (),
    damaged: Callable[[Path, RunError], None] | None = None,
) -> list[FoundRun]:
    """The runs below folders that are of one of these models, data sets and seeds, and fit every KEY=VALUE of `where`.

    where: words, or keys with their values. Empty sequences take all; names may be spelled in any case. damaged: is told of
    a run whose files are missing or damaged, which is then passed over; without it this is a RunError. ConfigError for a word
    of `where` that is no KEY=VALUE, or whose key no run has.
    """
    runs = []
    for path in (path for place in places for path in _run_directories(Path(place))):
        try:
            runs += [run] if (run := _read(path)) else []
        except RunError as error:
            if damaged is None:
                raise
            damaged(path, error)
    conditions = parse_where(where, {key for run in runs for key in run.config})

    def wanted(name: str, names: Sequence[str]) -> bool:
        return not names or name.lower() in {one.lower() for one in names}

    return [
        run
        for run in runs
        if wanted(run.model, models) and wanted(run.dataset, datasets)
        if (not seeds or run.seed in seeds) and fits(run.config, conditions)
    ]


def choose_run(
    places: Sequence[Path],
    models: Sequence[str] = (),
    datasets: Sequence[str] = (),
    seeds: Sequence[int] = (),
    where: Sequence[str] | Mapping[str, Any] = (),
) -> Path:
    """The directory of the one finished run that fits; RunError lists the candidates where none or several do.

    A damaged run that fits, as far as its directory's name says, is an error too: it may be the one that is meant.
    """
    places, damaged = list(places), []
    found = find_runs(places, models, datasets, seeds, where, lambda path, error: damaged.append((path, error)))
    finished = [run for run in found if run.result]
    if len(finished) < 2:
        for path, error in damaged:
            if is_named(trial_name(path), models, datasets, seeds):
                others = f". {finished[0].path} fits too: name it by {option('run', 'DIRECTORY')}" if finished else ""
                raise RunError(f"{error}{others}") from error
    if len(finished) == 1:
        return finished[0].path
    settings = [option(key, value) for key, value in where.items()] if isinstance(where, Mapping) else where
    asked = (
        " ".join([*models, *(f"on {name}" for name in datasets), *(f"seed {seed}" for seed in seeds), *settings]) or "any model"
    )
    if finished:
        lines = "\n".join(describe_runs(finished)[:SHOWN])
        more = f"\n  and {len(finished) - SHOWN} more" if len(finished) > SHOWN else ""
        setting = "KEY=VALUE" if is_python() else "--where KEY=VALUE"
        raise RunError(
            f"{len(finished)} finished runs fit '{asked}':\n{lines}{more}\n"
            f"Choose one: {option('-m', 'NAME')}, {option('-d', 'NAME')}, {option('seed', 'N')}, {setting}, "
            f"or {option('run', 'DIRECTORY')}"
        )
    where_looked = ", ".join(map(str, places))
    if found:
        lines = "\n".join(f"  {run.path}: {run.state()}, {run.progress()}" for run in found[:SHOWN])
        raise RunError(f"no finished run fits '{asked}'. These are not finished:\n{lines}\nGo on with one: {resumed()}")
    there = sorted({f"{run.model} on {run.dataset}" for run in find_runs(places, damaged=pass_over) if run.result})
    raise RunError(f"no run in {where_looked} fits '{asked}'; there are finished runs of: {', '.join(there) or 'no model'}")


def is_named(trial: str, models: Sequence[str], datasets: Sequence[str], seeds: Sequence[int]) -> bool:
    """Whether a trial, DATASET/MODEL/seed…, has a name that is asked for, in any case; empty sequences take all."""
    dataset, model, run = trial.lower().split("/")
    return (
        (not models or model in {name.lower() for name in models})
        and (not datasets or dataset in {name.lower() for name in datasets})
        and (not seeds or any(run.startswith(f"seed{seed}-") for seed in seeds))
    )


def pass_over(path: Path, error: RunError) -> None:
    """For `find_runs`, where damaged runs do not matter."""


def say_damaged(path: Path, error: RunError) -> None:
    """For `find_runs`: name a damaged run on standard error."""
    show(f"warning: {error}", file=sys.stderr)


def describe_runs(runs: Sequence[FoundRun]) -> list[str]:
    """A line per run: its directory, and the settings in which it differs from the others.

    Of runs that have the same settings, the line says the threads and the data, where these differ.
    """
    texts = {id(run): {key: json.dumps(value) for key, value in run.config.items()} for run in runs}
    keys = dict.fromkeys(key for run in runs for key in run.config if key not in _ALIKE)
    differing = [key for key in keys if len({texts[id(run)].get(key) for run in runs}) > 1]
    if "device" in differing and "use_gpu" in differing:
        differing.remove("use_gpu")
    settings = [" ".join(f"{key}={value_text(run.config.get(key))}" for key in differing) for run in runs]
    around = [_environment(run) if settings.count(own) > 1 else {} for run, own in zip(runs, settings, strict=True)]
    lines = []
    for run, own, here in zip(runs, settings, around, strict=True):
        alike = [there for there, text in zip(around, settings, strict=True) if text == own]
        parts = [
            own,
            *(
                f"{key} {here.get(key)!s:.8}"
                for key in ("threads", "data")
                if any(one.get(key) != here.get(key) for one in alike)
            ),
        ]
        text = ", ".join(filter(None, parts))
        lines.append(f"  {run.path}" + (f": {text}" if text else ""))
    return lines


def _environment(run: FoundRun) -> dict[str, Any]:
    """What environment.json holds; empty where it cannot be read."""
    with suppress(RunError, OSError):
        return RunDirectory(run.path).read_json("environment.json")
    return {}


def parse_where(where: Sequence[str] | Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE words, or keys and values, as a mapping; ConfigError for another word, and for a key that is not known."""
    conditions, known = dict(where) if isinstance(where, Mapping) else {}, sorted(set(known))
    for word in () if isinstance(where, Mapping) else where:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"--where {word}: expected KEY=VALUE, such as epochs=40")
        found = parse_value(value)
        if conditions.get(key, found) != found:
            raise ConfigError(
                f"--where {key}={value}: no run has two values of a key, and {key}={conditions[key]} is asked for too"
            )
        conditions[key] = found
    for key in conditions:
        if known and key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            asked = "" if is_python() else f"--where {key}: "
            raise ConfigError(f"{asked}no run has a key '{key}'{hint}")
    return conditions


def fits(settings: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    """Whether settings have these values; a list is also written with commas, and with one entry as that entry.

    A run with tuned values has the name of their file under `tuned`, which is also true.
    """

    def there(key: str, asked: Any) -> Any:
        value = settings.get(key)
        return bool(value) if key == "tuned" and isinstance(asked, bool) else value

    return all(_same(there(key, asked), asked) for key, asked in conditions.items())


def _same(there: Any, asked: Any) -> bool:
    if isinstance(there, list) and not isinstance(asked, list):
        return [str(one) for one in there] == str(asked).split(",")
    if isinstance(there, bool) or isinstance(asked, bool):
        return there is asked
    return there == asked or (isinstance(there, str) and there == str(asked))


def _run_directories(place: Path) -> list[Path]:
    """The directories below a folder that have settings, or the name of a run and a result."""
    named = (path.parent for path in place.rglob("result.json") if _RUN_NAME.fullmatch(path.parent.name))
    return sorted({*(path.parent for path in place.rglob("config.json")), *named})


def _read(path: Path) -> FoundRun | None:
    """The run in a directory; None where the files are not those of a run. RunError when they cannot be read."""
    try:
        config = read_json(path / "config.json")
        if not isinstance(config, dict) or not {"model", "dataset", "seed", "valid_metric", "epochs"} <= set(config):
            return None
        parse_json(config, {"seed": int, "epochs": int})
        return FoundRun(path, schema.config(config, complete=False), RunDirectory(path).result())
    except FileNotFoundError as error:
        raise RunError(f"{path} has no {Path(error.filename).name}. {AGAIN}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}. {AGAIN}") from None


def is_in_use(path: Path) -> bool:
    """Whether a process holds the run's lock; False where this user may not look, as in a folder without write rights."""
    if not (path / ".lock").exists():
        return False
    try:
        with filelock.FileLock(path / ".lock", timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # a folder in which this user cannot write, so no run of this user's
        return False


def finished_results(place: Path) -> list[dict[str, Any]]:
    """The results of the finished runs in results/<dataset>/<model>; those that cannot be read are left out."""
    results = []
    for path in sorted(place.glob("*/result.json")):
        with suppress(RunError, OSError):
            results.append(RunDirectory(path.parent).read_json(path.name))
    return results


def paces(results: Sequence[dict[str, Any]]) -> list[float]:
    """Seconds an epoch of finished runs, evaluation included."""
    return [result["seconds_total"] / result["epochs"] for result in results]
