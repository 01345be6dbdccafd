"""Times as SQL: numbers and dates of any form become exact decimals, so that their order is that of the moments.

A date becomes seconds since 1970 in UTC, its offset or zone applied and every fraction kept. A number stays as it is, whatever
its unit. Only where a column has two units, or numbers among dates, all become seconds.
"""

from mambarec.base.words import amount, listed
from mambarec.preparation.engine import Engine
from mambarec.preparation.report import NO_DATE, Source

TYPE = "DECIMAL(38, 18)"
NO_TIME = {"time IS NULL": NO_DATE}
_NUMBER, _NO_ZONE = 32000, 32001  # in the column `zone`, which otherwise has minutes ahead of UTC
_DAYS = (20_000, 80_000)  # serial days of Excel from 1954 to 2119
_SECONDS = (630_000_000, 4_200_000_000)  # from 1989 to 2103
_FEW = 0.01  # numbers that are no times, for each that is one: so many do not keep the others from being times
_UNITS = {"seconds": 0, "milliseconds": 3, "microseconds": 6, "nanoseconds": 9}
_ABBREVIATION = "(?i)[0-9] *([A-FH-TV-Z][A-Z]+|G[A-LN-Z][A-Z]*|U[A-SU-Z][A-Z]*)$"  # but UTC and GMT
_ZONE = r"[0-9]:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?\s*[A-Za-z+-]"


def columns(text: str) -> dict[str, str]:
    """SQL for the columns `time`, whole numbers, and `other`, the text where it is none; `read` goes on from there.

    Most columns of times have nothing else, and exact decimals would cost half of a preparation.
    """
    marks = "'.'", "'_'", "'e'", "'x'", "'b'", "'o'"  # of fractions, of 1_000, 1e3, 0x1F and their like: `exact` looks at these
    has_mark = " OR ".join(f"contains(lower({text}), {mark})" for mark in marks)
    whole = f"CASE WHEN NOT ({has_mark}) THEN TRY_CAST({text} AS BIGINT) END"
    return {"time": whole, "other": f"CASE WHEN {whole} IS NULL THEN {text} END"}


def read(engine: Engine, table: str, decimal_comma: bool = False) -> None:
    """Replace `other` in a table that `columns` has filled: by exact times and `zone` where there are any."""
    if not engine.value(f"SELECT count(other) FROM {table}"):
        engine.run(f"ALTER TABLE {table} DROP other")
        return
    found = exact("other", decimal_comma)
    engine.run(
        f"CREATE TABLE exact AS SELECT * EXCLUDE (other) REPLACE (coalesce(time::{TYPE}, {found['time']}) AS time), "
        f"(CASE WHEN time IS NOT NULL THEN {_NUMBER} ELSE {found['zone']} END)::SMALLINT AS zone FROM {table}",
        progress="times",
    )
    engine.run(f"DROP TABLE {table}; ALTER TABLE exact RENAME TO {table}")


def exact(text: str, decimal_comma: bool = False) -> dict[str, str]:
    """SQL for the columns `time` and `zone` of a column of text; time is NULL where the text is neither a number nor a date."""
    plain = f"CASE WHEN NOT contains({text}, '_') THEN {f'replace({text}, chr(44), chr(46))' if decimal_comma else text} END"
    number = f"TRY_CAST({plain} AS {TYPE})"
    date = f"regexp_replace(trim({text}), '([0-9])t([0-9].*)', '\\1T\\2')"
    date = f"regexp_replace(regexp_replace({date}, '([0-9])z$', '\\1Z'), '(:[0-9]+),([0-9])', '\\1.\\2')"
    date = f"regexp_replace({date}, '\\s+([+-][0-9])', '\\1')"
    # of 98-01-02 nobody knows the century, of PST in July and of CST not the offset
    known = f"regexp_matches({date}, '^[0-9]{{4}}[^0-9]') AND NOT regexp_matches({date}, '{_ABBREVIATION}')"
    date = f"CASE WHEN {known} THEN {date} END"
    moment = f"epoch_us(TRY_CAST({date} AS TIMESTAMPTZ))"
    rest = f"TRY_CAST('0.000000' || regexp_extract({date}, '\\.[0-9]{{6}}([0-9]+)', 1) AS {TYPE})"  # below a microsecond
    ahead = f"(epoch_us(TRY_CAST({date} AS TIMESTAMP)) - {moment}) // 60000000"
    return {
        "time": f"coalesce({number}, CAST({moment}::DECIMAL(19, 0) * 0.000001::DECIMAL(7, 6) AS {TYPE}) + {rest})",
        "zone": f"(CASE WHEN {number} IS NOT NULL THEN {_NUMBER} WHEN regexp_matches({date}, '{_ZONE}') THEN {ahead} "
        f"ELSE {_NO_ZONE} END)::SMALLINT",
    }


