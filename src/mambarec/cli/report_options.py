"""The options of `report.py`: a parser for each of its commands."""

import argparse
from pathlib import Path

from mambarec.analysis.comparison import TESTED
from mambarec.analysis.studies import STUDIES
from mambarec.analysis.tables import ENDINGS, FORMATS
from mambarec.base.console import Parser
from mambarec.base.places import RESULTS
from mambarec.base.words import positive
from mambarec.cli.formats import format_help, format_of

LIVE = 10  # seconds between two forms of a live page

_METRICS = "the metrics to show, such as recall@20 ndcg@10"
_REFERENCE = "the model or row that is tested against the others (MambaRec)"
_TO_A_FILE = "write to this file and not to the terminal"
_FIGURES = "the folder for the figures (results/<data set>/figures)"
_ANY_KEY = "Any configuration key can be set for all its runs: --epochs 20 --seed 1 2 3."


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command with its options; `words` are configuration keys and values, which only commands that train take."""
    parser = Parser(description="Studies, tables and figures of runs.", allow_abbrev=False)
    parser.add_version()
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_html(commands)
    _add_table(commands)
    _add_published(commands)
    _add_records(commands)
    _add_lists(commands)
    for name in STUDIES:
        _add_study(commands, name)
    _add_cold(commands)
    _add_breakdown_and_missing(commands)
    options, words = parser.parse_known_args(arguments)
    trains = options.command in {*STUDIES, "cold"} or getattr(options, "train", False)
    if words and not trains:
        commands.choices[options.command].error(f"unrecognized arguments: {' '.join(words)}")
    commands.choices[options.command].check_no_stray_word(arguments[arguments.index(options.command) + 1 :])
    options.words = words
    if options.command in ("table", "published"):
        options.format = format_of(options.output, options.format, ENDINGS, "text")
    if options.command == "html":
        format_of(options.output, None, {".html": "html", ".htm": "html"}, "html")
    return options


# the commands


def _add_html(commands) -> None:
    one = _of_runs(commands, "html", "write a page to read: tables, training curves, figures of studies, settings")
    one.add_argument("--reference", metavar="ROW", help=_REFERENCE)
    _add_metrics(one)
    one.add_argument("--output", type=Path, metavar="FILE", help="the file to write (results/<data set>/report.html)")
    live = f"show unfinished runs too, and write the page again every so many seconds ({LIVE}) until they have ended"
    one.add_argument("--live", nargs="?", type=positive, const=LIVE, metavar="SECONDS", help=live)


def _add_table(commands) -> None:
    one = _of_runs(commands, "table", "compare models: performance, efficiency, significance")
    one.add_argument("--format", choices=list(FORMATS), help=format_help("text"))
    _add_metrics(one)
    one.add_argument("--reference", metavar="ROW", help=_REFERENCE)
    split = "keys whose values get rows of their own, such as variant"
    one.add_argument("--split", nargs="+", default=[], metavar="KEY", help=split)
    one.add_argument("--legacy-test-selection", action="store_true", help="choose grid points on the test split, as MMRec does")
    csv = "; as CSV each table has its own, such as FILE-efficiency.csv"
    one.add_argument("--output", type=Path, metavar="FILE", help=_TO_A_FILE + csv)
    diagram = "draw the critical-difference diagram of several data sets into this folder"
    one.add_argument("--diagram", type=Path, metavar="DIR", help=diagram)


def _add_published(commands) -> None:
    text = "published figures beside ours: ratio, distance, known differences"
    one = _of_runs(commands, "published", text, one_dataset=True, shown="every finished run")
    one.add_argument("--format", choices=list(FORMATS), help=format_help("text"))
    one.add_argument("--metrics", nargs="+", type=str.lower, default=[TESTED], metavar="NAME@K", help=f"{_METRICS} ({TESTED})")
    one.add_argument("--output", type=Path, metavar="FILE", help=_TO_A_FILE)
    one.add_argument("--train", action="store_true", help="first train what is missing; any key can be set: --epochs 20")
    _add_training(one, "with --train: ")


def _add_records(commands) -> None:
    one = _of_runs(commands, "records", "write compact records of finished runs, to keep and to make tables from")
    one.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to write the records to")


def _add_lists(commands) -> None:
    one = _of_runs(commands, "runs", "list runs with their state and settings", of_experiments=False)
    one.add_argument("--unfinished", action="store_true", help="only runs that are running or were stopped")
    one = _of_runs(commands, "experiments", "list experiments: commands of several trials", of_experiments=False)
    one.add_argument("--unfinished", action="store_true", help="only experiments with unfinished trials")


def _add_study(commands, name: str) -> None:
    text = f"{STUDIES[name].title}: run what is missing, then draw"
    about = f"{text}. {STUDIES[name].varied}"
    one = commands.add_parser(name, help=text, description=about, epilog=_ANY_KEY, allow_abbrev=False)
    one.add_argument("-d", "--dataset", default="demo", metavar="NAME", help="the data set (demo)")
    one.add_argument("--results", nargs="+", type=Path, metavar="PATH", help="train nothing; draw these runs and records")
    _add_training(one)
    one.add_argument("--output", type=Path, metavar="DIR", help=_FIGURES)


def _add_cold(commands) -> None:
    text = "how models recommend items without a training pair: run what is missing, then tabulate and draw"
    about = "The cold-start protocol (docs/cold-start.md): run what is missing, then tabulate and draw."
    one = commands.add_parser("cold", help=text, description=about, epilog=_ANY_KEY, allow_abbrev=False)
    one.add_argument("-d", "--dataset", default="demo", metavar="NAME", help="the data set; NAME-cold is made of it (demo)")
    one.add_argument("-m", "--model", nargs="+", default=[], metavar="NAME", help="only the rows of these models")
    one.add_argument("--format", choices=list(FORMATS), default="text", help="the format of the table (text)")
    _add_training(one)
    output = "the folder for table and figures (results/<data set>-cold/figures)"
    one.add_argument("--output", type=Path, metavar="DIR", help=output)


def _add_breakdown_and_missing(commands) -> None:
    text = "metrics by user activity and item popularity, coverage and Gini"
    one = _of_runs(commands, "breakdown", text, one_dataset=True)
    one.add_argument("--output", type=Path, metavar="DIR", help=_FIGURES)
    one = _of_runs(commands, "missing", "recall as items lose their images or texts", one_dataset=True)
    one.add_argument("--output", type=Path, metavar="DIR", help=_FIGURES)
    train = "train with 0, 25, 50 and 75%% of the items lacking a modality (MambaRec); any key can be set: --epochs 20"
    one.add_argument("--train", action="store_true", help=train)
    _add_training(one, "with --train: ")


# what several of them have


def _of_runs(
    commands,
    name: str,
    text: str,
    one_dataset: bool = False,
    of_experiments: bool = True,
    shown: str = "the last comparison",
) -> argparse.ArgumentParser:
    """A command that shows finished runs, with the options that choose them. shown: what it takes where none is named."""
    one = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    if one_dataset:
        one.add_argument("-d", "--dataset", nargs=1, required=True, metavar="NAME", help="the data set")
    else:
        one.add_argument("-d", "--dataset", nargs="+", default=[], metavar="NAME", help="the data sets to show (all)")
    one.add_argument("-m", "--model", nargs="+", default=[], metavar="NAME", help="the models to show (all)")
    one.add_argument("--seed", nargs="+", type=int, default=[], metavar="N", help="only runs with these seeds")
    where = "only runs with these settings, such as epochs=12"
    one.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE", help=where)
    places = "the folders or files with runs or records (results)"
    one.add_argument("--results", nargs="+", type=Path, default=[RESULTS], metavar="PATH", help=places)
    if of_experiments:
        which = one.add_mutually_exclusive_group()
        which.add_argument("--experiment", nargs="+", default=[], metavar="NAME", help=f"the experiments to show ({shown})")
        which.add_argument("--all", action="store_true", help="show every finished run of any experiment, and single runs")
        one.add_argument("--studies", action="store_true", help="with --all: show the runs of studies too")
    return one


def _add_metrics(one: argparse.ArgumentParser) -> None:
    text = f"{_METRICS} (recall and ndcg at 10 and 20)"
    one.add_argument("--metrics", nargs="+", type=str.lower, metavar="NAME@K", help=text)


def _add_training(one: argparse.ArgumentParser, when: str = "") -> None:
    """How a command trains what is missing. when: the option without which it trains nothing."""
    jobs = f"{when}run N trials at the same time; they share the threads (1)"
    one.add_argument("--jobs", type=positive, default=1, metavar="N", help=jobs)
    one.add_argument("--name", metavar="NAME", help=f"{when}a name for the experiment")
