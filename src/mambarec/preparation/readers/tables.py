"""Tables in files, CSV or Parquet, read by the engine: columns as text, with the lines that cannot be used counted."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mambarec.base.errors import ConfigError, DataError, told_as
from mambarec.base.text import trimmed_text
from mambarec.base.words import is_python, option
from mambarec.preparation.engine import Engine, file_to_read, quoted
from mambarec.preparation.readers.layout import (
    LINE,
    Layout,
    check_is_table,
    find_layout,
    first_lines,
    plain_copy,
    rows,
    separator_hint,
)
from mambarec.preparation.readers.lines import is_gz
from mambarec.preparation.report import LISTED, Source

_SAMPLE = 100  # lines that show whether the first has names
_REASONS = {
    "MISSING COLUMNS": "too few fields",
    "TOO MANY COLUMNS": "too many fields",
    "INVALID ENCODING": "not UTF-8",
    "UNQUOTED VALUE": "a quote that does not end",
    "LINE SIZE OVER MAXIMUM": "too long",
}
NO_RATING = {"rating IS NULL OR NOT isfinite(rating)": "rating is not a number"}


def rating(text: str, decimal_comma: bool = False) -> str:
    """SQL for the number in a column of text; NULL where it is none."""
    number = f"replace({text}, ',', '.')" if decimal_comma else f"trim({text})"
    return f"CASE WHEN NOT contains({text}, '_') THEN TRY_CAST({number} AS DOUBLE) END"  # 1_0 is no ten


def is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def layout_of(
    engine: Engine,
    source: Source,
    names: list[str] | None = None,
    encoding: str | None = None,
    wanted: Sequence[str] = (),
) -> Layout:
    """How a file holds its table; separator '' for Parquet. names: of the columns of a text file without a header.

    wanted: names of columns, by which a header is found that has other lines above it. DataError then, and for a file that is
    empty or not text. ConfigError where names are given to Parquet or a DataFrame.
    """
    if names is not None and (source.name or is_parquet(source.path)):
        kind = "a DataFrame" if source.name else "Parquet"
        raise ConfigError(
            f"{option('columns')} is for text files without a header. {source.path} is {kind}, whose columns have names: leave "
            f"{option('columns')} out"
        )
    if not is_parquet(source.path):
        if encoding is None:
            check_is_table(source.path)
        return find_layout(source, engine.spill, names, encoding, wanted)
    tree = engine.run(f"SELECT name, coalesce(num_children, 0) FROM parquet_schema({file_to_read(source.path)})")
    lines = engine.value(f"SELECT sum(num_rows) FROM parquet_file_metadata({file_to_read(source.path)})")
    types = [kind for _, kind, *_ in engine.run(f"DESCRIBE SELECT * FROM {_parquet(source.path)}")]
    lists = frozenset(place for place, kind in enumerate(types) if kind.endswith("[]"))
    return Layout(source.path, _top(tree), "", lines=lines, lists=lists)


def _parquet(path: Path) -> str:
    return f"read_parquet({file_to_read(path)}, binary_as_string = true)"


def _top(tree: list[tuple[str, int]]) -> list[str]:
    """The names of a Parquet file's columns, without those of nested fields; the tree has its root first."""
    names, nested = [], 0
    for name, n_children in tree[1:]:
        if not nested:
            names.append(name)
        nested += n_children - bool(nested)
    return names


def no_header() -> str:
    """What to do with a file without a header."""
    names = ("user", "item", "rating", "time")
    given = option("columns", *(names if is_python() else [",".join(names)]))
    return (
        f"The first line looks like data. If the file has no header, name its columns by {given}. In the file of "
        f"{option('items')}, write the names into a line at the top"
    )


def is_without_header(layout: Layout) -> bool:
    """Whether the first line of a text file looks like data: it has numbers, or what stands in the lines below too."""
    if not layout.separator or not layout.has_header or layout.names == [f"{n}" for n in range(len(layout.names))]:
        return False
    if any(re.fullmatch(r"[-+]?[0-9]+([.,][0-9]+)?", name) for name in layout.names):
        return True
    below = [line.split(layout.separator) for line in first_lines(layout.path, _SAMPLE)[1:]]
    return any(field.strip(' "') == name != "" for fields in below for field, name in zip(fields, layout.names, strict=False))


def seems_header(layout: Layout) -> bool:
    """Whether the first line of a text file is read as data, and looks like a header.

    A header has the names that were given, or words without digits that do not stand in the column below them.
    """
    if not layout.separator or layout.has_header:
        return False
    first, *below = [
        [field.strip(" \"'") for field in line.split(layout.separator)] for line in first_lines(layout.path, _SAMPLE)
    ]
    if first == layout.names:
        return True
    are_words = all(re.fullmatch(r"[^\W\d][^\d]*", field) for field in first)
    return (
        are_words
        and bool(below)
        and not any(field == name for fields in below for field, name in zip(fields, first, strict=False))
    )


def column(layout: Layout, wanted: str, source: Source, asked_by: str) -> str:
    """The SQL name of a column, text; DataError where the file does not have it, or twice. asked_by: who names it, in words."""
    places = [place for place, name in enumerate(layout.names) if name == wanted]
    if not places:
        if hint := separator_hint(layout.names, wanted):
            raise DataError(f"{source.path} has one column, {layout.names[0]!r}: {hint}")
        names = ", ".join(name or "(no name)" for name in layout.names if name != LINE)
        alike = [name for name in layout.names if trimmed_text(name).casefold() == trimmed_text(wanted).casefold()]
        hint = f". Did you mean '{alike[0]}'?" if alike else f". {no_header()}" if is_without_header(layout) else ""
        raise DataError(f"{source.path} has no column '{wanted}' ({asked_by}); it has: {names}{hint}")
    if len(places) > 1:
        numbers = " and ".join(str(place + 1) for place in places)
        raise DataError(f"{source.path} has the column '{wanted}' ({asked_by}) twice, as columns {numbers}; rename one of them")
    if places[0] in layout.lists:
        return f"array_to_string(c{places[0]}, ' ')"
    return f"c{places[0]}" if layout.separator else f"c{places[0]}::VARCHAR"


