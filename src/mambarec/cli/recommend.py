"""Use a finished run: `python recommend.py --run ../results/…/ --users ids.txt -k 20`. More: docs/guides/."""

import argparse
import sys
from pathlib import Path

import numpy as np

from mambarec.base.console import Parser, show
from mambarec.base.errors import ConfigError, exit_status
from mambarec.base.places import RESULTS
from mambarec.base.words import positive
from mambarec.running.lookup import choose_run
from mambarec.running.trained import Trained, load_trained
from mambarec.serving.lists import evaluated_users, listed_users, recommend, recommend_to_basket, trained_users
from mambarec.serving.new_items import Arrivals, best_users, recommend_with_new
from mambarec.serving.vectors import export_vectors, similar_items
from mambarec.serving.writers import FORMATS, write_tables


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command, `lists` where none is named, and its options."""
    shared = Parser(add_help=False)
    shared.add_argument("--run", type=Path, metavar="DIRECTORY", help="a finished run, results/…/seed…; or name it by:")
    shared.add_argument("-m", "--model", metavar="NAME", help="its model")
    shared.add_argument("-d", "--dataset", metavar="NAME", help="its data set")
    shared.add_argument("--seed", type=int, metavar="N", help="its seed")
    shared.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE", help="its settings, such as n_layers=3")
    shared.add_argument("--results", type=Path, default=RESULTS, metavar="PATH", help="the folder of runs to look in (results)")
    shared.add_argument("--data_path", type=Path, metavar="FOLDER", help="the folder above the data set's, if it has moved")
    table = Parser(add_help=False)
    table.add_argument("-k", type=positive, default=20, metavar="N", help="how many items (20)")
    table.add_argument("--format", choices=FORMATS, default="csv", help="of the table (csv)")
    table.add_argument("--output", type=Path, metavar="FILE", help="a file in place of the console")

    parser = Parser(
        description="Recommendations, similar items and vectors of a finished run.",
        epilog="Without a command it is lists. `recommend.py COMMAND -h` shows the options of each.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    lists = commands.add_parser("lists", parents=[shared, table], help="recommendations; may be left out", allow_abbrev=False)
    who = lists.add_mutually_exclusive_group()
    who.add_argument("--users", type=Path, metavar="FILE", help="ids, one a line (without: the users of the test split)")
    who.add_argument("--all", action="store_true", help="every user who has a training pair")
    who.add_argument("--basket", metavar="ID,…", help="a new user who has these items")
    lists.add_argument("--include-seen", action="store_true", help="recommend training items too")
    reasons = "name the N (1) nearest of the user's training items in each modality"
    lists.add_argument("--explain", type=positive, nargs="?", const=1, default=0, metavar="N", help=reasons)

    new = "a folder of items that came after training, as `prepare.py items` makes it"
    lists.add_argument("--new-items", type=Path, metavar="FOLDER", help=f"recommend these too: {new}")

    audience = commands.add_parser("audience", parents=[shared, table], help="the users for a new item", allow_abbrev=False)
    audience.add_argument("--new-items", type=Path, required=True, metavar="FOLDER", help=new)
    audience.add_argument("--item", required=True, metavar="ID", help="the new item's id")

    similar = commands.add_parser("similar", parents=[shared, table], help="the items nearest to one", allow_abbrev=False)
    similar.add_argument("--item", required=True, metavar="ID", help="the item's id")

    export = commands.add_parser("export", parents=[shared], help="vectors of users and items", allow_abbrev=False)
    export.add_argument("--format", choices=("npz", "faiss"), default="npz", help="(npz)")
    export.add_argument("--output", type=Path, required=True, metavar="FILE")
    named = arguments[:1] and (arguments[0] in commands.choices or arguments[0] in ("-h", "--help"))
    return parser.parse_args(arguments if named else ["lists", *arguments])


def directory(options: argparse.Namespace) -> Path:
    """The run that is named by its directory, or else by what it is."""
    described = [options.model, options.dataset, options.seed, *options.where]
    if options.run:
        if any(one is not None for one in described):
            raise ConfigError("--run names the run already: leave out -m, -d, --seed and --where")
        return options.run
    if all(one is None for one in described):
        raise ConfigError("name a finished run: --run DIRECTORY, or -m NAME -d NAME --seed N. `report.py runs` lists them")
    models, datasets = ([name] if name else [] for name in (options.model, options.dataset))
    seeds = [] if options.seed is None else [options.seed]
    return choose_run([options.results], models, datasets, seeds, options.where)


def run(options: argparse.Namespace, trained: Trained) -> None:
    """Do what the command says; what there is to say beside the table goes to standard error."""
    if options.command == "export":
        for path in export_vectors(trained, options.format, options.output):
            show(path)
    elif options.command == "similar":
        write_tables([similar_items(trained, options.item, options.k)], options.format, options.output)
    elif options.command == "audience":
        with Arrivals(trained, options.new_items) as arrivals:
            users = trained_users(trained.dataset)
            write_tables([best_users(trained, users, arrivals, options.item, options.k)], options.format, options.output)
    elif options.basket is not None:
        _write_basket(options, trained)
    else:
        if options.new_items and options.explain:
            raise ConfigError("--explain names reasons for the data set's items only; leave it or --new-items out")
        if options.users:
            users = listed_users(trained.dataset, options.users)
        else:
            users = (trained_users if options.all else evaluated_users)(trained.dataset)
        n_rows = _write_lists(options, trained, users)
        show(f"{n_rows:,} recommendations for {len(users):,} users", file=sys.stderr)
        known = trained_users(trained.dataset)
        if options.all and len(known) < trained.dataset.n_users:
            show(f"{trained.dataset.n_users - len(known):,} users without training pairs left out", file=sys.stderr)
        strangers = ~np.isin(users, known)
        if strangers.any():
            show(f"{strangers.sum():,} of the users have no training pair: the model knows nothing of them", file=sys.stderr)


def _write_basket(options: argparse.Namespace, trained: Trained) -> None:
    """Write what is recommended to a new user who has the items of --basket."""
    idle = [name for name, given in (("--new-items", options.new_items), ("--explain", options.explain)) if given]
    if idle:
        raise ConfigError(f"--basket recommends the data set's items, without reasons; leave {idle[0]} out")
    items = [one.strip() for one in options.basket.split(",") if one.strip()]
    if not items:
        raise ConfigError("--basket names no item; expected ids with commas between them")
    table = recommend_to_basket(trained, items, options.k, options.include_seen)
    n_rows = write_tables([table], options.format, options.output)
    show(f"{n_rows:,} recommendations for a basket of {len(items)}", file=sys.stderr)


def _write_lists(options: argparse.Namespace, trained: Trained, users: np.ndarray) -> int:
    """Write the recommendations for these users (N,), of new items too where a folder is named; returns their number."""
    if not options.new_items:
        frames = recommend(trained, users, options.k, options.include_seen, options.explain)
        return write_tables(frames, options.format, options.output)
    with Arrivals(trained, options.new_items) as arrivals:
        frames = recommend_with_new(trained, users, options.k, arrivals, options.include_seen)
        return write_tables(frames, options.format, options.output)


def main(arguments: list[str]) -> int:
    """Exit status 0, 2 for a mistake that the message explains, 130 when interrupted."""

    def work() -> None:
        options = parse(arguments)
        run(options, load_trained(directory(options), options.data_path))

    return exit_status(work, "stopped")
