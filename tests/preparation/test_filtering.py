"""k-core, repeated pairs, numbers and splits against naive loops."""

import hashlib
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mambarec.base.errors import DataError
from mambarec.preparation.engine import Engine
from mambarec.preparation.filtering import RAW, filter_interactions
from mambarec.preparation.report import Report
from mambarec.preparation.splits import SPLITS, check_no_leak, split_interactions

ROWS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(1, 5), st.integers(0, 6)), min_size=1, max_size=90)


def naive_filter(rows, min_rating, k):
    """[(user, item, rating, time)] that are kept, in the order of the file."""
    rows = [row for row in rows if row[2] >= min_rating]
    last = {}
    for place, (user, item, _, time) in enumerate(rows):
        if (user, item) not in last or time >= rows[last[user, item]][3]:
            last[user, item] = place
    rows = [row for place, row in enumerate(rows) if last[row[:2]] == place]
    while True:
        users, items = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
        kept = [row for row in rows if users[row[0]] >= k and items[row[1]] >= k]
        if len(kept) == len(rows):
            return rows
        rows = kept


def naive_split(rows, split, seed, ranks):
    """A label for each of the numbered rows [(user, item, rating, time)]. ranks: of the original ids, as dicts by number."""
    users, items = ranks
    labels = [0] * len(rows)
    if split == "global-time":
        times = sorted(row[3] for row in rows)
        ends = [next(t for t in times if 10 * sum(one <= t for one in times) >= tenths * len(times)) for tenths in (8, 9)]
        return [sum(row[3] > end for end in ends) for row in rows]
    if split in ("cold-item", "cold-and-warm"):
        shuffled = sorted({row[1] for row in rows}, key=lambda item: digest(f"{seed} {items[item]}"))
        held_out = max(1, len(shuffled) // 10)
        part = {item: 2 if place < held_out else 1 if place < 2 * held_out else 0 for place, item in enumerate(shuffled)}
        labels = [part[row[1]] for row in rows]
        if split == "cold-item":
            return labels
    of_user = defaultdict(list)
    for place, row in enumerate(rows):
        if labels[place] == 0:
            of_user[row[0]].append(place)
    for places in of_user.values():
        places.sort(key=lambda place: digest(f"{seed} {users[rows[place][0]]} {items[rows[place][1]]}"))
        if split not in ("random", "cold-and-warm"):
            places.sort(key=lambda place: rows[place][3])
        n = len(places)
        if n < 3:
            continue
        n_held = 2 if n < 10 or split == "leave-one-out" else n // 5
        n_valid = 1 if n < 10 or split == "leave-one-out" else n_held // 2
        for order, place in enumerate(places[n - n_held :]):
            labels[place] = 1 if order < n_valid else 2
    return labels


def digest(text):
    return int.from_bytes(hashlib.md5(text.encode()).digest(), "little"), text


def filtered(tmp_path, rows, min_rating=None, k=1) -> Engine:
    engine = Engine(tmp_path / "spill", 0.2, 1)
    engine.run(RAW)
    columns = zip(*((f"u{u}", f"i{i}", float(r), t) for u, i, r, t in rows), strict=True)
    engine.insert("raw", dict(zip(("user_id", "item_id", "rating", "time"), columns, strict=True)))
    filter_interactions(engine, Report([], {}), min_rating, k)
    return engine


@settings(max_examples=12, deadline=None)
@given(rows=ROWS, min_rating=st.integers(1, 4), k=st.integers(1, 4))
def test_what_is_kept_and_its_numbers_are_those_of_a_naive_loop(tmp_path_factory, rows, min_rating, k):
    tmp_path = tmp_path_factory.getbasetemp()
    expected = naive_filter(rows, min_rating, k)
    if not expected:
        with pytest.raises(DataError, match="no interaction is left"):
            filtered(tmp_path, rows, min_rating, k)
        return
    users = {user: number for number, user in enumerate(dict.fromkeys(row[0] for row in expected))}
    items = {item: number for number, item in enumerate(dict.fromkeys(row[1] for row in expected))}
    with filtered(tmp_path, rows, min_rating, k) as engine:
        found = engine.run("SELECT userID, itemID, rating, time FROM kept ORDER BY row")
        assert found == [(users[u], items[i], r, t) for u, i, r, t in expected]
        assert list(engine.names("users")) == [f"u{user}" for user in users]
        assert list(engine.names("items")) == [f"i{item}" for item in items]


def chain(length):
    """A path of users and items that a 2-core takes away link by link, and a square that stays."""
    links = [(n // 2 + n % 2, n // 2, 1, 0) for n in range(length)]
    return [*links, *((100 + u, 100 + i, 1, 0) for u in range(2) for i in range(2))] + [
        (200 + n, 200 + n % 9, 1, 0) for n in range(60)
    ]


def test_a_core_that_takes_many_rounds_is_reached(tmp_path):
    rows = chain(30) + [(300 + u, 300 + i, 1, 0) for u in range(20) for i in range(20)]
    with filtered(tmp_path, rows, k=2) as engine:
        kept = {
            (u, i)
            for u, i in engine.run(
                "SELECT users.name, items.name FROM kept JOIN users ON userID = users.number "
                "JOIN items ON itemID = items.number"
            )
        }
    assert kept == {(f"u{u}", f"i{i}") for u, i, _, _ in naive_filter(rows, 1, 2)} and len(kept) == 404


@pytest.mark.parametrize("split", SPLITS)
@settings(max_examples=6, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 24), st.just(1), st.integers(0, 9)), min_size=30, max_size=90),
    seed=st.integers(0, 3),
)
def test_a_split_is_that_of_a_naive_loop_and_leaks_nothing(tmp_path_factory, split, rows, seed):
    with filtered(tmp_path_factory.getbasetemp(), rows) as engine:
        kept = engine.run("SELECT userID, itemID, rating, time FROM kept ORDER BY row")
        of_read = [sorted({f"{kind}{row[place]}" for row in rows}) for place, kind in enumerate("ui")]
        ranks = [
            {number: names.index(name) + 1 for number, name in enumerate(engine.names(table))}
            for names, table in zip(of_read, ("users", "items"), strict=True)
        ]
        expected = naive_split(kept, split, seed, ranks)
        if set(expected) != {0, 1, 2}:
            with pytest.raises(DataError, match="leaves nothing for"):
                split_interactions(engine, split, seed)
            return
        counts = split_interactions(engine, split, seed)
        found = engine.run("SELECT userID, itemID, time, x_label FROM labelled ORDER BY row")
    assert [label for *_, label in found] == expected
    assert list(counts.values()) == [expected.count(label) for label in range(3)]
    assert len({(user, item) for user, item, *_ in found}) == len(found)
    parts = [[row for row in found if row[3] == label] for label in range(3)]
    if split == "global-time":
        assert max(row[2] for row in parts[0]) < min(row[2] for row in parts[1])
        assert max(row[2] for row in parts[1]) < min(row[2] for row in parts[2])
    if split == "cold-item":
        items = [{row[1] for row in part} for part in parts]
        assert not items[0] & items[1] and not items[0] & items[2] and not items[1] & items[2]


