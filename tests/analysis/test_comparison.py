"""Which grid point stands for a model, what it is compared with, and which runs cannot be compared."""

import numpy as np
import pytest

from mambarec.analysis.comparison import compare
from mambarec.base.errors import ConfigError, RunError

LOW, HIGH = [0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]


def test_the_grid_point_is_chosen_on_validation_and_not_on_test(make_record):
    records = [make_record("A", HIGH, valid=0.1, x=1), make_record("A", LOW, valid=0.2, x=2)]
    chosen = compare(records).entries["A", "toy"]
    assert chosen.records == [records[1]] and (chosen.n_points, chosen.n_trials, chosen.n_epochs) == (2, 2, 10)


def test_selection_on_test_takes_the_point_that_is_best_there(make_record):
    records = [make_record("A", HIGH, valid=0.1, x=1), make_record("A", LOW, valid=0.2, x=2)]
    assert compare(records, by_test=True).entries["A", "toy"].records == [records[0]]


def test_mean_and_deviation_over_seeds(make_record):
    entry = compare([make_record("A", LOW, seed=1), make_record("A", HIGH, seed=2)]).entries["A", "toy"]
    assert entry.mean("recall@20") == 0.5
    assert entry.deviation("recall@20") == pytest.approx(np.sqrt(2 * 0.25**2))  # .25 and .75 around .5
    assert entry.per_user("recall@20").tolist() == [0.25, 0.25, 0.75, 0.75]
    assert compare([make_record("A", LOW)]).entries["A", "toy"].deviation("recall@20") is None


def test_the_reference_is_tested_against_every_other_model_of_every_data_set(make_record):
    generator = np.random.default_rng(0)
    base = generator.random(400)
    records = []
    for dataset in ("x", "y"):
        records.append(make_record("MambaRec", base + 0.05, dataset=dataset))
        records.append(make_record("B", base, dataset=dataset))
        records.append(make_record("C", generator.permutation(base + 0.05), dataset=dataset))
    comparison = compare(records)
    assert [(test.dataset, test.label, test.is_significant) for test in comparison.tests] == [
        ("x", "B", True),
        ("x", "C", False),
        ("y", "B", True),
        ("y", "C", False),
    ]
    first = comparison.tests[0]
    assert first.wilcoxon_adjusted >= first.test.wilcoxon and first.test.low > 0
    assert comparison.labels == ["B", "C", "MambaRec"]
    assert comparison.gain("x", "recall@20") == pytest.approx(0, abs=2e-3)  # C has the same values


def test_without_the_reference_there_are_no_tests(make_record):
    comparison = compare([make_record("A", LOW), make_record("B", HIGH)])
    assert comparison.reference is None and comparison.tests == []
    (note,) = comparison.notes
    assert "No difference was tested" in note and "--reference: A, B" in note
    assert compare([make_record("A", LOW)]).notes == []
    with pytest.raises(RunError, match=r"MambaRex: no row .*A, B"):
        compare([make_record("A", LOW), make_record("B", HIGH)], "MambaRex")


def test_keys_can_be_rows_instead_of_grid_points(make_record):
    records = [make_record("A", LOW, variant="p"), make_record("A", HIGH, variant="r"), make_record("B", LOW)]
    assert compare(records, split=["variant"]).labels == ["A variant=p", "A variant=r", "B"]
    with pytest.raises(ConfigError, match="none of the runs has a key 'varient'"):
        compare(records, split=["varient"])


def test_neither_the_machine_nor_a_key_that_a_run_is_too_old_for_makes_a_grid_point(make_record):
    machines = [{"device": "cuda:0"}, {"device": "cuda:1", "threads": 2}, {"device": "cpu", "use_gpu": False}]
    younger = [{}, {"approximate_knn_above": None}, {}]
    records = [
        make_record("VBPR", [0.1, 0.2], seed=seed, valid=0.1 * seed, **machine, **keys)
        for seed, (machine, keys) in enumerate(zip(machines, younger, strict=True), 1)
    ]
    (entry,) = compare(records).entries.values()
    assert (entry.n_points, entry.n_trials, len(entry.records)) == (1, 3, 3)
    other = make_record("VBPR", [0.1, 0.2], approximate_knn_above=9)
    (entry,) = compare([*records, other]).entries.values()
    assert entry.n_points == 2


def test_the_same_run_given_twice_counts_once(make_record):
    assert compare([make_record("A", LOW), make_record("A", LOW)]).entries["A", "toy"].n_trials == 1


@pytest.mark.parametrize("change", [{"data": "b"}, {"users": True}])
def test_runs_of_different_data_are_not_compared(make_record, change):
    other = make_record("B", LOW[:3] if "users" in change else LOW, data=change.get("data", "a"))
    with pytest.raises(RunError, match=r"B-1 and A-1 .* different (data|users)"):
        compare([make_record("A", LOW), other])
