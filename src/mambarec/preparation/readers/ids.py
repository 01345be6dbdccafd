"""Ids of users and items: one spelling for each, none for what stands for a missing value, and the join of two files.

Blanks and quotation marks around an id do not count, nor how its accents are composed; case and leading zeros do. Where
no id of a column is a fraction, 618136477.0 is 618136477; where all are numbers, 1e+05 is 100000.
Of 4.19E+12 the last ten digits are lost: such an id stays as it is, and the report warns of it.
"""

from pathlib import Path

from mambarec.base.errors import DataError
from mambarec.base.text import BLANK, trimmed_text
from mambarec.base.words import option
from mambarec.preparation.engine import Engine, quoted
from mambarec.preparation.report import LISTED, Source

_SPELLED = (
    *("", "nan", "-nan", "null", "none", "nil", "undefined", "\\n", "na", "n/a", "#n/a", "#n/a n/a", "#na", "<na>", "nat"),
    *("-", "?", "(null)", "<null>", "[null]", "<nil>", "#null!", "1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind"),
)
# As numbers, some programs write them with a fraction: nan.0.
MISSING = (*_SPELLED, *(f"{word}.0" for word in _SPELLED if word.strip("-").isalpha()))
_WHOLE = "-?[0-9]+(\\.0*)?"
_SCIENTIFIC = "-?[0-9](\\.[0-9]+)?[eE]\\+?[0-9]{1,2}"
_CUT = "-?[0-9]([.,][0-9]+)?[eE]\\+[0-9]{2,}"  # as Excel and %g write a number; Java writes all its digits, and no +
_FEW = 5  # ids that can all end with a zero by chance
_FROM_TWELVE = 11  # the exponent from which on Excel writes any number so
_FRACTION = "-?[0-9]*\\.[0-9]*[^0].*"
_DIGITS = "regexp_full_match({}.name, '[0-9]+')"


def trimmed(text: str) -> str:
    """SQL for an id without blanks around it, and without quotation marks where it stands between two."""
    bare = f"trim({text}, {quoted(BLANK)})"
    mark = f"left({bare}, 1)"
    inner = f"trim({bare}, {mark})"
    is_quoted = f"{mark} IN (chr(34), chr(39)) AND {mark} = right({bare}, 1) AND NOT contains({inner}, {mark})"
    return f"nfc_normalize(CASE WHEN {is_quoted} THEN trim({inner}, {quoted(BLANK)}) ELSE {bare} END)"


def is_missing(text: str) -> str:
    """SQL for whether a trimmed text stands for a missing value."""
    return f"({text} IS NULL OR lower({text}) IN ({', '.join(map(quoted, MISSING))}))"


def is_missing_text(text: str) -> bool:
    """The same of a text in Python."""
    return trimmed_text(text).lower() in MISSING


def text_or_null(text: str) -> str:
    """SQL for a text, NULL where it stands for a missing value."""
    return f"CASE WHEN NOT {is_missing(trimmed(text))} THEN {text} END"


def unify(engine: Engine, table: str, column: str, kind: str, source: Source | None) -> None:
    """Give the trimmed ids in a column of a table one spelling, and say what was done."""
    notes = []
    whole, scientific, fraction = (f"regexp_full_match({column}, '{form}')" for form in (_WHOLE, _SCIENTIFIC, _FRACTION))
    ends_with_0 = f"{column} LIKE '%.%' AND {whole}"
    n_ends, n_scientific, n_fractions, n_words = engine.run(
        f"SELECT count(*) FILTER ({ends_with_0}), count(*) FILTER ({scientific}), "
        f"count(*) FILTER ({fraction} AND NOT {scientific}), count(*) FILTER (NOT ({whole} OR {scientific})) FROM {table}"
    )[0]
    if n_ends and not n_fractions:
        engine.run(f"UPDATE {table} SET {column} = regexp_extract({column}, '^[^.]*') WHERE {ends_with_0}")
        notes.append(f"{n_ends:,} {kind} ids end with .0 and are read as whole numbers, since no id is a fraction")
    is_cut, warning = _cut(engine, table, column, kind)
    if n_scientific and not n_words:
        number = f"TRY_CAST({column} AS DECIMAL(38, 9))"
        exact = f"{scientific} AND NOT {is_cut} AND {number} = trunc({number}) AND {number} < 1e15"
        for n_read, example in engine.run(f"SELECT count(*), min({column}) FROM {table} WHERE {exact} HAVING count(*) > 0"):
            engine.run(f"UPDATE {table} SET {column} = {number}::DECIMAL(38, 0)::VARCHAR WHERE {exact}")
            notes.append(f"{n_read:,} {kind} ids such as {example} are read as whole numbers, since all ids are numbers")
    notes += warning + _rounded(engine, table, column, kind)
    for first, second, count in engine.run(
        f"SELECT min({column}), max({column}), count(*) OVER () FROM (SELECT DISTINCT {column} FROM {table}) "
        f"WHERE regexp_full_match({column}, '[0-9]+') GROUP BY ltrim({column}, '0') HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
    ):
        notes.append(f"{kind} ids that differ by leading zeros stay apart: {count:,} groups, such as {first} and {second}")
    if source:
        source.notes += notes


