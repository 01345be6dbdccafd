"""Training, validation and test: the table `kept` of the engine becomes `labelled`, with x_label 0, 1, 2.

random           per user, shuffled: of fewer than 10 interactions the last two are validation and test; of others a fifth
                 (rounded down) is held out, half of it (rounded down) validation, the rest test. MMRec's rule.
user-time        the same numbers, the latest of each user held out
leave-one-out    the last of each user is test, the one before validation
global-time      8:1:1 by time over all users; what has the same time falls into the same part
cold-item        all interactions of a tenth of the items are validation, of another tenth test
cold-and-warm    the same, and of the other items' interactions those that `random` holds out, so both kinds can be compared

Users with fewer than 3 interactions are in training only, where the rule goes by users. What is shuffled is put in the order
of an MD5 of the seed and of the ranks of the ids: the same seed gives the same split, whatever the machine, the version of the
engine and the order of the file. Interactions of a user at the same time are shuffled in this way too.
"""

from mambarec.base.errors import DataError
from mambarec.base.words import option
from mambarec.preparation.engine import Engine
from mambarec.preparation.report import Report

PARTS = ("train", "valid", "test")
_FIFTH = (
    "CASE WHEN n < 3 THEN 0 WHEN n < 10 THEN 1 ELSE n // 5 // 2 END",
    "CASE WHEN n < 3 THEN 0 WHEN n < 10 THEN 1 ELSE n // 5 - n // 5 // 2 END",
)
_ONE = ("CASE WHEN n < 3 THEN 0 ELSE 1 END",) * 2
SPLITS = ("random", "user-time", "leave-one-out", "global-time", "cold-item", "cold-and-warm")
NEED_TIME = ("user-time", "global-time")


def split_interactions(engine: Engine, split: str, seed: int, report: Report | None = None) -> dict[str, int]:
    """Make `labelled` from `kept`, which is dropped; returns how many interactions each part has.

    report: gets a note where interactions have the same time. DataError when a part would be empty.
    """
    if split == "global-time":
        _split_by_time(engine)
    elif split in ("cold-item", "cold-and-warm"):
        _split_by_items(engine, seed)
        if split == "cold-and-warm":
            _hold_out_warm(engine, seed)
    else:
        shuffled = f"md5_number('{seed} ' || u || ' ' || i), i"
        order, held_out = {
            "random": (shuffled, _FIFTH),
            "user-time": (f"time, {shuffled}", _FIFTH),
            "leave-one-out": (f"time, {shuffled}", _ONE),
        }[split]
        _split_by_users(engine, order, *held_out)
    counts = dict(engine.run("SELECT x_label, count(*) FROM labelled GROUP BY x_label"))
    for label, part in enumerate(PARTS):
        if not counts.get(label):
            raise DataError(f"{option('split', split)} leaves nothing for {part}; filter less, or choose another split")
    engine.run("DROP TABLE kept")
    check_no_leak(engine, split)
    if report and split in ("user-time", "leave-one-out"):
        _note_ties(engine, report)
    return {part: counts[label] for label, part in enumerate(PARTS)}


def _held_out(n_valid: str, n_test: str) -> str:
    """The part of a user's interaction number `place` of n, in SQL: the last ones are test, those before validation."""
    parts = f"WHEN place > n - {n_test} THEN 2 WHEN place > n - {n_test} - {n_valid} THEN 1 ELSE 0"
    return f"(CASE {parts} END)::TINYINT AS x_label"


def _split_by_users(engine: Engine, order: str, n_valid: str, n_test: str) -> None:
    """order: of each user's interactions, the held-out ones last. n_valid, n_test: of a user who has n."""
    engine.run(
        f"""CREATE TABLE labelled AS SELECT row, userID, itemID, rating, time,
            {_held_out(n_valid, n_test)}
            FROM (SELECT kept.*, row_number() OVER (PARTITION BY userID ORDER BY {order}) AS place,
                  count(*) OVER (PARTITION BY userID) AS n FROM kept JOIN users ON users.number = userID
                  JOIN items ON items.number = itemID)""",
        progress="splitting",
    )


