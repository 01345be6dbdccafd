"""Breakdowns and missing modalities as pictures: their numbers are those of the tables that they are drawn from."""

import json

import pandas as pd
import pytest

from mambarec.analysis.beyond import breakdown_pictures, missing_pictures
from mambarec.analysis.breakdown import by_user_activity, coverage
from mambarec.analysis.records import Record, load_records
from mambarec.base.errors import RunError
from mambarec.cli import report

pytest.importorskip("matplotlib", reason="figures need the extra [report]")


@pytest.fixture
def runs(make_run):
    """BPR and VBPR with two seeds each, trained."""
    return [make_run(model, seed=seed, epochs=1, train_batch_size=512) for model in ("BPR", "VBPR") for seed in (1, 2)]


def test_breakdowns_draw_means_and_deviations_over_seeds(runs):
    activity, popularity, shown = breakdown_pictures([Record.of_run(run) for run in runs])
    own = by_user_activity(runs[2:]).groupby("group")["recall@20"]
    table = activity.numbers[activity.numbers["model"] == "VBPR"]
    assert table["recall@20"].tolist() == pytest.approx(own.mean().tolist())
    assert table["recall@20_std"].tolist() == pytest.approx(own.std().tolist()) and set(table["seeds"]) == {2}
    axes = activity.figure.axes[0]
    assert axes.containers[1].lines[0].get_ydata() == pytest.approx(table["recall@20"])
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks[0].startswith(f"{table['fewest'].iloc[0]}") and ticks[-1].endswith(f"{table['most'].iloc[-1]}")
    assert [text.get_text() for text in activity.figure.legends[0].get_texts()] == ["BPR", "VBPR"]
    expected = coverage(runs).groupby("model")["gini@20"].mean()
    assert shown.numbers.set_index("model")["gini@20"].to_dict() == pytest.approx(expected.to_dict())
    assert [bar.get_width() for bar in shown.figure.axes[1].patches] == pytest.approx(expected.tolist())
    assert popularity.numbers.groupby("model")["share_of_lists"].sum().tolist() == pytest.approx([1, 1])


def test_missing_modalities_start_at_the_models_own_recall(runs):
    (picture,) = missing_pictures([Record.of_run(run) for run in runs[1:]])
    own = [json.loads((run / "result.json").read_text())["test"]["recall@20"] for run in runs]
    table = picture.numbers.set_index(["model", "percent"])
    for modality in ("visual", "text"):
        column = f"recall@20 without {modality}"
        assert table.loc[("VBPR", 0), column] == pytest.approx(own[3])  # on the seed that both have
        assert table.loc[("BPR", 100), column] == pytest.approx(own[1])
    assert [axes.get_ylabel() for axes in picture.figure.axes] == ["Recall@20\nwithout visual", "Recall@20\nwithout text"]


def test_the_program_writes_the_breakdown_of_one_data_set(runs, tmp_path, capsys):
    words = ["breakdown", "-d", "toy", "--results", str(tmp_path / "results"), "--output", str(tmp_path / "figures")]
    assert report.main(words) == 0
    out = capsys.readouterr().out
    assert "gini@20" in out and "The runs are those of seeds 1, 2. Every value is a mean over seeds." in out
    names = ("breakdown-activity", "breakdown-popularity", "breakdown-coverage")
    files = {f"{name}.{end}" for name in names for end in ("png", "svg", "csv", "txt")} | {f"{name}-dark.svg" for name in names}
    assert {path.name for path in (tmp_path / "figures").iterdir() if path.stat().st_size} == files
    table = pd.read_csv(tmp_path / "figures" / "breakdown-coverage.csv")
    assert table["model"].tolist() == ["BPR", "VBPR"] and (table["items"] == 64).all()


def test_compact_records_are_not_enough_and_the_message_says_so(make_record, tmp_path):
    kept = [make_record("A", [0.1]).save(tmp_path)]
    with pytest.raises(RunError, match=r"record\.npz is a compact record, without lists and model"):
        breakdown_pictures(load_records(kept))


def test_words_that_no_option_takes_are_refused(capsys):
    with pytest.raises(SystemExit):
        report.main(["breakdown", "-d", "toy", "--epochs", "3"])
    assert "unrecognized arguments: --epochs 3" in capsys.readouterr().err
