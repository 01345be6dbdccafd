"""`python prepare.py table`: interactions and items from any CSV or Parquet file whose columns are named."""

import argparse
import codecs
from pathlib import Path

from mambarec.base.errors import ConfigError, DataError
from mambarec.base.files import real
from mambarec.base.words import amount, option
from mambarec.preparation.engine import Engine, quoted
from mambarec.preparation.pipeline import Dump, add_options, prepare
from mambarec.preparation.readers import times
from mambarec.preparation.readers.ids import is_missing, leave_out_missing, match_items, text_or_null, trimmed
from mambarec.preparation.readers.tables import (
    NO_RATING,
    column,
    drop_unusable,
    is_parquet,
    is_without_header,
    layout_of,
    load,
    no_header,
    rating,
    seems_header,
)
from mambarec.preparation.report import Report

# What the names of columns often hold.
_USERS = ("user", "customer", "reviewer", "member", "visitor")
_ITEMS = ("item", "product", "article", "asin", "movie", "book", "sku", "song", "track")


def add_parser(commands) -> None:
    """The command `table` of prepare.py."""
    text = "interactions and items from any CSV or Parquet file"
    parser = commands.add_parser("table", help=text, description=f"Prepare {text}.", allow_abbrev=False)
    file = "the interactions: Parquet, or text separated by comma, tab, semicolon, | or ::, plain or gz"
    parser.add_argument("--interactions", type=Path, required=True, metavar="FILE", help=file)
    parser.add_argument("--user-column", required=True, metavar="NAME", help="the column of users")
    both = "the column of items, in --interactions and in --items"
    parser.add_argument("--item-column", required=True, metavar="NAME", help=both)
    parser.add_argument("--rating-column", metavar="NAME", help="the column of ratings (all ratings are 1)")
    parser.add_argument("--time-column", metavar="NAME", help="the column of times, numbers or dates (all times are 0)")
    form = "how dates are written, if the year is not first, such as %%d/%%m/%%Y or '%%m/%%d/%%Y %%H:%%M'"
    parser.add_argument("--time-format", metavar="FORMAT", help=form)
    parser.add_argument("--items", type=Path, metavar="FILE", help="a table of items, with their texts or pictures")
    texts = "the columns of --items that together are an item's text, such as title,description"
    parser.add_argument("--text-columns", type=names, default=[], metavar="NAME,…", help=texts)
    pictures = "the column of --items with the path of a picture; of a URL, the last part is the file's name in --images"
    parser.add_argument("--image-column", "--image-urls", metavar="NAME", help=pictures)
    columns = "the names of all columns of --interactions, in their order, if the file has no header"
    parser.add_argument("--columns", type=every_name, metavar="NAME,…", help=columns)
    parser.add_argument("--encoding", type=encoding, metavar="NAME", help="the encoding of the files, such as latin-1 (UTF-8)")
    add_options(parser)
    parser.set_defaults(does=run)


def encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise argparse.ArgumentTypeError(
            f"{name}; expected the name of an encoding, such as utf-8, latin-1 or cp1252"
        ) from None


def names(text: str) -> list[str]:
    """The names in a text that has commas between them."""
    return [name for name in every_name(text) if name]


def every_name(text: str) -> list[str]:
    """As `names`, with an empty one where nothing stands between two commas."""
    return [name.strip() for name in text.split(",")]


def run(options: argparse.Namespace) -> None:
    if (options.text_columns or options.image_column) and not options.items:
        raise ConfigError(
            f"{option('text-columns')} and {option('image-column')} are columns of a table of items; "
            f"name it by {option('items')}"
        )
    if options.items and not (options.text_columns or options.image_column):
        raise ConfigError(f"{option('items')} is of no use without {option('text-columns')} or {option('image-column')}")
    if options.text_model and not options.text_columns:
        raise ConfigError(
            f"{option('text-model')} needs texts; name their columns in {option('items')} by {option('text-columns')}"
        )
    if options.time_format and not options.time_column:
        raise ConfigError(f"{option('time-format', options.time_format)} needs {option('time-column')}")
    if options.min_rating is not None and not options.rating_column:
        raise ConfigError(f"{option('min-rating')} needs {option('rating-column')}")

    _check_columns(options)
    _check_encoding(options)

    def interactions(engine: Engine, report: Report) -> None:
        read_interactions(engine, report, options)

    def about(engine: Engine, report: Report) -> None:
        read_items(engine, report, options)

    columns = ("text", "image") if options.image_column else ("text",)
    dump = Dump(interactions, "item_id", bool(options.time_column), about if options.items else None, columns)
    prepare("table", options, dump)


def _check_columns(options: argparse.Namespace) -> None:
    """ConfigError where two options name the same column of the interactions."""
    given: dict[str, str] = {}
    for kind in ("user", "item", "rating", "time"):
        name, given_by = getattr(options, f"{kind}_column"), option(f"{kind}-column")
        if name in given:
            raise ConfigError(f"{given[name]} and {given_by} both name the column '{name}'; name the column of each")
        if name is not None:
            given[name] = given_by


def _check_encoding(options: argparse.Namespace) -> None:
    """ConfigError where an encoding is given and no file is text."""
    files = [path for path in (options.interactions, options.items) if path]
    if options.encoding and all(path in options.names or (path.is_file() and is_parquet(path)) for path in files):
        raise ConfigError(f"{option('encoding', options.encoding)} is for text files, and there is none; leave it out")


