"""Tuned settings: what a search keeps, what the file says of it, and how a run takes it up."""

import json
from pathlib import Path

import pytest
import yaml

from mambarec.analysis.comparison import compare
from mambarec.analysis.records import Record
from mambarec.analysis.tables import performance_table
from mambarec.base.errors import ConfigError
from mambarec.cli import report
from mambarec.cli import train as program
from mambarec.config.catalogue import tuned_budget
from mambarec.config.configurator import Axis, Config
from mambarec.experiments.trials import Outcome, prepare
from mambarec.experiments.tuning import default_trials, save_best
from mambarec.running.lookup import fits
from mambarec.running.run import run

SPACE = {"reg_weight": Axis([0.3, 0.01]), "learning_rate": Axis([1e-3, 1e-2])}


@pytest.fixture
def places(toy, tmp_path, configs):
    """Where the runs of a command on the toy data go, and how long they are."""
    where = {"data_path": str(toy.parent), "results_dir": str(tmp_path / "results")}
    return {**where, "epochs": 2, "threads": 1, "use_gpu": False}


def ended(trials, values):
    """Outcomes of trials with these validation values: a number, an error's text, or None for one that was pruned."""

    def outcome(trial, value):
        if isinstance(value, str):
            return Outcome(trial, error=value)
        return Outcome(trial, pruned=1) if value is None else Outcome(trial, {"valid": {"recall@20": value}})

    return [outcome(trial, value) for trial, value in zip(trials, values, strict=True)]


def written(places, given, values, of_default, **options):
    """The tuned file of a search of BPR on toy with these values, in the order of its space."""
    space = prepare(Config("BPR", "toy", {**places, **given}).trials())
    defaults = prepare(default_trials(["BPR"], ["toy"], {**places, **given}))
    outcomes = {one.trial.path: one for one in [*ended(defaults, of_default), *ended(space, values)]}
    (path,) = save_best(list(outcomes.values()), space, defaults, given, **{"budget": 4, "sampler": "random", **options})
    return path


def test_the_best_on_validation_is_kept_with_its_search(places, configs):
    path = written(places, SPACE, [0.1, 0.4, None, "it failed"], [0.2])
    assert path == configs / "tuned" / "toy" / "BPR.yaml"
    assert yaml.safe_load(path.read_text()) == {"reg_weight": 0.3, "learning_rate": 0.01}
    assert path.read_text().splitlines()[:5] == [
        "# BPR on toy: the best settings of a search on validation. --tuned uses them.",
        "# space: reg_weight 0.3 0.01; learning_rate 0.001 0.01",
        "# budget: at most 4 points, the YAML's values among them; at most 2 epochs, patience 20 from epoch 20; seed 999",
        "# tried: 5 points, 4 of them of the 4 of the space, sampler random; 1 pruned, 1 failed",
        "# validation Recall@20: best 0.4000, YAML's values 0.2000",
    ]


def test_the_mean_over_seeds_decides_and_a_point_without_all_seeds_does_not_count(places):
    given = {"reg_weight": Axis([0.3, 0.01]), "seed": Axis([1, 2])}
    path = written(places, given, [0.3, 0.3, 0.9, "it failed"], [0.1, 0.1])
    assert yaml.safe_load(path.read_text()) == {"reg_weight": 0.3} and "mean over the seeds: best 0.3000" in path.read_text()


def test_of_equal_values_the_yaml_has_the_better_claim(places):
    assert yaml.safe_load(written(places, SPACE, [0.2] * 4, [0.2]).read_text()) == {"reg_weight": 0.1, "learning_rate": 0.001}


def test_what_the_command_sets_for_all_points_is_kept_too_but_not_the_budget(places):
    path = written(places, {"reg_weight": Axis([0.3, 0.01]), "embedding_size": 8, "epochs": 3}, [0.3, 0.2], [0.1])
    assert yaml.safe_load(path.read_text()) == {"reg_weight": 0.3, "embedding_size": 8}


