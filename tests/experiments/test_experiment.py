"""Experiments: the plan that a command leaves, its name, what another plan of that name meets, and finding single runs."""

import json
import shlex
import shutil
from pathlib import Path

import filelock
import pytest

from mambarec.analysis.records import Record
from mambarec.analysis.selection import Wanted, select
from mambarec.base.errors import ConfigError, RunError
from mambarec.cli import recommend, report
from mambarec.cli import train as program
from mambarec.config.configurator import Axis
from mambarec.experiments.experiment import differences, experiments_in, plan_experiment, read_experiment
from mambarec.experiments.grid import plan
from mambarec.experiments.trials import prepare
from mambarec.running.lookup import choose_run, find_runs


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def call(toy, results, capsys, in_this_process):
    """call(*words) -> (exit status, standard output, standard error) of main.py, small and on the toy data."""

    def invoke(*words: str):
        places = ["--data_path", str(toy.parent), "--results_dir", str(results)]
        small = "--embedding_size 8 --train_batch_size 512 --use_gpu false --threads 1".split()
        epochs = [] if "--epochs" in words else ["--epochs", "1"]
        status = program.main(["-d", "toy", *words, *small, *epochs, *places])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return invoke


@pytest.fixture
def ask(results, capsys):
    """ask(*words) -> (exit status, standard output, standard error) of report.py on the results."""

    def invoke(*words: str, place: Path = results):
        status = report.main([words[0], "--results", str(place), *words[1:]])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return invoke


def tables(text: str) -> str:
    """What main.py prints from its tables on, without its last line."""
    return text[text.index("Test performance") :].rsplit("\n\n", 1)[0]


def test_the_command_that_a_comparison_ends_with_prints_the_same_table(call, ask, results):
    more = ["--reference", "BPR", "--legacy-test-selection"]
    _, out, _ = call("-m", "BPR", "LightGCN", "--seed", "1", "2", "--learning_rate", "1e-3", "1e-2", *more)
    words = shlex.split(out.strip().rpartition("mambarec report ")[2])
    assert words[0] == "table" and words[-2:] == ["--results", f"{results}"]
    assert ask(*words[:-2])[1].strip() == tables(out).strip()


@pytest.mark.parametrize(
    ("models", "message"),
    [(["BPR", "LightGCN"], "no such model is trained here. There are: BPR, LightGCN"), (["BPR"], "this is one run")],
)
def test_a_reference_that_no_row_can_have_is_an_error_before_training(call, results, models, message):
    status, _, said = call("-m", *models, "--reference", "VBPR")
    assert status == 2 and message in said and not list(results.rglob("config.json"))


def test_an_experiment_whose_run_was_removed_is_unfinished(call, ask, results):
    call("-m", "BPR", "LightGCN", "--name", "base")
    assert ask("experiments", "--unfinished")[1].strip() == "no such experiment"
    shutil.rmtree(results / "toy" / "BPR")
    assert "1 of 2" in ask("experiments", "--unfinished")[1]


