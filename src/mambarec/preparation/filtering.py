"""Which interactions a data set keeps: minimum rating, no repeated pairs, k-core; and the numbers of its users and items.

Tables of the engine, in the order in which they are made:
    raw            user_id, item_id (original), rating, time; in the order of the file, which is that of rowid
    core           row (rowid of raw), u, i (codes of the ids), rating, time
    kept           row, userID, itemID (numbers from 0), rating, time
    users, items   number, name (the original id), u or i

The codes u and i are the ranks of the ids in their order, so they do not depend on the order of the file.
"""

from mambarec.base.errors import DataError
from mambarec.preparation.engine import Engine
from mambarec.preparation.readers.ids import is_missing, no_id, trimmed, unify
from mambarec.preparation.report import LISTED, Count, Report, Source

RAW = "CREATE TABLE raw (user_id VARCHAR, item_id VARCHAR, rating DOUBLE, time BIGINT)"
_REWRITE = 0.1  # a round of the k-core that takes away more than this writes the table anew
_SIDES = ("u", "i")


def filter_interactions(engine: Engine, report: Report, min_rating: float | None, k: int) -> None:
    """Make `kept`, `users` and `items` from `raw`, which is dropped; DataError when nothing is left.

    First, rows without a user or an item are left out. Then ratings below `min_rating` are dropped. Then each repeated pair
    keeps its last row only, by time and then by place in the file. Last, users and items with fewer than `k` interactions are
    dropped, again and again, until each has `k` or more.
    """
    _code(engine, report.sources[0] if report.sources else None)
    report.left("read", _count(engine))
    if min_rating is not None:
        engine.run(f"DELETE FROM core WHERE rating < {min_rating}")
        report.left(f"rating below {min_rating:g}", _count(engine))
    _drop_repeated(engine)
    report.left("repeated pair, all but the last", _count(engine))
    if k > 1:
        reduce_to_core(engine, k)
        report.left(f"user or item with fewer than {k} ({k}-core)", _count(engine))
    if not _count(engine).interactions:
        reasons = "; ".join(f"{row['interactions']:,} by {row['reason']}" for row in report.dropped())
        left_out = [f"{tally} left out, {why}" for source in report.sources for why, tally in source.left_out.items()]
        reasons = "; ".join([*left_out, reasons]) if left_out else reasons
        raise DataError(f"no interaction is left of {report.steps[0][1].interactions:,}: {reasons}. Filter less")
    _number(engine)


def _code(engine: Engine, source: Source | None) -> None:
    """Integers in place of the original ids: what follows needs a fraction of the memory."""
    for kind, code in (("user", "u"), ("item", "i")):
        engine.run(
            f"CREATE TABLE spelled AS SELECT raw, {trimmed('raw')} AS name FROM (SELECT DISTINCT {kind}_id AS raw FROM raw); "
            f"DELETE FROM spelled WHERE {is_missing('name')}"
        )
        unify(engine, "spelled", "name", kind, source)
        engine.run(
            f"CREATE TABLE coded_{kind}s AS SELECT raw, name, (dense_rank() OVER (ORDER BY name))::INTEGER AS {code} "
            f"FROM spelled; "
            f"CREATE TABLE raw_{kind}s AS SELECT DISTINCT name, {code} FROM coded_{kind}s; DROP TABLE spelled"
        )
    engine.run(
        "CREATE TABLE core AS SELECT raw.rowid AS row, u, i, rating, time "
        "FROM raw JOIN coded_users ON coded_users.raw = user_id JOIN coded_items ON coded_items.raw = item_id",
        progress="joining",
    )
    if source and engine.value("SELECT count(*) FROM core") < engine.value("SELECT count(*) FROM raw"):
        _leave_out(engine, source)
    engine.run("DROP TABLE raw; DROP TABLE coded_users; DROP TABLE coded_items")


