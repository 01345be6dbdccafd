"""`python prepare.py amazon`: the Amazon dumps of 2014, 2018 and 2023, ratings or reviews, metadata and image features.

The three differ in the names of their fields, and the metadata of 2014 are Python literals where the others are JSON.
"""

import argparse
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from mambarec.base.errors import ConfigError, DataError
from mambarec.base.text import trimmed_text
from mambarec.base.words import amount, command, option
from mambarec.preparation.engine import Engine
from mambarec.preparation.features.vectors import write_image_features
from mambarec.preparation.pipeline import Dump, add_options, prepare
from mambarec.preparation.readers import ids, times
from mambarec.preparation.readers.layout import first_lines
from mambarec.preparation.readers.lines import parse_record, read_lines
from mambarec.preparation.readers.tables import NO_RATING, column, drop_unusable, is_parquet, layout_of, load, rating
from mambarec.preparation.report import Report, Source

# The names of a field, of 2023 and of 2014 and 2018; the first that a record has counts.
USER, ITEM = ("user_id", "reviewerID"), ("parent_asin", "asin")
RATING, TIME = ("rating", "overall"), ("timestamp", "unixReviewTime")
BRAND, CATEGORIES = ("brand", "store"), ("categories", "category")
COLUMNS = ("user", "item", "rating", "timestamp")
_FIELDS = {"user": USER, "item": ITEM, "rating": RATING, "timestamp": TIME}
_CHUNK = 50_000  # records given to the engine at a time
_FIRST_ASIN = re.compile(rb"\s*\{'asin': '([^'\\]*)'")  # how the lines of 2014 begin
_ASIN_LENGTH = 10
_LARGEST = 10**20  # of a time, as preparation.readers.times holds it