@pytest.mark.parametrize(
    ("n", "valid", "test"), [(2, 0, 0), (3, 1, 1), (9, 1, 1), (10, 1, 1), (14, 1, 1), (15, 1, 2), (20, 2, 2), (29, 2, 3)]
)
def test_the_random_split_holds_out_what_mmrec_does(tmp_path, n, valid, test):
    rows = [(0, item, 1, 0) for item in range(n)] + [(1, item, 1, 0) for item in range(40)]
    with filtered(tmp_path, rows) as engine:
        split_interactions(engine, "random", 5)
        labels = dict(engine.run("SELECT x_label, count(*) FROM labelled WHERE userID = 0 GROUP BY x_label"))
    assert labels == {label: count for label, count in enumerate((n - valid - test, valid, test)) if count}


@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("random", "(0, 0, 0, 1, 0), (1, 0, 0, 2, 2)"),
        ("user-time", "(0, 0, 0, 9, 0), (1, 0, 1, 2, 2)"),
        ("global-time", "(0, 0, 0, 5, 0), (1, 1, 1, 5, 1)"),
        ("cold-item", "(0, 0, 0, 1, 0), (1, 1, 0, 2, 1)"),
    ],
)
def test_a_leak_is_seen(tmp_path, split, rows):
    with Engine(tmp_path / "spill", 0.2, 1) as engine:
        engine.run(f"CREATE TABLE labelled AS SELECT * FROM (VALUES {rows}) AS t(row, userID, itemID, time, x_label)")
        with pytest.raises(RuntimeError, match="leaks"):
            check_no_leak(engine, split)
