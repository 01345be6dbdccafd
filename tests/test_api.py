"""The Python interface: the same runs and figures as the command line's, as objects that a notebook shows."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import mambarec as mr
from mambarec.analysis.breakdown import by_item_popularity, by_user_activity, coverage
from mambarec.analysis.missing import missing_modality
from mambarec.base.errors import ConfigError, DataError, RunError, UserError
from mambarec.cli import recommend
from mambarec.cli.train import main
from mambarec.experiments.trials import one_after_the_other

SRC = Path(__file__).resolve().parents[1] / "src"
SMALL = {"embedding_size": 8, "train_batch_size": 32, "epochs": 2, "threads": 1, "use_gpu": False}


@pytest.fixture
def places(toy, tmp_path, in_this_process, monkeypatch):
    """Where the toy data and the results are, for calls that train in this process."""
    monkeypatch.setattr("mambarec.api.LocalProcesses", lambda jobs: one_after_the_other)
    return {"data_path": str(toy.parent), "results_dir": str(tmp_path / "results"), **SMALL}


def test_a_run_is_the_one_of_the_command_line(places, capsys):
    run = mr.train("MambaRec", "toy", seed=3, **places)
    words = ["-m", "MambaRec", "-d", "toy", "--seed", "3"]
    for key, value in places.items():
        words += [f"--{key}", str(value).lower() if isinstance(value, bool) else str(value)]
    assert main(words) == 0 and str(run.directory) in capsys.readouterr().out
    assert run.config["seed"] == 3 and run.result["epochs"] == 2
    assert run.metrics.loc["recall@20"].to_dict() == {
        "validation": run.result["valid"]["recall@20"],
        "test": run.result["test"]["recall@20"],
    }
    assert run.curves.index.tolist() == [1, 2] and {"loss", "recall@20", "seconds_train"} <= set(run.curves)
    assert run.curves["recall@20"].max() == run.metrics.loc["recall@20", "validation"]
    assert "MambaRec on toy, seed 3: 2 epochs" in repr(run) and len(repr(run)) < 200


def test_a_run_recommends_by_the_ids_and_titles_of_the_data(places, toy):
    pd.DataFrame({"original": [f"u{i}" for i in range(48)], "userID": range(48)}).to_csv(toy / "u_id_mapping.csv", index=False)
    pd.DataFrame({"original": [f"i{i}" for i in range(64)], "itemID": range(64)}).to_csv(toy / "i_id_mapping.csv", index=False)
    items = {"item_id": range(64), "original_id": [f"i{i}" for i in range(64)], "text": [f"thing {i}" for i in range(64)]}
    pd.DataFrame(items).to_csv(toy / "items.csv", index=False)
    run = mr.train("BPR", "toy", **places)
    lists = run.recommend(users=["u7", "u1"], k=3)
    assert lists["user"].tolist() == ["u7"] * 3 + ["u1"] * 3 and lists["rank"].tolist() == [1, 2, 3] * 2
    assert (lists["title"] == lists["item"].str.replace("i", "thing ")).all()
    assert len(run.recommend(k=1)) == len(set(run.trained.dataset.users["test"]))
    assert run.recommend(users="u7", k=3)["item"].tolist() == lists["item"].tolist()[:3]
    assert run.similar("i7", k=2)["rank"].tolist() == [1, 2]
    with pytest.raises(DataError, match="no user 'nobody'"):
        run.recommend(users=["nobody"])
    with pytest.raises(ConfigError, match=r"users=\[\]; expected at least one"):
        run.recommend(users=[])
    for call in (lambda: run.recommend(k=-1), lambda: run.similar("i7", k=0)):
        with pytest.raises(ConfigError, match="expected a whole number above 0"):
            call()


@pytest.fixture
def named(toy):
    """The toy data with maps of ids: u0 … u47 and i0 … i63."""
    for kind, n in (("u", 48), ("i", 64)):
        pd.DataFrame({"original": [f"{kind}{i}" for i in range(n)], "number": range(n)}).to_csv(
            toy / f"{kind}_id_mapping.csv", index=False
        )


def test_vectors_and_scores_have_the_ids_of_the_data(places, named):
    run = mr.train("BPR", "toy", **places)
    users, items = run.vectors()
    assert users.shape == (48, 8) and items.shape == (64, 8) and set(users.dtypes) == {np.dtype("float32")}
    assert users.index.tolist() == [f"u{i}" for i in range(48)] and (users.index.name, items.index.name) == ("user", "item")
    scores = run.scores(["u7", "u1"])
    assert scores.index.tolist() == ["u7", "u1"] and scores.columns.tolist() == items.index.tolist()
    assert np.allclose(scores, users.loc[scores.index] @ items.T, atol=1e-6)
    best = run.recommend("u7", k=3, include_seen=True)
    assert scores.loc["u7"].nlargest(3).index.tolist() == best["item"].tolist()
    assert np.allclose(scores.loc["u7", best["item"]], best["score"])
    pd.testing.assert_frame_equal(run.scores("u1"), scores.loc[["u1"]])
    with pytest.raises(DataError, match="no user 'nobody'"):
        run.scores(["u1", "nobody"])


def test_the_metrics_of_each_user_have_the_ids_of_the_data(places, named, toy):
    run = mr.train("BPR", "toy", **places)
    values = run.per_user()
    numbers = np.unique(run.trained.dataset.users["test"])
    assert values.index.tolist() == [f"u{i}" for i in numbers] and values.index.name == "user"
    assert values.columns.tolist() == run.metrics.index.tolist()
    assert values.mean().to_dict() == pytest.approx(run.metrics["test"].to_dict())
    test = dict(zip(run.trained.dataset.users["test"], run.trained.dataset.items["test"], strict=True))  # one item a user
    lists = run.recommend(k=20).groupby("user")["item"].agg(set)
    assert all((f"i{test[i]}" in lists[f"u{i}"]) == values.loc[f"u{i}", "recall@20"] for i in numbers)
    (run.directory / "best.pt").unlink()
    assert mr.load_run(run.directory).per_user().equals(values)
    with (toy / "toy.inter").open("a") as file:
        file.write("47\t0\t1.0\t0\t2\n")
    with pytest.raises(RunError, match=r"toy\.inter has another content"):
        run.per_user()


@pytest.mark.parametrize("function", [by_user_activity, by_item_popularity, coverage, missing_modality])
def test_the_analysis_takes_a_run_a_path_or_several(places, toy, tmp_path, function):
    run = mr.train("BPR", "toy", **{**places, "epochs": 1})
    expected = function([run.directory])
    found = mr.runs("toy", results=places["results_dir"])["directory"]
    for runs in (run, run.directory, str(run.directory), [run], (str(run.directory),), iter([run]), found):
        pd.testing.assert_frame_equal(function(runs), expected)
    assert len(function([run, run.directory])) == 2 * len(expected)
    for runs in (None, 5, True, [], [None], [5], {"a": 1}, b"a", [b"a"], "", "a\0", Other()):
        with pytest.raises(ConfigError, match=r"^runs=.*expected .*a run, the directory of one|^runs=.*expected a path$"):
            function(runs)
    with pytest.raises(RunError, match="is no run's directory"):
        function(tmp_path)
    with pytest.raises(RunError, match="is no run's directory"):
        function([run, "nowhere"])
    (tmp_path / "elsewhere").mkdir()
    toy.rename(tmp_path / "elsewhere" / "toy")
    pd.testing.assert_frame_equal(function(mr.load_run(run.directory, data_path=tmp_path / "elsewhere")), expected)


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        *((by_user_activity, name) for name in ("n_groups", "smallest")),
        *((by_item_popularity, name) for name in ("k", "n_groups", "smallest")),
        (coverage, "k"),
    ],
)
def test_a_wrong_number_is_refused_by_the_analysis(function, argument):
    for value in (0, -1, 0.5, "5", None, True, [5]):
        with pytest.raises(ConfigError, match=f"^{argument}=.*; expected a whole number above 0"):
            function("nowhere", **{argument: value})


@pytest.mark.parametrize("shares", [None, "a", 2, [-0.1], [0.5, "a"], [float("nan")]])
def test_a_wrong_share_is_refused_by_the_analysis(shares):
    with pytest.raises(ConfigError, match=r"^shares=.*; expected a list of numbers from 0 to 1"):
        missing_modality("nowhere", shares=shares)


def test_a_model_without_vectors_has_scores(places):
    run = mr.train("Pop", "toy", **places)
    assert run.scores([1, 2]).shape == (2, 64) and run.scores(1).index.tolist() == [1]
    with pytest.raises(RunError, match=r"Pop has no representations.*only scores, so there are no vectors"):
        run.vectors()


def test_unknown_users_and_reasons_differ_from_the_command_line_as_the_page_says(places, capsys):
    run = mr.train("VBPR", "toy", **places)
    words = ["--run", str(run.directory), "-k", "2", "--user", "1", "nobody", "--explain", "2"]
    capsys.readouterr()
    assert recommend.main(words) == 0
    said = capsys.readouterr()
    assert "no such users: nobody" in said.err
    with pytest.raises(mr.DataError, match="there is no user 'nobody'"):
        run.recommend(["1", "nobody"], k=2, reasons=2)
    of_command = pd.read_csv(io.StringIO(said.out))
    assert [*of_command] == [*run.recommend("1", k=2, reasons=2)] and "visual_seen_2" in of_command
    page = (SRC.parent / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    assert "| `reasons=2` | `--explain 2` |" in page and "names and skips it" in page


def test_runs_are_found_by_a_key_that_is_not_set(places):
    mr.train("BPR", "toy", **places)
    assert len(mr.runs("toy", results=places["results_dir"], clip_grad_norm=None)) == 1
    assert len(mr.runs("toy", results=places["results_dir"], clip_grad_norm=5)) == 0


def test_a_reference_that_no_model_has_is_refused_before_anything_is_trained(places):
    with pytest.raises(ConfigError, match="reference='MGCN': no such model is trained here"):
        mr.compare(["BPR", "VBPR"], "toy", reference="MGCN", **places)
    assert not Path(places["results_dir"]).exists()


def test_a_model_without_training_has_no_curve_of_its_loss(places):
    run = mr.train("Pop", "toy", **places)
    assert run.curves["loss"].isna().tolist() == [True] and run.curves["recall@20"].notna().all()
    pytest.importorskip("matplotlib", reason="the extra [report] is not installed")
    assert [axes.get_ylabel() for axes in run.plot().axes] == ["validation recall@20"]
    assert [axes.get_ylabel() for axes in mr.train("BPR", "toy", **places).plot().axes] == ["loss", "validation recall@20"]


def test_a_comparison_is_a_table_with_figures(places):
    table = mr.compare(["BPR", "VBPR"], "toy", seeds=[1, 2], **places)
    frame = table.to_frame()
    assert frame["model"].tolist() == ["BPR", "VBPR"] and frame["seeds"].tolist() == [2, 2]
    runs = mr.runs("toy", results=places["results_dir"])
    assert "test" not in runs
    shown = mr.runs("toy", results=places["results_dir"], show_test=True)
    of_bpr = shown[shown["model"] == "BPR"]["test"]
    assert frame["recall@20"][0] == pytest.approx(of_bpr.mean()) and frame["recall@20 std"][0] == pytest.approx(of_bpr.std())
    assert "BPR" in repr(table) and "<table" in table._repr_html_() and "\\toprule" in table.to_latex()
    assert len(table.runs) == 4 and mr.load_run(table.runs[0].directory).result == table.runs[0].result
    chosen = mr.load_run(model="VBPR", dataset="toy", seed=2, results=places["results_dir"])
    assert chosen.config["model"] == "VBPR" and chosen.config["seed"] == 2


def test_a_table_is_drawn_as_a_bar_for_each_model(places):
    pytest.importorskip("matplotlib", reason="the extra [report] is not installed")
    table = mr.compare(["BPR", "VBPR"], "toy", seeds=[1, 2], **places)
    for metric, figure in (("recall@20", table.plot()), ("ndcg@10", table.plot("NDCG@10", dataset="toy"))):
        (axes,) = figure.axes
        assert [one.get_text() for one in axes.get_yticklabels()] == table.to_frame()["model"].tolist()
        bars, errors = axes.containers[1], axes.containers[0]
        assert [bar.get_width() for bar in bars] == pytest.approx(table.to_frame()[metric].tolist())
        (spread,) = errors[2]
        lengths = [(segment[1][0] - segment[0][0]) / 2 for segment in spread.get_segments()]
        assert lengths == pytest.approx(table.to_frame()[f"{metric} std"].tolist())
        assert "toy, test, seeds 1, 2, mean and standard deviation" in figure.get_suptitle()
        assert figure._repr_png_().startswith(b"\x89PNG") and type(figure) is type(table.runs[0].plot())
    single = mr.compare(["BPR", "Pop"], "toy", seeds=1, **places).plot()
    assert len(single.axes[0].containers) == 1 and single.get_suptitle().endswith("toy, test, seed 1")


def test_a_table_draws_what_it_has(places, toy, known_toy, configs):
    pytest.importorskip("matplotlib", reason="the extra [report] is not installed")
    shutil.copytree(toy, toy.parent / "other")
    (toy.parent / "other" / "toy.inter").rename(toy.parent / "other" / "other.inter")
    (configs / "dataset" / "other.yaml").write_text(
        (configs / "dataset" / "toy.yaml").read_text().replace("toy.inter", "other.inter")
    )
    table = mr.compare(["BPR", "VBPR"], ["toy", "other"], seeds=1, **places)
    assert "other, test, seed 1" in table.plot(dataset="other").get_suptitle()
    with pytest.raises(ConfigError, match=r"several data sets: give dataset=NAME, one of toy, other"):
        table.plot()
    for given in ({"dataset": "nothing"}, {"dataset": 5}, {"metric": "recall@7"}, {"metric": None}, {"metric": ["recall@20"]}):
        (argument,) = given
        with pytest.raises(ConfigError, match=f"^{argument}=.*; expected one"):
            table.plot(**{"dataset": "toy", **given})


def test_a_search_chooses_on_validation(places):
    table = mr.search("BPR", "toy", budget=2, **places)
    assert table.to_frame()["points"].tolist() == [2]
    best = max(table.runs, key=lambda run: run.result["valid"]["recall@20"])
    assert table.to_frame()["recall@20"][0] == best.result["test"]["recall@20"]


def test_the_settings_in_which_runs_differ_are_columns(places):
    mr.compare(["BPR", "LightGCN"], "toy", seeds=[1, 2], n_layers=[1, 2], **{**places, "epochs": 1})
    mr.train("Pop", "toy", **places)
    runs = mr.runs("toy", results=places["results_dir"])
    assert [*runs] == ["model", "dataset", "seed", "state", "metric", "validation", "n_layers", "directory"]
    layers = runs.set_index("model")["n_layers"]
    assert sorted(layers["LightGCN"]) == [1, 1, 2, 2]
    assert layers.dtype == "Int64" and layers["BPR"].isna().all() and layers[["Pop"]].isna().all()
    assert "n_layers" not in mr.runs("toy", "BPR", results=places["results_dir"])
    empty = mr.runs("nothing", results=places["results_dir"])
    assert [*empty] == ["model", "dataset", "seed", "state", "metric", "validation", "directory"] and empty.empty


def test_a_table_has_all_its_points_with_validation_alone(places):
    table = mr.compare(["LightGCN", "Pop"], "toy", seeds=[1, 2], n_layers=[1, 2], **places)
    points = table.points()
    figures = ["seeds", "metric", "validation", "validation std", "pruned", "chosen"]
    assert [*points] == ["model", "dataset", "n_layers", *figures]
    assert points["model"].tolist() == ["LightGCN", "LightGCN", "Pop"] and points["seeds"].tolist() == [2, 2, 2]
    runs = mr.runs("toy", "LightGCN", results=places["results_dir"]).groupby("n_layers")["validation"]
    own = points[points["model"] == "LightGCN"].set_index("n_layers")
    assert own["validation"].to_dict() == pytest.approx(runs.mean().to_dict())
    assert own["validation std"].to_dict() == pytest.approx(runs.std().to_dict())
    assert own["chosen"].sum() == 1 and own["validation"][own["chosen"]].item() == own["validation"].max()
    assert points["pruned"].isna().all()


def test_a_setting_with_several_entries_is_one_cell(places):
    points = mr.compare("VBPR", "toy", seeds=1, modalities=[["visual"], ["visual", "text"]], **places).points()
    assert points["modalities"].tolist() == ["visual", "visual,text"] and points["chosen"].all()  # each is another model
    assert len(mr.runs("toy", results=places["results_dir"], modalities="visual,text")) == 1


def test_a_search_without_a_pruner_trains_all_points_to_their_end(places):
    pytest.importorskip("optuna", reason="the extra [search] is not installed")
    some = {"learning_rate": [10.0**-i for i in range(1, 9)], "epochs": 12, "min_epochs": 1}
    table = mr.search("BPR", "toy", sampler="tpe", pruner="none", budget=12, **{**places, **some})
    assert len(table.runs) == 12 and table.points()["pruned"].isna().all()


def test_a_search_keeps_its_best_settings(places, configs):
    table = mr.search("BPR", "toy", save_best=True, learning_rate=[0.1, 0.01], reg_weight=[0.1, 0.2], **places)
    assert table.tuned_files == [configs / "tuned" / "toy" / "BPR.yaml"]
    assert {"learning_rate", "reg_weight"} <= set(yaml.safe_load(table.tuned_files[0].read_text()))
    tuned = mr.train("BPR", "toy", seed=1, tuned=True, **places)
    assert tuned.result["valid"]["recall@20"] == table.points()["validation"].max()
    assert mr.search("BPR", "toy", budget=2, **places).tuned_files == []


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"pruner": "median"}, "^pruner='median' needs sampler='tpe'$"),
        ({"save_best": True, "budget": 1}, "^save_best=True needs a budget= above 1"),
        (
            {"save_best": True, "epochs": [1, 2]},
            r"^epochs has several values, .*: save_best=True compares points",
        ),
        ({"save_best": True, "modalities": ["text"]}, "^modalities makes another model of VBPR, and save_best=True keeps"),
    ],
)
def test_options_of_a_search_that_do_not_go_together_are_named_as_arguments(places, given, text):
    with pytest.raises(ConfigError, match=text) as refusal:
        mr.search("VBPR", "toy", **{**places, **given})
    assert "--" not in str(refusal.value)


@pytest.mark.parametrize("pruner", [None, "median"])
def test_a_search_that_prunes_has_the_finished_runs(places, pruner):
    pytest.importorskip("optuna", reason="the extra [search] is not installed")
    some = {"learning_rate": [10.0**-i for i in range(1, 9)], "epochs": 12, "min_epochs": 1}
    table = mr.search("BPR", "toy", sampler="tpe", pruner=pruner, budget=12, **{**places, **some})
    states = mr.runs("toy", results=places["results_dir"])["state"]
    assert "pruned" in set(states) and len(table.runs) == (states == "finished").sum()
    points = table.points()
    assert len(points) == 12 and points["chosen"].sum() == 1
    assert points["pruned"].notna().sum() == points["validation"].isna().sum() == (states == "pruned").sum()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda places: mr.train("BPR", "toy", learning_rat=1, **places), ConfigError, "did you mean 'learning_rate'"),
        (lambda places: mr.train("BPR", "toy", learning_rate=[0.1, 0.2], **places), ConfigError, "learning_rate has several"),
        (lambda places: mr.train("Nothing", "toy", **places), ConfigError, "there is no model 'Nothing'"),
        (lambda places: mr.compare(["BPR"], "toy", seeds=[1], **places), ConfigError, "one run of one model"),
        (lambda places: mr.compare([], "toy", **places), ConfigError, r"models=\[\]; expected at least one"),
        (lambda places: mr.compare(["BPR", "VBPR"], "toy", jobs=0, **places), ConfigError, "jobs=0; expected"),
        (lambda places: mr.search("BPR", "toy", sampler="tpe", **places), ConfigError, "sampler='tpe' needs budget="),
        (lambda places: mr.search("BPR", "toy", sampler="bayes", **places), ConfigError, "sampler='bayes'; expected one of"),
        (lambda places: mr.search("BPR", "toy", budget=0, **places), ConfigError, "budget=0; expected"),
        (lambda places: mr.load_run(places["results_dir"]), RunError, "no finished run"),
        (lambda places: mr.load_run(model="BPR", results=places["results_dir"]), RunError, "no run in"),
    ],
)
def test_a_mistake_is_an_error_that_says_what_to_do(places, call, error, text):
    with pytest.raises(error, match=text):
        call(places)


def test_data_frames_become_a_data_set(tmp_path, configs):
    pytest.importorskip("duckdb")
    pairs = [(f"u{u}", f"i{(u * 3 + k) % 9}", 100 * u + k) for u in range(9) for k in range(6)]
    interactions = pd.DataFrame(pairs, columns=["user", "item", "when"])
    items = pd.DataFrame({"item": [f"i{i}" for i in range(9)], "title": [f"thing {i}" for i in range(9)]})
    items["picture"] = "pictures/" + items["item"] + ".png"
    options = {"k_core": 2, "time_column": "when", "split": "leave-one-out", "data_path": str(tmp_path / "data")}
    folder = mr.prepare_table("mine", interactions, items, text_columns=["title"], image_column="picture", **options)
    assert folder == tmp_path / "data" / "mine" and (folder / "mine.inter").exists()
    written = pd.read_csv(folder / "items.csv")
    assert set(written["text"]) == set(items["title"])
    assert set(written["image"]) == {str(Path.cwd() / path) for path in items["picture"]}
    assert [one["path"] for one in json.loads((folder / "report.json").read_text())["sources"]] == ["interactions", "items"]
    with pytest.raises(DataError, match=r"^interactions has no column 'nobody'"):
        mr.prepare_table("other", interactions, user_column="nobody", data_path=tmp_path / "data")
    with pytest.raises(ConfigError, match="there is no argument nonsense"):
        mr.prepare_table("other", interactions, nonsense=1, data_path=str(tmp_path / "data"))


def test_a_pair_of_a_data_frame_that_reads_like_its_header_is_a_pair(tmp_path, configs):
    pytest.importorskip("duckdb")
    pairs = pd.DataFrame([(u, i) for u in range(9) for i in range(9)]).rename(columns=str)  # columns 0 and 1
    options = {"user_column": "0", "item_column": "1", "k_core": 1, "data_path": str(tmp_path / "data")}
    folder = mr.prepare_table("mine", pairs, **options)
    assert json.loads((folder / "report.json").read_text())["sources"][0]["rows"] == 81


def test_a_column_of_several_types_is_named(tmp_path, configs):
    pytest.importorskip("pyarrow")
    pairs = pd.DataFrame({"user": ["a", "b"], "item": [1, "x"]})
    with pytest.raises(DataError, match=r"column 'item' mixes values of several types: make them one, as by \.astype\(str\)"):
        mr.prepare_table("mine", pairs, data_path=tmp_path / "data")


@pytest.mark.parametrize("columns", [["user", "item"], ("user", "item"), iter(["user", "item"])])
def test_a_file_without_a_header_becomes_a_data_set(tmp_path, configs, columns):
    pytest.importorskip("duckdb")
    (tmp_path / "log.csv").write_text("".join(f"u{n % 9},i{n // 9}\n" for n in range(81)))
    places = {"data_path": tmp_path / "data"}
    with pytest.raises(DataError, match=r"name its columns by columns=\['user', 'item', 'rating', 'time'\]"):
        mr.prepare_table("mine", tmp_path / "log.csv", **places)
    folder = mr.prepare_table("mine", tmp_path / "log.csv", columns=columns, **places)
    assert json.loads((folder / "report.json").read_text())["sources"][0]["rows"] == 81


def test_the_columns_of_a_data_frame_have_names_already(tmp_path, configs):
    pytest.importorskip("duckdb")
    frame = pd.DataFrame({"user": ["a"], "item": ["b"]})
    with pytest.raises(ConfigError, match=r"^columns= is for .* interactions is a DataFrame, whose .* leave columns= out$"):
        mr.prepare_table("mine", frame, columns=["user", "item"], data_path=tmp_path / "data")


class Other:
    """A value of a type that no argument takes."""


SEVERAL = [None, 5, -1, 0.5, True, [], [None], [5], [""], {"a": 1}, b"a", Path("a"), "", Other(), "a\0"]  # no names
ONE = [*SEVERAL, ["BPR"], ("BPR",), {"BPR"}, iter(["BPR"])]  # no name
COUNT = [None, "5", 0.5, 2.0, -1, True, [5], (5,), {5}, np.float64(2), np.bool_(True), np.array([5, 6]), Path("a"), Other()]
FLAG = [None, "yes", 0, 1, np.int64(1), [True], Other()]
PLACE = [None, 5, True, ["a"], ("a",), {"a"}, iter(["a"]), {}, b"a", "", "a\0", Other()]
IDS = [0.5, True, [], [None], [0.5], [True], {"a": 1}, b"a", Path("a"), Other()]
# Function -> its arguments, each with the values that it refuses.
REFUSED = {
    "train": {"model": ONE, "dataset": ONE, "restart": FLAG},
    "compare": {
        "models": SEVERAL,
        "dataset": SEVERAL,
        "seeds": [None, "1", 0.5, -1, True, [], [None], ["1"], [0.5], [-1], [True], np.float64(1), {1: 1}, Path("a"), Other()],
        "reference": ONE[1:],
        "name": ONE[1:],
        "jobs": [*COUNT, 0],
        "restart": FLAG,
        "seed": [1],
        "model": ["BPR"],
    },
    "search": {
        "model": ONE,
        "dataset": ONE,
        "wide": FLAG,
        "budget": [*COUNT[1:], 0],
        "sampler": [*ONE, "bayes"],
        "pruner": [*ONE[1:], "bayes"],
        "save_best": FLAG,
        "name": ONE[1:],
        "jobs": [*COUNT, 0],
        "restart": FLAG,
    },
    "load_run": {"path": PLACE[1:], "model": ONE[1:], "dataset": ONE[1:], "seed": COUNT[1:], "results": PLACE},
    "runs": {
        "dataset": ONE[1:],
        "model": ONE[1:],
        "results": PLACE,
        "show_test": FLAG,
        "epochs": ["999", 0.5, [1, 2], Other()],
    },
    "prepare_table": {
        "name": [*ONE, "a/b"],
        "interactions": PLACE,
        "items": PLACE[1:],
        "user_column": ONE,
        "item_column": ONE,
        "text_columns": [one for one in SEVERAL if one != []],
        "columns": [*(one for one in SEVERAL if one != []), ["user", "item"]],  # RIGHT has a DataFrame
        "k_core": ["a", 0, -1, 0.5, True, [5], Other()],
        "split": ["a", 5, True, ["random"]],
        "overwrite": ["yes", 1, [True]],
        "dataset": ["other"],
        "nonsense": [1],
        "data_path": [True, ["a"], Other()],
    },
    "Run": {"directory": PLACE},
    "Run.recommend": {"users": IDS, "k": [*COUNT, 0], "include_seen": FLAG, "reasons": COUNT},
    "Run.scores": {"users": [*IDS, None]},
    "Run.similar": {"item": [*IDS, None, ["a"], ("a",)], "k": [*COUNT, 0]},
}
# Settings of `train`, `compare` and `search`.
SETTINGS = {
    "epochs": [None, "5", 0.5, 0, -1, True, [], [None], ["5"], [0.5, 5], {"a": 1}, {1: 1}, b"a", Path("a"), Other(), 10**20],
    "learning_rate": [None, "0.1", 0, -1.0, float("nan"), float("inf"), True, [], [0.1, "a"], np.float64(-1), Other()],
    "use_gpu": [None, "yes", 1, [], Other()],
    "data_path": [None, True, [], ["a", "b"], b"a", "a\0", Other()],
    "topk": [None, "5", 0, [], [0], [0.5], ["5"], True, {5, 20}, Other()],
    "metrics": [None, [], True, ["nothing"], Other()],
    "search_space": [5, {1: [2]}, {"epochs": [1, 2]}, Other()],
    "device": ["cpu", Other()],
    "model_path": [5, True, [], ["a", "b"], Other()],
}
RIGHT = {
    "train": {"model": "BPR", "dataset": "toy"},
    "compare": {"models": ["BPR", "VBPR"], "dataset": "toy"},
    "search": {"model": "BPR", "dataset": "toy"},
    "prepare_table": {"name": "mine", "interactions": pd.DataFrame({"user": ["a"], "item": ["b"]})},
    "Run.similar": {"item": "i7"},
}
REFUSALS = [(name, argument) for name, arguments in REFUSED.items() for argument in arguments]
REFUSALS += [(name, setting) for name in ("train", "compare", "search") for setting in SETTINGS]


@pytest.mark.parametrize(("name", "argument"), REFUSALS)
def test_a_wrong_value_is_refused_by_the_name_of_its_argument(name, argument, tmp_path, toy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mambarec.api.run_trials", lambda *_: pytest.fail("something is trained"))
    monkeypatch.setattr("mambarec.experiments.sweep.run_trials", lambda *_: pytest.fail("something is trained"))
    trains = name in ("train", "compare", "search")
    given = {**RIGHT.get(name, {}), **({"data_path": toy.parent, "results_dir": tmp_path / "results"} if trains else {})}
    for value in REFUSED.get(name, {}).get(argument) or SETTINGS[argument]:
        owner = object.__new__(mr.Run) if "." in name else mr  # a run refuses before it opens its model
        with pytest.raises(UserError) as refusal:
            getattr(owner, name.rpartition(".")[2])(**{**given, argument: value})
        text = str(refusal.value)
        named = rf"\b{argument}=|'{argument}'|^{argument}: |^{argument} takes |no argument {argument}\b"
        assert re.search(named, text) and "command line" not in text and "--" not in text, (value, text)
        assert len(text) < 700 and not (tmp_path / "results").exists(), text


def test_the_package_has_every_error_that_a_call_can_raise():
    kinds = {mr.ConfigError, mr.DataError, mr.RunError, mr.ModelError}
    assert all(issubclass(kind, mr.UserError) for kind in kinds) and mr.UserError is UserError
    assert {"UserError", *(kind.__name__ for kind in kinds)} <= set(dir(mr))


class Blend(torch.nn.Module):
    """A model that is defined where it is used."""


@pytest.mark.parametrize("model", [Blend, Blend()])
def test_a_class_in_place_of_a_name_is_told_to_be_a_file(model):
    told = r"=Blend is a class; expected the name of a model\. Save the class as blend\.py .* 'Blend' and model_path=FOLDER"
    for call in (lambda: mr.train(model, "demo"), lambda: mr.compare(["BPR", model], "demo"), lambda: mr.search(model)):
        with pytest.raises(ConfigError, match=told):
            call()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: mr.train("BPR", jobs=2), r"jobs=2 is an argument of mr\.compare\(\) and mr\.search\(\), and not of mr\.train"),
        (lambda: mr.compare("BPR", budget=2), r"budget=2 is an argument of mr\.search\(\), and not of mr\.compare\(\)"),
        (lambda: mr.compare("BPR", pruner="none"), r"pruner='none' is an argument of mr\.search\(\), and not of mr\.compare"),
        (lambda: mr.train("BPR", save_best=True), r"save_best=True is an argument of mr\.search\(\), and not of mr\.train"),
        (lambda: mr.search("BPR", save_bst=True), "there is no argument or key 'save_bst'; did you mean 'save_best'"),
        (lambda: mr.search("BPR", budgt=2), "there is no argument or key 'budgt'; did you mean 'budget'"),
        (lambda: mr.train("BPR", restrat=True), "there is no argument or key 'restrat'; did you mean 'restart'"),
    ],
)
def test_an_argument_that_is_no_key_is_told_apart(call, text):
    with pytest.raises(ConfigError, match=text):
        call()


def test_a_name_that_is_given_twice_is_refused(places):
    for given in ({"seeds": [1, 2, 1]}, {"seeds": (np.int64(1), 1)}, {"dataset": ["toy", "toy"]}, {"models": ["BPR", "bpr"]}):
        (argument,) = given
        with pytest.raises(ConfigError, match=f"^{argument} names (1|toy|bpr) twice$"):
            mr.compare(**{"models": ["BPR", "VBPR"], "dataset": "toy", **given}, **places)
    with pytest.raises(ConfigError, match="seeds names 0 twice"):
        mr.search("BPR", "toy", seeds=[0, 0], **places)


def test_numpy_and_paths_are_taken_as_python_has_them(places):
    run = mr.train("BPR", "toy", **{**places, "topk": [10, 20], "learning_rate": 0.1, "epochs": 1})
    of_numpy = {"topk": np.array([10, 20]), "learning_rate": np.float32(0.1), "epochs": np.int64(1)}
    of_numpy |= {"use_gpu": np.bool_(False), **{key: Path(places[key]) for key in ("data_path", "results_dir")}}
    again = mr.train("BPR", "toy", restart=np.bool_(False), seed=(np.int64(999),), **{**places, **of_numpy})
    assert again.directory == run.directory
    for topk in ((10, 20), iter([10, 20]), range(10, 30, 10), pd.Series([10, 20])):
        assert mr.train("BPR", "toy", **{**places, **of_numpy, "topk": topk}).directory == run.directory
    found = mr.load_run(model="BPR", seed=np.int64(999), results=Path(places["results_dir"]), topk=np.array([10, 20]))
    assert found.directory == run.directory
    for users in (["1", "2"], (1, 2), np.array([1, 2]), iter([1, 2]), pd.Index([1, 2]), np.array(["1", "2"])):
        assert run.recommend(users, k=np.int64(3), include_seen=np.bool_(False))["user"].tolist() == [1] * 3 + [2] * 3
    assert len(run.recommend(np.int64(1), k=2)) == len(run.similar(np.int64(1), k=2)) == 2


def test_one_name_is_as_good_as_a_list_of_it(places):
    assert mr.compare(("BPR", "Pop"), {"toy"}, seeds=np.int64(1), **places).to_frame()["model"].tolist() == ["BPR", "Pop"]
    assert len(mr.compare("BPR", "toy", seeds=iter([1, 2]), **places).runs) == 2


@pytest.mark.slow
def test_the_training_has_a_process_of_its_own_whatever_was_imported_before(tmp_path):
    """torch that was loaded first keeps its spinning threads; the training's process sets them right."""
    code = f"""
import sys, torch
sys.path.insert(0, {str(SRC)!r})
import mambarec as mr
run = mr.train("BPR", "demo", epochs=1, results_dir={str(tmp_path / "results")!r}, data_path={str(tmp_path / "data")!r})
print(run.result["epochs"])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip().endswith("\n1")


def test_train_refuses_a_grid_of_the_yaml(places, configs):
    with (configs / "model" / "BPR.yaml").open("a") as file:
        file.write("hyper_parameters: [reg_weight]\n")
    text = (configs / "model" / "BPR.yaml").read_text()
    (configs / "model" / "BPR.yaml").write_text(re.sub(r"(?m)^reg_weight:.*$", "reg_weight: [0.1, 0.2]", text))
    with pytest.raises(ConfigError, match="reg_weight has several values"):
        mr.train("BPR", "toy", **places)


def test_a_run_is_opened_with_data_that_were_moved(places, toy, tmp_path):
    run = mr.train("BPR", "toy", **{**places, "epochs": 1})
    (tmp_path / "elsewhere").mkdir()
    toy.rename(tmp_path / "elsewhere" / "toy")
    with pytest.raises(UserError, match="data_path="):
        mr.load_run(run.directory).recommend()
    assert len(mr.load_run(run.directory, data_path=tmp_path / "elsewhere").recommend(k=1))
    found = mr.load_run(model="BPR", results=places["results_dir"], data_path=str(tmp_path / "elsewhere"))
    assert len(found.recommend(k=1)) and len(mr.Run(run.directory, tmp_path / "elsewhere").recommend(k=1))


def test_titles_that_cannot_be_read_are_left_out_with_a_word(places, toy, caplog):
    run = mr.train("BPR", "toy", **places)
    (toy / "items.csv").write_text("item_id,text\n0,Red shirt, cotton\n")
    assert list(run.recommend(["1"], k=2)) == ["user", "item", "rank", "score"]
    assert "no titles: " in caplog.text


def test_users_without_a_training_pair_are_said(places, toy, caplog):
    with (toy / "toy.inter").open("a") as file:
        file.write("48\t0\t1.0\t0\t2\n")
    run = mr.train("BPR", "toy", **places)
    run.recommend(["1"], k=2)
    assert "no training pair" not in caplog.text
    run.recommend(["1", "48"], k=2)
    assert "1 of the users have no training pair" in caplog.text


def test_a_folder_of_runs_that_is_not_there_is_said(tmp_path):
    with pytest.raises(RunError, match=r"typo does not exist; name the folder of the runs by results"):
        mr.runs(results=tmp_path / "typo")


def test_the_folder_of_runs_is_called_results_where_runs_are_looked_for(places):
    for look in (mr.runs, mr.load_run):
        with pytest.raises(ConfigError, match="give results= in its place"):
            look(results_dir=places["results_dir"])


def test_a_data_frame_with_a_column_twice_is_refused_by_the_columns_name():
    table = pd.DataFrame([["a", "b", "c"]], columns=["user", "item", "item"])
    with pytest.raises(DataError, match="interactions: the table has the column 'item' twice"):
        mr.prepare_table("mine", table, user_column="user", item_column="item")