def load(engine: Engine, source: Source, table: str, layout: Layout, columns: Mapping[str, str]) -> None:
    """Create `table` from some columns of a file, in the order of its rows; a row that does not have the form is refused.

    columns: name in the table -> SQL over what `column` gives.
    """
    selected = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
    if not layout.separator:
        names = ", ".join(f"c{place}" for place in range(len(layout.names)))
        engine.run(
            f"CREATE TABLE {table} AS SELECT {selected} FROM {_parquet(source.path)} AS file({names})",
            progress=source.path.name,
        )
        source.locate = lambda places: _located_in_parquet(engine, source, names, places)
    elif not (layout.plain and _read(engine, source, table, layout, selected)):
        layout = plain_copy(layout, source, engine.spill)
        if not _read(engine, source, table, layout, selected):
            raise DataError(f"{source.path} cannot be read: the engine does not find its {layout.lines:,} rows")
    if layout.separator:
        source.locate = lambda places: _located(layout, places)
    source.rows = engine.value(f"SELECT count(*) FROM {table}")
    source.lines = layout.lines + (source.n_refused if layout.numbered else 0)


def _read(engine: Engine, source: Source, table: str, layout: Layout, selected: str) -> bool:
    """Whether the engine finds the rows of a text file that `layout` expects; else nothing is left of the attempt."""
    names = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(layout.names)))
    quote = quoted(layout.quote)
    options = {
        "columns": f"{{{names}}}",
        "auto_detect": "false",
        "header": str(layout.has_header).lower(),
        "delim": quoted(layout.separator),
        "quote": quote,
        "escape": quote,
        "compression": "'gzip'" if is_gz(layout.path) else "'none'",
        "ignore_errors": "true",
        "store_rejects": "true",
        "rejects_limit": "0",
    }
    arguments = ", ".join(f"{key} = {value}" for key, value in options.items())
    try:
        with told_as({layout.path: source.path}):  # which may be a copy
            engine.run(
                f"CREATE TABLE {table} AS SELECT {selected} FROM read_csv({file_to_read(layout.path)}, {arguments})",
                progress=source.path.name,
            )
    except DataError:
        if layout.numbered:
            raise
        return False
    n_rows = engine.value(f"SELECT count(*) FROM {table}")
    n_refused = engine.value("SELECT count(DISTINCT line) FROM reject_errors")
    fits = n_rows + n_refused == layout.lines and not (layout.quote and n_refused)
    if fits:
        _note_refused(engine, source)
    else:
        engine.run(f"DROP TABLE {table}")
    engine.run("DROP TABLE reject_errors; DROP TABLE reject_scans")
    return fits


def _note_refused(engine: Engine, source: Source) -> None:
    engine.run(
        "CREATE TABLE refused AS SELECT line, first(error_type) AS reason, first(csv_line) AS content "
        "FROM reject_errors GROUP BY line"
    )
    for reason, count in engine.run("SELECT reason, count(*) FROM refused GROUP BY reason ORDER BY min(line)"):
        rows_of_reason = engine.run(
            "SELECT line, content FROM refused WHERE reason = ? ORDER BY line LIMIT ?", [reason, LISTED]
        )
        source.refuse(_REASONS.get(reason, reason.lower()), count, rows_of_reason)
    engine.run("DROP TABLE refused")


def drop_unusable(engine: Engine, source: Source, table: str, reasons: Mapping[str, str]) -> None:
    """Refuse the rows for which one of these SQL conditions holds: condition -> reason."""
    if not reasons:
        return
    reason = "CASE " + " ".join(f"WHEN {condition} THEN {quoted(text)}" for condition, text in reasons.items()) + " END"
    condition = " OR ".join(f"({condition})" for condition in reasons)
    counts = engine.run(
        f"SELECT {reason} AS reason, count(*), min(rowid, {LISTED}) FROM {table} WHERE {condition} GROUP BY reason"
    )
    for why, count, places in sorted(counts, key=lambda one: one[2]):
        source.refuse(why, count, source.locate(places))
    if counts:
        engine.run(f"DELETE FROM {table} WHERE {condition}")
        source.rows = engine.value(f"SELECT count(*) FROM {table}")


def _located(layout: Layout, places: Sequence[int]) -> list[tuple[int | None, str]]:
    """Line and content of the usable rows at some places, counted from 0."""
    wanted = set(places)
    found: list[tuple[int | None, str]] = []
    usable = (row for row in rows(layout) if row.fields is not None)
    for place, row in enumerate(usable):
        if place in wanted:
            fields = row.fields or []
            found.append((int(fields[-1]), ",".join(fields[:-1])) if layout.numbered else (row.line, row.content))
            if len(found) == len(wanted):
                break
    return found


def _located_in_parquet(engine: Engine, source: Source, names: str, places: Sequence[int]) -> list[tuple[int | None, str]]:
    """Number, from 1, and content of the rows at some places."""
    numbers = ", ".join(map(str, places))
    found = engine.run(
        f"SELECT row, * EXCLUDE (row) FROM (SELECT row_number() OVER () - 1 AS row, columns(*)::VARCHAR FROM "
        f"{_parquet(source.path)} AS file({names})) WHERE row IN ({numbers}) ORDER BY row"
    )
    return [(row + 1, ", ".join("" if value is None else value for value in values)) for row, *values in found]