def _seem_swapped(options: argparse.Namespace) -> bool:
    """Whether the column of users is named like items, and the column of items like users."""
    users, items = options.user_column.lower(), options.item_column.lower()
    return any(word in items for word in _USERS) and any(word in users for word in _ITEMS)


def read_interactions(engine: Engine, report: Report, options: argparse.Namespace) -> None:
    """Fill `raw`; DataError when a column is missing or too many rows are malformed."""
    source = report.source(options.interactions, "interactions")
    wanted = [options.user_column, options.item_column, options.rating_column, options.time_column]
    layout = layout_of(engine, source, options.columns, options.encoding, [name for name in wanted if name])
    if is_without_header(layout):
        source.note(no_header())
    if seems_header(layout):
        source.note(f"The first line looks like a header, and is read as data. If it is one, leave {option('columns')} out")
    if _seem_swapped(options):
        both = [option("user-column", options.user_column), option("item-column", options.item_column)]
        source.note(f"{' and '.join(both)}: swap them if they are the wrong way round")
    decimal_comma = layout.separator == ";"
    select = {
        "user_id": column(layout, options.user_column, source, option("user-column")),
        "item_id": column(layout, options.item_column, source, option("item-column")),
        "rating": "1::DOUBLE",
        "time": "0::BIGINT",
    }
    unusable: dict[str, str] = {}
    if options.rating_column:
        text = column(layout, options.rating_column, source, option("rating-column"))
        select["rating"] = rating(text, decimal_comma)
        unusable |= NO_RATING
    if options.time_column:
        text = column(layout, options.time_column, source, option("time-column"))
        if options.time_format:
            text = _dates(engine, text, options.time_format)
        select |= times.columns(text)
        unusable |= times.NO_TIME
    if layout.separator:  # a text; the header of a DataFrame or of Parquet is no line
        unusable[f"user_id = {quoted(options.user_column)} AND item_id = {quoted(options.item_column)}"] = "the header again"
    engine.run("DROP TABLE raw")
    load(engine, source, "raw", layout, select)
    if options.time_column:
        times.read(engine, "raw", decimal_comma)
    drop_unusable(engine, source, "raw", unusable)
    source.check(options.max_malformed, ("encoding", "time-format"))
    if options.time_column:
        times.settle(engine, source, "raw")


def _dates(engine: Engine, text: str, form: str) -> str:
    """SQL for dates of a form, such as %d/%m/%Y, with the year first; NULL for a text of another form."""
    parsed = f"try_strptime(trim({{}}), {quoted(form)})"
    try:
        engine.run(f"SELECT {parsed.format(quoted(''))}")
        is_date = engine.value(f"SELECT strftime(TIMESTAMP '2001-02-03', {quoted(form)}) <> {quoted(form)}")
    except DataError as error:
        raise ConfigError(f"{option('time-format', form)}: {error}") from None
    if not is_date:
        raise ConfigError(f"{option('time-format', form)}: expected the parts of a date, such as %d/%m/%Y")
    return f"strftime({parsed.format(text)}, '%Y-%m-%d %H:%M:%S.%f')"


def read_items(engine: Engine, report: Report, options: argparse.Namespace) -> None:
    """Fill `about` with the texts, and the paths of pictures where they are asked for; errors as above."""
    source = report.source(options.items, "items")
    wanted = [options.item_column, *options.text_columns, *([options.image_column] if options.image_column else [])]
    layout = layout_of(engine, source, encoding=options.encoding, wanted=wanted)
    item = column(layout, options.item_column, source, option("item-column"))
    texts = [text_or_null(column(layout, name, source, option("text-columns"))) for name in options.text_columns]
    joined = f"concat_ws(' ', {', '.join(texts)})" if texts else "''"
    select = {"name": trimmed(item), "text": f"trim(regexp_replace({joined}, '\\s+', ' ', 'g'))"}
    if options.image_column:
        select["image"] = _picture(column(layout, options.image_column, source, option("image-column")), options)
    engine.run("DROP TABLE about")
    load(engine, source, "about", layout, select)
    source.check(options.max_malformed, ("encoding",))
    leave_out_missing(engine, source, "about", "name", "item")
    if options.image_column and not options.images:
        for (url,) in engine.run("SELECT image FROM about WHERE contains(image, '://') LIMIT 1"):
            raise ConfigError(
                f"{option('image-column', options.image_column)} holds URLs ({url}); "
                f"name the folder of their files by {option('images')}"
            )
    report.note(match_items(engine, source, options.interactions, options.allow_unmatched))
    repeats = engine.value("SELECT count(*) - count(DISTINCT name) FROM about")
    if repeats:
        source.note(f"{amount(repeats, 'further row')} of items that have one already; the first that is not empty counts")


def _picture(value: str, options: argparse.Namespace) -> str:
    """SQL for the absolute path of a picture: by its last part in --images, or from where the table of items lies.

    A DataFrame lies in the current folder.
    """
    if options.images:
        name = f"regexp_extract({value}, '([^/?#]*)([?#].*)?$', 1)"
        folder = real(options.images)
    else:
        name, folder = value, Path.cwd() if options.items in options.names else real(options.items).parent
    absolute = (
        f"CASE WHEN starts_with({name}, '/') OR contains({name}, '://') THEN {name} ELSE {quoted(f'{folder}/')} || {name} END"
    )
    return f"CASE WHEN NOT {is_missing(trimmed(value))} AND trim({name}) <> '' THEN {absolute} END"
