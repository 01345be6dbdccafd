"""Tables in files, CSV or Parquet, read by the engine: columns as text, with the lines that cannot be used counted."""

from collections.abc import Mapping
from pathlib import Path

from preparation.engine import Engine, named, quoted
from preparation.lines import check_expansion, first_lines, is_gz
from preparation.report import LISTED, Source
from utils.errors import DataError

_REASONS = {
    "MISSING COLUMNS": "too few fields",
    "TOO MANY COLUMNS": "too many fields",
    "CAST": "a field that is not a number",
    "INVALID ENCODING": "not UTF-8",
    "UNQUOTED VALUE": "a quote that does not end",
    "LINE SIZE OVER MAXIMUM": "too long",
}
_SEPARATORS = ",\t;|"


def is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def header(engine: Engine, source: Source) -> tuple[list[str], str]:
    """Names of a file's columns, and what separates them; '' for Parquet. DataError for an empty file."""
    if is_parquet(source.path):
        rows = engine.run(f"DESCRIBE SELECT * FROM read_parquet({quoted(source.path)})")
        return [row[0] for row in rows], ""
    lines = first_lines(source.path, 1)
    if not lines or not lines[0].strip():
        raise DataError(f"{source.path} is empty; expected a table with a header")
    separator = max(_SEPARATORS, key=lines[0].count)
    return [name.strip().strip('"') for name in lines[0].split(separator)], separator


def load(
    engine: Engine, source: Source, table: str, names: list[str], columns: Mapping[str, str], separator: str = ",", **csv: str
) -> None:
    """Create `table` from some columns of a file.

    names: of all the file's columns. columns: name in the table -> SQL over these, all text in a CSV. csv: further
    options of read_csv. A line that does not have the form counts as malformed.
    """
    selected = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
    if not separator:
        engine.run(
            f"CREATE TABLE {table} AS SELECT {selected} FROM read_parquet({quoted(source.path)})", progress=source.path.name
        )
        return
    types = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in names)
    options = {
        "columns": f"{{{types}}}",
        "auto_detect": "false",
        "header": "true",
        "delim": quoted(separator),
        "quote": "'\"'",
        "escape": "'\"'",
        "compression": "'gzip'" if is_gz(source.path) else "'none'",
        "ignore_errors": "true",
        "store_rejects": "true",
        "rejects_limit": "0",
        **csv,
    }
    check_expansion(source.path)
    arguments = ", ".join(f"{key} = {value}" for key, value in options.items())
    try:
        engine.run(
            f"CREATE TABLE {table} AS SELECT {selected} FROM read_csv({quoted(source.path)}, {arguments})",
            progress=source.path.name,
        )
    except DataError as error:
        raise DataError(f"{source.path} cannot be read: {error}. If it is cut short or damaged, get it again") from None
    rejected = "SELECT line, any_value(error_type) AS reason, any_value(csv_line) AS content FROM reject_errors GROUP BY line"
    for line, reason, content in engine.run(f"{rejected} ORDER BY line LIMIT {LISTED}"):
        source.reject(line, _REASONS.get(reason, reason.lower()), content)
    source.n_malformed = engine.value("SELECT count(DISTINCT line) FROM reject_errors")
    engine.run("DROP TABLE reject_errors; DROP TABLE reject_scans")


def drop_unusable(engine: Engine, source: Source, table: str, reasons: Mapping[str, str]) -> None:
    """Count and drop the rows for which one of these SQL conditions holds: condition -> reason."""
    reason = "CASE " + " ".join(f"WHEN {condition} THEN {quoted(text)}" for condition, text in reasons.items()) + " END"
    condition = " OR ".join(f"({condition})" for condition in reasons)
    count = engine.value(f"SELECT count(*) FROM {table} WHERE {condition}")
    if count:
        rows = engine.run(f"SELECT {reason}, columns(*)::VARCHAR FROM {table} WHERE {condition} LIMIT {LISTED}")
        before = source.n_malformed
        for why, *values in rows:
            source.reject(None, why, ", ".join("" if value is None else value for value in values))
        source.n_malformed = before + count
        engine.run(f"DELETE FROM {table} WHERE {condition}")
    source.rows = engine.value(f"SELECT count(*) FROM {table}")


def column(names: list[str], wanted: str, source: Source, option: str) -> str:
    """The SQL name of a column; DataError where the file does not have it."""
    if wanted not in names:
        raise DataError(f"{source.path} has no column '{wanted}' ({option}); it has: {', '.join(names)}")
    return named(wanted)
