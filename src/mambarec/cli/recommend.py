"""Use a finished run: `python recommend.py --run ../results/…/ --user 7 12 -k 20`. More: docs/guides/."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from mambarec.base.console import Parser, show
from mambarec.base.errors import ConfigError, DataError, exit_status
from mambarec.base.files import write_text
from mambarec.base.places import RESULTS
from mambarec.base.words import command, factor, positive
from mambarec.cli.formats import format_help, format_of
from mambarec.data.dataset import RecDataset
from mambarec.running.lookup import choose_run
from mambarec.running.trained import Trained, load_trained
from mambarec.serving.lists import (
    about_strangers,
    evaluated_users,
    known_users,
    listed_users,
    recommend,
    recommend_to_basket,
    trained_users,
)
from mambarec.serving.new_items import Arrivals, best_users, recommend_with_new
from mambarec.serving.page import N_USERS, Gallery, lists_page
from mambarec.serving.titles import item_titles, with_titles
from mambarec.serving.vectors import ENDINGS as VECTORS
from mambarec.serving.vectors import export_vectors, similar_items
from mambarec.serving.writers import ENDINGS as TABLES
from mambarec.serving.writers import FORMATS, write_tables

_LISTED = 20  # unknown ids that are named


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command, `lists` where none is named, and its options."""
    shared = Parser(add_help=False)
    shared.add_argument(
        "--run", type=Path, metavar="DIRECTORY", help="the directory of a finished run, such as results/…/seed…"
    )
    shared.add_argument("-m", "--model", metavar="NAME", help="in place of --run: the model of the run")
    shared.add_argument("-d", "--dataset", metavar="NAME", help="in place of --run: the data set of the run")
    shared.add_argument("--seed", type=int, metavar="N", help="in place of --run: the seed of the run")
    settings = "in place of --run: settings of the run, such as n_layers=3"
    shared.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE", help=settings)
    shared.add_argument("--results", type=Path, default=RESULTS, metavar="PATH", help="the folder of the runs (results)")
    moved = "the folder that holds the data set's folder, if it has moved since the training"
    shared.add_argument("--data_path", type=Path, metavar="FOLDER", help=moved)
    table = Parser(add_help=False)
    table.add_argument(
        "-k",
        type=positive,
        default=20,
        metavar="N",
        help="the length of a list: items for a user or an item, users for `audience` (20)",
    )
    table.add_argument("--format", choices=FORMATS, help=format_help("csv"))
    table.add_argument("--output", type=Path, metavar="FILE", help="write the table to this file (the console)")
    table.add_argument("--titles", action="store_true", help="show the titles of the items, from items.csv")

    parser = Parser(
        description="Recommend with a finished run: lists for users, similar items, vectors.",
        epilog=f"Without COMMAND, it is lists. `{command('recommend', 'COMMAND', '-h')}` shows the options of a command.",
    )
    parser.add_version()
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    lists = commands.add_parser("lists", parents=[shared, table], help="recommend items to users", allow_abbrev=False)
    who = lists.add_mutually_exclusive_group()
    who.add_argument("--user", nargs="+", metavar="ID", help="these users, by their ids (the users of the test split)")
    who.add_argument("--users", type=Path, metavar="FILE", help="the users in this file, an id on each line")
    who.add_argument("--all", action="store_true", help="all users who have a training pair")
    who.add_argument("--basket", metavar="ID,…", help="a new user who has these items")
    lists.add_argument("--include-seen", action="store_true", help="recommend also what the user already had in training")
    reasons = (
        "name N items that the user already had as the reasons, for each modality: those nearest to the recommended item (1)"
    )
    lists.add_argument("--explain", type=positive, nargs="?", const=1, default=0, metavar="N", help=reasons)
    page = "write one page that can be read offline: each user's history, recommendations and reasons"
    lists.add_argument("--html", type=Path, metavar="FILE", help=page)
    pictures = "the folder of the pictures for --html; a picture is named by the original id of its item"
    lists.add_argument("--images", type=Path, metavar="FOLDER", help=pictures)

    new = f"a folder of items that came after the training; `{command('prepare', 'items')}` makes it"
    lists.add_argument("--new-items", type=Path, metavar="FOLDER", help=f"recommend new items too: {new}")
    boost = f"multiply the scores of new items by X; `{command('report', 'cold')}` says which X validation chooses (1)"
    lists.add_argument("--boost", type=factor, metavar="X", help=boost)

    audience = commands.add_parser("audience", parents=[shared, table], help="find users for a new item", allow_abbrev=False)
    audience.add_argument("--new-items", type=Path, required=True, metavar="FOLDER", help=new)
    audience.add_argument("--item", required=True, metavar="ID", help="the id of the new item")

    similar = commands.add_parser("similar", parents=[shared, table], help="find the items nearest to one", allow_abbrev=False)
    similar.add_argument("--item", required=True, metavar="ID", help="the id of the item")

    export = commands.add_parser("export", parents=[shared], help="write the vectors of users and items", allow_abbrev=False)
    export.add_argument("--format", choices=("npz", "faiss"), help=format_help("npz", "file"))
    export.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file for the vectors")
    named = arguments[:1] and (arguments[0] in commands.choices or arguments[0] in ("-h", "--help", "--version"))
    options = parser.parse_args(arguments if named else ["lists", *arguments])
    if options.command == "lists" and options.images and not options.html:
        lists.error("--images is for --html: name a file for the page too")
    endings, usual = (VECTORS, "npz") if options.command == "export" else (TABLES, "csv")
    if options.format and getattr(options, "html", None) and not options.output:
        raise ConfigError("--format is for a table, and --html writes a page: name a file for the table by --output")
    options.format = format_of(options.output, options.format, endings, usual)
    return options