def test_a_model_without_a_complete_point_has_no_file_and_the_others_have(places, configs, capsys):
    given = {**places, **SPACE}
    space = [prepare(Config(model, "toy", given).trials()) for model in ("BPR", "LightGCN")]
    defaults = prepare(default_trials(["BPR", "LightGCN"], ["toy"], given))
    outcomes = [*ended(space[0], ["it failed"] * 4), *ended(space[1], [0.1] * 4), *ended(defaults, ["it failed", 0.2])]
    paths = save_best({one.trial.path: one for one in outcomes}.values(), [*space[0], *space[1]], defaults, SPACE, 4, "random")
    assert paths == [configs / "tuned" / "toy" / "LightGCN.yaml"]
    assert "no setting of BPR on toy was trained to its end" in capsys.readouterr().out


def test_a_key_that_takes_a_list_has_one_value(places):
    assert default_trials(["BPR"], ["toy"], {**places, **SPACE, "topk": Axis([10, 20])})[0]["topk"] == [10, 20]


@pytest.mark.parametrize("key", ["epochs", "stopping_step", "eval_step"])
def test_points_of_several_budgets_are_refused(places, key):
    with pytest.raises(ConfigError, match=f"--{key} has several values, and it is no setting of a model"):
        default_trials(["BPR"], ["toy"], {**places, **SPACE, key: Axis([1, 2])})


def test_a_file_that_is_replaced_is_told_with_its_budget(places, capsys):
    written(places, SPACE, [0.1, 0.4, None, "it failed"], [0.2])
    assert "is replaced" not in capsys.readouterr().out
    written(places, SPACE, [0.1, 0.4, None, "it failed"], [0.2])
    assert "BPR.yaml is replaced; it had the budget: at most 4 points" in capsys.readouterr().out


def test_another_budget_than_that_of_another_model_is_said(places, configs, capsys):
    other = configs / "tuned" / "toy" / "LightGCN.yaml"
    other.parent.mkdir(parents=True)
    other.write_text("# budget: at most 9 points\nn_layers: 2\n")
    path = written(places, SPACE, [0.1] * 4, [0.2])
    assert "BPR.yaml had another budget" in capsys.readouterr().out
    other.write_text(f"# budget: {tuned_budget(path)}\nn_layers: 2\n")
    written(places, SPACE, [0.1] * 4, [0.2])
    assert "another budget" not in capsys.readouterr().out


@pytest.mark.parametrize(("key", "value"), [("modalities", ["text"]), ("variant", "released"), ("contrast", Axis(["both"]))])
def test_a_search_of_another_model_keeps_nothing(places, key, value):
    with pytest.raises(ConfigError, match=f"--{key} makes another model of MambaRec"):
        default_trials(["MambaRec"], ["toy"], {**places, key: value})


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("rates", [["1e-3", "1e-2", "1e-1", "1"], ["1e-2", "1e-1", "1"]])
def test_every_model_tries_as_many_points_with_those_of_its_yaml(toy, tmp_path, configs, in_this_process, sampler, rates):
    if sampler == "tpe":
        pytest.importorskip("optuna", reason="the extra [search] is not installed")
    places = ["--data_path", str(toy.parent), "--results_dir", str(tmp_path / "results"), "--threads", "1", "--epochs", "2"]
    words = ["-m", "BPR", "LightGCN", "-d", "toy", "--use_gpu", "false", *places, "--learning_rate", *rates]
    assert program.main([*words, "--save-best", "--search-budget", "2", "--sampler", sampler]) == 0
    for model in ("BPR", "LightGCN"):
        assert len(list((tmp_path / "results" / "toy" / model).glob("*/result.json"))) == 2
        assert "# tried: 2 points" in (configs / "tuned" / "toy" / f"{model}.yaml").read_text()


