"""`python prepare.py table`: interactions and items from any CSV or Parquet file whose columns are named."""

import argparse
from pathlib import Path

from preparation.engine import Engine, quoted
from preparation.pipeline import Dump, add_options, prepare
from preparation.report import Report
from preparation.tables import column, drop_unusable, header, load
from utils.errors import ConfigError


def add_parser(commands) -> None:
    """The command `table` of prepare.py."""
    text = "interactions and items of any CSV or Parquet file"
    parser = commands.add_parser("table", help=text, description=f"Prepare {text}.", allow_abbrev=False)
    parser.add_argument(
        "--interactions", type=Path, required=True, metavar="FILE", help="CSV (, tab ; |, plain or gz) or Parquet"
    )
    parser.add_argument("--user-column", required=True, metavar="NAME")
    parser.add_argument("--item-column", required=True, metavar="NAME", help="of the interactions, and of --items")
    parser.add_argument("--rating-column", metavar="NAME", help="(all ratings are 1)")
    parser.add_argument("--time-column", metavar="NAME", help="a number or a date (all times are 0)")
    parser.add_argument("--items", type=Path, metavar="FILE", help="a table of items, with --item-column")
    parser.add_argument("--text-columns", metavar="NAME,…", help="columns of --items that are joined to an item's text")
    column = "column of --items with the path of an item's picture; of a URL the last part counts, in the folder --images"
    parser.add_argument("--image-column", "--image-urls", metavar="NAME", help=column)
    add_options(parser)
    parser.set_defaults(does=run)


def run(options: argparse.Namespace) -> None:
    if (options.text_columns or options.image_column) and not options.items:
        raise ConfigError("--text-columns and --image-column are columns of a table of items; name its file by --items")
    if options.items and not (options.text_columns or options.image_column):
        raise ConfigError("--items is of no use without --text-columns or --image-column")
    if options.min_rating is not None and not options.rating_column:
        raise ConfigError("--min-rating needs --rating-column")

    def interactions(engine: Engine, report: Report) -> None:
        read_interactions(engine, report, options)

    def about(engine: Engine, report: Report) -> None:
        read_items(engine, report, options)

    columns = ("text", "image") if options.image_column else ("text",)
    dump = Dump(interactions, "item_id", bool(options.time_column), about if options.items else None, columns)
    prepare(options, dump)


def read_interactions(engine: Engine, report: Report, options: argparse.Namespace) -> None:
    """Fill `raw`; DataError when a column is missing or too many rows are malformed."""
    source = report.source(options.interactions, "interactions")
    names, separator = header(engine, source)
    user = column(names, options.user_column, source, "--user-column")
    item = column(names, options.item_column, source, "--item-column")
    select = {
        "user_id": f"trim({user}::VARCHAR)",
        "item_id": f"trim({item}::VARCHAR)",
        "rating": "1::DOUBLE",
        "time": "0::BIGINT",
    }
    unusable = {"user_id IS NULL OR user_id = ''": "no user", "item_id IS NULL OR item_id = ''": "no item"}
    if options.rating_column:
        select["rating"] = f"TRY_CAST({column(names, options.rating_column, source, '--rating-column')} AS DOUBLE)"
        unusable["rating IS NULL OR NOT isfinite(rating)"] = "rating is not a number"
    if options.time_column:
        time = column(names, options.time_column, source, "--time-column") + "::VARCHAR"
        select["time"] = (
            f"coalesce(TRY_CAST(floor(TRY_CAST({time} AS DOUBLE)) AS BIGINT), "
            f"floor(epoch(TRY_CAST({time} AS TIMESTAMP)))::BIGINT)"
        )
        unusable["time IS NULL"] = "time is neither a number nor a date"
    engine.run("DROP TABLE raw")
    load(engine, source, "raw", names, select, separator)
    drop_unusable(engine, source, "raw", unusable)
    source.check(options.max_malformed)


def read_items(engine: Engine, report: Report, options: argparse.Namespace) -> None:
    """Fill `about` with the texts, and the paths of pictures where they are asked for; errors as above."""
    source = report.source(options.items, "items")
    names, separator = header(engine, source)
    item = column(names, options.item_column, source, "--item-column")
    texts = [
        column(names, name.strip(), source, "--text-columns")
        for name in (options.text_columns or "").split(",")
        if name.strip()
    ]
    joined = f"concat_ws(' ', {', '.join(f'{name}::VARCHAR' for name in texts)})" if texts else "''"
    select = {"name": f"trim({item}::VARCHAR)", "text": f"trim(regexp_replace({joined}, '\\s+', ' ', 'g'))"}
    if options.image_column:
        select["image"] = _picture(column(names, options.image_column, source, "--image-column") + "::VARCHAR", options)
    engine.run("DROP TABLE about")
    load(engine, source, "about", names, select, separator)
    drop_unusable(engine, source, "about", {"name IS NULL OR name = ''": "no item"})
    source.check(options.max_malformed)
    if options.image_column and not options.images:
        for (url,) in engine.run("SELECT image FROM about WHERE contains(image, '://') LIMIT 1"):
            raise ConfigError(
                f"--image-column {options.image_column} holds URLs ({url}); name the folder of their files by --images"
            )
    told = engine.value("SELECT count(*) FROM items WHERE name IN (SELECT name FROM about)")
    n_items = engine.value("SELECT count(*) FROM items")
    report.note(f"items that {source.path.name} does not have: {n_items - told:,} of {n_items:,}")


def _picture(value: str, options: argparse.Namespace) -> str:
    """SQL for the absolute path of a picture: by its last part in --images, or from where the table of items lies."""
    if options.images:
        name = f"regexp_extract({value}, '([^/?#]*)([?#].*)?$', 1)"
        folder = options.images.resolve()
    else:
        name, folder = value, options.items.resolve().parent
    absolute = (
        f"CASE WHEN starts_with({name}, '/') OR contains({name}, '://') THEN {name} ELSE {quoted(f'{folder}/')} || {name} END"
    )
    return f"CASE WHEN trim({name}) <> '' THEN {absolute} END"