def directory(options: argparse.Namespace) -> Path:
    """The run that is named by its directory, or else by what it is."""
    described = [options.model, options.dataset, options.seed, *options.where]
    if options.run:
        if any(one is not None for one in described):
            raise ConfigError("--run names the run already: leave out -m, -d, --seed and --where")
        return options.run
    if all(one is None for one in described):
        raise ConfigError(f"name a finished run: --run DIRECTORY, or -m NAME -d NAME --seed N. `{command('runs')}` lists them")
    models, datasets = ([name] if name else [] for name in (options.model, options.dataset))
    seeds = [] if options.seed is None else [options.seed]
    return choose_run([options.results], models, datasets, seeds, options.where)


def run(options: argparse.Namespace, trained: Trained) -> None:
    """Do what the command says; what there is to say beside the table goes to standard error."""
    if options.command == "export":
        for path in export_vectors(trained, options.format, options.output):
            show(path)
        return
    titles = None
    if options.titles or getattr(options, "html", None):
        titles = item_titles(trained.dataset, getattr(options, "new_items", None))
    if options.titles and titles is None:
        raise DataError(
            f"--titles: {trained.dataset.folder / 'items.csv'} gives no titles; it needs the columns original_id and text"
        )
    shown = titles if options.titles else None
    if options.command == "similar":
        frame = similar_items(trained, options.item, options.k)
        write_tables([with_titles(frame, shown)], options.format, options.output)
        return
    if options.command == "audience":
        with Arrivals(trained, options.new_items) as arrivals:
            frame = best_users(trained, trained_users(trained.dataset), arrivals, options.item, options.k)
            write_tables([with_titles(frame, shown)], options.format, options.output)
        return
    if options.basket is not None:
        _write_basket(options, trained, shown)
        return
    _check_new_items(options)
    users = _users(options, trained.dataset)
    if options.html:
        _write_page(options, trained, users, titles)
    if options.output or not options.html:
        n_rows = _write_lists(options, trained, users, shown)
        show(f"{n_rows:,} recommendations for {len(users):,} user{'s' * (len(users) != 1)}", file=sys.stderr)
    known = trained_users(trained.dataset)
    if options.all and (left_out := len(np.setdiff1d(trained.dataset.present_users, known))):
        show(f"{left_out:,} users without training pairs left out", file=sys.stderr)
    if strangers := about_strangers(trained.dataset, users):
        show(strangers, file=sys.stderr)


