"""Studies, tables and figures of runs: `python report.py ablation -d demo`. docs/guides/ shows what else it can do."""

import argparse
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mambarec.analysis import cold
from mambarec.analysis.beyond import Masked, breakdown_pictures, missing_pictures, trained_missing_pictures
from mambarec.analysis.comparison import TESTED, compare
from mambarec.analysis.embedding import check_sklearn
from mambarec.analysis.figures import Picture, matplotlib
from mambarec.analysis.findings import find, pictures
from mambarec.analysis.html import LivePage, answer, overview, page
from mambarec.analysis.listing import experiments_list, runs_list
from mambarec.analysis.live import finished_and_not, until_they_end
from mambarec.analysis.published import Figure, known_figures, missing_reasons, published_table, trials, without_figure
from mambarec.analysis.ranks import diagram, ranks, ranks_table
from mambarec.analysis.records import Record, has_runs, load_records
from mambarec.analysis.selection import Selection, Wanted, select
from mambarec.analysis.studies import STUDIES, check_computes, check_known, configuration, keep_free, plan_study
from mambarec.analysis.tables import FORMATS, all_tables
from mambarec.base.console import show
from mambarec.base.errors import ConfigError, DataError, RunError, exit_status
from mambarec.base.files import write_text
from mambarec.base.places import DATA, RESULTS
from mambarec.base.stopping import stop
from mambarec.base.words import listed, option, value_text
from mambarec.cli.report_options import parse
from mambarec.config.catalogue import as_spelled, available_datasets, find_dataset
from mambarec.config.configurator import Axis, Config, override_pairs
from mambarec.data.dataset import RecDataset
from mambarec.experiments.engines import LocalProcesses
from mambarec.experiments.experiment import experiments_in, plan_experiment
from mambarec.experiments.order import with_threads
from mambarec.experiments.summary import failures
from mambarec.experiments.trials import Outcome, opened, prepare, run_trials
from mambarec.preparation.resplit import is_split_of, resplit
from mambarec.running.lookup import check_places, find_runs, pass_over, say_damaged
from mambarec.running.run import open_dataset

MISSING_SHARES = (0.25, 0.5, 0.75)  # of the items that lack a modality in training


def table(options: argparse.Namespace) -> None:
    found = _selected(options)
    comparison = compare(found.records, options.reference, options.legacy_test_selection, options.split, found.notes)
    tables = all_tables(comparison, options.metrics)
    ranked = all(TESTED in record.result["test"] for record in found.records)
    if len(comparison.datasets) > 1 and (ranked or options.diagram):
        places = ranks(comparison)
        tables.append(ranks_table(places))
        if options.diagram and (picture := diagram(places)):
            picture.save(options.diagram)
    elif options.diagram:
        raise ConfigError("--diagram compares models over several data sets, and there are runs of one only")
    texts = [FORMATS[options.format](one) for one in tables]
    if not options.output:
        show("\n\n".join(texts))
    elif options.format == "csv":  # a file for each table, which others can read
        for number, (one, text) in enumerate(zip(tables, texts, strict=True)):
            name = options.output.stem + f"-{one.title.split()[0].lower()}" * (number > 0)
            write_text(options.output.with_stem(name), text + "\n")
    else:
        write_text(options.output, "\n\n".join(texts) + "\n")


def html(options: argparse.Namespace) -> None:
    if options.live:
        return live(options)
    found = _selected(options)
    groups: dict[str, list[Record]] = {}
    for record in found.records:
        groups.setdefault(record.dataset, []).append(record)
    if options.output and len(groups) > 1:
        raise ConfigError(f"--output names one page, and there are runs of {', '.join(groups)}; choose one of these with -d")
    pages, answers = {}, {}
    for dataset, some in groups.items():
        folders = [path / dataset for path in options.results if (path / dataset).is_dir()]
        answers[dataset] = answer(some, options.reference, options.metrics, found.notes)
        pages[dataset] = options.output or (folders or [RESULTS / dataset])[0] / "report.html"
        write_text(pages[dataset], page(dataset, answers[dataset], [folder / "figures" for folder in folders]))
        show(pages[dataset])
    if len(groups) > 1:
        top = next((path for path in options.results if path.is_dir()), RESULTS) / "report.html"
        addresses = {dataset: os.path.relpath(path, top.parent) for dataset, path in pages.items()}
        write_text(top, overview(answers, addresses, options.reference))
        show(top)