def settle(engine: Engine, source: Source, table: str) -> None:
    """Give the column `time` of a table one unit and the narrowest type, and drop `zone`; say in `source` what was found."""
    if not engine.run(f"SELECT 1 FROM duckdb_columns() WHERE table_name = '{table}' AND column_name = 'zone'"):
        _one_unit(engine, source, table, "true", 0)
        return
    zones = dict(engine.run(f"SELECT zone, count(*) FROM {table} GROUP BY zone ORDER BY zone"))
    n_numbers, n_without = zones.pop(_NUMBER, 0), zones.pop(_NO_ZONE, 0)
    n_dates = n_without + sum(zones.values())
    if zones:
        offsets = ", ".join(f"{_offset(minutes)} in {count:,}" for minutes, count in zones.items())
        source.note(f"UTC offsets of times are applied: {offsets}")
        if n_without:
            source.note(f"times without an offset are read as UTC: {n_without:,} of {n_dates:,}")
    if n_numbers:
        _one_unit(engine, source, table, f"zone = {_NUMBER}", n_dates)
    engine.run(f"ALTER TABLE {table} DROP zone")
    _narrow(engine, table)


def _narrow(engine: Engine, table: str) -> None:
    if engine.value(f"SELECT bool_and(time = trunc(time) AND abs(time) < 9e18::{TYPE}) FROM {table}"):
        engine.run(f"ALTER TABLE {table} ALTER time TYPE BIGINT")


def _one_unit(engine: Engine, source: Source, table: str, is_number: str, n_dates: int) -> None:
    """Make all numbers seconds where they are of two units, each between 1989 and 2103, or where there are dates."""
    conditions = {unit: f"time BETWEEN {_SECONDS[0]}e{power} AND {_SECONDS[1]}e{power}" for unit, power in _UNITS.items()}
    in_seconds = {unit: f"time::DECIMAL(29, 9) * 1e-{power}::DECIMAL(10, 9)" for unit, power in _UNITS.items()}
    if n_dates:
        conditions["days"] = f"time BETWEEN {_DAYS[0]} AND {_DAYS[1]}"
        in_seconds["days"] = "(time - 25569) * 86400"
    cases = " ".join(f"WHEN {condition} THEN '{unit}'" for unit, condition in conditions.items())
    numbers = f"FROM {table} WHERE {is_number}"
    units = dict(engine.run(f"SELECT CASE {cases} ELSE '' END AS unit, count(*) {numbers} GROUP BY unit ORDER BY unit"))
    others = units.pop("", 0)
    if not units or (not n_dates and len(units) < 2):
        return
    if not n_dates and others > _FEW * sum(units.values()):
        kinds, rest = listed(list(units)), f"{amount(others, 'number')} that cannot be a time"
        source.note(f"numbers that may be times in {kinds} stay as they are, beside {rest}")
        return
    if others:
        source.note(f"numbers among times that are no time from 1989 to 2103, and stay as they are: {others:,}")
    changes = " ".join(f"WHEN {conditions[unit]} THEN CAST({in_seconds[unit]} AS {TYPE})" for unit in units)
    engine.run(f"ALTER TABLE {table} ALTER time TYPE {TYPE}")
    engine.run(f"UPDATE {table} SET time = CASE {changes} ELSE time END WHERE {is_number}")
    if not n_dates:
        _narrow(engine, table)
    found = ", ".join(
        [*(f"{count:,} in {unit}" for unit, count in units.items()), *([f"{n_dates:,} dates"] if n_dates else [])]
    )
    source.note(f"times of several kinds become seconds: {found}")


def settle_text(engine: Engine, table: str) -> None:
    """Write the column `time` as text without the zeros at its end, where it is no whole number."""
    if engine.value(f"SELECT typeof(time) FROM {table} LIMIT 1") == TYPE.replace(" ", ""):
        engine.run(f"ALTER TABLE {table} ALTER time TYPE VARCHAR USING rtrim(rtrim(time::VARCHAR, '0'), '.')")


def _offset(minutes: int) -> str:
    if not minutes:
        return "Z"
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