def test_a_budget_that_the_space_cannot_use_up_is_said(toy, tmp_path, configs, in_this_process, capsys):
    places = ["--data_path", str(toy.parent), "--results_dir", str(tmp_path / "results"), "--threads", "1", "--epochs", "1"]
    words = ["-m", "BPR", "-d", "toy", "--use_gpu", "false", *places, "--reg_weight", "0.1", "1"]
    assert program.main([*words, "--search-budget", "3"]) == 0
    assert "BPR on toy: the budget is 3, but the space has 2 points" in capsys.readouterr().out
    assert program.main([*words, "--search-budget", "2"]) == 0
    assert "the budget is" not in capsys.readouterr().out


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_restart_throws_away_no_run_that_the_budget_leaves_out(toy, tmp_path, configs, in_this_process, sampler):
    if sampler == "tpe":
        pytest.importorskip("optuna", reason="the extra [search] is not installed")
    places = ["--data_path", str(toy.parent), "--results_dir", str(tmp_path / "results"), "--threads", "1", "--epochs", "1"]
    words = ["-m", "BPR", "-d", "toy", "--use_gpu", "false", *places, "--reg_weight", "0.01", "0.1", "1"]
    assert program.main(words) == 0
    results = sorted((tmp_path / "results" / "toy" / "BPR").glob("*/result.json"))
    before = [path.stat().st_mtime_ns for path in results]
    assert program.main([*words, "--search-budget", "2", "--sampler", sampler, "--restart"]) == 0
    after = [path.stat().st_mtime_ns for path in results]
    assert sum(one == other for one, other in zip(before, after, strict=True)) == 1


def test_restart_throws_a_run_away_only_when_its_training_can_begin(
    toy, tmp_path, configs, in_this_process, monkeypatch, capsys
):
    places = ["--data_path", str(toy.parent), "--results_dir", str(tmp_path / "results"), "--threads", "1", "--epochs", "1"]
    words = ["-m", "BPR", "-d", "toy", "--use_gpu", "false", *places, "--reg_weight", "0.01", "0.1"]
    assert program.main(words) == 0
    results = sorted((tmp_path / "results" / "toy" / "BPR").glob("*/result.json"))
    before = [path.read_bytes() for path in results]

    def fails(self, config, dataloader):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("mambarec.models.bpr.BPR.__init__", fails)
        assert program.main([*words, "--restart"]) == 1
    assert [path.read_bytes() for path in results] == before
    capsys.readouterr()
    assert program.main(words) == 0  # without --restart: what did not begin is thrown away now
    assert capsys.readouterr().out.count("an earlier command asked to throw it away: it starts over") == 2
    assert all(path.read_bytes() != other for path, other in zip(results, before, strict=True))  # their times
    after = [path.read_bytes() for path in results]
    assert program.main(words) == 0 and [path.read_bytes() for path in results] == after


# using them


def test_tuned_values_come_between_the_yaml_and_the_command_line(make_config, configs):
    path = configs / "tuned" / "toy" / "BPR.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("reg_weight: 0.25\nlearning_rate: 0.5\n")
    plain, tuned = make_config("BPR"), make_config("BPR", tuned=True, learning_rate=0.125)
    assert (plain["tuned"], plain["reg_weight"]) == (False, 0.1)
    assert (tuned["tuned"], tuned["reg_weight"], tuned["learning_rate"]) == ("tuned/toy/BPR.yaml", 0.25, 0.125)
    assert fits(tuned, {"tuned": True}) and fits(plain, {"tuned": False}) and not fits(plain, {"tuned": True})
    assert make_config("BPR", reg_weight=0.25, learning_rate=0.125).identity() == tuned.identity()


