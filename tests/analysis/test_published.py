"""Published figures beside runs: which rows belong together, what is marked, and what is said of it."""

from pathlib import Path

import numpy as np
import pytest

from mambarec.analysis.comparison import METRICS
from mambarec.analysis.published import (
    FILE,
    FROM_GRAPHS,
    PUBLISHED_SPLITS,
    Figure,
    known_figures,
    published_figures,
    published_table,
    without_figure,
)
from mambarec.analysis.records import Record
from mambarec.base.errors import ConfigError, RunError
from mambarec.cli import report
from mambarec.config.catalogue import available_models
from mambarec.running.directory import RunDirectory
from mambarec.running.run import run

USERS = PUBLISHED_SPLITS["baby", "MMRec"].test_users
RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "ledger"


@pytest.fixture
def record(make_record):
    """record(model='BPR', recall=.06, seed=1, users=of the published split, read={}, **config): a run on Baby."""

    def make(model="BPR", recall=0.06, seed=1, users=USERS, read=None, **config) -> Record:
        limits = {"epochs": 1000, "min_epochs": 20, "stopping_step": 20, "inter_file_name": "baby.inter"}
        made = make_record(model, np.zeros(users), seed=seed, dataset="baby", **{**limits, **config})
        made.result["test"] = dict.fromkeys(METRICS, recall)
        made.environment["feature_widths"] = {"visual": 4096, "text": 384}
        made.environment["data_files"] = {"baby.inter": "a", **(read or {})}
        return made

    return make


def figure(model="BPR", value=0.06, setting="", selected_on="valid", metric="recall@20", layers="", source="a paper"):
    return Figure("baby", "MMRec", model, setting, metric, value, source, selected_on, layers)


def rows(records, figures, reasons=None):
    table = published_table(records, "baby", figures, reasons)
    return [{name: cell.text for name, cell in zip(table.columns, row, strict=True)} for row in table.rows], table.caption


def test_every_published_figure_is_complete_and_stands_once():
    figures = published_figures()
    assert len(figures) > 200
    assert len({(one.dataset, *one.row, one.metric, one.source) for one in figures}) == len(figures)
    assert all(
        0 < one.value < 1 and (one.dataset, one.split) in PUBLISHED_SPLITS and one.selected_on == "test" for one in figures
    )
    assert {one.model for one in figures} <= set(available_models())
    mambarec = [one.value for one in figures if one.row == ("MambaRec", "") and one.metric == "recall@20"]
    assert mambarec == [0.1013, 0.1147, 0.0996]


def test_ratio_and_distance_are_of_the_mean_and_the_deviation_over_seeds(record):
    found, _ = rows([record(recall=0.05), record(recall=0.06, seed=2), record(recall=0.07, seed=3)], [figure(value=0.05)])
    assert list(found[0].values())[2:7] == ["0.0500", "0.0600 ± 0.0100", "1, 2, 3", "1.200", "+1.0"]
    assert found[0]["Note"] == "beyond 5%: no known difference explains it"


def test_two_seeds_have_no_distance(record):
    found, _ = rows([record(recall=0.05), record(recall=0.05001, seed=2)], [figure(value=0.06)])
    assert (found[0]["Seeds"], found[0]["Distance"]) == ("1, 2", "–")


def test_one_seed_has_no_distance_and_a_ratio_within_five_percent_is_not_marked(record):
    table = published_table([record(recall=0.0629)], "baby", [figure(selected_on="test")])
    _, _, _, _, _, ratio, distance, note = table.rows[0]
    assert (ratio.text, ratio.bold, distance.text, note.text) == ("1.048", False, "–", "within 5%")
    assert "may explain" not in table.caption


def test_each_row_has_its_own_seeds(record):
    found, _ = rows([record(), record("LightGCN"), record("LightGCN", seed=2)], [figure(), figure("LightGCN")])
    assert [row["Seeds"] for row in found] == ["1", "1, 2"]


@pytest.mark.parametrize(
    ("made", "of", "word"),
    [
        ({"users": 100}, {}, "split"),
        ({"read": {"image_feat.npy": min(FROM_GRAPHS)}}, {}, "graph features"),
        ({"read": {"image_feat.npy": "another"}}, {}, "other features"),
        ({"n_layers": 2}, {"layers": "n_layers=3"}, "layers"),
        ({}, {"selected_on": "test"}, "one setting, test selection"),
    ],
)
def test_a_far_figure_names_its_known_differences(record, made, of, word):
    one = record(**made)
    if "read" in made:
        one.environment["feature_widths"] = {"visual": 256, "text": 256}
    found, caption = rows([one], [figure(value=0.08, **of)])
    words = found[0]["Note"].removeprefix("beyond 5%: ").split(", ")
    assert set(word.split(", ")) | {"one setting"} == set(words) and all(f"{each.capitalize()}: " in caption for each in words)


