"""An experiment: the trials of one command under a name, with the plan that they follow.

<results_dir>/experiments/<name>.json holds it. Tables, pages and figures are made of its trials and of no other run.
"""

import hashlib
import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

from mambarec.base.bounded import read_json
from mambarec.base.console import show
from mambarec.base.errors import ConfigError, RunError, explained
from mambarec.base.files import write_text
from mambarec.base.logger import get_logger
from mambarec.base.places import RESULTS
from mambarec.base.settings import has_type
from mambarec.base.words import command, command_text, count, option
from mambarec.config.configurator import Config, distinct
from mambarec.config.keys import NEUTRAL_KEYS, keys_with
from mambarec.experiments.grid import by_model, by_point, varied
from mambarec.running.directory import trial_name

FOLDER = "experiments"
BUDGET_KEYS = keys_with("budget")
_NAME = re.compile(r"(?!\.)[\w.-]+")  # of an experiment, and of each part of a run's name
_DIGITS = 6  # of the fingerprint, in a name that nobody gave


@dataclass(frozen=True)
class Experiment:
    """One command's plan.

    purpose: comparison, grid, search, or 'study' and its name. axes: of each model, the keys that vary and their values.
    settings: what the command set besides. budget: values of BUDGET_KEYS, a list where the trials have several. points:
    search points of each model. trials: directories of the runs below results_dir; a search learns them as it goes. pruned:
    of those that the search has ended early, the epochs. fingerprint: a hash of all runs that the plan may make. tuned:
    whether the command asked for values of src/configs/tuned. given: when the command was last given. Times are UTC.
    """

    name: str
    purpose: str
    models: list[str]
    datasets: list[str]
    axes: dict[str, dict[str, list[Any]]]
    settings: dict[str, Any]
    seeds: list[int]
    budget: dict[str, Any]
    points: dict[str, int]
    fingerprint: str
    command: str = ""
    started: str = ""
    given: str = ""
    finished: str | None = None
    trials: list[str] = field(default_factory=list)
    pruned: dict[str, int] = field(default_factory=dict)
    tuned: bool = False

    @property
    def is_study(self) -> bool:
        return self.purpose.startswith("study")

    def save(self, place: Path) -> Path:
        """Write the plan below a results_dir or a folder of records; returns its path. OSError where that fails."""
        path = Path(place) / FOLDER / f"{self.name}.json"
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")
        return path

    def _keep(self, place: Path) -> None:
        """Save while trials run: a plan that cannot be written is said, and stops no trial."""
        try:
            self.save(place)
        except OSError as error:
            get_logger().warning("the plan of this experiment could not be written: %s", explained(error))

    def begun(self, place: Path) -> "Experiment":
        """The plan with its times, written down; the trials that an earlier start of a search knew are kept.

        ConfigError when another plan has the name already: it says what differs.
        """
        now, earlier = _now(), _earlier(Path(place) / FOLDER / f"{self.name}.json")
        plan = replace(self, started=now, given=now, command=command_text(sys.argv))
        if earlier is not None:
            differing = differences(earlier, self)
            if differing:
                raise ConfigError(
                    f"{option('name', self.name)}: there is an experiment of this name with another plan: "
                    f"{'; '.join(differing)}. Give this one another {option('name')}. "
                    f"`{table_command(place, '--experiment', self.name, 'OTHER')}` shows both in one table"
                )
            trials = list(dict.fromkeys([*self.trials, *earlier.trials]))
            plan = replace(plan, started=earlier.started, finished=earlier.finished, trials=trials)
        plan._keep(place)
        return plan

    def with_trials(self, place: Path, paths: Iterable[Path]) -> "Experiment":
        """The plan with the trials that a search has chosen by now, written down."""
        new = [trial_name(path) for path in paths]
        plan = replace(self, trials=list(dict.fromkeys([*self.trials, *new])))
        if plan.trials != self.trials:
            plan._keep(place)
        return plan

    def ended(
        self, place: Path, paths: Iterable[Path], complete: bool, pruned: Mapping[Path, int] | None = None
    ) -> "Experiment":
        """The plan with exactly these trials, and with the time of its end if all of them are finished or pruned."""
        finished = (self.finished or _now()) if complete else None
        early = {trial_name(path): epochs for path, epochs in (pruned or {}).items()}
        plan = replace(self, trials=[trial_name(path) for path in paths], finished=finished, pruned=early)
        plan._keep(place)
        return plan

    def restricted(self, trials: Sequence[str]) -> "Experiment":
        """The plan of some of its trials, to lie beside their records; pruned runs of their models stay named."""
        kept = [trial for trial in self.trials if trial in set(trials)]
        parts = [trial.split("/") for trial in kept]
        models, datasets = {model for _, model, _ in parts}, {dataset for dataset, *_ in parts}
        places = {trial.rpartition("/")[0] for trial in kept}
        return replace(
            self,
            models=[model for model in self.models if model in models],
            datasets=[dataset for dataset in self.datasets if dataset in datasets],
            trials=kept,
            pruned={trial: epochs for trial, epochs in self.pruned.items() if trial.rpartition("/")[0] in places},
        )


