"""Searches that end hopeless runs early: which ones, in any process and again, and how they are taken up."""

from dataclasses import replace

import pytest

from mambarec.analysis.comparison import compare
from mambarec.analysis.live import unfinished
from mambarec.analysis.selection import Wanted, select
from mambarec.base.errors import RunError
from mambarec.cli import train as program
from mambarec.config.configurator import Axis
from mambarec.experiments.engines import LocalProcesses
from mambarec.experiments.experiment import experiments_in
from mambarec.experiments.tpe import search
from mambarec.experiments.trials import prepare, run_trials
from mambarec.running.directory import RunDirectory
from mambarec.running.lookup import find_runs
from mambarec.running.run import run

optuna = pytest.importorskip("optuna", reason="the extra [search] is not installed")

SETTINGS = {"epochs": 4, "min_epochs": 1, "train_batch_size": 64, "checkpoint_seconds": 3000, "save_recommended_topk": False}
RATES = [0.1, 0.05, 1e-9, 1e-8, 1e-7, 0.02, 1e-6, 1e-5]  # with the tiny ones nothing is learned
SPACE = {"learning_rate": Axis(RATES)}


@pytest.fixture
def grid(make_config):
    """Eight points of which five learn nothing."""
    return make_config("BPR", **SPACE, **SETTINGS).trials()


def run_with(engine=None):
    def run_some(asked):
        judges = {id(config): judge for config, judge in asked}
        ready = [replace(trial, judge=judges[id(trial.config)]) for trial in prepare([config for config, _ in asked])]
        return run_trials(ready, engine) if engine else run_trials(ready)

    return run_some


def story(outcomes):
    """Of each run its directory, and how it ended."""
    return [(one.trial.path.name, one.pruned, one.result and one.result["valid"]["recall@20"]) for one in outcomes]


@pytest.mark.parametrize("pruner", ["median", pytest.param("hyperband", marks=pytest.mark.slow)])
def test_hopeless_runs_end_early_keep_their_checkpoint_and_say_so(grid, pruner):
    outcomes = search(grid, 8, 1, run_with(), pruner)
    pruned = [one for one in outcomes if one.pruned is not None]
    assert pruned and all(one.pruned < 4 and one.result is None and one.error is None for one in pruned)
    assert max(one.trial.config["learning_rate"] for one in pruned) < 0.1 and len(outcomes) == 8
    for one in pruned:
        directory = RunDirectory(one.trial.path)
        assert directory.load("checkpoint.pt")["progress"]["epoch"] + 1 == len(directory.metrics()) == one.pruned
        assert directory.read_json("pruned.json") == {"epochs": one.pruned, "pruner": pruner}
        assert one.trial.state == "pruned"
    places = [outcomes[0].trial.path.parent]
    assert {found.state() for found in find_runs(places)} == {"finished", "pruned"}
    later = unfinished(places)
    assert {found.state(found.changed + 1e6) for found in later} == {"pruned"} and len(later) == len(pruned)


@pytest.mark.slow
def test_a_search_prunes_the_same_again_without_training(grid):
    first = story(search(grid, 8, 2, run_with(), "median"))
    assert any(pruned for _, pruned, _ in first)
    untrained = run_with(lambda trials, show: pytest.fail(f"trained {trials}") if trials else iter(()))
    assert story(search(grid, 8, 2, untrained, "median")) == first


@pytest.mark.slow
def test_fresh_processes_side_by_side_prune_as_one_process_does(grid, make_config, tmp_path):
    here = story(search(grid, 8, 2, run_with(), "median"))
    there = make_config("BPR", results_dir=str(tmp_path / "there"), **SETTINGS)
    elsewhere = [config.at(results_dir=there["results_dir"]) for config in grid]
    assert story(search(elsewhere, 8, 2, run_with(LocalProcesses(2)), "median")) == here
    assert any(pruned for _, pruned, _ in here)


@pytest.mark.slow
def test_a_search_that_was_stopped_goes_on_to_the_same_end(grid, make_config, tmp_path):
    whole = story(search(grid, 8, 1, run_with(), "median"))
    parts = [config.at(results_dir=f"{tmp_path / 'parts'}/") for config in grid]
    begun = search(parts, 7, 1, run_with(), "median")
    pruned = [one for one in begun if one.pruned is not None]
    for one in pruned:  # as a kill between the checkpoint and the mark leaves it
        RunDirectory(one.trial.path).file("pruned.json").unlink()
    assert pruned and story(search(parts, 8, 1, run_with(), "median")) == whole


def test_a_run_that_a_stop_left_after_its_last_epoch_is_finished_and_not_pruned(grid):
    last = [one for one in search(grid, 8, 1, run_with(), "median") if one.pruned is not None][-1].trial
    run(last.config, resume=True)
    for name in ("result.json", "pruned.json"):  # as a stop before the result is written leaves it
        RunDirectory(last.path).file(name).unlink(missing_ok=True)
    outcome = {one.trial.path: one for one in search(grid, 8, 1, run_with(), "median")}[last.path]
    assert outcome.pruned is None and outcome.result["epochs"] == 4