def _users(options: argparse.Namespace, dataset: RecDataset) -> np.ndarray:
    """The users (N,) that the command names. Ids that the data do not have are listed and passed over."""
    if not (options.user or options.users):
        return (trained_users if options.all else evaluated_users)(dataset)
    users, unknown = known_users(dataset, options.user or listed_users(options.users))
    if unknown:
        named = ", ".join(unknown[:_LISTED]) + (f" and {len(unknown) - _LISTED:,} more" if len(unknown) > _LISTED else "")
        show(f"passed over, since the data set {dataset.name} has no such users: {named}", file=sys.stderr)
    return users


def _write_page(options: argparse.Namespace, trained: Trained, users: np.ndarray, titles: pd.Series | None) -> None:
    gallery = Gallery(titles, options.images)
    some = users[:N_USERS]
    n_reasons = options.explain or int(bool(trained.dataset.modalities))
    frame = pd.concat(recommend(trained, some, options.k, options.include_seen, n_reasons), ignore_index=True)
    write_text(options.html, lists_page(trained, some, frame, gallery, len(users)))
    show(options.html)
    if options.images:
        shown = f"{len(gallery.pictures):,} of the {len(gallery.items):,} items on the page have a picture in {options.images}"
        named = "" if gallery.pictures else "; a picture is named by the original id of its item, such as B00005.jpg"
        show(f"{shown}{named}", file=sys.stderr)
    if len(some) < len(users):
        show(f"the page shows the first {len(some):,} of {len(users):,} users; name others with --user", file=sys.stderr)


def _check_new_items(options: argparse.Namespace) -> None:
    if options.boost and not options.new_items:
        raise ConfigError("--boost is for new items: name their folder with --new-items, or leave it out")
    if options.new_items and options.explain:
        raise ConfigError("--explain names reasons for the data set's items only; leave it or --new-items out")
    if options.new_items and options.html:
        raise ConfigError("--html shows the data set's items only; leave it or --new-items out")


def _write_basket(options: argparse.Namespace, trained: Trained, titles: pd.Series | None) -> None:
    """Write what is recommended to a new user who has the items of --basket."""
    others = (
        ("--new-items", options.new_items),
        ("--boost", options.boost),
        ("--explain", options.explain),
        ("--html", options.html),
    )
    idle = [name for name, given in others if given]
    if idle:
        raise ConfigError(f"--basket writes a table of the data set's items, without reasons; leave {idle[0]} out")
    items = [one.strip() for one in options.basket.split(",") if one.strip()]
    if not items:
        raise ConfigError("--basket names no item; expected ids with commas between them")
    table = recommend_to_basket(trained, items, options.k, options.include_seen)
    n_rows = write_tables([with_titles(table, titles)], options.format, options.output)
    show(f"{n_rows:,} recommendations for a basket of {len(items)}", file=sys.stderr)


def _write_lists(options: argparse.Namespace, trained: Trained, users: np.ndarray, titles: pd.Series | None) -> int:
    """Write the recommendations for these users (N,), of new items too where a folder is named; returns their number."""
    if not options.new_items:
        frames = recommend(trained, users, options.k, options.include_seen, options.explain)
        return write_tables((with_titles(frame, titles) for frame in frames), options.format, options.output)
    with Arrivals(trained, options.new_items, options.boost or 1.0) as arrivals:
        frames = recommend_with_new(trained, users, options.k, arrivals, options.include_seen)
        return write_tables((with_titles(frame, titles) for frame in frames), options.format, options.output)


def main(arguments: list[str]) -> int:
    """Exit status 0, 2 for a mistake that the message explains, 130 when interrupted."""

    def work() -> None:
        options = parse(arguments)
        run(options, load_trained(directory(options), options.data_path))

    return exit_status(work, "stopped")