def test_what_makes_a_figure_optimistic_explains_no_figure_that_ours_exceeds(record):
    found, _ = rows([record(recall=0.08)], [figure(selected_on="test")])
    assert found[0]["Note"] == "beyond 5%: no known difference explains it"


def test_sources_that_disagree_are_a_known_difference(record):
    found, caption = rows([record(recall=0.08)], [figure(), figure(value=0.081, source="another paper")])
    assert [row["Note"] for row in found] == ["beyond 5%: other sources", "within 5%"] and "the sources disagree" in caption


def test_the_features_from_the_published_graphs_are_named_where_nothing_is_far(record):
    one = record(read={"text_feat.npy": max(FROM_GRAPHS)})
    one.environment["feature_widths"] = {"text": 256}
    assert "Features from the published graphs" in rows([one], [figure()])[1]
    assert "Features" not in rows([record()], [figure()])[1]


def test_a_setting_chooses_the_row_that_a_figure_belongs_to(record):
    figures = [figure("PGL", setting="mode=local"), figure("PGL", setting="mode=global")]
    local, both = record("PGL", mode="local"), [record("PGL", mode="local"), record("PGL", 0.07, mode="global")]
    assert [row["Note"] for row in rows([local], figures)[0]] == ["within 5%", "not run"]
    assert [row["Ours"] for row in rows(both, figures)[0]] == ["0.0600", "0.0700"]


def test_a_model_without_a_part_stands_beside_no_figure_of_the_whole_one(record):
    kept = record("MambaRec", modalities=["text"])
    less = record("MambaRec", use_local_alignment=False)
    figures = [figure("MambaRec"), figure("MambaRec", setting="modalities=text")]
    assert [row["Ours"] for row in rows([kept, less], figures)[0]] == ["–", "0.0600"]
    assert [row["Ours"] for row in rows([record("BPR", mg=True)], [figure("BPR")])[0]] == ["–"]
    released = record("MambaRec", variant="released")
    assert rows([released], figures)[0][0]["Model"] == "MambaRec variant=released"


def test_the_caption_is_silent_about_models_that_are_not_shown(record):
    others = [record("LightGCN", n_layers=3), record("LightGCN", n_layers=4)]
    assert "LightGCN" in rows([record(), *others], [figure(), figure("LightGCN")])[1]
    assert "LightGCN" not in rows([record(), *others], [figure()])[1]


def test_a_model_without_runs_has_dashes_and_a_reason(record):
    figures = [figure(), figure("LATTICE"), figure("GUME")]
    found, _ = rows([record()], figures, {("GUME", ""): "its graph needs more memory"})
    assert [row["Note"] for row in found] == ["within 5%", "not run", "its graph needs more memory"]
    assert list(found[1].values())[3:7] == ["–"] * 4
    assert [row["Note"] for row in rows([], figures[:2])[0]] == ["not run", "not run"]


def test_runs_that_lack_the_metric_are_not_called_not_run(record):
    found, _ = rows([record()], [figure(metric="recall@7")])
    assert (found[0]["Ours"], found[0]["Note"]) == ("–", "our runs did not compute Recall@7")


def test_a_capped_run_gives_a_reason_in_place_of_a_figure(record):
    found, _ = rows([record(epochs=5)], [figure()])
    assert (found[0]["Ours"], found[0]["Note"]) == ("–", "1 of 1 run ended at the cap of 5 epochs")


def test_settings_without_a_common_seed_give_a_reason_in_place_of_a_figure(record):
    found, _ = rows([record(reg_weight=0.1), record(reg_weight=0.2, seed=2)], [figure()])
    assert found[0]["Ours"] == "–" and "no seed in common" in found[0]["Note"]


def test_a_data_set_of_which_nothing_is_published_is_an_error():
    with pytest.raises(ConfigError, match="has no recall@20 on 'mine'; it has figures for the data sets baby"):
        known_figures("mine")


def test_models_and_metrics_without_a_figure_are_said():
    figures = known_figures("baby", ["recall@20", "recall@7"], ["BPR", "Foo"])
    assert without_figure(figures, ["recall@20"], ["BPR"]) == []
    said = without_figure(figures, ["recall@20", "recall@7"], ["bpr", "Foo"])
    assert said == ["published.csv has no such figure of recall@7 and Foo."]


