"""Which runs a table, a page or a figure is made of: those of an experiment, or all that lie in a folder.

A folder without experiments is taken as loose runs. Of a folder with experiments the last comparison of several models is
taken, else the last grid or search; the runs of studies count only when they are asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambarec.analysis.records import Record, finished_file, load_records
from mambarec.base.commands import that_train
from mambarec.base.errors import RunError
from mambarec.base.words import command, count, listed
from mambarec.experiments.experiment import Experiment, experiments_in
from mambarec.running.lookup import fits, parse_where

SHOWN = 6  # runs without a result that a table names


@dataclass(frozen=True)
class Wanted:
    """What a command asks for. models, datasets, seeds, where: () takes all. experiments: by name.

    everything: loose runs in place of an experiment. studies: the runs that studies made count too.
    """

    models: Sequence[str] = ()
    datasets: Sequence[str] = ()
    seeds: Sequence[int] = ()
    where: Sequence[str] = ()
    experiments: Sequence[str] = ()
    everything: bool = False
    studies: bool = False


@dataclass
class Selection:
    """Records with the experiments that they are of; notes: what the table says of missing runs; said: what was left aside."""

    records: list[Record] = field(default_factory=list)
    plans: list[Experiment] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def select(places: Sequence[Path], wanted: Wanted) -> Selection:
    """The runs in folders that `wanted` asks for, in the order in which it, or the experiment, names models and data sets.

    RunError where there is none, and for an experiment, a model or a data set that is not there.
    """
    plans = {Path(place): experiments_in(place) for place in places}
    if wanted.experiments:
        there = {plan.name for found in plans.values() for plan in found}
        missing = [name for name in wanted.experiments if name not in there]
        if missing:
            names = ", ".join(sorted(there)) or "none"
            raise RunError(
                f"--experiment {missing[0]}: {listed([str(place) for place in plans])} has none of this name; it has: {names}"
            )
    selection = Selection()
    for place, found in plans.items():
        _take(selection, place, found, wanted)
    selection.records = _filtered(selection, wanted)
    return selection


def _take(selection: Selection, place: Path, found: list[Experiment], wanted: Wanted) -> None:
    """Add what a folder gives."""
    if wanted.experiments and found:
        chosen = {plan.name: (plan, plan.datasets) for plan in found if plan.name in wanted.experiments}
    elif found and not wanted.everything:
        chosen = _last([plan for plan in found if _has_result(place, plan)] or found, wanted)
    else:
        chosen = {}
    for plan, datasets in chosen.values():
        _take_experiment(selection, place, plan, datasets, wanted)
    covered = {dataset for _, datasets in chosen.values() for dataset in datasets}
    asked = {name.lower() for name in wanted.datasets}
    if chosen and (not asked or asked <= {name.lower() for name in covered} or wanted.experiments):
        if not wanted.experiments:
            _say_what_else(selection, found, chosen, wanted)
        if wanted.studies:
            selection.said.append("--studies changes nothing here, since an experiment is shown; give --all with it")
        return
    if wanted.experiments and found and not chosen:
        return
    loose = [record for record in load_records([place]) if record.dataset not in covered]
    if asked:
        loose = [record for record in loose if record.dataset.lower() in asked] or loose
    kept = loose if wanted.studies else [record for record in loose if not made_by_study(record, found)]
    if left := len(loose) - len(kept):
        takes = "--studies takes it too" if left == 1 else "--studies takes them too"
        selection.said.append(f"{count(left, 'run')} of studies left out; {takes}")
    selection.records += kept


def shown_so_far(places: Sequence[Path], wanted: Wanted) -> Callable[..., bool]:
    """Which runs a page shows while trials run: a function of a run's trial name and settings, its record if it is finished,
    and whether a process is at work on it, which is shown whatever experiment it is of.

    Of a folder with experiments it is the one given last, if it has not ended, else the one that `select` takes.
    """
    plans = [plan for place in places for plan in experiments_in(Path(place))]
    asked = {name.lower() for name in wanted.datasets}
    here = [plan for plan in plans if not asked or asked & {name.lower() for name in plan.datasets}]
    if wanted.experiments:
        if missing := sorted(set(wanted.experiments) - {plan.name for plan in plans}):
            raise RunError(f"--experiment {missing[0]}: there is none of this name")
        chosen = [plan for plan in plans if plan.name in wanted.experiments]
    elif wanted.everything:
        chosen = []
    else:
        latest = max(here, key=lambda plan: (plan.given, plan.name), default=None)
        goes_on = latest is not None and latest.finished is None
        chosen = [latest] if latest and goes_on else [plan for plan, _ in _last(here, wanted).values()]
    trials = {trial for plan in chosen for trial in plan.trials}
    seeds, models = set(wanted.seeds), {name.lower() for name in wanted.models}
    conditions: dict[str, Any] = parse_where(wanted.where, ())

    def is_shown(trial: str, settings: Mapping[str, Any], record: Record | None = None, in_use: bool = False) -> bool:
        dataset, model, _ = trial.split("/")
        if (asked and dataset.lower() not in asked) or (models and model.lower() not in models):
            return False
        if (seeds and settings["seed"] not in seeds) or not fits(settings, conditions):
            return False
        if chosen:
            return trial in trials or in_use
        return record is None or wanted.studies or not made_by_study(record, plans)

    return is_shown


def of_experiment(place: Path, plan: Experiment) -> Selection:
    """The finished runs of one experiment."""
    selection = Selection()
    _take_experiment(selection, Path(place), plan, plan.datasets)
    return selection


def _last(found: list[Experiment], wanted: Wanted) -> dict[str, tuple[Experiment, list[str]]]:
    """Of each data set that is asked for the experiment to show, by name, with the data sets that it is shown for."""
    models = {name.lower() for name in wanted.models}
    usual = [plan for plan in found if not plan.is_study and models <= {name.lower() for name in plan.models}]
    ranked = sorted(usual, key=lambda plan: (len(plan.models) > 1, plan.given, plan.name))
    if not wanted.datasets:
        return {ranked[-1].name: (ranked[-1], ranked[-1].datasets)} if ranked else {}
    chosen: dict[str, tuple[Experiment, list[str]]] = {}
    for name in wanted.datasets:
        of_it = [(plan, own) for plan in ranked for own in plan.datasets if own.lower() == name.lower()]
        if of_it:
            plan, own = of_it[-1]
            chosen.setdefault(plan.name, (plan, []))[1].append(own)
    return chosen


def _take_experiment(
    selection: Selection, place: Path, plan: Experiment, datasets: Sequence[str], wanted: Wanted = Wanted()
) -> None:
    """The finished trials of a plan, as run directories or records, and a note on those that are missing."""
    models = {name.lower() for name in wanted.models or plan.models}
    trials = [trial for trial in plan.trials if trial.split("/")[0] in datasets and trial.split("/")[1].lower() in models]
    if not trials:  # the filter says that the model is not there
        trials = [trial for trial in plan.trials if trial.split("/")[0] in datasets]
    found, missing = [], []
    for trial in trials:
        record = _record(place, trial)
        if record is not None:
            found.append(record.as_tuned() if plan.tuned else record)
        elif trial not in plan.pruned:
            missing.append(trial)
    selection.plans.append(plan)
    selection.records += sorted(found, key=lambda one: (plan.datasets.index(one.dataset), plan.models.index(one.model)))
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        selection.notes.append(
            f"{len(missing)} of the {len(trials)} runs of experiment {plan.name} have no result: "
            f"{', '.join(missing[:SHOWN])}{more}. A setting with no result at all counts nowhere."
        )
    shown = {trial.rpartition("/")[0] for trial in trials}
    pruned = {trial: epochs for trial, epochs in plan.pruned.items() if trial.rpartition("/")[0] in shown}
    if early := {trial: epochs for trial, epochs in pruned.items() if _record(place, trial) is None}:
        selection.notes.append(_pruned_note(plan, early))
    if plan.purpose == "search" and plan.finished is None:
        selection.notes.append(f"The search {plan.name} has not ended, or a run of it has failed.")


def _has_result(place: Path, plan: Experiment) -> bool:
    """Whether a trial of the plan is finished."""
    return any(finished_file(place, trial).exists() for trial in plan.trials)


def _pruned_note(plan: Experiment, early: Mapping[str, int]) -> str:
    """What a table says of the settings that a search gave up; early: of each its epochs, by the directory of its first run."""
    texts = []
    for name in dict.fromkeys(trial.rpartition("/")[0] for trial in early):
        each = [epochs for trial, epochs in early.items() if trial.rpartition("/")[0] == name]
        dataset, model = name.split("/")
        where = f" on {dataset}" if len(plan.datasets) > 1 else ""
        *some, last = sorted(set(each))
        after = listed([*map(str, some), count(last, "epoch")])
        texts.append(f"{len(each)} further settings of {model}{where} (after {after})")
    pruner = plan.settings.get("pruner", "a")
    return (
        f"The search {plan.name} also tried {listed(texts)} and ended them early, by Optuna's {pruner} pruner. The table "
        "leaves them out: its rows, its counts of settings and its cost."
    )


def _record(place: Path, trial: str) -> Record | None:
    """A finished trial in a results_dir or a folder of records; None while it is in neither."""
    path = finished_file(place, trial)
    if not path.exists():
        return None
    return Record.of_run(path.parent) if path.name == "result.json" else Record.of_file(path)


def made_by_study(record: Record, found: Sequence[Experiment]) -> bool:
    """Whether only a study asked for this run: a report made it, and no comparison, grid or search has it in its plan."""
    plans = [plan for plan in found if record.trial in plan.trials]
    if any(not plan.is_study for plan in plans):
        return False
    program = Path((record.environment.get("command") or [""])[0]).name
    return program in that_train("studies") or (bool(plans) and program not in that_train("models"))


def _say_what_else(
    selection: Selection, found: list[Experiment], chosen: dict[str, tuple[Experiment, list[str]]], wanted: Wanted
) -> None:
    """Which experiment is shown, and which others there are on the same data sets."""
    for plan, datasets in chosen.values():
        others = [one.name for one in found if one.name not in chosen and set(one.datasets) & set(datasets)]
        begun = [one.name for one in found if one.given > plan.given and one.name in others and one.finished is None]
        if begun and not wanted.experiments:
            selection.said.append(f"experiment {begun[-1]} is newer and has not ended")
        text = f"experiment {plan.name} ({plan.purpose}, {count(len(plan.trials), 'run')})"
        more = f"; others: {', '.join(others)} (--experiment NAME)" if others else ""
        selection.said.append(f"{text}{more}; --all takes every run")


def _filtered(selection: Selection, wanted: Wanted) -> list[Record]:
    """The records that fit, models and data sets in the order in which they were asked for."""
    records = selection.records
    if not records:
        unfinished = [plan.name for plan in selection.plans]
        if unfinished:
            raise RunError(f"experiment {unfinished[0]} has no finished run yet; give its command again to go on with it")
        where = f" of {listed(list(wanted.datasets))}" if wanted.datasets else ""
        if selection.said:
            raise RunError(f"every finished run{where} is of a study. --studies shows these runs")
        raise RunError(f"no finished run{where}; train one first: {command('train', '-m', 'MambaRec')}")
    for option, names in (("dataset", wanted.datasets), ("model", wanted.models)):
        if names:
            records = _in_order(records, option, names, selection.plans)
    if wanted.seeds:
        records = [record for record in records if record.seed in wanted.seeds]
    settings = [record.settings() | record.config for record in records]
    conditions: dict[str, Any] = parse_where(wanted.where, {key for one in settings for key in one})
    kept = [record for record, one in zip(records, settings, strict=True) if fits(one, conditions)]
    if not kept:
        asked = [f"--seed {' '.join(map(str, wanted.seeds))}"] * bool(wanted.seeds)
        asked += [f"--where {' '.join(wanted.where)}"] * bool(wanted.where)
        where = (
            f" in experiment {listed([plan.name for plan in selection.plans])}; --all takes every run"
            if selection.plans
            else ""
        )
        aside = "" if selection.plans else "".join(f"; {text}" for text in selection.said)  # runs of studies
        raise RunError(f"no finished run fits {' '.join(asked)}{where}{aside}. `{command('runs')}` lists them")
    gone = sorted({record.model for record in records} - {record.model for record in kept})
    if gone:
        selection.said.append(f"no run of {listed(gone)} fits --seed and --where, so it has no row")
    return kept


def _in_order(records: Sequence[Record], option: str, names: Sequence[str], plans: Sequence[Experiment]) -> list[Record]:
    there = sorted({getattr(record, option) for record in records})
    spelled = {name.lower(): name for name in there}
    missing = [name for name in names if name.lower() not in spelled]
    if missing:
        where = f" in experiment {listed([plan.name for plan in plans])}" if plans else ""
        hint = "; --all takes every run" if plans else ""
        raise RunError(f"no finished run of {option} '{missing[0]}'{where}; there are runs of: {', '.join(there)}{hint}")
    order = [spelled[name.lower()] for name in names]
    kept = (one for one in records if getattr(one, option) in order)
    return sorted(kept, key=lambda one: order.index(getattr(one, option)))