def test_a_comparison_leaves_its_plan_and_its_table_prints_again_whatever_was_run_since(call, ask, results):
    status, out, _ = call("-m", "BPR", "LightGCN", "--seed", "1", "2", "--name", "base", "--reference", "BPR")
    assert status == 0 and "mambarec report table --experiment base --reference BPR --results" in out
    (experiment,) = experiments_in(results)
    assert (experiment.name, experiment.purpose, experiment.models) == ("base", "comparison", ["BPR", "LightGCN"])
    assert experiment.seeds == [1, 2] and experiment.budget["epochs"] == 1 and experiment.points == {"BPR": 1, "LightGCN": 1}
    assert len(experiment.trials) == 4 and all((results / trial / "result.json").exists() for trial in experiment.trials)
    assert experiment.started <= experiment.finished and experiment.command.startswith("python ")
    assert experiment.settings["embedding_size"] == 8

    # a smoke test with one seed more, a grid of one model, and a single run with another seed
    call("-m", "BPR", "--seed", "1", "2", "3", "--learning_rate", "1e-2")
    call("-m", "LightGCN", "--seed", "1", "--n_layers", "1", "3")
    call("-m", "LightGCN", "--seed", "999")
    status, again, said = ask("table", "-d", "toy", "--reference", "BPR")
    assert status == 0 and again.strip() == tables(out).strip()
    assert "experiment base (comparison, 4 runs); others: " in said and "--all takes every run" in said
    assert ask("table", "--experiment", "base", "--reference", "BPR")[1] == again

    # records with the plan, and a folder that only holds other runs beside them
    assert ask("records", "--experiment", "base", "--output", str(results.parent / "kept"))[0] == 0
    (trial,) = find_runs([results], seeds=[999])
    Record.of_run(trial.path).save(results.parent / "kept")
    kept = read_experiment(results.parent / "kept" / "experiments" / "base.json")
    assert kept == experiment
    assert ask("table", "-d", "toy", "--reference", "BPR", place=results.parent / "kept")[1] == again

    status, loose, _ = ask("table", "--all", "--reference", "LightGCN")
    assert status == 0 and "seed 1, the same for all rows" in loose and "Settings tried: BPR 2, LightGCN 3" in loose


def test_a_search_whose_other_runs_were_pruned_is_finished(call, ask, results):
    assert call("-m", "BPR", "--seed", "1", "2", "--name", "x")[0] == 0
    path = results / "experiments" / "x.json"
    plan = json.loads(path.read_text())
    (results / plan["trials"][0] / "result.json").unlink()
    assert "1 of 2" in ask("experiments", "--unfinished")[1]
    path.write_text(json.dumps({**plan, "pruned": {plan["trials"][0]: 3}}))
    assert ask("experiments", "--unfinished")[1].strip() == "no such experiment"


def test_another_folders_loose_runs_are_not_of_the_experiment(call, ask, results, tmp_path):
    assert call("-m", "BPR", "--seed", "1", "2", "--name", "x")[0] == 0
    assert ask("records", "--experiment", "x", "--output", str(tmp_path / "kept"))[0] == 0
    assert call("-m", "LightGCN", "--seed", "1", "2", "--name", "y")[0] == 0
    (results / "experiments" / "x.json").unlink()
    found = select([tmp_path / "kept", results], Wanted(experiments=["x"]))
    assert [record.model for record in found.records] == ["BPR", "BPR"]


def test_a_name_that_another_plan_has_is_refused_with_what_differs(call, results):
    words = ["-m", "BPR", "--seed", "1", "2", "--name", "x"]
    assert call(*words)[0] == 0
    before = (results / "experiments" / "x.json").read_text()
    assert call(*words)[0] == 0  # the same again
    status, _, err = call("-m", "BPR", "--seed", "1", "3", "--name", "x", "--restart")
    assert status == 2 and "seeds were 1, 2 and are 1, 3" in err and "another --name" in err
    status, _, err = call(*words, "--epochs", "2")
    assert status == 2 and "epochs was 1 and is 2" in err
    after = json.loads((results / "experiments" / "x.json").read_text())
    assert {**after, "given": ""} == {**json.loads(before), "given": ""}
    assert all((results / trial / "result.json").exists() for trial in after["trials"])
    for name in ("../x", "a b", ".x", ""):
        status, _, err = call("-m", "BPR", "--seed", "1", "2", "--name", name)
        assert status == 2 and "it becomes a file's name" in err


def test_a_single_run_is_no_experiment(call, results):
    assert call("-m", "BPR")[0] == 0 and experiments_in(results) == []
    status, _, err = call("-m", "BPR", "--name", "one")
    assert status == 2 and "this is one run" in err