def test_a_line_that_is_no_figure_is_named(tmp_path):
    path = tmp_path / "figures.csv"
    path.write_text(FILE.read_text().splitlines()[0] + "\nbaby,MMRec,BPR,,recall@20,many,paper,test,\n")
    with pytest.raises(ConfigError, match="line 2"):
        published_figures(path)
    path.write_bytes(b"dataset,\xff")
    with pytest.raises(ConfigError, match="is no CSV file in UTF-8"):
        published_figures(path)


# the command


def test_the_committed_records_give_the_table_in_each_format(capsys):
    for form, start in (("markdown", "**Published Recall@20"), ("csv", "Model,Source,Published"), ("latex", r"\begin{table*}")):
        assert report.main(["published", "-d", "baby", "--results", str(RESULTS), "--format", form, "-m", "MGCN"]) == 0
        out = capsys.readouterr().out
        assert out.startswith(start) and "0.0964" in out and "0.096" in out


def test_the_page_has_a_section_of_the_models_that_have_runs(tmp_path):
    path = tmp_path / "page.html"
    assert report.main(["html", "-d", "baby", "--results", str(RESULTS), "-m", "MGCN", "--output", str(path)]) == 0
    section = path.read_text().partition("<h2>Published Recall@20 and ours")[2].partition("</section>")[0]
    assert "0.0964" in section and "published graphs" in section and "FREEDOM" not in section


def test_reasons_are_read_beside_the_records_and_of_runs_that_have_begun(make_config, tmp_path, capsys, monkeypatch):
    config = make_config("BPR")
    directory = RunDirectory(Path(run(config)["directory"]))
    directory.file("result.json").unlink()
    monkeypatch.setattr(
        "mambarec.analysis.published.published_figures",
        lambda: [Figure("toy", "", model, "", "recall@20", 0.1, "a paper", "test") for model in ("BPR", "LightGCN", "VBPR")],
    )
    place = Path(config["results_dir"])
    (place / "reasons.csv").write_text(
        "dataset,model,setting,reason\ntoy,VBPR,,it has no pictures\nbaby,LightGCN,,other data\n"
    )
    capsys.readouterr()
    assert report.main(["published", "-d", "toy", "--results", str(place), "--format", "csv"]) == 0
    notes = [line.split(",", 7)[-1].strip('"') for line in capsys.readouterr().out.splitlines()[1:]]
    assert notes == ["stopped after 2 of at most 2 epochs", "not run", "it has no pictures"]


def test_train_runs_what_the_figures_ask_for_and_says_what_failed(toy, tmp_path, capsys, monkeypatch, in_this_process):
    figures = [figure("BPR"), figure("VBPR"), figure("PGL", setting="mode=global")]
    toys = [Figure("toy", "", one.model, one.setting, "recall@20", 0.1, "a paper", "test") for one in figures]
    monkeypatch.setattr("mambarec.analysis.published.published_figures", lambda: toys)
    (toy / "image_feat.npy").unlink()
    words = ["--seed", "1", "2", "--data_path", str(toy.parent), "--results_dir", str(tmp_path), "--embedding_size", "8"]
    words += ["--min_epochs", "0", "--stopping_step", "1", "--use_gpu", "false", "--threads", "1", "--epochs", "60"]
    table = tmp_path / "table.csv"
    command = ["published", "-d", "toy", "--format", "csv", "--output", str(table), "--train", *words]
    assert report.main([*command, "-m", "BPR"]) == 0
    assert '"1, 2"' in table.read_text() and not capsys.readouterr().err
    assert report.main(command) == 1
    lines = table.read_text().splitlines()
    assert '"1, 2"' in lines[1] and all("failed: " in line and "image_feat.npy does not exist" in line for line in lines[2:])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-d", "tiktok"], "has no recall@20 on 'tiktok'"),
        (["-d", "baby", "--results", "/nowhere"], "/nowhere does not exist"),
        (["-d", "baby", "--train", "--where", "epochs=3"], "--where chooses among finished runs"),
        (["-d", "baby", "--jobs", "2"], "--jobs is for training"),
    ],
)
def test_a_mistake_of_the_command_is_explained(capsys, words, message):
    assert report.main(["published", *words]) == 2
    assert message in capsys.readouterr().err


def test_runs_of_two_forms_of_the_data_are_refused(record):
    other = record("LightGCN")
    other.environment["data_files"] = {"baby.inter": "b"}
    with pytest.raises(RunError, match="different data"):
        rows([record(), other], [figure()])