def _cut(engine: Engine, table: str, column: str, kind: str) -> tuple[str, list[str]]:
    """SQL for whether an id has lost digits, as 4.19E+12 has, and a warning where some have.

    R writes 1.2e+07 for 12000000, which is exact. Ids like it are rare among those that are as long: one in a hundred at most.
    """
    exponent = f"TRY_CAST(regexp_extract({column}, '[eE]\\+([0-9]+)$', 1) AS INTEGER)"
    digits = f"length(regexp_replace(regexp_extract({column}, '^[^eE]*'), '[^0-9]', '', 'g'))"
    may_be = (
        f"(regexp_full_match({column}, '{_CUT}') AND {digits} <= {exponent} AND ({digits} > 1 OR {exponent} >= {_FROM_TWELVE}))"
    )
    n_cut, example, most, shortest = engine.run(
        f"SELECT count(*), min({column}), max({digits}), min({exponent}) FROM "
        f"(SELECT DISTINCT {column} FROM {table} WHERE {may_be})"
    )[0]
    if n_cut:
        as_long = f"regexp_full_match({column}, '-?[0-9]{{{shortest + 1},}}(\\.0*)?')"
        n_whole = engine.value(f"SELECT count(DISTINCT {column}) FROM {table} WHERE {as_long}")
        if 100 * n_cut > n_cut + n_whole:
            warning = (
                f"WARNING: {n_cut:,} {kind} ids such as {example} have lost digits. Excel or another program has cut these "
                f"ids to {most} digit{'s' * (most > 1)}. Different {kind}s may have become one. Export them as text"
            )
            return may_be, [warning]
    return "false", []


def _rounded(engine: Engine, table: str, column: str, kind: str) -> list[str]:
    """A warning where all ids of more than 15 digits have zeros behind the 15th, as Excel leaves them."""
    n_long, n_rounded, example = engine.run(
        f"SELECT count(*), count(*) FILTER (regexp_full_match({column}, '-?[0-9]{{15}}0+')), min({column}) FROM "
        f"(SELECT DISTINCT {column} FROM {table} WHERE regexp_full_match({column}, '-?[1-9][0-9]{{15,}}'))"
    )[0]
    if n_long <= _FEW or n_rounded < n_long:
        return []
    return [
        f"WARNING: all {n_long:,} {kind} ids of more than 15 digits end with zeros, such as {example}. Excel keeps 15 digits "
        f"of a number. Different {kind}s may have become one. If Excel wrote the file, export the ids as text"
    ]


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
    if n_found < n_items and _match_without_zeros(engine):
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
    return f"{source.name or source.path.name} has {n_found:,} of the {n_items:,} items"


def unmatched(path: Path, n_found: int, n_items: int, wanted: Path, only_wanted: list[str], only_there: list[str]) -> str:
    """The message where a file has fewer than half of the items."""
    sides = [", ".join(map(repr, ids[:2])) or "none" for ids in (only_wanted, only_there)]
    return (
        f"{path} has {n_found:,} of the {n_items:,} items of {wanted}. Ids that only {wanted.name} has: {sides[0]}. "
        f"Ids that only {path.name} has: {sides[1]}. Give both files the same ids, or name the right file or column. If this "
        f"is as it should be, give {option('allow-unmatched', True)}"
    )


def _found(engine: Engine) -> int:
    return engine.value("SELECT count(*) FROM items SEMI JOIN about USING (name)")


def _match_without_zeros(engine: Engine) -> bool:
    """Rename the rows of `about` like the items, without regard to leading zeros; False where that would be a guess."""
    with_zeros = []
    for table in ("items", "about"):
        n_zeros, n_distinct, n_without = engine.run(
            "SELECT count(*) FILTER (name LIKE '0_%'), count(DISTINCT name), count(DISTINCT ltrim(name, '0')) "
            f"FROM {table} WHERE {_DIGITS.format(table)}"
        )[0]
        if n_distinct != n_without:
            return False
        with_zeros.append(n_zeros > 0)
    if all(with_zeros) or not any(with_zeros):
        return False
    engine.run(
        "UPDATE about SET name = items.name FROM items WHERE ltrim(items.name, '0') = ltrim(about.name, '0') "
        f"AND {_DIGITS.format('items')} AND {_DIGITS.format('about')}"
    )
    return True