def test_tuned_without_a_file_is_an_error_that_says_how_to_get_one(make_config, configs):
    path = configs / "tuned" / "toy" / "LightGCN.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("n_layers: 2\n")
    with pytest.raises(ConfigError, match=r"toy has tuned values of LightGCN.*mambarec search -m BPR -d toy --save-best"):
        make_config("BPR", tuned=True)
    path.write_text("n_layer: 2\n")
    with pytest.raises(ConfigError, match=r"LightGCN.yaml: LightGCN has no key 'n_layer'; did you mean 'n_layers'"):
        make_config("LightGCN", tuned=True)


def test_a_run_and_its_table_name_the_file(make_config, configs):
    path = configs / "tuned" / "toy" / "BPR.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# budget: at most 4 points\nreg_weight: 0.25\n")
    record = Record.of_run(Path(run(make_config("BPR", tuned=True))["directory"]))
    assert record.config["tuned"] == "tuned/toy/BPR.yaml"
    caption = performance_table(compare([record])).caption
    assert "Tuned on validation: BPR (tuned/toy/BPR.yaml). Its search had the budget: at most 4 points." in caption
    path.write_text("# budget: at most 9 points\nreg_weight: 0.5\n")  # of a later search
    assert "Its search had the budget: unknown." in performance_table(compare([record])).caption


def test_the_command_searches_trains_the_yaml_too_and_keeps_the_best(toy, tmp_path, configs, capsys, in_this_process):
    places = ["--data_path", str(toy.parent), "--results_dir", str(tmp_path / "results"), "--threads", "1", "--epochs", "2"]
    words = ["-m", "BPR", "LightGCN", "-d", "toy", "--use_gpu", "false", *places]
    assert program.main([*words, "--learning_rate", "1e-2", "1e-1", "--save-best"]) == 0
    out = capsys.readouterr().out
    assert "BPR on toy learning_rate=0.001" in out and "tuned values: " in out
    text = (configs / "tuned" / "toy" / "LightGCN.yaml").read_text()
    assert "# tried: 3 points, 2 of them of the 2 of the space; 0 pruned, 0 failed" in text
    assert program.main([*words, "--tuned"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Tuned on validation: BPR (tuned/toy/BPR.yaml)" in said and "to train" not in said
    plans = (tmp_path / "results" / "experiments").iterdir()
    (of_search,) = (path for path in plans if '"tuned": true' not in path.read_text())
    assert report.main(["table", "--experiment", of_search.stem, "--results", str(tmp_path / "results")]) == 0
    assert "Tuned" not in capsys.readouterr().out  # it was made before there were tuned values
    (tuned,) = {*(tmp_path / "results" / "experiments").iterdir()} - {of_search}
    plan = json.loads(tuned.read_text())
    del plan["tuned"]  # as plans were before
    tuned.write_text(json.dumps({**plan, "command": "mambarec train -m BPR LightGCN -d toy --tuned"}))
    assert program.main([*words, "--tuned", "--name", tuned.stem]) == 0
    assert "Tuned on validation: BPR (tuned/toy/BPR.yaml)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--save-best"], "--save-best needs several settings to choose from"),
        (["--search-budget", "5", "--seed", "1", "2"], "--search-budget 5 needs several settings to choose from"),
        (["--reg_weight", "1", "2", "--save-best", "--tuned"], "--save-best finds the tuned values; leave --tuned out"),
        (["--search", "--reg_weight", "0.1"], "there is nothing to search: the search space of BPR has one point here"),
        (["--tuned"], "there is no "),
        (["--jobs", "2"], "--jobs 2 runs several trials side by side, and this is one run; leave it out"),
    ],
)
def test_a_mistake_is_explained(toy, configs, capsys, words, message):
    assert program.main(["-m", "BPR", "-d", "toy", "--data_path", str(toy.parent), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "given"), [("MGCN", {"propagation": "sampled"}), ("MGCN", {"cl_loss": 0.0}), ("LightGCN", {"n_layers": 0})]
)
def test_a_value_that_makes_another_model_is_refused(places, model, given):
    space = {**places, "learning_rate": Axis([1e-3, 1e-2])}
    with pytest.raises(ConfigError, match=f"--{next(iter(given))} makes another model of {model}"):
        default_trials([model], ["toy"], {**space, **given})