def test_a_search_is_the_same_in_whichever_order_its_seeds_are_given(make_config):
    orders = [make_config("BPR", **SPACE, seed=Axis(seeds), **SETTINGS).trials() for seeds in ([1, 2], [2, 1])]
    one, other = (sorted(story(search(trials, 5, 1, run_with(), "median"))) for trials in orders)
    assert one == other


def test_a_pruned_run_can_be_taken_up_again(grid):
    pruned = next(one for one in search(grid, 8, 1, run_with(), "median") if one.pruned is not None)
    with pytest.raises(RunError, match=r"was pruned by a search\. Go on with --resume"):
        run(pruned.trial.config)
    result = run(pruned.trial.config, resume=True)
    assert result["epochs"] == 4 and not RunDirectory(pruned.trial.path).file("pruned.json").exists()
    again = {one.trial.path: one for one in search(grid, 8, 1, run_with(), "median")}
    assert pruned.trial.path not in again or again[pruned.trial.path].result


def test_only_the_first_seed_of_a_hopeless_point_is_run(make_config):
    outcomes = search(make_config("BPR", **SPACE, seed=Axis([1, 2]), **SETTINGS).trials(), 8, 2, run_with(), "median")
    pruned = [one for one in outcomes if one.pruned is not None]
    assert pruned and {one.trial.config["seed"] for one in pruned} == {1}
    assert len(outcomes) == 2 * 8 - len(pruned)


def test_the_storage_holds_what_was_reported_and_pruned(grid, tmp_path):
    outcomes = search(grid, 8, 1, run_with(), "median")
    storage = f"sqlite:///{tmp_path}/results/toy/BPR/search.db"
    (name,) = optuna.get_all_study_names(storage)
    trials = [trial for trial in optuna.load_study(study_name=name, storage=storage).trials if trial.intermediate_values]
    states = [trial.state.name for trial in trials]
    assert states.count("PRUNED") == sum(one.pruned is not None for one in outcomes) > 0
    assert [max(trial.intermediate_values) for trial in trials if trial.state.name == "PRUNED"] == [
        one.pruned for one in outcomes if one.pruned is not None
    ]


# the command


@pytest.fixture
def command(toy, tmp_path, in_this_process):
    places = ["--data_path", str(toy.parent), "--results_dir", str(tmp_path / "results"), "--threads", "1"]
    settings = [word for key, value in SETTINGS.items() for word in (f"--{key}", str(value))]
    space = ["--learning_rate", *map(str, RATES)]
    words = ["-m", "BPR", "-d", "toy", "--use_gpu", "false", "--embedding_size", "8", *places, *settings]
    return [*words, *space, "--sampler", "tpe", "--search-budget", "8"]


def test_the_table_says_how_many_were_pruned_and_after_how_many_epochs(command, tmp_path, capsys):
    assert program.main(command) == 0
    out = capsys.readouterr().out
    assert "pruned after " in out and "by Optuna's median pruner" in " ".join(out.split())
    place = tmp_path / "results"
    (plan,) = experiments_in(place)
    assert plan.finished and plan.pruned and plan.settings["pruner"] == "median"
    found = select([place], Wanted())
    (note,) = found.notes
    assert f"{len(plan.pruned)} further settings of BPR (after " in note and "have no result" not in note
    assert note in compare(found.records, notes=found.notes).notes
    kept = tmp_path / "kept"
    for record in found.records:
        record.save(kept)
    plan.restricted([record.trial for record in found.records]).save(kept)
    assert select([kept], Wanted()).notes == [note]
    assert program.main([*command, "--resume"]) == 0
    assert "trained" not in capsys.readouterr().out


def test_pruner_is_for_tpe_and_none_switches_it_off(command, capsys):
    with pytest.raises(SystemExit):
        program.main([*command[:-4], "--pruner", "median"])
    assert "--pruner median needs --sampler tpe" in capsys.readouterr().err
    assert program.main([*command[:-1], "6", "--pruner", "none"]) == 0
    assert "pruned" not in capsys.readouterr().out


def test_a_run_that_is_taken_over_and_pruned_at_once_can_be_listed(make_config):
    """A shorter run is taken over, and the judge has seen enough of it."""
    short, longer = (make_config("BPR", **SPACE, **{**SETTINGS, "epochs": epochs}).trials() for epochs in (4, 6))
    run_trials(prepare(short))
    pruned = [one for one in search(longer, 8, 1, run_with(), "median") if one.pruned is not None]
    assert pruned and all(RunDirectory(one.trial.path).settings()["epochs"] == 6 for one in pruned)
    names = {one.trial.path.name for one in pruned}
    assert names <= {found.path.name for found in find_runs([pruned[0].trial.path.parent])}
