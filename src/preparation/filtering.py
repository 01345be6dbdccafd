"""Which interactions a data set keeps: minimum rating, no repeated pairs, k-core; and the numbers of its users and items.

Tables of the engine, in the order in which they are made:
    raw            user_id, item_id (original), rating, time; in the order of the file, which is that of rowid
    core           row (rowid of raw), u, i (codes of the ids), rating, time
    kept           row, userID, itemID (numbers from 0), rating, time
    users, items   number, name (the original id)
"""

from preparation.engine import Engine
from preparation.report import Count, Report
from utils.errors import DataError

RAW = "CREATE TABLE raw (user_id VARCHAR, item_id VARCHAR, rating DOUBLE, time BIGINT)"
_REWRITE = 0.1  # a round of the k-core that takes away more than this writes the table anew
_SIDES = ("u", "i")


def filter_interactions(engine: Engine, report: Report, min_rating: float | None, k: int) -> None:
    """Make `kept`, `users` and `items` from `raw`, which is dropped; DataError when nothing is left.

    In this order: ratings below `min_rating` go; of a repeated pair the last stays, by time and then by place in the file;
    then all users and items with fewer than `k` interactions, until there are none.
    """
    _code(engine)
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
        raise DataError(f"no interaction is left of {report.steps[0][1].interactions:,}: {reasons}. Filter less")
    _number(engine)


def _code(engine: Engine) -> None:
    """Integers in place of the original ids: what follows needs a fraction of the memory."""
    for table, column, code in (("raw_users", "user_id", "u"), ("raw_items", "item_id", "i")):
        engine.run(
            f"CREATE TABLE {table} AS SELECT name, (row_number() OVER ())::INTEGER AS {code} "
            f"FROM (SELECT DISTINCT {column} AS name FROM raw)"
        )
    engine.run(
        "CREATE TABLE core AS SELECT raw.rowid AS row, u, i, rating, time "
        "FROM raw JOIN raw_users ON raw_users.name = user_id JOIN raw_items ON raw_items.name = item_id",
        progress="joining",
    )
    engine.run("DROP TABLE raw")


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
