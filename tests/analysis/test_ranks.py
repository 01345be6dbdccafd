"""Ranks over data sets: hand-worked means, the published critical values, and no diagram where its test would be void."""

import numpy as np
import pandas as pd
import pytest

from mambarec.analysis.comparison import compare
from mambarec.analysis.ranks import Ranks, blocks_needed, diagram, ranks, ranks_table
from mambarec.cli import report as program

VALUES = {"one": [0.3, 0.2, 0.1], "two": [0.3, 0.1, 0.2], "three": [0.2, 0.2, 0.1]}


def made(values, columns="ABC") -> Ranks:
    return Ranks(pd.DataFrame(values, columns=list(columns)), [], None)


def test_ranks_are_means_over_data_sets_and_ties_share_theirs():
    found = Ranks(pd.DataFrame(VALUES, index=list("ABC")).T, [], None)
    assert found.mean.to_dict() == pytest.approx({"A": 3.5 / 3, "B": 6.5 / 3, "C": 8 / 3})
    table = ranks_table(found)
    assert [cell.text for cell in table.rows[0]] == ["A", "1.17", "1", "1", "1.5"]


@pytest.mark.parametrize(("k", "n", "difference"), [(4, 14, 1.2536), (2, 10, 0.6198), (10, 30, 2.4733)])
def test_critical_differences_are_the_published_ones(k, n, difference):
    """Demšar 2006: 2.569 (k = 4), 1.960 (2), 3.164 (10) times sqrt(k (k + 1) / 6n)."""
    assert made(np.zeros((n, k)), range(k)).critical_difference == pytest.approx(difference, abs=1e-3)


@pytest.mark.parametrize("k", range(3, 15))
def test_as_many_data_sets_are_needed_as_the_best_possible_outcome(k):
    needed = blocks_needed(k)
    best = np.arange(k, 0, -1.0)
    assert made(np.tile(best, (needed, 1)), range(k)).critical_difference < k - 1
    assert made(np.tile(best, (needed - 1, 1)), range(k)).critical_difference >= k - 1


def test_too_few_data_sets_give_a_reason_and_no_diagram():
    found = made([[0.3, 0.2, 0.1]] * 2)
    assert diagram(found) is None
    assert "left out: with 3 models its test needs 3 data sets or more, and there are 2" in " ".join(found.said)
    assert "there are 2" in " ".join(made([[0.3, 0.2]] * 9, "AB").said) and diagram(made([[0.3, 0.2]] * 9, "AB")) is None


def test_without_any_difference_all_models_are_joined():
    pytest.importorskip("scikit_posthocs", reason="the diagram needs the extra [report]")
    found = made(np.random.default_rng(0).permutation(30).reshape(10, 3))
    assert found.friedman > 0.05 and "do not show that any two of the models differ" in " ".join(found.said)
    (axes,) = diagram(found).figure.axes
    bars = [line for line in axes.lines if line.get_linewidth() == 2]
    assert len(bars) == 1 and np.ptp(bars[0].get_xdata()) == pytest.approx(np.ptp(found.mean))
    assert made(np.zeros((5, 3))).friedman == 1


def test_models_that_differ_are_not_joined():
    pytest.importorskip("scikit_posthocs", reason="the diagram needs the extra [report]")
    found = made([[3.0, 2.0, 1.0]] * 9)
    assert found.friedman < 0.001 and "p < 0.001" in " ".join(found.said) and "more than 1.10 apart" in " ".join(found.said)
    picture = diagram(found)
    bars = [sorted(line.get_xdata()) for line in picture.figure.axes[0].lines if line.get_linewidth() == 2]
    assert sorted(bars) == [[1, 2], [2, 3]]
    assert picture.numbers["label"].tolist() == ["A", "B", "C"] and picture.figure.get_suptitle().endswith("test Recall@20")


def test_models_that_are_not_on_every_data_set_are_named(make_record):
    records = [make_record(name, [0.1, 0.2], dataset=dataset) for dataset in ("x", "y") for name in "AB"]
    found = ranks(compare([*records, make_record("C", [0.1, 0.2], dataset="x")]))
    assert found.values.columns.tolist() == ["A", "B"] and found.values.index.tolist() == ["x", "y"]
    assert "Not ranked, because these rows are not on every data set with the budget of the others: C." in " ".join(found.said)
    assert "rows with other settings" not in " ".join(found.said)


def test_rows_of_a_model_with_other_budgets_are_named(make_record):
    records = [make_record(name, [0.1, 0.2], dataset=dataset) for dataset in ("x", "y") for name in "AB"]
    records += [make_record("C", [0.1, 0.2], dataset=dataset, epochs=epochs) for dataset, epochs in (("x", 2), ("y", 3))]
    caption = " ".join(ranks(compare(records, "A")).said)
    assert "Of C there are rows with other settings. --where KEY=VALUE keeps one of them." in caption


# the command line


def test_the_table_of_several_data_sets_ends_with_ranks(make_record, tmp_path, capsys):
    for dataset in ("x", "y", "z"):
        for i, name in enumerate("ABC"):
            make_record(name, [0.1 * i, 0.2 * i + 0.1], dataset=dataset).save(tmp_path)
    words = ["table", "--results", str(tmp_path), "--diagram", str(tmp_path / "drawn")]
    assert program.main(words) == 0
    assert "Ranks over data sets" in capsys.readouterr().out
    assert (tmp_path / "drawn" / "critical-difference.svg").stat().st_size > 1000
    assert program.main([*words, "-d", "x"]) == 2
    assert "there are runs of one only" in capsys.readouterr().err


def test_as_csv_each_table_has_a_file_that_others_can_read(make_record, tmp_path, capsys):
    for dataset in ("x", "y"):
        for i, name in enumerate("ABC"):
            make_record(name, [0.1 * i, 0.2 * i + 0.1], dataset=dataset).save(tmp_path / "kept")
    words = ["table", "--results", str(tmp_path / "kept"), "--reference", "C", "--output", str(tmp_path / "t.csv")]
    assert program.main(words) == 0 and not capsys.readouterr().out
    lengths = {path.stem: len(pd.read_csv(path)) for path in tmp_path.glob("*.csv")}
    assert lengths == {"t": 4, "t-efficiency": 6, "t-significance": 4, "t-ranks": 3}  # t: three rows and Improv.


def test_a_row_of_another_budget_is_not_ranked(make_record):
    records = [make_record(name, [0.1, 0.2], dataset=dataset, epochs=9) for dataset in ("x", "y") for name in "AB"]
    records += [make_record("C", [0.3, 0.4], dataset=dataset, epochs=2) for dataset in ("x", "y")]
    found = ranks(compare(records, "A epochs=9"))
    assert found.values.columns.tolist() == ["B epochs=9", "A epochs=9"] and found.left_out == ["C epochs=2"]


def test_without_the_tested_metric_there_are_no_ranks(make_record, tmp_path, capsys):
    for dataset in ("x", "y"):
        for name in "ABC":
            record = make_record(name, [0.1, 0.2], dataset=dataset)
            record.config["valid_metric"], record.result["valid"] = "Recall@10", {"recall@10": 0.1}
            del record.result["test"]["recall@20"]
            record.save(tmp_path)
    words = ["table", "--results", str(tmp_path), "--metrics", "recall@10"]
    assert program.main(words) == 0
    assert "Ranks" not in capsys.readouterr().out
    assert program.main([*words, "--diagram", str(tmp_path / "drawn")]) == 2
    assert "has no recall@20 on test" in capsys.readouterr().err
