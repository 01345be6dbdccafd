"""Times of any form keep their order and every digit; offsets and units are applied and said."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mambarec.preparation.engine import Engine
from mambarec.preparation.readers import times
from mambarec.preparation.report import Source

MICROSECONDS = st.integers(-(10**15), 4 * 10**15)  # from 1938 to 2096
ZONES = st.sampled_from([None, 0, 120, -210, 330, 840])


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """read(texts) -> the times as exact numbers, None where there is none, and the notes about them."""
    folder = tmp_path_factory.mktemp("times")
    with Engine(folder / "spill", 0.2, 1) as engine:

        def reading(texts, **form):
            engine.run("CREATE OR REPLACE TABLE texts (text VARCHAR)")
            engine.insert("texts", {"text": list(texts)})
            columns = ", ".join(f"{sql} AS {name}" for name, sql in times.columns("text").items())
            engine.run(f"CREATE OR REPLACE TABLE t AS SELECT {columns} FROM texts")
            times.read(engine, "t", **form)
            source = Source(folder, "")
            times.settle(engine, source, "t")
            return [row[0] for row in engine.run("SELECT time FROM t ORDER BY rowid")], source.notes

        yield reading


def iso(microseconds: int, minutes: int | None, separator: str) -> str:
    zone = UTC if minutes is None else timezone(timedelta(minutes=minutes))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    text = moment.astimezone(zone).isoformat(sep=separator)
    return text.removesuffix("+00:00") + "Z" * (minutes == 0) if minutes in (None, 0) else text


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(MICROSECONDS, ZONES), min_size=1, max_size=8), st.sampled_from("T "))
def test_dates_of_any_zone_are_exact(read, moments, separator):
    found, notes = read([iso(moment, zone, separator) for moment, zone in moments])
    assert found == [Decimal(moment) / 10**6 for moment, _ in moments]
    zones = {zone for _, zone in moments}
    assert any("offsets of times are applied" in note for note in notes) == (zones != {None})
    assert any("without an offset" in note for note in notes) == (None in zones and len(zones) > 1)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(700 * 10**6, 4 * 10**9) | st.integers(700 * 10**15, 4 * 10**18), min_size=1, max_size=9),
    st.sampled_from([("{}", 1), ("{}", 10**3), ("{:.3f}", 1), ("{:e}", 1), ("{}.5", 1)]),
)
def test_numbers_of_one_unit_keep_their_order(read, numbers, form):
    numbers = [number for number in numbers if (number > 10**12) == (numbers[0] > 10**12)]
    assume(max(numbers) * form[1] < 10**19)  # nanoseconds of a time that there is
    texts = [form[0].format(Decimal(number * form[1])) for number in numbers]
    assert read(texts)[0] == [Decimal(text) for text in texts]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-1e9, 1e12, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=2, max_size=9))
def test_floats_keep_their_order(read, numbers):
    found, _ = read([repr(number) for number in numbers])
    order = sorted(range(len(numbers)), key=lambda place: (numbers[place], place))
    assert sorted(range(len(numbers)), key=lambda place: (found[place], place)) == order


@pytest.mark.parametrize(
    ("texts", "seconds", "said"),
    [
        (["1500000000", "1500000001000", "1500000002000000", "1500000003000000000"], [0, 1, 2, 3], "1 in nanoseconds"),
        (["1500000000", "2017-07-14T02:40:01Z", "1500000002500"], [0, 1, Decimal("2.5")], "1 dates"),
        (["42930.125", "2017-07-14T02:40:01"], [Decimal(42930.125 - 25569) * 86400 - 1500000000, 1], "1 in days"),
    ],
)
def test_times_of_two_units_become_seconds(read, texts, seconds, said):
    found, notes = read(texts)
    assert [value - 1500000000 for value in found] == seconds and said in notes[-1]


@pytest.mark.parametrize(
    "texts",
    [["43000.51", "43000.52"], ["5", "1500000000"], ["1500000000000", "1600000000000"]],
)
def test_other_numbers_stay_as_they_are(read, texts):
    assert read(texts) == ([Decimal(text) for text in texts], [])


def test_two_units_beside_many_other_numbers_stay_and_it_is_said(read):
    texts = ["0.5", "1500000000", "1500000000000"]
    found, notes = read(texts)
    assert found == [Decimal(text) for text in texts]
    assert "may be times in milliseconds and seconds stay as they are, beside 1 number that cannot be a time" in notes[-1]


def test_few_other_numbers_do_not_keep_two_units_apart(read):
    found, notes = read(["0", *["1500000000", "1500000001000"] * 60])
    assert found == [0, *[1500000000, 1500000001] * 60]
    assert "stay as they are: 1" in notes[-2] and "60 in milliseconds" in notes[-1]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2017-07-14T02:40:00+02:00", 1499992800),
        ("2017-07-14T02:40:00+0200", 1499992800),
        ("2017-07-14 02:40:00 +0200", 1499992800),
        ("2017-07-14 02:40:00+02", 1499992800),
        ("2017-07-14 02:40:00 Europe/Berlin", 1499992800),
        ("2017-07-14 02:40:00 UTC", 1500000000),
        ("2017-07-14t02:40:00z", 1500000000),
        ("2017-07-14T02:40Z", 1500000000),
        ("2017-07-14T02:40:00,25", Decimal("1500000000.25")),
        ("2017-07-14T02:40:00.123456789Z", Decimal("1500000000.123456789")),
        ("2017-07-14", 1499990400),
        ("9999-12-31", 253402214400),
    ],
)
def test_forms_of_dates(read, text, seconds):
    assert read([text])[0] == [seconds]


@pytest.mark.parametrize(
    "text",
    [
        *("", "nan", "inf", "-inf", "infinity", "yesterday", "14.07.2017", "2017-07-14 2:40:00 PM", "1e300", "epoch"),
        *("17-07-14", "98-01-02 10:00:00", "2017-07-14 02:40:00 PST", "2017-07-14 02:40:00 cst", "2017-07-14 02:40:00 IST"),
    ],
)
def test_what_is_no_time(read, text):
    assert read([text, "1"])[0][0] is None


def test_a_comma_before_the_fraction_where_semicolons_separate(read):
    assert read(["1,5", "1,25"], decimal_comma=True)[0] == [Decimal("1.5"), Decimal("1.25")]
    assert read(["1,5"])[0] == [None]
