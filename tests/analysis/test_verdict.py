"""The sentence about the tests: right for every outcome, and about nothing that was not tested."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mambarec.analysis.comparison import Comparison, Entry, Versus, compare
from mambarec.analysis.significance import Paired
from mambarec.analysis.verdict import AHEAD, BEHIND, LEVEL, UNCLEAR, verdict

P_VALUES = {AHEAD: (0.01, 0.02), BEHIND: (0.01, 0.02), LEVEL: (0.3, 0.06), UNCLEAR: (0.01, 0.2)}
NAMES = [f"M{i}" for i in range(12)]


@pytest.fixture
def made(make_record):
    return lambda *arguments, **options: hand_made(make_record, *arguments, **options)


def hand_made(make_record, standing, seeds=(1, 2), mean=0.5, points=None, caps=None, by_test=False) -> Comparison:
    """The reference R, of this mean, against other models: {name: how R stands to it}, or {name: (how, their mean)}."""
    steps = {AHEAD: -0.1, BEHIND: 0.1, LEVEL: 0.01, UNCLEAR: -0.01}
    standing = {name: found if isinstance(found, tuple) else (found, mean + steps[found]) for name, found in standing.items()}
    means = {name: own for name, (_, own) in standing.items()} | {"R": mean}
    entries = {}
    for name, own in means.items():
        cap = {"epochs": caps[name]} if caps else {}
        records = [make_record(name, [own, own], seed, **cap) for seed in seeds]
        for record in records:
            record.result["test"]["recall@20"] = own
        entries[name, "toy"] = Entry(name, "toy", records, (points or {}).get(name, 1), 2, 0, 9, 1.0)
    tests = [
        Versus("toy", name, Paired(mean - own, -1.0, 1.0, *P_VALUES[found]), *P_VALUES[found])
        for name, (found, own) in standing.items()
    ]
    return Comparison(entries, list(means), ["toy"], "R", tests, by_test)


@pytest.mark.parametrize(
    ("standing", "sentence"),
    [
        ({"A": AHEAD}, "R is ahead of A."),
        ({"A": LEVEL}, "R is level with A."),
        ({"A": BEHIND}, "R is behind A."),
        ({"A": AHEAD, "B": AHEAD, "C": AHEAD}, "R is ahead of A, B and C."),
        (dict.fromkeys("ABCDEFGHI", AHEAD), "R is ahead of all nine other models."),
        (dict.fromkeys("ABCDEFGHI", LEVEL), "R is level with all nine other models."),
        (dict.fromkeys("ABCD", BEHIND), "R is behind all four other models."),
        ({"MGCN": LEVEL, **dict.fromkeys("ABCDEFGH", AHEAD)}, "R is level with MGCN and ahead of the other eight models."),
        ({**dict.fromkeys("ABCD", BEHIND), "X": AHEAD}, "R is ahead of X and behind the other four models."),
        ({"A": BEHIND, "B": LEVEL, "C": LEVEL, "D": AHEAD}, "R is behind A, level with B and C, and ahead of D."),
        ({"A": LEVEL, "B": LEVEL, "C": AHEAD}, "R is level with A and B, and ahead of C."),
        (
            dict.fromkeys("ABCD", LEVEL) | dict.fromkeys("EFGHI", AHEAD),
            "R is level with four models (A, B, C, D) and ahead of the other five models.",
        ),
        (
            {"A": UNCLEAR, **dict.fromkeys("BCDE", AHEAD)},
            "R is ahead of four models (B, C, D, E). "
            "Whether it differs from A is unclear: one test says so, the other does not.",
        ),
        (
            {"A": UNCLEAR, "B": UNCLEAR},
            "R was tested against A and B. Whether it differs from A or B is unclear: one test says so, the other does not.",
        ),
    ],
)
def test_the_sentence_says_how_the_reference_stands(made, standing, sentence):
    found = verdict(made(standing), "toy")
    assert found.sentence == sentence and found.standing == standing and found.subject == "R"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # which only makes records
@given(standing=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(list(P_VALUES)), min_size=1))
def test_every_model_is_said_to_stand_as_it_was_tested(made, standing):
    text = verdict(made(standing), "toy").sentence
    claims = {}
    for kind, group in re.findall(
        r"(behind|level with|ahead of) (.+?)(?=,? and (?:level|ahead|behind)|, (?:level|ahead)|\.)", text
    ):
        if not group.startswith(("the other", "all ")):
            claims |= dict.fromkeys(re.findall(r"M\d+", group), kind)
    for group in re.findall(r"differs from (.+?) is unclear", text):
        claims |= dict.fromkeys(re.findall(r"M\d+", group), UNCLEAR)
    rest = re.search(r"(behind|level with|ahead of) (?:the other|all) (\w+)", text)
    assert claims.items() <= standing.items()
    if rest:
        others = {name: found for name, found in standing.items() if name not in claims}
        assert set(others.values()) == {rest[1]}
        words = "no one two three four five six seven eight nine ten eleven twelve".split()
        assert words.index(rest[2]) == len(others)
    else:
        assert set(claims) == set(standing)


@pytest.mark.parametrize(
    ("standing", "note"),
    [
        ({"A": AHEAD}, "R has the highest Recall@20, 0.5000; next is A, 0.4000."),
        ({"A": (LEVEL, 0.50001), "B": AHEAD}, "A and R have the same Recall@20, 0.5000, the highest."),
        ({"A": BEHIND, "B": AHEAD}, "The highest Recall@20 is that of A, 0.6000; R has 0.5000."),
        ({"A": AHEAD, "B": AHEAD}, "R has the highest Recall@20, 0.5000; next are A and B, 0.4000."),
        ({"A": (LEVEL, 0.6), "B": (LEVEL, 0.6)}, "The highest Recall@20 is that of A and B, 0.6000; R has 0.5000."),
    ],
)
def test_the_means_are_those_that_are_printed(made, standing, note):
    assert verdict(made(standing), "toy").notes == [note]


def test_limits_of_the_comparison_are_said(made):
    notes = verdict(made({"A": AHEAD}, seeds=(1,)), "toy").notes[1:]
    assert notes == ["Each model was trained with one seed, so other seeds may give another order."]
    notes = verdict(made({"A": AHEAD}, points={"A": 4}, caps={"A": 6, "R": 1000}, by_test=True), "toy").notes[1:]
    assert notes == [
        "The models did not have the same limit on epochs: it was 6 or 1,000.",
        "The models did not have the same number of grid points to choose from: 1 to 4.",
        "The grid points were chosen on test, so all figures are too high.",
    ]
    comparison = made({"A": AHEAD, "B": AHEAD})
    del comparison.entries["A", "toy"].records[1]
    assert verdict(comparison, "toy").notes[1:] == ["A was trained with one seed only."]


def test_what_was_tested_is_said_and_level_is_explained_where_it_is_used(made):
    text = verdict(made({"A": AHEAD, "B": AHEAD}), "toy").tested
    assert text.startswith("Tested: R against each other model, 2 tests in all, by Recall@20 of each user.")
    assert "Level" not in text and "Level: neither does" in verdict(made({"A": LEVEL}), "toy").tested


def test_one_model_is_compared_with_nothing(made, make_record):
    found = verdict(compare([make_record("A", [0.1, 0.2])]), "toy")
    assert found.sentence == "Only A has finished runs, so there is nothing to compare it with."
    assert found.subject is None and found.standing == {} and found.tested == ""
    assert verdict(Comparison({}, [], [], None, [], False), "toy").sentence == "No run has finished yet."


def test_without_a_reference_every_two_models_are_tested(make_record):
    rng = np.random.default_rng(0)
    base = rng.random(300)
    levels = {"A": 0.1 * base, "B": base + rng.normal(0, 0.2, 300) * (rng.random(300) < 0.1), "C": base}
    found = verdict(compare([make_record(name, values) for name, values in levels.items()]), "toy")
    best = found.subject
    other = {"B": "C", "C": "B"}[best]
    assert found.sentence == f"{best} is level with {other} and ahead of A."
    assert found.tested.startswith("Tested: every two models, 3 tests in all")


def test_equal_models_are_level(make_record):
    found = verdict(compare([make_record(name, [0.1, 0.2] * 50) for name in ("A", "B")]), "toy")
    assert found.sentence == "A is level with B."
    assert found.notes[0] == "A and B have the same Recall@20, 0.1500, the highest."


def test_a_data_set_without_the_reference_is_tested_among_its_own(make_record):
    records = [make_record("MambaRec", [0.5, 0.6]), make_record("A", [0.1, 0.2])]
    records += [make_record(name, [0.1 * i + 0.001 * j for j in range(99)], dataset="other") for i, name in enumerate("AB")]
    comparison = compare(records)
    assert verdict(comparison, "other").sentence == "B is ahead of A."
    assert verdict(comparison, "other").tested.startswith("Tested: every two models")
    assert verdict(comparison, "toy").subject == "MambaRec"


def test_without_a_reference_rows_of_another_budget_are_not_compared(make_record):
    long = [make_record(model, [0.9, 0.8, 0.7], epochs=3) for model in ("BPR",)]
    short = [make_record(model, [0.1, 0.2, 0.3], epochs=2) for model in ("VBPR", "LightGCN")]
    assert "BPR" not in verdict(compare([*long, *short]), "toy").sentence.replace("VBPR", "")
    assert "no two rows can be compared" in verdict(compare([*long, short[0]]), "toy").sentence