def _note_ties(engine: Engine, report: Report) -> None:
    """Say how many interactions share their time with others of their user, so that the seed decides which is later."""
    tied, parted = engine.run(
        "SELECT coalesce(sum(n), 0), count(*) FILTER (parts > 1) FROM (SELECT count(*) AS n, count(DISTINCT x_label) AS parts "
        "FROM labelled GROUP BY userID, time HAVING count(*) > 1)"
    )[0]
    if tied:
        total = engine.value("SELECT count(*) FROM labelled")
        report.note(
            f"{tied:,} of {total:,} interactions ({tied / total:.1%}) have the same time as another of their user; "
            f"{option('seed')} decides their order. {parted:,} such groups were divided between training, validation and test"
        )


def _split_by_time(engine: Engine) -> None:
    """Training up to the first time by which 80% have happened, validation up to that of 90%."""
    engine.run(
        "CREATE TABLE times AS SELECT time, sum(n) OVER (ORDER BY time) AS so_far "
        "FROM (SELECT time, count(*) AS n FROM kept GROUP BY time)"
    )
    ends = [f"(SELECT min(time) FROM times WHERE 10 * so_far >= {tenths} * (SELECT count(*) FROM kept))" for tenths in (8, 9)]
    engine.run(
        f"""CREATE TABLE labelled AS
            SELECT *, (CASE WHEN time <= {ends[0]} THEN 0 WHEN time <= {ends[1]} THEN 1 ELSE 2 END)::TINYINT AS x_label
            FROM kept"""
    )
    engine.run("DROP TABLE times")


def _split_by_items(engine: Engine, seed: int) -> None:
    engine.run(
        f"""CREATE TABLE labelled AS SELECT kept.*, part.x_label FROM kept JOIN (
                SELECT number,
                    (CASE WHEN place <= held_out THEN 2 WHEN place <= 2 * held_out THEN 1 ELSE 0 END)::TINYINT AS x_label
                FROM (SELECT number, row_number() OVER (ORDER BY md5_number('{seed} ' || i), i) AS place,
                      greatest(1, count(*) OVER () // 10) AS held_out FROM items)
            ) AS part ON part.number = itemID"""
    )


def _hold_out_warm(engine: Engine, seed: int) -> None:
    """Give of each user's interactions in training those to validation and test that the split `random` would."""
    engine.run(
        f"""CREATE TABLE warm AS SELECT row, {_held_out(*_FIFTH)}
            FROM (SELECT row,
                  row_number() OVER (PARTITION BY userID ORDER BY md5_number('{seed} ' || u || ' ' || i), i) AS place,
                  count(*) OVER (PARTITION BY userID) AS n FROM labelled JOIN users ON users.number = userID
                  JOIN items ON items.number = itemID WHERE x_label = 0);
            UPDATE labelled SET x_label = warm.x_label FROM warm WHERE labelled.row = warm.row; DROP TABLE warm"""
    )


def check_no_leak(engine: Engine, split: str) -> None:
    """RuntimeError where `labelled` has a pair in two parts, or what its split must keep apart is not."""
    before = "(min(time) FILTER (x_label = {0})) < (max(time) FILTER (x_label < {0}))"
    of_user = f"SELECT 1 FROM labelled GROUP BY userID HAVING {before.format(1)} OR {before.format(2)}"
    leaks = {
        "all": "SELECT 1 FROM labelled GROUP BY userID, itemID HAVING count(*) > 1",
        "user-time": of_user,
        "leave-one-out": of_user,
        "global-time": f"SELECT 1 FROM labelled HAVING {before.format(1)} OR {before.format(2)}".replace(") < (", ") <= ("),
        "cold-item": "SELECT 1 FROM labelled GROUP BY itemID HAVING count(DISTINCT x_label) > 1",
    }
    for name in ("all", split):
        if name in leaks and engine.run(f"{leaks[name]} LIMIT 1"):
            raise RuntimeError(f"the split '{split}' leaks: {leaks[name]}")