def _leave_out(engine: Engine, source: Source) -> None:
    """Say in `source` which rows have no user or no item."""
    no_user, no_item = "user_id NOT IN (SELECT raw FROM coded_users)", "item_id NOT IN (SELECT raw FROM coded_items)"
    for kind, condition in (
        ("user", f"user_id IS NULL OR {no_user}"),
        ("item", f"(user_id IS NOT NULL AND NOT {no_user}) AND (item_id IS NULL OR {no_item})"),
    ):
        for spelled, count, places in engine.run(
            f"SELECT coalesce({trimmed(f'{kind}_id')}, ''), count(*), min(rowid, {LISTED}) FROM raw "
            f"WHERE {condition} GROUP BY 1 ORDER BY 1"
        ):
            source.leave_out(no_id(kind, spelled), count, [line for line, _ in source.locate(places)])
            source.rows -= count


def _drop_repeated(engine: Engine) -> None:
    engine.run("CREATE TABLE repeated AS SELECT u, i FROM core GROUP BY u, i HAVING count(*) > 1", progress="repeated pairs")
    engine.run(
        "DELETE FROM core WHERE row IN (SELECT row FROM (SELECT row, row_number() OVER (PARTITION BY u, i ORDER BY time DESC, "
        "row DESC) AS age FROM core SEMI JOIN repeated USING (u, i)) WHERE age > 1)"
    )
    engine.run("DROP TABLE repeated")


def reduce_to_core(engine: Engine, k: int) -> None:
    """Drop users and items with fewer than `k` rows of `core`, in rounds, until each has k or more.

    A round that takes much away writes the table anew and counts again; the many rounds that take little subtract it.
    """
    _count_sides(engine)
    while True:
        weak = [engine.value(f"SELECT coalesce(sum(n), 0) FROM count_{side} WHERE n < {k}") for side in _SIDES]
        if not any(weak):
            break
        if sum(weak) > _REWRITE * engine.value("SELECT count(*) FROM core"):
            strong = " ".join(f"SEMI JOIN (SELECT {side} FROM count_{side} WHERE n >= {k}) USING ({side})" for side in _SIDES)
            engine.run(f"CREATE TABLE smaller AS SELECT * FROM core {strong}", progress=f"{k}-core")
            engine.run("DROP TABLE core; ALTER TABLE smaller RENAME TO core")
            _count_sides(engine)
        else:
            is_weak = " OR ".join(f"{side} IN (SELECT {side} FROM count_{side} WHERE n < {k})" for side in _SIDES)
            engine.run(f"CREATE OR REPLACE TABLE gone AS SELECT row, u, i FROM core WHERE {is_weak}")
            engine.run("DELETE FROM core WHERE row IN (SELECT row FROM gone)")
            for side in _SIDES:
                engine.run(
                    f"DELETE FROM count_{side} WHERE n < {k}; "
                    f"UPDATE count_{side} SET n = count_{side}.n - lost.n FROM (SELECT {side}, count(*) AS n FROM gone "
                    f"GROUP BY {side}) AS lost WHERE lost.{side} = count_{side}.{side}"
                )
    engine.run("DROP TABLE count_u; DROP TABLE count_i; DROP TABLE IF EXISTS gone")


def _count_sides(engine: Engine) -> None:
    for side in _SIDES:
        engine.run(f"CREATE OR REPLACE TABLE count_{side} AS SELECT {side}, count(*) AS n FROM core GROUP BY {side}")


def _number(engine: Engine) -> None:
    """Number users and items from 0 in order of their first appearance among what is kept, as MMRec does."""
    for table, code, raw_table in (("users", "u", "raw_users"), ("items", "i", "raw_items")):
        engine.run(
            f"CREATE TABLE {table} AS SELECT number, name, {code} FROM (SELECT {code}, "
            f"(row_number() OVER (ORDER BY min(row)) - 1)::INTEGER AS number FROM core GROUP BY {code}) "
            f"JOIN {raw_table} USING ({code})"
        )
    engine.run(
        "CREATE TABLE kept AS SELECT row, users.number AS userID, items.number AS itemID, rating, time "
        "FROM core JOIN users USING (u) JOIN items USING (i)"
    )
    engine.run("DROP TABLE core; DROP TABLE raw_users; DROP TABLE raw_items")


def _count(engine: Engine) -> Count:
    return Count(*engine.run("SELECT count(*), count(DISTINCT u), count(DISTINCT i) FROM core")[0])
