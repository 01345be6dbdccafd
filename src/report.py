"""Tables of finished runs: `python report.py table -d tiktok`. README.md shows what else it can do."""

import argparse
import sys
from pathlib import Path

from analysis.comparison import METRICS, compare
from analysis.html import report
from analysis.records import Record, load_records
from analysis.tables import FORMATS, rendered
from utils.configurator import SRC
from utils.errors import ConfigError, RunError, UserError


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tables of finished runs.", allow_abbrev=False)
    doors = parser.add_subparsers(required=True, metavar="COMMAND")

    def door(name: str, does, text: str) -> argparse.ArgumentParser:
        one = doors.add_parser(name, help=text, description=text, allow_abbrev=False)
        one.set_defaults(does=does)
        one.add_argument("-d", "--dataset", nargs="+", metavar="NAME", help="data sets (all that were run)")
        one.add_argument("-m", "--model", nargs="+", metavar="NAME", help="models (all that were run)")
        one.add_argument(
            "--results", nargs="+", type=Path, default=[SRC.parent / "results"], metavar="PATH", help="folders of runs, records"
        )
        return one

    one = door("html", html, "write a page to read: tables, training curves, figures of studies, settings")
    one.add_argument("--reference", default="MambaRec", metavar="MODEL", help="tested against the others (MambaRec)")
    one.add_argument("--metrics", nargs="+", type=str.lower, default=list(METRICS), metavar="NAME@K")
    one.add_argument("--output", type=Path, metavar="FILE", help="instead of results/<data set>/report.html")
    one = door("table", table, "compare models: performance, efficiency, significance")
    one.add_argument("--format", choices=list(FORMATS), default="text")
    one.add_argument("--metrics", nargs="+", type=str.lower, default=list(METRICS), metavar="NAME@K")
    one.add_argument("--reference", default="MambaRec", metavar="MODEL", help="tested against the others (MambaRec)")
    one.add_argument("--split", nargs="+", default=[], metavar="KEY", help="keys whose values make rows, such as variant")
    one.add_argument("--legacy-test-selection", action="store_true", help="choose grid points on test, as MMRec does")
    one.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to the terminal")
    one = door("records", records, "write compact records of finished runs, to keep and to make tables from")
    one.add_argument("--output", type=Path, required=True, metavar="DIR")
    return parser.parse_args(arguments)


def table(options: argparse.Namespace) -> None:
    comparison = compare(_records(options), options.reference, options.legacy_test_selection, options.split)
    text = rendered(comparison, options.format, options.metrics)
    if options.output:
        _write(options.output, text + "\n")
    else:
        print(text)


def html(options: argparse.Namespace) -> None:
    groups: dict[str, list[Record]] = {}
    for record in _records(options):
        groups.setdefault(record.dataset, []).append(record)
    if options.output and len(groups) > 1:
        raise ConfigError(f"--output names one page, and there are runs of {', '.join(groups)}; choose one of these with -d")
    for dataset, found in groups.items():
        folders = [path / dataset for path in options.results if (path / dataset).is_dir()]
        page = report(found, [folder / "figures" for folder in folders], options.reference, options.metrics)
        path = options.output or (folders or [SRC.parent / "results" / dataset])[0] / "report.html"
        _write(path, page)
        print(path)


def records(options: argparse.Namespace) -> None:
    for record in _records(options):
        print(record.save(options.output))


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
    """Exit status 0, or 2 for a mistake that the message explains."""
    options = parse(arguments)
    try:
        options.does(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
