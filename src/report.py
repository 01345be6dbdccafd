"""Studies, tables and figures of runs: `python report.py ablation -d demo`. README.md shows what else it can do."""

import argparse
import sys
from pathlib import Path

from analysis.beyond import breakdown_pictures, missing_pictures
from analysis.comparison import METRICS, compare
from analysis.embedding import check_sklearn
from analysis.figures import Picture, matplotlib
from analysis.findings import find, pictures
from analysis.html import report
from analysis.records import Record, load_records
from analysis.studies import STUDIES, Plan, plan_study
from analysis.tables import FORMATS, rendered
from experiments.engines import LocalProcesses, threads_each
from experiments.summary import failures
from experiments.trials import Engine, one_after_the_other, prepare, run_trials
from utils.configurator import SRC, override_pairs
from utils.console import Parser, show
from utils.errors import ConfigError, RunError, exit_status
from utils.words import positive

RESULTS = SRC.parent / "results"


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command with its options; `words` are configuration keys and values, which only studies take."""
    parser = Parser(description="Studies, tables and figures of runs.", allow_abbrev=False)
    doors = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    def door(name: str, does, text: str, one_dataset: bool = False) -> argparse.ArgumentParser:
        one = doors.add_parser(name, help=text, description=text, allow_abbrev=False)
        one.set_defaults(does=does)
        if one_dataset:
            one.add_argument("-d", "--dataset", nargs=1, required=True, metavar="NAME", help="the data set")
        else:
            one.add_argument("-d", "--dataset", nargs="+", metavar="NAME", help="data sets (all that were run)")
        one.add_argument("-m", "--model", nargs="+", metavar="NAME", help="models (all that were run)")
        one.add_argument("--results", nargs="+", type=Path, default=[RESULTS], metavar="PATH", help="folders of runs, records")
        return one

    def study_door(name: str) -> None:
        text = f"{STUDIES[name].title}: run what is missing, then draw"
        one = doors.add_parser(
            name,
            help=text,
            description=f"{text}. {STUDIES[name].varied}",
            epilog="Any configuration key can be set for all its runs: --epochs 20 --seed 1 2 3.",
            allow_abbrev=False,
        )
        one.set_defaults(does=study)
        one.add_argument("-d", "--dataset", default="demo", metavar="NAME", help="the data set (demo)")
        one.add_argument("--jobs", type=positive, default=1, metavar="N", help="trials side by side, sharing the threads (1)")
        one.add_argument("--results", nargs="+", type=Path, metavar="PATH", help="run nothing: draw these runs and records")
        one.add_argument("--output", type=Path, metavar="DIR", help="where the figures go (results/<data set>/figures)")

    one = door("html", html, "write a page to read: tables, training curves, figures of studies, settings")
    one.add_argument("--reference", metavar="MODEL", help="tested against the others (MambaRec)")
    one.add_argument("--metrics", nargs="+", type=str.lower, default=list(METRICS), metavar="NAME@K")
    one.add_argument("--output", type=Path, metavar="FILE", help="instead of results/<data set>/report.html")
    one = door("table", table, "compare models: performance, efficiency, significance")
    one.add_argument("--format", choices=list(FORMATS), default="text")
    one.add_argument("--metrics", nargs="+", type=str.lower, default=list(METRICS), metavar="NAME@K")
    one.add_argument("--reference", metavar="MODEL", help="tested against the others (MambaRec)")
    one.add_argument("--split", nargs="+", default=[], metavar="KEY", help="keys whose values make rows, such as variant")
    one.add_argument("--legacy-test-selection", action="store_true", help="choose grid points on test, as MMRec does")
    one.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to the terminal")
    one = door("records", records, "write compact records of finished runs, to keep and to make tables from")
    one.add_argument("--output", type=Path, required=True, metavar="DIR")
    for name in STUDIES:
        study_door(name)
    for name, draw, text in (
        ("breakdown", breakdown_pictures, "metrics by user activity and item popularity, coverage and Gini"),
        ("missing", missing_pictures, "recall as items lose their images or texts"),
    ):
        one = door(name, beyond, text, one_dataset=True)
        one.set_defaults(draw=draw)
        one.add_argument("--output", type=Path, metavar="DIR", help="where the figures go (results/<data set>/figures)")
    options, words = parser.parse_known_args(arguments)
    if words and options.command not in STUDIES:
        doors.choices[options.command].error(f"unrecognized arguments: {' '.join(words)}")
    options.words = words
    return options


def table(options: argparse.Namespace) -> None:
    comparison = compare(_records(options), options.reference, options.legacy_test_selection, options.split)
    text = rendered(comparison, options.format, options.metrics)
    if options.output:
        _write(options.output, text + "\n")
    else:
        show(text)


def html(options: argparse.Namespace) -> None:
    groups: dict[str, list[Record]] = {}
    for record in _records(options):
        groups.setdefault(record.dataset, []).append(record)
    if options.output and len(groups) > 1:
        raise ConfigError(f"--output names one page, and there are runs of {', '.join(groups)}; choose one of these with -d")
    for dataset, found in groups.items():
        folders = [path / dataset for path in options.results if (path / dataset).is_dir()]
        page = report(found, [folder / "figures" for folder in folders], options.reference, options.metrics)
        path = options.output or (folders or [RESULTS / dataset])[0] / "report.html"
        _write(path, page)
        show(path)


def records(options: argparse.Namespace) -> None:
    for record in _records(options):
        show(record.save(options.output))


def beyond(options: argparse.Namespace) -> None:
    matplotlib()
    found = _records(options)
    _save(options.draw(found), options.output or RESULTS / found[0].dataset / "figures", with_numbers=True)


def study(options: argparse.Namespace) -> int:
    """Run the trials of a study that are missing, unless --results names finished ones, and draw; 1 when a trial failed."""
    matplotlib()
    if options.command == "embedding":
        check_sklearn()
    given, failed = override_pairs(options.words), False
    if options.results:
        found = load_records(options.results)
        plan = plan_study(options.command, options.dataset, given, found)
    else:
        if options.jobs > 1:
            given.setdefault("threads", threads_each(options.jobs))
        plan = plan_study(options.command, options.dataset, given)
        found, failed = _run(plan, options.jobs)
    folder = options.output or Path(plan.trials[0]["results_dir"]) / plan.dataset / "figures"
    _save(pictures(find(plan, found)), folder)
    return int(failed)


def _run(plan: Plan, jobs: int) -> tuple[list[Record], bool]:
    """The records of a plan's runs, and whether one failed; RunError when all did."""
    engine: Engine = LocalProcesses(jobs) if jobs > 1 else one_after_the_other
    outcomes = run_trials(prepare(plan.trials), engine, jobs)
    text = failures(outcomes)
    finished = [Record.of_run(Path(outcome.result["directory"])) for outcome in outcomes if outcome.result]
    if not finished:
        raise RunError(text.removeprefix("error: "))
    if text:
        show(text, file=sys.stderr)
    return finished, bool(text)