def test_the_default_name_is_that_of_the_same_command(make_config):
    def name(**changes):
        configs = make_config("BPR", **{"seed": Axis([1, 2]), **changes}).trials()
        paths = [trial.path for trial in prepare(configs)]
        return plan_experiment(None, "grid", configs, paths, {}).name

    names = [name(), name(), name(epochs=3), name(seed=Axis([1, 3])), name(reg_weight=Axis([0.1, 1.0]))]
    assert names[0] == names[1] and len(set(names)) == 4
    assert names[0].startswith("BPR-toy-") and names[4].startswith("BPR-toy-reg_weight-")


def test_plans_of_other_data_under_one_name_differ(make_config):
    configs = make_config("BPR", seed=Axis([1, 2])).trials()
    plans = [
        plan_experiment("x", "grid", configs, [Path("toy/BPR") / f"seed{config['seed']}-{data}" for config in configs], {})
        for data in "ab"
    ]
    assert differences(*plans) == ["its runs are others, because the data, the threads or the defaults have changed since"]
    assert differences(plans[0], plans[0]) == []


def test_a_grid_shows_test_figures_only_of_what_was_chosen(call):
    words = ["-m", "BPR", "--reg_weight", "0.1", "0.01", "--seed", "1", "2"]
    status, out, _ = call(*words)
    table = out[out.index("validation   (recall@20") :].split("\n\n")[0]
    assert status == 0 and "test" not in table and table.count("*") >= 2
    assert "chosen of 2 on validation, test recall@20" in out
    assert "validation    test" in call(*words, "--show-test")[1]


def test_a_random_search_knows_its_points_and_a_tpe_search_learns_them(call, results, ask):
    pytest.importorskip("optuna")
    words = ["-m", "BPR", "--search", "--search-budget", "2"]
    assert call(*words, "--name", "drawn")[0] == 0
    assert call(*words, "--sampler", "tpe", "--name", "asked")[0] == 0
    plans = {experiment.name: experiment for experiment in experiments_in(results)}
    for name in ("drawn", "asked"):
        assert plans[name].purpose == "search" and plans[name].points == {"BPR": 2} and len(plans[name].trials) == 2
    assert plans["asked"].settings["sampler"] == "tpe"
    assert len(plans["asked"].axes["BPR"]["reg_weight"]) == 7
    assert ask("table", "--experiment", "asked")[1].count("Settings tried: 2") == 1


def test_what_is_missing_of_an_experiment_is_said(call, ask, results):
    call("-m", "BPR", "LightGCN", "--seed", "1", "2", "--name", "base")
    (gone,) = (results / "toy" / "LightGCN").glob("seed2-*")
    (gone / "result.json").unlink()
    _, out, _ = ask("table", "--reference", "BPR")
    flat = " ".join(out.split())
    assert "1 of the 4 runs of experiment base have no result: toy/LightGCN/seed2-" in flat
    assert "seed 1, the same for all rows" in flat and "seed 2 (only BPR)" in flat
    for path in results.rglob("result.json"):
        path.unlink()
    status, _, err = ask("table")
    assert status == 2 and "experiment base has no finished run yet" in err


def test_studies_count_only_when_they_are_asked_for(call, ask, results, toy, capsys):
    pytest.importorskip("matplotlib")
    words = f"--data_path {toy.parent} --results_dir {results} --embedding_size 8 --train_batch_size 512 --epochs 1 --threads 1"
    arguments = ["modality", "-d", "toy", "--use_gpu", "false", "--seed", "1", "--name", "parts", *words.split()]
    assert report.main(arguments) == 0
    (study,) = experiments_in(results)
    assert (study.name, study.purpose) == ("parts", "study modality") and len(study.trials) == 3
    for trial in study.trials:  # what the interpreter of these tests does not record
        path = results / trial / "environment.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "command": ["report.py", "modality"]}))
        path.with_name("manifest.json").unlink()  # of a file that is no longer the run's
    call("-m", "VBPR", "--seed", "1")
    capsys.readouterr()
    for everything in ([], ["--all"]):
        _, out, err = ask("table", *everything)
        assert "VBPR" in out and "MambaRec " not in out.split("Efficiency")[0].split("\n\n")[1]
        assert "3 runs of studies left out; --studies takes them too" in err
    _, out, _ = ask("table", "--all", "--studies")
    assert "MambaRec modalities=text" in out and "MambaRec modalities=visual" in out
    assert "MambaRec modalities=text" in ask("table", "--experiment", "parts")[1]
    (alone,) = (results / "toy" / "VBPR").iterdir()
    alone.rename(results.parent / "apart")
    assert "every finished run of toy is of a study. --studies shows these runs" in ask("table", "-d", "toy", "--all")[2]
    (results.parent / "apart").rename(alone)
    # the comparison asks for the same run, so it is no longer the study's alone
    call("-m", "VBPR", "MambaRec", "--seed", "1", "--name", "both")
    _, out, _ = ask("table", "--all")
    assert "modalities=text" not in out and "MambaRec" in out