def add_parser(commands) -> None:
    """The command `amazon` of prepare.py."""
    text = "Amazon's data of 2014, 2018 or 2023: ratings or reviews, metadata, image features"
    parser = commands.add_parser("amazon", help=text, description=f"Prepare {text}. Files are plain or gz.", allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--ratings", type=Path, metavar="FILE", help="a CSV of ratings, such as ratings_Baby.csv")
    source.add_argument("--reviews", type=Path, metavar="FILE", help="reviews as JSON lines, such as reviews_Baby_5.json.gz")
    parser.add_argument("--meta", type=Path, metavar="FILE", help="the texts of the items, such as meta_Baby.json.gz")
    features = "image features of 4096 numbers an item, such as image_features_Baby.b"
    parser.add_argument("--image-features", type=Path, metavar="FILE", help=features)
    columns = (
        "the order of the columns of --ratings, if it has no header: user item rating timestamp in 2014, item user … in 2018"
    )
    parser.add_argument("--columns", nargs=4, choices=COLUMNS, metavar="COLUMN", help=columns)
    add_options(parser)
    parser.set_defaults(does=run)


def run(options: argparse.Namespace) -> None:
    if options.image_features and options.images:
        raise ConfigError("--image-features and --images both make image features; give one of them")
    if options.text_model and not options.meta:
        raise ConfigError("--text-model needs texts; name their file by --meta")

    def interactions(engine: Engine, report: Report) -> None:
        if options.ratings:
            read_ratings(engine, report.source(options.ratings, "ratings"), options.columns, options.max_malformed)
        else:
            read_reviews(engine, report.source(options.reviews, "reviews"), options.max_malformed)

    def about(engine: Engine, report: Report) -> None:
        read_texts(engine, report.source(options.meta, "metadata"), report, options.max_malformed, options.allow_unmatched)

    def vectors(engine: Engine, report: Report, folder: Path) -> None:
        write_image_features(options.image_features, engine.names("items"), folder, report, options.allow_unmatched)

    if options.columns and not options.ratings:
        raise ConfigError("--columns is for --ratings: the lines of --reviews have names of their own; leave it out")
    for path in (options.ratings, options.reviews, options.meta, options.image_features):
        if path and not path.is_file():
            raise DataError(f"{path} does not exist; data/README.md says where to get the dumps")
    dump = Dump(
        interactions, "asin", about=about if options.meta else None, vectors=vectors if options.image_features else None
    )
    prepare("amazon", options, dump)


# interactions


def read_ratings(engine: Engine, source: Source, columns: list[str] | None, max_malformed: float) -> None:
    """Fill `raw` from a CSV of ratings, with the header of 2023 or without one; DataError when too much of it is malformed."""
    if is_parquet(source.path):
        raise DataError(
            f"{source.path} is Parquet, and {option('ratings')} reads CSV; `{command('prepare', 'table')}` reads Parquet"
        )
    lines = first_lines(source.path, 1000)
    if not lines:
        raise DataError(f"{source.path} is empty; expected lines of user,item,rating,timestamp")
    names = [name.strip().strip('"') for name in lines[0].split(",")]
    has_header = any(name in names for name in USER)
    if has_header:
        positions = {field: _first(known, names) for field, known in _FIELDS.items()}
        missing = [field for field, name in positions.items() if name is None]
        if columns:
            raise ConfigError(f"--columns is for a file without a header, and {source.path} has one: {lines[0]}; leave it out")
        if missing:
            raise DataError(
                f"{source.path} has no column of the {missing[0]} ({' or '.join(_FIELDS[missing[0]])}); it has: {lines[0]}"
            )
    else:
        if columns and sorted(columns) != sorted(COLUMNS):
            raise ConfigError(f"--columns {' '.join(columns)}: expected each of {', '.join(COLUMNS)} once")
        positions = {field: field for field in COLUMNS}
        if not columns:
            _check_order(lines, source)
    layout = layout_of(engine, source, None if has_header else list(columns or COLUMNS))
    sql = {field: column(layout, name, source, f"the {field}") for field, name in positions.items()}
    select = {
        "user_id": sql["user"],
        "item_id": sql["item"],
        "rating": rating(sql["rating"]),
        **times.columns(sql["timestamp"]),
    }
    engine.run("DROP TABLE raw")
    load(engine, source, "raw", layout, select)
    times.read(engine, "raw")
    drop_unusable(engine, source, "raw", NO_RATING | times.NO_TIME)
    source.check(max_malformed)
    times.settle(engine, source, "raw")


def _first(known: tuple[str, ...], names: Any) -> Any:
    """The first known name that is among names, or None; in a record, the first one with a value, if there is one."""
    there = [name for name in known if name in names]
    filled = [name for name in there if names[name] not in (None, "")] if isinstance(names, dict) else []
    return next(iter([*filled, *there]), None)


def _check_order(lines: list[str], source: Source) -> None:
    """DataError where the first column looks like ASINs and the second does not: the order of the dump of 2018."""
    rows = [line.split(",") for line in lines if line.count(",") == len(COLUMNS) - 1]
    asins = [sum(len(row[place]) == _ASIN_LENGTH for row in rows) for place in (0, 1)]
    if asins[0] > 0.9 * len(rows) and asins[1] < 0.1 * len(rows):
        raise DataError(
            f"{source.path}: the first column holds ASINs, such as {rows[0][0]!r}, and the second does not; if items come "
            "first, say --columns item user rating timestamp, and if not, --columns user item rating timestamp"
        )


def read_reviews(engine: Engine, source: Source, max_malformed: float) -> None:
    """Fill `raw` from lines of JSON objects; DataError when too much of it is malformed."""
    chunk: list[tuple[str, str, float, str]] = []
    names = ("user_id", "item_id", "rating", "time")
    read = times.exact("time")
    source.lines = 0
    engine.run(
        f"DROP TABLE raw; CREATE TABLE raw (user_id VARCHAR, item_id VARCHAR, rating DOUBLE, time {times.TYPE}, zone SMALLINT)"
    )
    engine.run("CREATE TABLE chunk (user_id VARCHAR, item_id VARCHAR, rating DOUBLE, time VARCHAR)")

    def flush() -> None:
        if chunk:
            engine.insert("chunk", dict(zip(names, zip(*chunk, strict=True), strict=True)))
            engine.run(
                f"INSERT INTO raw SELECT user_id, item_id, rating, {read['time']}, {read['zone']} FROM chunk; DELETE FROM chunk"
            )
            source.rows += len(chunk)
            chunk.clear()

    for number, line in read_lines(source.path):
        source.lines += 1
        try:
            review = parse_record(line)
            no_id = _no_id(review)
            if no_id:
                source.leave_out(no_id, 1, [number])
            else:
                chunk.append(_interaction(review))
        except ValueError as error:
            source.reject(number, str(error), line)
        if len(chunk) == _CHUNK:
            flush()
    flush()
    engine.run("DROP TABLE chunk")
    source.check(max_malformed)
    times.settle(engine, source, "raw")


def _no_id(review: dict[str, Any]) -> str:
    """Why a review has no user or no item, though it has the field; else ''."""
    for kind, names in (("user", USER), ("item", ITEM)):
        name = _first(names, review)
        value = review.get(name)
        if (name and value is None) or (isinstance(value, str) and ids.is_missing_text(value)):
            return ids.no_id(kind, (value or "").strip())
    return ""


def _interaction(review: dict[str, Any]) -> tuple[str, str, float, str]:
    """User, item, rating and time of a review; ValueError names the field that cannot be used."""
    values = [review.get(_first(names, review)) for names in _FIELDS.values()]
    for names, value in zip(_FIELDS.values(), values, strict=True):
        if value is None or value == "":
            raise ValueError(f"no field {' or '.join(names)}")
    user, item, rating, time = values
    try:
        if "_" in f"{rating}{time}":  # Python reads 1_0 as ten
            raise ValueError
        number, moment = float(rating), Decimal(str(time))  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        raise ValueError(f"rating {rating!r}, time {time!r}: not numbers") from None
    if not abs(number) < float("inf") or not abs(moment) < _LARGEST or not isinstance(user, str) or not isinstance(item, str):
        raise ValueError("a field of another type than expected")
    return user, item, number, str(moment)


# texts


def read_texts(engine: Engine, source: Source, report: Report, max_malformed: float, allow_unmatched: bool = False) -> None:
    """Fill `about` with the texts of the items that are kept; the first text of an item that is not empty counts.

    DataError when too many lines are malformed, or fewer than half of the items are found and `allow_unmatched` is false. Lines
    of 2014 about other items are told by their beginning and not read further.
    """
    wanted = set(engine.names("items"))
    found: dict[str, bool] = {}  # whether a line has told of an item, with a text
    strangers: list[str] = []
    chunk: list[tuple[str, str]] = []
    repeated = source.lines = 0

    def flush() -> None:
        if chunk:
            engine.insert("about", dict(zip(("name", "text"), zip(*chunk, strict=True), strict=True)))
            chunk.clear()

    for number, line in read_lines(source.path):
        source.lines += 1
        start = _FIRST_ASIN.match(line)
        item = start[1].decode("latin-1") if start else None
        if item is None or item in wanted:
            try:
                record = parse_record(line)
                item = record.get(_first(ITEM, record))
                if not isinstance(item, str) or not item.strip():
                    raise ValueError(f"no field {' or '.join(ITEM)}")
            except ValueError as error:
                source.reject(number, str(error), line)
                continue
            item = trimmed_text(item)
        source.rows += 1
        if item in wanted:
            repeated += item in found
            if not found.get(item) and ((text := item_text(record)) or item not in found):
                found[item] = bool(text)
                chunk.append((item, text))
        elif len(strangers) < 2:
            strangers.append(item)
        if len(chunk) == _CHUNK:
            flush()
    flush()
    source.check(max_malformed)
    if 2 * len(found) < len(wanted) and not allow_unmatched:
        missing = sorted(wanted - set(found))
        raise DataError(ids.unmatched(source.path, len(found), len(wanted), report.sources[0].path, missing, strangers))
    report.note(f"{source.path.name} has {len(found):,} of the {len(wanted):,} items")
    if repeated:
        source.note(f"{amount(repeated, 'further line')} about an item; the first that has a text counts")


def item_text(record: dict[str, Any]) -> str:
    """Title, brand, first category path and description, joined by spaces as MMRec does; '' where there is none of them."""
    path = record.get(_first(CATEGORIES, record))
    if isinstance(path, list) and path and isinstance(path[0], list):
        path = path[0]
    values = [record.get("title"), record.get(_first(BRAND, record)), path, record.get("description")]
    return " ".join(word for value in values for part in _strings(value) for word in part.split())


def _strings(value: Any) -> Iterator[str]:
    """The strings of a value that is one or a list of them."""
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str) and not ids.is_missing_text(part):
            yield part