def live(options: argparse.Namespace) -> None:
    """Write the page of one data set again and again, until its runs have ended or Ctrl-C."""
    if len(options.dataset or []) != 1:
        raise ConfigError("--live shows one data set; name it with -d")
    check_places(options.results)
    name, shown = as_spelled(options.dataset[0]), None
    folders = [path / name for path in options.results if path.is_dir()]
    path = options.output or (folders or [RESULTS / name])[0] / "report.html"
    writer = LivePage(name, [folder / "figures" for folder in folders], options.reference, options.metrics)

    def write_the_last() -> None:
        if shown:
            found, state = shown
            write_text(path, writer.page(found, replace(state, seconds=None)))

    stop.last_acts.append(write_the_last)
    try:
        with stop.guard(lambda: False, lambda: f"stopped; {path} holds the last state"):
            for found, state in until_they_end(lambda: finished_and_not(options.results, _wanted(options)), options.live):
                write_text(path, writer.page(found, state))
                is_first, shown = shown is None, (found, state)
                if is_first:
                    show(
                        f"{path}\nopen it in a browser; it is written anew every {options.live} s until Ctrl-C or the runs end",
                        flush=True,
                    )
    finally:
        stop.last_acts.remove(write_the_last)
    show("the runs have ended; this page is the last one")


def published(options: argparse.Namespace) -> int:
    """Print published figures beside ours, after training what is missing if --train says so; 1 when a trial failed."""
    dataset = options.dataset[0].lower()
    figures = known_figures(dataset, options.metrics, options.model)
    failed = False
    unknown = without_figure(figures, options.metrics, options.model)
    notes: list[str] = []
    _check_train(options)
    if options.train:
        found, reasons, failed = _trained(options, dataset, figures)
    else:
        check_places(options.results)
        selection = Selection()
        if places := [path for path in options.results if has_runs(path)]:
            some = (options.experiment, options.all or not options.experiment, options.studies)
            selection = select(places, Wanted((), (), options.seed, options.where, *some))
        found, notes = [record for record in selection.records if record.dataset.lower() == dataset], selection.notes
        reasons = missing_reasons(options.results, dataset, figures)
    text = FORMATS[options.format](published_table(found, dataset, figures, reasons, [*unknown, *notes]))
    if options.output:
        write_text(options.output, text + "\n")
    else:
        show(text)
    return int(failed)


def _check_train(options: argparse.Namespace) -> None:
    """ConfigError for an option that has no effect, because --train is given or is not."""
    choice = {"--results": options.results != [RESULTS], "--where": options.where, "--experiment": options.experiment}
    choice |= {"--all": options.all, "--studies": options.studies}
    idle = [name for name, given in choice.items() if given] if options.train else _for_training(options)
    if idle and options.train:
        raise ConfigError(f"{idle[0]} chooses among finished runs, and --train shows the runs that it asks for; leave one out")
    if idle:
        raise ConfigError(f"{idle[0]} is for training; give --train too, or leave it out")


def _for_training(options: argparse.Namespace) -> list[str]:
    """The options given that say how runs are trained."""
    return [name for name, given in {"--jobs": options.jobs != 1, "--name": options.name}.items() if given]


def _trained(
    options: argparse.Namespace, dataset: str, figures: list[Figure]
) -> tuple[list[Record], dict[tuple[str, str], str], bool]:
    """Run what the published figures of a data set ask for: records, reasons of what failed, and whether something did."""
    given = _given(options)
    outcomes = _run(trials(dataset, figures, given), "comparison", given, options.jobs, options.name)
    reasons = {
        figure.row: f"failed: {outcome.error}"
        for outcome in outcomes
        for figure in figures
        if outcome.error and figure.asks_for(outcome.trial.config)
    }
    return _finished(outcomes), reasons, bool(reasons)


def records(options: argparse.Namespace) -> None:
    found = _selected(options)
    for record in found.records:
        show(record.save(options.output))
    kept = [record.trial for record in found.records]
    for plan in found.plans:
        show(plan.restricted(kept).save(options.output))


def runs(options: argparse.Namespace) -> None:
    check_places(options.results)
    found = find_runs(options.results, options.model, options.dataset, options.seed, options.where, say_damaged)
    if not found and (there := find_runs(options.results, damaged=pass_over)):
        names = sorted({f"{run.model} on {run.dataset}" for run in there})
        raise RunError(f"no run fits what you asked for; there are runs of: {', '.join(names)}")
    found = [run for run in found if not (options.unfinished and run.result)]
    show(runs_list(found) if found else f"no {'unfinished ' * options.unfinished}run")


def experiments(options: argparse.Namespace) -> None:
    check_places(options.results)
    asked = (options.model, options.dataset, options.seed, options.where, options.unfinished)
    lines = [experiments_list(place, experiments_in(place), *asked) for place in options.results]
    show("\n\n".join(line for line in lines if line) or "no such experiment")


def breakdown(options: argparse.Namespace) -> None:
    matplotlib()
    _draw(breakdown_pictures, options)