def plan_experiment(
    name: str | None,
    purpose: str,
    configs: Sequence[Config],
    paths: Sequence[Path],
    given: Mapping[str, Any],
    n_points: int | None = None,
    trials: Sequence[Path] | None = None,
) -> Experiment:
    """The plan of a command: all trials that it may make, with their directories, and what it set by hand.

    name: None for one made of models, data sets and the fingerprint, which the same command gives again. n_points: how many
    search points of each model are tried at most. trials: the paths that are run, where these are not all.
    """
    groups = by_model(configs)
    models, datasets = (list(dict.fromkeys(names)) for names in zip(*groups, strict=True))
    axes: dict[str, dict[str, list[Any]]] = {}
    points: dict[str, int] = {}
    for (model, _), group in groups.items():
        axes[model] = {key: distinct(one[key] for one in group) for key in varied(group)}
        points[model] = min(len(by_point(group)), n_points or len(group))
    seeds = sorted({config["seed"] for config in configs})
    varying = {"seed", *(key for keys in axes.values() for key in keys)}
    settings = {key: value for key, value in given.items() if key not in varying | NEUTRAL_KEYS}
    budget = {key: _one_or_all(config[key] for config in configs) for key in BUDGET_KEYS}
    candidates = sorted(map(trial_name, paths))
    everything = json.dumps([candidates, purpose, points, settings], sort_keys=True, default=str)
    fingerprint = hashlib.sha256(everything.encode()).hexdigest()
    if name is None:
        shown = models if len(models) <= 3 else [count(len(models), "model")]
        keys = list(dict.fromkeys(key for keys in axes.values() for key in keys))
        about = purpose.split()[1:] if purpose.startswith("study") else keys if purpose == "grid" else []
        words = [*shown, *datasets, *about[:3]]
        name = "-".join([re.sub(r"[^\w.]+", "-", word) for word in words] + [fingerprint[:_DIGITS]])
    elif not _NAME.fullmatch(name):
        raise ConfigError(f"{option('name', name)}: it becomes a file's name, so use letters, digits, '-', '_' and '.'")
    tuned = any(config["tuned"] for config in configs)
    plan = Experiment(name, purpose, models, datasets, axes, settings, seeds, budget, points, fingerprint, tuned=tuned)
    return replace(plan, trials=[trial_name(path) for path in (paths if trials is None else trials)])


def differences(one: Experiment, other: Experiment) -> list[str]:
    """What of two plans is not the same, in words; empty for the same plan."""
    texts: dict[str, None] = {}  # a key of the budget may be one of the settings too
    for key in ("purpose", "models", "datasets", "axes", "settings", "seeds", "budget", "points"):
        a, b = (json.loads(json.dumps(getattr(plan, key))) for plan in (one, other))
        if isinstance(a, dict) and key != "axes":
            for name in dict.fromkeys([*a, *b]):
                if a.get(name) != b.get(name):
                    texts[f"{name} was {_text(a.get(name))} and is {_text(b.get(name))}"] = None
        elif a != b:
            texts[f"{key} were {_text(a)} and are {_text(b)}" if key != "purpose" else f"it was a {a} and is a {b}"] = None
    if not texts and one.fingerprint != other.fingerprint:
        return ["its runs are others, because the data, the threads or the defaults have changed since"]
    return list(texts)


def read_experiment(path: Path) -> Experiment | None:
    """The plan in a file; None where there is no file. RunError when it is no plan."""
    if not path.is_file():
        return None
    try:
        content, form = read_json(path, {"name": str}), get_type_hints(Experiment)
        for key in form.keys() & content.keys():
            if not has_type(content[key], form[key]):
                raise ValueError(f"its key '{key}' is {str(content[key])[:60]!r}, which a plan does not hold there")
        plan = Experiment(**{key: value for key, value in content.items() if key in form})
        named = [*plan.trials, *plan.pruned]
        if any(len(parts := trial.split("/")) != 3 or not all(map(_NAME.fullmatch, parts)) for trial in named):
            raise ValueError("a trial is DATASET/MODEL/RUN")
        if strange := [
            one for one in named if (parts := one.split("/"))[0] not in plan.datasets or parts[1] not in plan.models
        ]:
            raise ValueError(f"its trial {strange[0]} is of none of its data sets and models")
        # Before plans said it, the command did.
        return replace(plan, name=path.stem, tuned=plan.tuned or "--tuned" in plan.command.split())
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is no plan of an experiment ({error}); remove it, or give the command again") from None


def _earlier(path: Path) -> Experiment | None:
    """As read_experiment; None too for a file that is no plan, whose place the new plan takes."""
    try:
        return read_experiment(path)
    except RunError:
        return None


def experiments_in(place: Path) -> list[Experiment]:
    """The experiments of a results_dir or a folder of records, the one whose command was given last at the end.

    A damaged plan is named on standard error, and passed over.
    """
    plans = []
    for path in sorted((Path(place) / FOLDER).glob("*.json")):
        try:
            plans += [plan] if (plan := read_experiment(path)) else []
        except RunError as error:
            show(f"warning: {error}", file=sys.stderr)
    return sorted(plans, key=lambda plan: (plan.given, plan.name))


def table_command(place: Path, *words: str) -> str:
    """The command that prints a table of the runs in a results_dir."""
    where = [] if place == RESULTS else ["--results", str(place)]
    return command("report", "table", *map(shlex.quote, [*words, *where]))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _one_or_all(values: Iterable[Any]) -> Any:
    several = sorted(set(values))
    return several[0] if len(several) == 1 else several


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    return (
        ", ".join(map(str, value)) if isinstance(value, list) else json.dumps(value) if isinstance(value, dict) else f"{value}"
    )
