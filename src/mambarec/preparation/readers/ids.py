"""Ids of users and items: one spelling for each, none for what stands for a missing value, and the join of two files.

Blanks around an id do not count; case and leading zeros do. Where all ids of a column are whole
numbers, 618136477.0 is 618136477.
"""

from pathlib import Path

from mambarec.base.errors import DataError
from mambarec.preparation.engine import Engine, quoted
from mambarec.preparation.report import LISTED, Source

MISSING = ("", "nan", "null", "none", "\\n", "na", "n/a", "#n/a", "<na>", "nat")
_BLANK = " \t\r\n\v\f\u00a0\ufeff\u200b\u3000"
_NUMBER = "-?[0-9]+(\\.0*)?"


def trimmed(text: str) -> str:
    """SQL for a text without the blanks around it."""
    return f"trim({text}, {quoted(_BLANK)})"


def is_missing(text: str) -> str:
    """SQL for whether a trimmed text stands for a missing value."""
    return f"({text} IS NULL OR lower({text}) IN ({', '.join(map(quoted, MISSING))}))"


def is_missing_text(text: str) -> bool:
    """The same of a text in Python."""
    return text.strip(_BLANK).lower() in MISSING


def unify(engine: Engine, table: str, column: str, kind: str, source: Source | None) -> None:
    """Give the trimmed ids in a column of a table one spelling."""
    floats = f"{column} LIKE '%.%'"
    if engine.value(f"SELECT bool_or({floats}) AND bool_and(regexp_full_match({column}, '{_NUMBER}')) FROM {table}"):
        count = engine.value(f"SELECT count(*) FROM {table} WHERE {floats}")
        engine.run(f"UPDATE {table} SET {column} = regexp_extract({column}, '^[^.]*') WHERE {floats}")
        if source:
            source.note(f"{count:,} {kind} ids end with .0 and are read as whole numbers, since all are numbers")


def leave_out_missing(engine: Engine, source: Source, table: str, column: str, kind: str) -> None:
    """Delete the rows of a table without an id in a column of trimmed ids, and count them in `source`."""
    for name, count, places in engine.run(
        f"SELECT coalesce({column}, ''), count(*), min(rowid, {LISTED}) FROM {table} "
        f"WHERE {is_missing(column)} GROUP BY 1 ORDER BY 1"
    ):
        source.leave_out(no_id(kind, name), count, [line for line, _ in source.locate(places)])
        source.rows -= count
    engine.run(f"DELETE FROM {table} WHERE {is_missing(column)}")


def no_id(kind: str, spelled: str) -> str:
    """Why a row is left out."""
    return f"the {kind} is '{spelled}', which stands for no {kind}" if spelled else f"no {kind}"


def match_items(engine: Engine, source: Source, interactions: Path, allow_unmatched: bool) -> str:
    """Compare the ids of the tables `items` and `about`; returns a line that says how many items `about` has.

    Where these are numbers, and only one side has leading zeros, they are left away for the comparison.
    DataError where fewer than half of the items are found.
    """
    unify(engine, "about", "name", "item", source)
    n_items = engine.value("SELECT count(*) FROM items")
    n_found = _found(engine)
    if 2 * n_found < n_items and _match_without_zeros(engine):
        source.note("leading zeros of item ids are passed over, since only one of the files has them")
        n_found = _found(engine)
    if 2 * n_found < n_items and not allow_unmatched:
        only_items, only_about = (
            [
                row[0]
                for row in engine.run(f"SELECT DISTINCT name FROM {one} ANTI JOIN {other} USING (name) ORDER BY name LIMIT 2")
            ]
            for one, other in (("items", "about"), ("about", "items"))
        )
        raise DataError(unmatched(source.path, n_found, n_items, interactions, only_items, only_about))
    return f"{source.path.name} has {n_found:,} of the {n_items:,} items"


def unmatched(path: Path, n_found: int, n_items: int, wanted: Path, only_wanted: list[str], only_there: list[str]) -> str:
    """The message where a file has fewer than half of the items."""
    sides = [", ".join(map(repr, ids[:2])) or "none" for ids in (only_wanted, only_there)]
    return (
        f"{path} has {n_found:,} of the {n_items:,} items of {wanted}. Ids that only {wanted.name} has: {sides[0]}. "
        f"Ids that only {path.name} has: {sides[1]}. Give both files the same ids, or name the right file or column. If this "
        "is as it should be, say --allow-unmatched"
    )


def _found(engine: Engine) -> int:
    return engine.value("SELECT count(*) FROM items SEMI JOIN about USING (name)")


def _match_without_zeros(engine: Engine) -> bool:
    """Rename the rows of `about` like the items, without regard to leading zeros; False where that would be a guess."""
    with_zeros = []
    for table in ("items", "about"):
        n, n_numbers, n_zeros, n_distinct, n_without = engine.run(
            "SELECT count(*), count(*) FILTER (regexp_full_match(name, '[0-9]+')), count(*) FILTER (name LIKE '0_%'), "
            f"count(DISTINCT name), count(DISTINCT ltrim(name, '0')) FROM {table}"
        )[0]
        if n != n_numbers or n_distinct != n_without:
            return False
        with_zeros.append(n_zeros > 0)
    if all(with_zeros) or not any(with_zeros):
        return False
    engine.run("UPDATE about SET name = items.name FROM items WHERE ltrim(items.name, '0') = ltrim(about.name, '0')")
    return True