def test_runs_and_experiments_are_listed_by_what_they_are(call, ask, results):
    call("-m", "BPR", "LightGCN", "--seed", "1", "2", "--name", "base")
    call("-m", "LightGCN", "--seed", "1", "--n_layers", "3", "--epochs", "2")
    (stopped,) = (results / "toy" / "BPR").glob("seed2-*")
    (stopped / "result.json").unlink()
    assert ask("runs")[1].splitlines()[-1] == "5 runs: 4 finished, 1 stopped"
    _, out, _ = ask("runs", "-m", "lightgcn", "--where", "n_layers=3", "epochs=2")
    assert out.count("toy/LightGCN/seed1-") == 1 and "n_layers=3" not in out.splitlines()[0] and "test" not in out
    _, out, _ = ask("runs", "--unfinished")
    assert "toy/BPR/seed2-" in out and "epoch 1 of at most 1" in out and "stopped" in out and "1 run: 1 stopped" in out
    with filelock.FileLock(stopped / ".lock"):
        assert "running" in ask("runs", "--unfinished")[1]
    status, _, err = ask("runs", "--seed", "7")
    assert status == 2 and "no run fits what you asked for; there are runs of: BPR on toy, LightGCN on toy" in err
    assert "did you mean 'n_layers'" in ask("runs", "--where", "n_layer=3")[2]
    assert "expected KEY=VALUE" in ask("runs", "--where", "n_layers")[2]
    _, out, _ = ask("experiments")
    assert "base" in out and "3 of 4" in out and "BPR, LightGCN" in out
    assert "base" in ask("experiments", "-m", "BPR", "--seed", "1")[1]
    assert ask("experiments", "--where", "n_layers=3")[1].strip() == "no such experiment"
    assert "base" in ask("experiments", "--where", "n_layers=2")[1]


def test_a_run_is_chosen_by_what_it_is_and_an_ambiguous_choice_lists_the_candidates(call, results, capsys):
    call("-m", "LightGCN", "--seed", "1", "2", "--n_layers", "1", "2")
    with pytest.raises(RunError, match=r"(?s)4 finished runs fit 'lightgcn':.*n_layers=1 seed=2"):
        choose_run([results], ["lightgcn"])
    path = choose_run([results], ["lightgcn"], ["toy"], [2], ["n_layers=1"])
    assert json.loads((path / "config.json").read_text())["n_layers"] == 1 and path.name.startswith("seed2-")
    with pytest.raises(RunError, match="there are finished runs of: LightGCN on toy"):
        choose_run([results], ["BPR"])
    (path / "result.json").unlink()
    with pytest.raises(RunError, match=r"(?s)These are not finished:.*stopped, epoch 1 of at most"):
        choose_run([results], ["LightGCN"], seeds=[2], where=["n_layers=1"])

    chosen = ["--results", str(results), "-m", "LightGCN", "-d", "toy", "--seed", "1", "-k", "2"]
    assert recommend.main(["lists", *chosen, "--where", "n_layers=2"]) == 0
    assert capsys.readouterr().out.startswith("user,item,rank")
    assert recommend.main(["similar", *chosen, "--item", "3"]) == 2
    assert "n_layers=1" in capsys.readouterr().err
    assert recommend.main([*chosen, "--run", str(path)]) == 2
    assert "leave out -m, -d" in capsys.readouterr().err
    assert recommend.main(["lists"]) == 2
    assert "name a finished run" in capsys.readouterr().err