def missing(options: argparse.Namespace) -> int:
    matplotlib()
    _check_train(options)
    if options.train:
        return _missing_trained(options)
    _draw(missing_pictures, options)
    return 0


def _draw(pictures_of: Callable[[Sequence[Record]], list[Picture]], options: argparse.Namespace) -> None:
    found = _selected(options).records
    _save(pictures_of(found), options.output or _figures(options.results, found[0].dataset), with_numbers=True)


def _figures(places: Sequence[Path], dataset: str) -> Path:
    """The folder for figures of runs that lie in these places: in the first that has runs of the data set, else in results."""
    return next((path for path in places if (path / dataset).is_dir()), RESULTS) / dataset / "figures"


def _missing_trained(options: argparse.Namespace) -> int:
    """Train models with masks, and draw them beside those trained on everything; 1 when a trial failed."""
    given = _given(options)
    keep_free(given, ("missing_modality", "missing_share"), "the study")
    configs = [Config(model, options.dataset[0], given) for model in options.model or ["MambaRec"]]
    whole = list({one["model"]: one for one in configs}.values())  # each model once
    check_computes(whole[0], [TESTED], "the study")
    for one in whole:
        if grid := [key for key in one.axes if key != "seed"]:
            first = value_text(one.axes[grid[0]][0])
            raise ConfigError(
                f"{one['model']}.yaml has several values of {listed(grid)}, and the study takes one setting. Give one "
                f"value of each, such as {option(grid[0], first)}"
            )
    datasets: dict[str, RecDataset] = {}
    read = {one["model"]: opened(one.trials()[0], datasets).modalities for one in whole}
    if none := [model for model, modalities in read.items() if not modalities]:
        raise ConfigError(f"{', '.join(none)} on {whole[0]['dataset']} reads no modality that its items could lack")
    modalities = read[whole[0]["model"]]
    points = [(None, 0.0), *((modality, share) for modality in modalities for share in MISSING_SHARES)]
    trials = [
        (modality, share, trial)
        for one in whole
        for modality, share in points
        for trial in Config(
            one["model"],
            one["dataset"],
            {**given, **({"missing_modality": modality, "missing_share": share} if modality else {})},
        ).trials()
    ]
    outcomes = _run([trial for *_, trial in trials], "study missing", given, options.jobs, options.name, datasets)
    runs = [
        Masked(trial["model"], trial["seed"], modality, share, Path(found["directory"]), found["test"][TESTED])
        for (modality, share, trial), outcome in zip(trials, outcomes, strict=True)
        if (found := outcome.result)
    ]
    folder = options.output or Path(whole[0]["results_dir"]) / whole[0]["dataset"] / "figures"
    _save(trained_missing_pictures(runs, given.get("missing_seed", 0)), folder, with_numbers=True)
    return int(len(runs) < len(trials))


def study(options: argparse.Namespace) -> int:
    """Run the trials of a study that are missing, unless --results names finished ones, and draw; 1 when a trial failed."""
    matplotlib()
    if options.command == "embedding":
        check_sklearn()
    failed = False
    if options.results:
        if idle := _for_training(options):
            raise ConfigError(f"{idle[0]} is for training, and --results shows runs that are finished; leave one out")
        found = load_records(options.results)
        plan = plan_study(options.command, options.dataset, override_pairs(options.words), found)
    else:
        plan = plan_study(options.command, options.dataset, _given(options))
        outcomes = _run(plan.trials, f"study {plan.name}", plan.given, options.jobs, options.name)
        found, failed = _finished(outcomes), bool(failures(outcomes))
    own = Path(plan.trials[0]["results_dir"]) / plan.dataset / "figures"
    folder = options.output or (_figures(options.results, plan.dataset) if options.results else own)
    _save(pictures(find(plan, found)), folder)
    return int(failed)


