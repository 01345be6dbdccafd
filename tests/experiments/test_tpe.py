"""Search by Optuna: within its budget, without repetition, the same again, and better than the first points it draws."""

import pytest

from mambarec.config.configurator import Axis
from mambarec.experiments.tpe import search
from mambarec.experiments.trials import Outcome, prepare, run_trials

optuna = pytest.importorskip("optuna", reason="the extra [search] is not installed")


@pytest.fixture
def grid(make_config):
    axes = {"reg_weight": [10.0**-i for i in range(8)], "learning_rate": [10.0**-i for i in range(8)]}
    return make_config("BPR", **{key: Axis(values) for key, values in axes.items()}).trials()


def pretend(asked):
    """Outcomes whose validation metric is best at reg_weight 1e-5, learning_rate 1e-2, and falls off on all sides."""
    import math

    def score(config) -> float:
        return -abs(math.log10(config["reg_weight"]) + 5) - abs(math.log10(config["learning_rate"]) + 2)

    return [Outcome(trial, {"valid": {"recall@20": score(trial.config)}}) for trial in prepare([config for config, _ in asked])]


def points(outcomes):
    return [(one.trial.config["reg_weight"], one.trial.config["learning_rate"]) for one in outcomes]


@pytest.mark.parametrize("at_a_time", [1, 4])
def test_a_search_spends_its_budget_once_per_point_and_repeats_itself(grid, at_a_time):
    first = search(grid, 20, at_a_time, pretend)
    assert len(first) == len(set(points(first))) == 20
    assert points(search(grid, 20, at_a_time, pretend)) == points(first)


def test_a_search_learns_from_what_it_has_seen(grid):
    values = [one.result["valid"]["recall@20"] for one in search(grid, 30, 1, pretend)]
    assert sum(values[5:15]) / 10 > sum(values[:5]) / 5  # five points are drawn at random first
    assert max(values) >= -1


def test_numbers_are_searched_by_size_in_whichever_order_they_were_given(make_config, tmp_path):
    grid = make_config("BPR", learning_rate=Axis([1e-2, 1e-5, 1e-3]), clip_grad_norm=Axis([None, 1])).trials()
    assert len(search(grid, 6, 1, pretend)) == 6
    names = optuna.get_all_study_names(f"sqlite:///{tmp_path}/results/toy/BPR/search.db")
    assert names == ["learning_rate 0.01 0.001 1e-05 × clip_grad_norm None 1"]


def test_a_budget_beyond_the_grid_tries_all_of_it(make_config):
    grid = make_config("MambaRec", variant=Axis(["paper", "released"]), cl_loss=Axis([0.1, 0.2])).trials()
    assert len({one.trial.path for one in search(grid, 99, 1, pretend)}) == 4


def test_real_runs_are_searched_with_all_their_seeds_and_kept_in_the_storage(make_config, tmp_path):
    grid = make_config("BPR", reg_weight=Axis([0.1, 0.01, 0.001]), seed=Axis([1, 2])).trials()
    outcomes = search(grid, 2, 1, lambda asked: run_trials(prepare([config for config, _ in asked])))
    assert len(outcomes) == 4 and sorted(one.trial.config["seed"] for one in outcomes) == [1, 1, 2, 2]
    storage = f"sqlite:///{tmp_path}/results/toy/BPR/search.db"
    (name,) = optuna.get_all_study_names(storage)
    values = [trial.value for trial in optuna.load_study(study_name=name, storage=storage).trials if trial.value is not None]
    means = [sum(one.result["valid"]["recall@20"] for one in outcomes[i : i + 2]) / 2 for i in (0, 2)]
    assert values == pytest.approx(means)