def test_a_point_that_is_another_model_is_never_the_best(places):
    given = {**places, "n_layers": Axis([0, 1, 2])}
    space = prepare(Config("LightGCN", "toy", given).trials())
    defaults = prepare(default_trials(["LightGCN"], ["toy"], given))
    outcomes = {one.trial.path: one for one in [*ended(defaults, [0.2]), *ended(space, [0.9, 0.3, 0.1])]}
    (path,) = save_best(list(outcomes.values()), space, defaults, given, budget=None, sampler="random")
    assert yaml.safe_load(path.read_text())["n_layers"] == 1


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_of_a_yaml_with_a_grid_of_mmrec_the_first_values_are_the_one_point_of_the_yaml(
    toy, tmp_path, configs, in_this_process, sampler
):
    if sampler == "tpe":
        pytest.importorskip("optuna", reason="the extra [search] is not installed")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "grid.py").write_text("from models.bpr import BPR\n\n\nclass Grid(BPR):\n    pass\n")
    (folder / "Grid.yaml").write_text("reg_weight: [0.1, 0.01, 0.5]\nhyper_parameters: [reg_weight]\n")
    places = ["--data_path", str(toy.parent), "--results_dir", str(tmp_path / "results"), "--threads", "1", "--epochs", "1"]
    words = ["-m", "Grid", "BPR", "-d", "toy", "--use_gpu", "false", *places, "--model-path", str(folder)]
    words += ["--embedding_size", "8", "16", "--learning_rate", "1e-2", "1e-3"]
    assert program.main([*words, "--save-best", "--search-budget", "3", "--sampler", sampler]) == 0
    for model in ("Grid", "BPR"):
        runs = list((tmp_path / "results" / "toy" / model).glob("*/config.json"))
        assert len(runs) == 3
        assert "# tried: 3 points" in (configs / "tuned" / "toy" / f"{model}.yaml").read_text()
    values = [
        json.loads(path.read_text())["reg_weight"] for path in (tmp_path / "results" / "toy" / "Grid").glob("*/config.json")
    ]
    assert 0.1 in values


def test_a_search_that_keeps_the_best_has_another_name_than_one_that_does_not(toy, tmp_path, configs, in_this_process, capsys):
    places = ["--data_path", str(toy.parent), "--results_dir", str(tmp_path / "results"), "--threads", "1", "--epochs", "1"]
    words = [
        "-m",
        "BPR",
        "-d",
        "toy",
        "--use_gpu",
        "false",
        *places,
        "--reg_weight",
        "0.1",
        "1",
        "0.01",
        "--search-budget",
        "2",
    ]
    for more in ([], ["--save-best"]):
        assert program.main([*words, *more]) == 0
    assert len(list((tmp_path / "results" / "experiments").glob("*.json"))) == 2
    assert program.main([*words, "--name", "one"]) == 0
    assert program.main([*words, "--name", "one", "--save-best"]) == 2
    assert "save_best was not set and is True" in capsys.readouterr().err


def test_the_list_of_points_names_every_key_of_the_grid_and_says_what_was_not_tried(
    toy, tmp_path, configs, in_this_process, capsys
):
    places = ["--data_path", str(toy.parent), "--results_dir", str(tmp_path / "results"), "--threads", "1", "--epochs", "1"]
    words = ["-m", "BPR", "-d", "toy", "--use_gpu", "false", *places, "--reg_weight", "0.1", "1", "0.01"]
    assert program.main([*words, "--search-budget", "1"]) == 0
    out = capsys.readouterr().out
    assert "BPR on toy reg_weight=" in out and "BPR on toy: 1 of the 3 points of its grid was tried" in out
    assert program.main(words) == 0
    assert "of its grid" not in capsys.readouterr().out
