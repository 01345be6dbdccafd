"""Published figures beside runs: which rows belong together, what is marked, and what is said of it."""

from pathlib import Path

import numpy as np
import pytest

from analysis.comparison import compare
from analysis.published import FILE, SPLITS, Figure, published_figures, published_table
from analysis.records import Record
from utils.errors import ConfigError


def record(model="BPR", seed=1, recall=0.06, dataset="baby", users=SPLITS["baby", "MMRec"].test_users, epochs=10, **config):
    metrics = {"recall@20": recall, "ndcg@20": recall / 2}
    return Record(
        config={"valid_metric": "Recall@20", "epochs": 1000, "seed": seed, "dataset": dataset, "model": model, **config},
        environment={"device": "cpu", "threads": 1, "feature_widths": {"visual": 4096, "text": 384}},
        result={
            "model": model,
            "dataset": dataset,
            "seed": seed,
            "epochs": epochs,
            "best_epoch": 5,
            "valid": metrics,
            "test": metrics,
            "seconds_total": 1.0,
            "seconds_per_epoch": 0.1,
            "peak_memory_mb": 1.0,
            "parameters": 1,
            "parameters_without_features": 1,
        },
        epochs=[],
        users=np.arange(users, dtype=np.int32),
        per_user={"recall@20": np.full(users, recall, np.float16)},
        source=Path(f"{model}-seed{seed}-{recall}"),
    )


def figure(model="BPR", value=0.06, setting="", selected_on="valid", metric="recall@20"):
    return Figure("baby", "MMRec", model, setting, metric, value, "a paper", selected_on)


def rows(records, figures, **options):
    table = published_table(compare(records), "baby", figures=figures, **options)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows], table.caption


def test_every_published_figure_is_complete_and_stands_once():
    figures = published_figures()
    assert len(figures) == 170
    assert len({(one.dataset, one.model, one.setting, one.metric, one.source) for one in figures}) == len(figures)
    assert all(0 < one.value < 1 and (one.dataset, one.split) in SPLITS and one.selected_on == "test" for one in figures)
    assert [one.value for one in figures if one.model == "MambaRec" and one.metric == "recall@20"] == [0.1013, 0.1147, 0.0996]


def test_ratio_and_distance_are_of_the_mean_and_the_deviation_over_seeds():
    found, _ = rows([record(seed=1, recall=0.05), record(seed=2, recall=0.07)], [figure(value=0.05)])
    assert [cell.text for cell in found[0].values()][3:7] == ["0.0500", "0.0600 ± 0.0141", "1.200", "+0.7"]
    assert found[0]["Ratio"].bold


def test_one_seed_has_no_distance_and_a_ratio_within_five_percent_is_not_marked():
    found, caption = rows([record(recall=0.0629)], [figure(value=0.06, selected_on="test")])
    assert found[0]["Ratio"].text == "1.048" and not found[0]["Ratio"].bold and found[0]["Distance"].text == "–"
    assert found[0]["Known differences"].text == "–" and "may explain" not in caption


@pytest.mark.parametrize(
    ("settings", "selected_on", "letter", "words"),
    [
        ({"epochs": 1000}, "valid", "c", "cap of epochs"),
        ({"users": 100}, "valid", "s", "number of test users"),
        ({}, "test", "t", "on the test split"),
    ],
)
def test_a_far_figure_names_its_known_differences(settings, selected_on, letter, words):
    found, caption = rows([record(**settings)], [figure(value=0.08, selected_on=selected_on)])
    assert letter in found[0]["Known differences"].text and words in caption


def test_features_of_other_widths_are_a_known_difference():
    one = record()
    one.environment["feature_widths"] = {"visual": 256, "text": 256}
    found, _ = rows([one], [figure(value=0.08)])
    assert "f" in found[0]["Known differences"].text


def test_a_setting_chooses_the_row_that_a_figure_belongs_to():
    found, _ = rows([record("PGL", mode="local")], [figure("PGL", setting="mode=local"), figure("PGL", setting="mode=global")])
    assert [row["Known differences"].text for row in found] == ["–", "not run"]


def test_a_model_without_runs_has_dashes_and_says_so():
    found, _ = rows([record()], [figure(), figure("LATTICE")])
    assert [cell.text for cell in found[1].values()][4:] == ["–", "–", "–", "not run"]


def test_a_data_set_of_which_nothing_is_published_is_an_error():
    with pytest.raises(ConfigError, match="nothing is published of recall@20 on 'mine'; there are figures for baby"):
        published_table(compare([record(dataset="mine")]), "mine")


def test_a_line_that_is_no_figure_is_named(tmp_path):
    path = tmp_path / "figures.csv"
    path.write_text(FILE.read_text().splitlines()[0] + "\nbaby,MMRec,BPR,,recall@20,many,paper,test\n")
    with pytest.raises(ConfigError, match="line 2"):
        published_figures(path)