def cold_start(options: argparse.Namespace) -> int:
    """Run the protocol's trials that are missing, measure them, and write a table and figures; 1 when a trial failed."""
    matplotlib()
    given = _given(options)
    keep_free(given, ["cold_items"], "the protocol")
    dropout = given.pop("item_dropout", cold.ITEM_DROPOUT)
    if isinstance(dropout, list) or not isinstance(dropout, int | float) or not dropout:
        raise ConfigError(f"--item_dropout {dropout}: expected one number above 0, of the row that is trained with it")
    asked = cold.chosen_points(dropout, options.model)
    untuned = {key: value for key, value in given.items() if key != "tuned"}  # tuned values are those of NAME-cold
    check_known(untuned, [configuration(point, options.dataset, untuned) for point in asked], "the protocol")
    name, given["data_path"] = _cold_dataset(options.dataset, given)
    configs = [(point, configuration(point, name, given).trials()) for point in asked]
    outcomes = iter(_run([trial for _, trials in configs for trial in trials], "study cold", given, options.jobs, options.name))
    ended = [(point, [next(outcomes) for _ in trials]) for point, trials in configs]
    complete = [(point, some) for point, some in ended if all(outcome.result for outcome in some)]
    runs = [(point, [Path(outcome.result["directory"]) for outcome in some if outcome.result]) for point, some in complete]
    rows, boosted = cold.measure_rows(runs, lambda text: show(text, file=sys.stderr))
    said = []
    for some in (rows, boosted):
        found = cold.tests(some)
        said.append(FORMATS[options.format](cold.cold_table(some, name, found, cold.left_out(rows, asked))))
        said += [*cold.differences(some, found), ""]
    show(*said, sep="\n")
    folder = options.output or Path(configs[0][1][0]["results_dir"]) / name / "figures"
    if options.model and not options.output:  # so that the table of all rows stays
        folder /= "-".join(dict.fromkeys(point.model for point in asked))
    write_text(folder / "cold.txt", "\n".join(said))
    show(folder / "cold.txt", end="\n\n")
    _save(cold.cold_pictures(rows, name), folder)
    return int(len(complete) < len(ended))


def _cold_dataset(name: str, given: dict[str, Any]) -> tuple[str, str]:
    """The data set NAME-cold, made of NAME where it is not there, and the folder above it.

    DataError where NAME-cold was made of other data.
    """
    name = find_dataset(name)
    cold_name = name if name.endswith(cold.ENDING) else f"{name}{cold.ENDING}"
    place = Path(given.get("data_path", DATA))
    above = place if (place / cold_name).is_dir() else DATA
    if name == cold_name:
        return cold_name, f"{above}"
    source = open_dataset(Config("Pop", name, {key: given[key] for key in ("data_path",) if key in given})).folder
    if cold_name not in available_datasets() or not (above / cold_name).is_dir():
        resplit(source, cold_name, cold.SPLIT, 999, above)
    elif not is_split_of(above / cold_name, source):
        raise DataError(f"{above / cold_name} was made of other data than {source}; remove it, and it is made anew")
    return cold_name, f"{above}"


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The keys that a command sets for its runs; several at a time share the threads."""
    given = override_pairs(options.words)
    if seeds := getattr(options, "seed", None):
        given["seed"] = Axis(seeds) if len(seeds) > 1 else seeds[0]
    return with_threads(given, options.jobs)


def _run(
    configs: Sequence[Config],
    purpose: str,
    given: dict[str, Any],
    jobs: int,
    name: str | None,
    datasets: dict[str, RecDataset] | None = None,
) -> list[Outcome]:
    """Outcomes of trials, which are an experiment; RunError when all failed. datasets: as in `prepare`."""
    place, asked = Path(configs[0]["results_dir"]), prepare(configs, datasets=datasets)
    paths = [trial.path for trial in asked]
    experiment = plan_experiment(name, purpose, configs, paths, given).begun(place)
    outcomes = run_trials(asked, LocalProcesses(jobs), jobs)
    experiment.ended(place, paths, all(outcome.result for outcome in outcomes))
    text = failures(outcomes)
    if not any(outcome.result for outcome in outcomes):
        raise RunError(text.removeprefix("error: "))
    if text:
        show(text, file=sys.stderr)
    return outcomes


def _finished(outcomes: Sequence[Outcome]) -> list[Record]:
    return [Record.of_run(Path(outcome.result["directory"])) for outcome in outcomes if outcome.result]


def _save(drawn: list[Picture], folder: Path, with_numbers: bool = False) -> None:
    for picture in drawn:
        if with_numbers:
            show(picture.numbers.to_string(index=False, float_format="{:.4f}".format, na_rep="–"), end="\n\n")
        show(textwrap.fill(picture.caption, 128))
        show(*picture.save(folder), sep="\n", end="\n\n")


def _selected(options: argparse.Namespace) -> Selection:
    """The runs that the options name; what was left aside is said on standard error."""
    found = select(options.results, _wanted(options))
    for line in found.said:
        show(line, file=sys.stderr)
    return found


def _wanted(options: argparse.Namespace) -> Wanted:
    return Wanted(options.model, options.dataset, options.seed, options.where, options.experiment, options.all, options.studies)


COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "html": html,
    "table": table,
    "published": published,
    "records": records,
    "runs": runs,
    "experiments": experiments,
    **dict.fromkeys(STUDIES, study),
    "cold": cold_start,
    "breakdown": breakdown,
    "missing": missing,
}


def main(arguments: list[str]) -> int:
    """Exit status 0, 1 when a trial failed, 2 for a mistake that the message explains, 130 when interrupted."""

    def work() -> int | None:
        options = parse(arguments)
        return COMMANDS[options.command](options)

    return exit_status(work, "stopped. The same command goes on from the last checkpoint")
