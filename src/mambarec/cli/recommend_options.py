"""The options of `recommend.py`: a parser for each of its commands, and which of them go together."""

import argparse
from pathlib import Path

from mambarec.base.console import Parser
from mambarec.base.errors import ConfigError
from mambarec.base.places import RESULTS
from mambarec.base.words import command, factor, positive
from mambarec.cli.formats import format_help, format_of
from mambarec.serving.vectors import ENDINGS as VECTORS
from mambarec.serving.writers import ENDINGS as TABLES
from mambarec.serving.writers import FORMATS


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command, `lists` where none is named, and its options; `basket` is a list of ids, None where it is not given."""
    parser = Parser(
        description="Recommend with a finished run: lists for users, similar items, vectors.",
        epilog=f"Without COMMAND, it is lists. `{command('recommend', 'COMMAND', '-h')}` shows the options of a command.",
    )
    parser.add_version()
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_lists(commands)
    _add_audience(commands)
    _add_similar(commands)
    _add_export(commands)
    named = arguments[:1] and (arguments[0] in commands.choices or arguments[0] in ("-h", "--help", "--version"))
    options = parser.parse_args(arguments if named else ["lists", *arguments])
    if options.command == "lists" and options.images and not options.html:
        commands.choices["lists"].error("--images is for --html: name a file for the page too")
    if options.command == "lists":
        _check_lists(options)
    endings, usual = (VECTORS, "npz") if options.command == "export" else (TABLES, "csv")
    options.format = format_of(options.output, options.format, endings, usual)
    return options


def _check_lists(options: argparse.Namespace) -> None:
    """ConfigError for options of `lists` that do not go together."""
    if options.format and options.html and not options.output:
        raise ConfigError("--format is for a table, and --html writes a page: name a file for the table by --output")
    if options.basket is not None:
        others = {
            "--new-items": options.new_items,
            "--boost": options.boost,
            "--explain": options.explain,
            "--html": options.html,
        }
        if idle := [name for name, given in others.items() if given]:
            raise ConfigError(f"--basket writes a table of the data set's items, without reasons; leave {idle[0]} out")
        if not options.basket:
            raise ConfigError("--basket names no item; expected ids with commas between them")
    if options.boost and not options.new_items:
        raise ConfigError("--boost is for new items: name their folder with --new-items, or leave it out")
    if options.new_items and options.explain:
        raise ConfigError("--explain names reasons for the data set's items only; leave it or --new-items out")
    if options.new_items and options.html:
        raise ConfigError("--html shows the data set's items only; leave it or --new-items out")


def _ids(text: str) -> list[str]:
    """The ids in a text that has commas between them."""
    return [one.strip() for one in text.split(",") if one.strip()]


# the commands


def _add_lists(commands) -> None:
    lists = _of_a_run(commands, "lists", "recommend items to users")
    _add_table(lists)
    who = lists.add_mutually_exclusive_group()
    who.add_argument("--user", nargs="+", metavar="ID", help="these users, by their ids (the users of the test split)")
    who.add_argument("--users", type=Path, metavar="FILE", help="the users in this file, an id on each line")
    who.add_argument("--all", action="store_true", help="all users who have a training pair")
    who.add_argument("--basket", type=_ids, metavar="ID,…", help="a new user who has these items")
    lists.add_argument("--include-seen", action="store_true", help="recommend also what the user already had in training")
    reasons = (
        "name N items that the user already had as the reasons, for each modality: those nearest to the recommended item (1)"
    )
    lists.add_argument("--explain", type=positive, nargs="?", const=1, default=0, metavar="N", help=reasons)
    page = "write one page that can be read offline: each user's history, recommendations and reasons"
    lists.add_argument("--html", type=Path, metavar="FILE", help=page)
    pictures = "the folder of the pictures for --html; a picture is named by the original id of its item"
    lists.add_argument("--images", type=Path, metavar="FOLDER", help=pictures)
    lists.add_argument("--new-items", type=Path, metavar="FOLDER", help=f"recommend new items too: {_new_items()}")
    boost = f"multiply the scores of new items by X; `{command('report', 'cold')}` says which X validation chooses (1)"
    lists.add_argument("--boost", type=factor, metavar="X", help=boost)


def _add_audience(commands) -> None:
    audience = _of_a_run(commands, "audience", "find users for a new item")
    _add_table(audience)
    audience.add_argument("--new-items", type=Path, required=True, metavar="FOLDER", help=_new_items())
    audience.add_argument("--item", required=True, metavar="ID", help="the id of the new item")


def _add_similar(commands) -> None:
    similar = _of_a_run(commands, "similar", "find the items nearest to one")
    _add_table(similar)
    similar.add_argument("--item", required=True, metavar="ID", help="the id of the item")


def _add_export(commands) -> None:
    export = _of_a_run(commands, "export", "write the vectors of users and items")
    export.add_argument("--format", choices=("npz", "faiss"), help=format_help("npz", "file"))
    export.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file for the vectors")


# what several of them have


def _of_a_run(commands, name: str, text: str) -> argparse.ArgumentParser:
    """A command that uses a finished run, with the options that name the run."""
    one = commands.add_parser(name, help=text, allow_abbrev=False)
    one.add_argument("--run", type=Path, metavar="DIRECTORY", help="the directory of a finished run, such as results/…/seed…")
    one.add_argument("-m", "--model", metavar="NAME", help="in place of --run: the model of the run")
    one.add_argument("-d", "--dataset", metavar="NAME", help="in place of --run: the data set of the run")
    one.add_argument("--seed", type=int, metavar="N", help="in place of --run: the seed of the run")
    settings = "in place of --run: settings of the run, such as n_layers=3"
    one.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE", help=settings)
    one.add_argument("--results", type=Path, default=RESULTS, metavar="PATH", help="the folder of the runs (results)")
    moved = "the folder that holds the data set's folder, if it has moved since the training"
    one.add_argument("--data_path", type=Path, metavar="FOLDER", help=moved)
    return one


def _add_table(one: argparse.ArgumentParser) -> None:
    length = "the length of a list: items for a user or an item, users for `audience` (20)"
    one.add_argument("-k", type=positive, default=20, metavar="N", help=length)
    one.add_argument("--format", choices=FORMATS, help=format_help("csv"))
    one.add_argument("--output", type=Path, metavar="FILE", help="write the table to this file (the console)")
    one.add_argument("--titles", action="store_true", help="show the titles of the items, from items.csv")


def _new_items() -> str:
    return f"a folder of items that came after the training; `{command('prepare', 'items')}` makes it"