def _save(drawn: list[Picture], folder: Path, with_numbers: bool = False) -> None:
    for picture in drawn:
        if with_numbers:
            show(picture.numbers.to_string(index=False, float_format="{:.4f}".format, na_rep="–"), end="\n\n")
        show(picture.caption)
        show(*picture.save(folder), sep="\n", end="\n\n")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}); name another file with --output") from None


def _records(options: argparse.Namespace) -> list[Record]:
    """The records that the options name, models in the order given."""
    found = load_records(options.results)
    for option, wanted in {"dataset": options.dataset, "model": options.model}.items():
        if wanted:
            there = sorted({getattr(record, option) for record in found})
            spelled = {name.lower(): name for name in there}
            missing = [name for name in wanted if name.lower() not in spelled]
            if missing:
                raise RunError(f"no finished run of {option} '{missing[0]}'; there are runs of: {', '.join(there)}")
            order = [spelled[name.lower()] for name in wanted]
            found = sorted(
                (one for one in found if getattr(one, option) in order), key=lambda one: order.index(getattr(one, option))
            )
    return found


def main(arguments: list[str]) -> int:
    """Exit status 0, 1 when a trial failed, 2 for a mistake that the message explains, 130 when interrupted."""
    options = parse(arguments)
    return exit_status(lambda: options.does(options), "stopped. The same command goes on from the last checkpoint")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