def test_a_damaged_plan_is_named(results):
    (results / "experiments").mkdir(parents=True)
    path = results / "experiments" / "x.json"
    whole = dict.fromkeys(("name", "purpose", "fingerprint"), "x") | {key: [] for key in ("models", "datasets", "seeds")}
    whole |= {key: {} for key in ("axes", "settings", "budget", "points")}
    for content in (
        "{",
        "[]",
        '{"name": "x"}',
        *(json.dumps(whole | {"trials": [one]}) for one in ("a/b", "../../x", "a/../x")),
    ):
        path.write_text(content)
        with pytest.raises(RunError, match=r"x\.json is no plan of an experiment"):
            read_experiment(path)
    path.write_text(json.dumps(whole | {"models": ["BPR"], "datasets": ["toy"], "trials": ["toy/BPR/seed1-a"]}))
    assert read_experiment(path).trials == ["toy/BPR/seed1-a"]
    assert read_experiment(results / "none.json") is None


def test_several_models_share_one_plan_of_their_own_axes(known_toy, toy, results):
    given = {"n_layers": Axis([1, 2]), "data_path": str(toy.parent), "results_dir": str(results), "threads": 1}
    configs = plan(["BPR", "LightGCN"], ["toy"], given)
    experiment = plan_experiment("x", "comparison", configs, [trial.path for trial in prepare(configs)], given)
    assert experiment.axes == {"BPR": {}, "LightGCN": {"n_layers": [1, 2]}}
    assert experiment.points == {"BPR": 1, "LightGCN": 2} and experiment.settings == {"threads": 1}
    with pytest.raises(ConfigError, match="file's name"):
        plan_experiment("a/b", "comparison", configs, [], given)


def test_a_damaged_plan_hides_no_other_and_its_command_mends_it(call, ask, results):
    call("-m", "BPR", "LightGCN", "--seed", "1", "--name", "whole")
    call("-m", "BPR", "LightGCN", "--seed", "2", "--name", "broken")
    (results / "experiments" / "broken.json").write_text("garbage")
    status, out, err = ask("table", "-d", "toy")
    assert status == 0 and "LightGCN" in out and "broken.json is no plan of an experiment" in err and "experiment whole" in err
    call("-m", "BPR", "LightGCN", "--seed", "2", "--name", "broken")
    assert "broken" in ask("experiments")[1] and "no plan" not in ask("experiments")[2]


def test_a_table_shows_the_last_experiment_that_has_results(call, ask, results):
    call("-m", "BPR", "LightGCN", "--seed", "1", "--name", "whole")
    call("-m", "BPR", "LightGCN", "--seed", "2", "--name", "begun")
    for path in (results / "toy").glob("*/seed2-*/result.json"):
        path.unlink()
    plan = results / "experiments" / "begun.json"
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "finished": None}))
    status, _, err = ask("table", "-d", "toy")
    assert status == 0 and "experiment whole" in err and "experiment begun is newer and has not ended" in err
    assert "experiment begun has no finished run yet" in ask("table", "--experiment", "begun")[2]


def test_a_result_that_its_users_do_not_give_is_refused(call, ask, results):
    call("-m", "BPR", "--seed", "1")
    (path,) = (results / "toy" / "BPR").glob("seed1-*")
    (path / "manifest.json").unlink()
    result = json.loads((path / "result.json").read_text())
    result["test"]["recall@20"] = 0.5
    (path / "result.json").write_text(json.dumps(result))
    status, _, err = ask("table")
    assert status == 2 and "result.json says recall@20 0.5000, and per_user.npz another mean" in err
