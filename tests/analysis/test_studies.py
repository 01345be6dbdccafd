"""Each study from its command to its files: the runs that it makes, and that figures show those runs' numbers."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mambarec.analysis.findings import caption, find, numbers, pictures
from mambarec.analysis.records import Record
from mambarec.analysis.studies import STUDIES, plan_study
from mambarec.base.errors import ConfigError, RunError
from mambarec.cli import report
from mambarec.config.configurator import Config

pytest.importorskip("matplotlib", reason="figures need the extra [report]")

BABY, INSTRUMENTS = {"visual": 4096, "text": 384}, {"visual": 940, "text": 892}


@pytest.fixture
def places(toy, tmp_path):
    return {"data_path": str(toy.parent), "results_dir": str(tmp_path / "results")}


@pytest.fixture
def call(places, capsys, in_this_process):
    """call(*words) -> (exit status, standard output, standard error) of report.py on the toy data, with small runs."""

    def invoke(*words: str):
        settings = {**places, "embedding_size": 8, "train_batch_size": 512, "epochs": 1, "threads": 1, "use_gpu": "false"}
        words = [*words, *(word for key, value in settings.items() for word in (f"--{key}", str(value)))]
        status = report.main(words)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return invoke


def run_results(tmp_path) -> dict[str, dict]:
    """What result.json says, by the name of the run."""
    paths = (tmp_path / "results").rglob("result.json")
    return {path.parent.name: json.loads(path.read_text()) for path in paths}


N_POINTS = {"modality": 3, "feature-map": 2, "ablation": 4, "cl-weight": 5, "mmd-reduction": 9, "reduction": 5, "sampling": 4}
QUICK = {"modality", "feature-map"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in N_POINTS])
def test_a_study_draws_the_numbers_of_its_runs(name, call, tmp_path):
    assert call(name, "-d", "toy")[0] == 0
    folder = tmp_path / "results" / "toy" / "figures"
    assert (folder / f"{name}.png").stat().st_size > 5000 and "<svg" in (folder / f"{name}.svg").read_text()
    table, results = pd.read_csv(folder / f"{name}.csv"), run_results(tmp_path)
    assert len(table) == N_POINTS[name] == len(results)
    for row in table.to_dict("records"):
        result = results[row["runs"]]
        assert all(row[metric] == result["test"][metric] for metric in ("recall@10", "recall@20", "ndcg@10", "ndcg@20"))
        assert all(row[key] == result[key] for key in ("parameters", "parameters_without_features", "seconds_per_epoch"))


def test_a_study_trains_the_seeds_that_are_missing_and_draws_means(call, tmp_path):
    assert call("feature-map", "-d", "toy", "--seed", "1")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("result.json")}
    status, out, _ = call("feature-map", "-d", "toy", "--seed", "1", "2")
    assert status == 0 and "4 trials: 2 finished; 2 to train" in out
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    table, results = pd.read_csv(tmp_path / "results/toy/figures/feature-map.csv"), run_results(tmp_path)
    for row in table.to_dict("records"):
        values = [results[run]["test"]["recall@20"] for run in row["runs"].split()]
        assert row["recall@20"] == np.mean(values) and row["recall@20_std"] == pytest.approx(np.std(values, ddof=1))
    assert table["seeds"].tolist() == ["1 2"] * 2


def test_a_trial_that_fails_is_named_and_the_others_are_drawn(call, tmp_path):
    status, out, err = call("feature-map", "-d", "toy", "--variant", "released")
    assert status == 1 and "error: 1 of 2 trials failed" in err and "no effect with variant: released" in err
    assert "Not drawn, because not every seed has a finished run: '1×1×2'." in out
    assert pd.read_csv(tmp_path / "results/toy/figures/feature-map.csv")["label"].tolist() == ["2×1×1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ablation", "-d", "nowhere"], "there is no data set 'nowhere'"),
        (["cl-weight", "-d", "toy", "--cl_loss", "0.1"], "--cl_loss: the study cl-weight sets cl_loss itself; leave it out"),
        (["ablation", "-d", "toy", "--mmd_weight", "0.1", "0.2"], "--mmd_weight: a study takes one value"),
        (["ablation", "-d", "toy", "--topk", "20"], "the study ablation shows recall@10, ndcg@10, which these settings do not"),
        (["ablation", "-d", "toy", "--results", "/nowhere", "--jobs", "2"], "--jobs is for training, and --results shows runs"),
        (["ablation", "-d", "toy", "--epoch", "3"], "MambaRec has no key 'epoch'; did you mean '--epochs'?"),
        (["ablation", "-d", "toy", "--results", "/nowhere"], "/nowhere: no finished run and no *.record.npz there"),
    ],
)
def test_a_mistake_ends_with_one_message_and_status_2(words, message, call, tmp_path):
    status, _, err = call(*words)
    assert status == 2 and err.startswith("error: ") and message in err
    assert not (tmp_path / "results").exists()


def test_no_job_at_all_is_refused(call, capsys):
    with pytest.raises(SystemExit):
        call("ablation", "--jobs", "0")
    assert "--jobs: 0; expected a whole number above 0" in capsys.readouterr().err


def test_features_that_are_not_there_are_named_before_anything_is_trained(call, toy, tmp_path):
    (toy / "image_feat.npy").unlink()
    status, _, err = call("modality", "-d", "toy")
    assert status == 2 and "image_feat.npy does not exist" in err and not (tmp_path / "results").exists()


# which runs are whose


@pytest.fixture
def made_up(places):
    """made_up(name, seeds, **given): a plan, and a record per point and seed, whose Recall@20 rises from point to point."""

    def make(name: str, seeds=(1, 2), **given):
        plan = plan_study(name, "toy", {**places, **given, "seed": list(seeds)})
        records = []
        for i, (_, config) in enumerate(plan.points):
            for seed in seeds:
                test = {f"{metric}@{k}": 0.1 + 0.01 * i + 0.001 * seed for metric in ("recall", "ndcg") for k in (10, 20)}
                costs = {"parameters": 1000, "parameters_without_features": 100, "peak_memory_mb": None}
                costs |= {
                    "seconds_per_epoch": 1.0,
                    "seconds_total": 3.0,
                    "epochs": 3,
                    "best_epoch": 2,
                    "valid": {"recall@20": 0.1},
                }
                result = {"model": config["model"], "dataset": "toy", "seed": seed, "test": test, **costs}
                environment = {"device": "cpu", "threads": 1, "feature_widths": {"visual": 24, "text": 16}}
                settings = json.loads(json.dumps(config.at(seed=seed).plain()))
                records.append(Record(settings, environment, result, [], np.arange(2), {}, Path(f"seed{seed}-{i}")))
        return plan, records

    return make


def test_the_run_of_the_yaml_is_one_run_in_every_study(places):
    for name in N_POINTS:
        points = plan_study(name, "toy", places).points
        same = [config.identity() == Config(point.model, "toy", places).identity() for point, config in points]
        assert sum(same) == 1, name


def test_records_are_enough_without_the_data(made_up, places, tmp_path, capsys):
    plan, records = made_up("reduction")
    for record in records:
        record.save(tmp_path / "kept")
    Path(places["data_path"]).rename(tmp_path / "away")
    words = [word for key, value in places.items() for word in (f"--{key}", value)]
    output = ["--results", str(tmp_path / "kept"), "--output", str(tmp_path / "figures")]
    assert report.main(["reduction", "-d", "toy", *output, *words]) == 0
    table = pd.read_csv(tmp_path / "figures" / "reduction.csv")
    pd.testing.assert_frame_equal(table, numbers(find(plan, records)), check_dtype=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "Not possible on toy: reduction factor 32 (its narrowest feature has 16 dimensions)." in said


def test_a_point_without_all_seeds_is_left_out_and_named(made_up):
    plan, records = made_up("modality")
    findings = find(plan, records[1:])
    assert [point.label for point, *_ in findings.runs] == ["visual alone", "all modalities"] and findings.seeds == [1, 2]
    assert "Not drawn, because not every seed has a finished run: 'text alone'." in caption(findings)


def test_without_seeds_asked_for_all_that_were_run_count(made_up, places):
    _, records = made_up("modality", seeds=(7, 3))
    assert find(plan_study("modality", "toy", places), records).seeds == [3, 7]


def test_runs_with_other_settings_are_no_runs_of_the_study(made_up, places):
    _, records = made_up("modality", dropout=0.5)
    with pytest.raises(RunError, match="modality on toy: none of its 3 points has a finished run"):
        find(plan_study("modality", "toy", places), records)


def test_two_different_runs_of_one_point_are_an_error_that_tells_them_apart(made_up):
    plan, records = made_up("ablation", seeds=(1,))
    result = {**records[0].result, "test": {"recall@20": 0.5}}
    other = replace(records[0], result=result, config={**records[0].config, "threads": 3}, source=Path("other"))
    with pytest.raises(
        RunError, match=r"seed1-0 and other are both runs of 'full model' with seed 1, with other figures \(threads"
    ):
        find(plan, [*records, other])
    plan, records = made_up("ablation", seeds=(1,), threads=1)
    assert find(plan, [records[0], *records, other]).runs[0][2] == [records[0]]


def test_the_caption_says_what_was_run(made_up):
    plan, records = made_up("cl-weight", epochs=3, dropout=0.1)
    text = caption(find(plan, records), "More.")
    for part in (
        "MambaRec by the weight of the contrast, on toy. The weight of the contrast in the loss varies (key cl_loss). More.",
        "Every other setting has its default value, except epochs (3), dropout (0.1).",
        "Every value is the mean over seeds 1, 2. Error bars show one standard deviation.",
        "A run has at most 3 epochs. It stops earlier after 20 evaluations in a row without a better validation Recall@20.",
        "Every run reached the limit of epochs, so it may not have learned all it can.",
        "The test metrics are those of the epoch with the best validation Recall@20. No choice was made on the test split.",
        "Machine: cpu, 1 thread.",
    ):
        assert part in text
    plan, records = made_up("cl-weight", seeds=(5,))
    assert "Every value is from one run (seed 5), so small differences mean nothing." in caption(find(plan, records))


# what is run


def points(name: str, widths: dict, factor: int = 8) -> dict:
    return {point.label: (point.values, point.obstacle) for point in STUDIES[name].points(widths, factor)}


def test_the_ablations_switch_off_what_they_name():
    values = {label: values for label, (values, _) in points("ablation", BABY).items()}
    assert values == {
        "full model": {},
        "without local alignment": {"use_local_alignment": False},
        "without global alignment": {"use_global_alignment": False},
        "without global alignment, no contrast": {"use_global_alignment": False, "cl_loss": 0.0},
    }


def test_with_one_modality_there_is_no_point_without_global_alignment():
    (obstacle,) = [obstacle for _, obstacle in points("ablation", {"text": 384}).values() if obstacle]
    assert obstacle == "the data set has one modality, so the full model has no global alignment either"


@pytest.mark.parametrize(
    ("width", "shapes"),
    [(48, [None, [12, 2, 2], [3, 4, 4], [1, 1, 48]]), (16, [None, [4, 2, 2], [1, 4, 4], [1, 1, 16]]), (1, [None])],
)
def test_feature_maps_hold_the_reduced_width(width, shapes):
    found = points("feature-map", {"visual": 4096, "text": 8 * width})
    assert [values.get("feature_map") for values, obstacle in found.values() if not obstacle] == shapes


def test_what_a_data_set_cannot_have_says_why():
    found = points("feature-map", INSTRUMENTS)  # 892 // 8 = 111
    assert {label: obstacle for label, (_, obstacle) in found.items() if obstacle} == {
        f"C×{side}×{side}": f"the reduced width 111 is no multiple of {side**2}" for side in (2, 4, 8)
    }
    found = points("reduction", {"text": 16})
    assert [label for label, (_, obstacle) in found.items() if obstacle] == ["reduction factor 32"]


def test_every_modality_stands_alone_once():
    assert list(points("modality", {"visual": 1, "text": 1, "audio": 1})) == [
        "audio alone",
        "text alone",
        "visual alone",
        "all modalities",
    ]


def test_another_model_takes_the_keys_that_it_knows(places):
    plan = plan_study("embedding", "toy", {**places, "mmd_weight": 0.1, "embedding_size": 8})
    configs = {config["model"]: config for _, config in plan.points}
    assert configs["VBPR"]["embedding_size"] == configs["MambaRec"]["embedding_size"] == 8
    assert configs["MambaRec"]["mmd_weight"] == 0.1 and not configs["VBPR"].knows("mmd_weight")
    with pytest.raises(ConfigError, match="MambaRec has no key 'no_such'"):
        plan_study("embedding", "toy", {**places, "no_such": 1})


# how it is drawn


@pytest.fixture
def drawn(made_up):
    """drawn(name) -> the picture of made-up runs of a study."""
    return lambda name: pictures(find(*made_up(name)))[0]


def test_bars_are_as_long_as_their_values_with_errors_over_seeds(drawn):
    picture = drawn("ablation")
    recall, ndcg = picture.figure.axes
    assert [bar.get_width() for bar in recall.patches] == pytest.approx([0.1015, 0.1115, 0.1215, 0.1315])
    names = [label.get_text().replace("\n", " ") for label in recall.get_yticklabels()]
    assert names[0] == "full model (default)" and names[3] == "without global alignment, no contrast"
    assert (recall.get_xlabel(), ndcg.get_xlabel()) == ("Recall@20", "NDCG@20")
    assert [text.get_text() for text in recall.texts] == ["0.1015", "0.1115", "0.1215", "0.1315"]
    (errors,) = recall.collections
    assert np.ptp(errors.get_segments()[0][:, 0]) == pytest.approx(2 * np.std([0.001, 0.002], ddof=1))


def test_curves_pass_through_their_values_at_labelled_settings(drawn):
    picture = drawn("reduction")
    recall, sizes, *_ = picture.figure.axes
    line = recall.containers[0].lines[0]
    assert line.get_xdata().tolist() == [1, 2, 4, 8, 16] and line.get_ydata() == pytest.approx(picture.numbers["recall@20"])
    assert [label.get_text() for label in picture.figure.axes[-1].get_xticklabels()] == ["1", "2", "4", "8\ndefault", "16"]
    assert [text.get_text() for text in sizes.get_legend().get_texts()] == ["all", "without feature tables"]
    assert [axes.get_ylabel().split("\n")[-1] for axes in picture.figure.axes[1:]] == ["(millions)", "(seconds)", "(MB)"]


def test_the_heat_map_has_its_number_in_each_cell(drawn):
    picture = drawn("mmd-reduction")
    axes = picture.figure.axes[0]
    assert axes.get_xlabel() == "reduction factor (reduction_factor)"
    assert axes.get_ylabel() == "weight of the MMD\n(mmd_weight)"
    rows = [label.get_text() for label in axes.get_yticklabels()]
    columns = [label.get_text() for label in axes.get_xticklabels()]
    cells = {(rows[int(y)], columns[int(x)]): text.get_text() for text in axes.texts for x, y in [text.get_position()]}
    table = picture.numbers
    keys = zip(table["mmd_weight"].map("{:g}".format), table["reduction_factor"].map(str), strict=True)
    values = table["recall@20"].map("{:.4f}".format) + np.where(table["is_default"], "\ndefault", "")
    assert table["is_default"].sum() == 1 and cells == dict(zip(keys, values, strict=True))
    (frame,) = axes.patches
    assert (round(frame.get_x() + 0.47), round(frame.get_y() + 0.44)) == (1, 1)  # mmd_weight 0.15, reduction_factor 8


def test_a_figure_says_of_what_it_is_and_its_axes_end_at_the_data(drawn):
    picture = drawn("cl-weight")
    title = picture.figure.get_suptitle()
    assert title == "MambaRec by the weight of the contrast\ntoy, test, seeds 1, 2"
    for axes in picture.figure.axes:
        assert axes.spines["bottom"].get_bounds() == (1e-4, 1.0)
        highest = picture.numbers["recall@20"] + picture.numbers["recall@20_std"]
        assert axes.spines["left"].get_bounds()[1] == pytest.approx(highest.max())


def test_the_dark_form_is_the_same_figure_in_other_colours(drawn, tmp_path):
    picture = drawn("ablation")
    picture.save(tmp_path)
    light, dark = ((tmp_path / f"ablation{end}.svg").read_text() for end in ("", "-dark"))
    assert "#16181a" in dark and "#16181a" not in light
    shapes = [re.sub(r"#[0-9a-f]{6}|#\w+|id=\"\w+\"", "", text) for text in (light, dark)]
    assert shapes[0].count("<path") == shapes[1].count("<path")
    assert picture.figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)


def test_a_run_that_is_older_than_a_key_is_of_the_point_that_it_was(made_up):
    plan, records = made_up("sampling")
    full = [replace(one, config={k: v for k, v in one.config.items() if k not in plan.study.keys}) for one in records[:2]]
    found = find(plan, full)
    assert [point.label for point, *_ in found.runs] == ["full steps"]
    assert found.left_out == ["3 neighbours", "10 neighbours", "every neighbour"]


def test_a_run_without_a_metric_that_is_drawn_is_named(made_up):
    plan, records = made_up("reduction")
    del records[0].result["test"]["recall@10"]
    with pytest.raises(RunError, match=r"seed1-0 has no recall@10 on test"):
        find(plan, records)


@pytest.mark.parametrize("name", ["reduction", "mmd-reduction", "feature-map", "modality"])
def test_a_study_of_features_says_that_the_data_set_has_none(name, call, configs, tmp_path):
    (configs / "dataset" / "toy.yaml").write_text("inter_file_name: toy.inter\n")
    status, _, err = call(name, "-d", "toy")
    assert status == 2 and "the model reads item features, and the data set toy has none" in err


def test_the_caption_names_tuned_values(made_up, configs):
    (configs / "tuned" / "toy").mkdir(parents=True)
    (configs / "tuned" / "toy" / "MambaRec.yaml").write_text("mmd_weight: 0.2\nreduction_factor: 16\n")
    for tuned in (False, True):
        plan, records = made_up("reduction", **({"tuned": True} if tuned else {}))
        text = caption(find(plan, records))
        assert ("tuned: tuned/toy/MambaRec.yaml mmd_weight=0.2)" in text) == tuned
        assert ("Every other setting has its default value" in text) != tuned
        assert all(("tuned values" in picture.about) == tuned for picture in pictures(find(plan, records)))


def test_a_study_of_one_model_asks_for_no_tuned_values_of_another(call, configs):
    (configs / "tuned" / "toy").mkdir(parents=True)
    (configs / "tuned" / "toy" / "LightGCN.yaml").write_text("n_layers: 1\n")
    plan = plan_study("sampling", "toy", {"tuned": True})
    assert {config["n_layers"] for _, config in plan.points} == {1}


def test_a_key_that_no_model_of_the_study_has_is_refused(call):
    status, _, err = call("sampling", "-d", "toy", "--mmd_weight", "0.2")
    assert status == 2 and "--mmd_weight: the study sampling trains LightGCN, which has no such key; leave it out" in err
