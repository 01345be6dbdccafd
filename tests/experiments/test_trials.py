"""Many trials: finished ones stay, stopped ones go on, failing ones are reported, and an engine changes no figure."""

import io
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import psutil
import pytest

from mambarec.cli import train as program
from mambarec.config.configurator import Axis
from mambarec.experiments import engines
from mambarec.experiments.engines import LocalProcesses
from mambarec.experiments.grid import sample
from mambarec.experiments.trials import prepare, run_trials
from mambarec.running.directory import same_result
from mambarec.running.run import run

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def grid(make_config):
    """Four trials of BPR, two points with two seeds."""
    return make_config("BPR", reg_weight=Axis([0.1, 0.01]), seed=Axis([1, 2]), epochs=3).trials()


def test_the_plan_tells_finished_stopped_and_new_apart(grid, interrupted_after, capsys):
    run(grid[0])
    with interrupted_after(1):
        run(grid[1])
    trials = prepare(grid)
    assert [trial.state for trial in trials] == ["finished", "stopped", "new", "new"]
    before = [path.stat().st_mtime_ns for path in trials[0].path.iterdir()]
    outcomes = run_trials(trials)
    printed = capsys.readouterr().out
    assert "4 trials: 1 finished; 1 stopped, to go on with; 2 to train\n" in printed
    assert re.search(r"^time to go: at most \d+ s$", printed, re.MULTILINE)
    assert "[4/4] BPR on toy reg_weight=0.01 seed=2: validation recall@20" in printed
    assert "resumed after epoch 1" in (trials[1].path / "train.log").read_text()
    assert [path.stat().st_mtime_ns for path in trials[0].path.iterdir()] == before
    assert all(outcome.result["epochs"] == 3 for outcome in outcomes)


def test_the_same_trial_named_twice_runs_once(make_config):
    assert len(prepare([make_config("BPR"), make_config("BPR", data_path=make_config("BPR")["data_path"])])) == 1


@pytest.mark.slow
def test_a_failing_trial_stops_no_other_and_is_reported(grid, toy, tmp_path, capsys):
    words = ["-m", "BPR", "-d", "toy", "--data_path", str(toy.parent), "--results_dir", str(tmp_path / "results")]
    words += "--epochs 2 --embedding_size 8 --threads 1 --use_gpu false --learning_rate 1e30 1e-3 --jobs 2".split()
    assert program.main(words) == 1
    captured = capsys.readouterr()
    assert "error: 1 of 2 trials failed:\n  BPR on toy learning_rate=1e+30: BPR.full_sort_predict returned Inf" in captured.err
    assert "learning_rate=0.001" in captured.out and "Traceback" not in captured.err


def test_a_mistake_in_a_model_is_an_error_of_its_trials_with_a_traceback_in_the_log(grid, monkeypatch):
    from mambarec.models.bpr import BPR

    original = BPR.calculate_loss
    calls = iter(range(10**6))

    def faulty(self, interaction):
        return original(self, interaction) if next(calls) else 1 / 0

    monkeypatch.setattr(BPR, "calculate_loss", faulty)
    outcomes = run_trials(prepare(grid))
    assert [bool(outcome.error) for outcome in outcomes] == [True, False, False, False]
    assert outcomes[0].error.startswith("BPR.calculate_loss raised ZeroDivisionError: division by zero (test_trials.py, line ")
    assert f"traceback in {outcomes[0].trial.path / 'train.log'}" in outcomes[0].error
    assert "in faulty" in (outcomes[0].trial.path / "train.log").read_text()


@pytest.mark.slow
def test_workers_give_the_results_of_one_process_to_the_bit(grid, tmp_path):
    alone = run_trials(prepare(grid[1:3]))
    elsewhere = prepare([config.at(results_dir=f"{tmp_path}/elsewhere/") for config in grid[1:3]])
    together = run_trials(elsewhere, LocalProcesses(2), 2)
    for one, other, given in zip(alone, together, elsewhere, strict=True):
        assert one.trial.name == other.trial.name and other.trial is given
        assert same_result(one.result["directory"], other.result["directory"]) == []


def test_a_worker_that_dies_fails_its_trial_alone(grid, monkeypatch):
    monkeypatch.setattr(engines, "free_memory", lambda: 2**60)  # so that two run side by side wherever the test runs
    trials = prepare([config.at(epochs=4000, min_epochs=4000) for config in grid[:1]] + grid[1:3])
    engine = LocalProcesses(2)(trials)
    first = next(engine)  # a short one; the long one is in the other worker, or soon will be
    assert first.result and first.trial.path != trials[0].path
    while not (victims := [child for child in psutil.Process().children() if _holds(child, trials[0].path)]):
        time.sleep(0.05)
    victims[0].send_signal(signal.SIGKILL)
    errors = {outcome.trial.path: outcome.error for outcome in engine}
    assert "died with exit status" in errors.pop(trials[0].path)
    assert list(errors.values()) == [None]


@pytest.mark.parametrize("message", [b"", b"\x80\x04", b"cno_such_module\nname\n.", b"cmath\nno_such_name\n."])
def test_a_worker_ends_whatever_its_last_message_holds(message):
    process = object.__new__(engines._Process)
    process.process = SimpleNamespace(stdout=io.BytesIO(message))
    process.inbox = SimpleQueue()
    process._listen()
    assert process.inbox.get(block=False) == (process, None)


def test_a_stop_asks_no_worker_that_ends_already(monkeypatch):
    asked = []
    crew = engines._Crew(2, [], lambda trial, status: None)
    crew.running = [
        SimpleNamespace(is_set_back=back, ask_to_stop=lambda back=back: asked.append(back)) for back in (True, False)
    ]
    crew._stop()
    assert asked == [False]


def test_models_without_training_have_one_epoch_in_the_time_to_go(make_config, monkeypatch):
    run(make_config("Pop", epochs=1000))
    seconds = []
    monkeypatch.setattr("mambarec.experiments.trials.paces", lambda results: [7.0 for _ in results])
    monkeypatch.setattr("mambarec.experiments.trials.duration", lambda found: seconds.append(found) or "soon")
    run_trials(prepare(make_config("Pop", epochs=1000, seed=Axis([1, 2])).trials()))
    assert seconds and max(seconds) == 14.0


def _holds(process: psutil.Process, path: Path) -> bool:
    try:
        return any(path in Path(file.path).parents for file in process.open_files())
    except psutil.Error:
        return False


@pytest.mark.slow
def test_when_memory_runs_short_the_last_trial_waits_and_nothing_is_lost(grid, monkeypatch, capsys):
    free = iter([2**60, 2**60, 0, 0])  # room for a second trial, then none
    monkeypatch.setattr(engines, "free_memory", lambda: next(free, 2**60))
    trials = prepare(grid[:2])
    monkeypatch.setattr(engines, "_LOOK_SECONDS", 0.2)
    outcomes = list(LocalProcesses(2)(trials))
    assert f"memory runs short: {trials[1].name} waits" in capsys.readouterr().out
    assert [outcome.trial for outcome in outcomes] == trials and all(outcome.result for outcome in outcomes)


def test_a_budget_draws_points_without_repetition_and_the_same_ones_again(make_config):
    axes = {"reg_weight": Axis([0.1, 0.01, 0.001]), "learning_rate": Axis([1e-3, 1e-2]), "seed": Axis([1, 2])}
    configs = make_config("BPR", **axes).trials()
    drawn = sample(configs, 4)
    points = [(config["reg_weight"], config["learning_rate"]) for config in drawn]
    assert len(drawn) == 8 and len(set(points)) == 4
    assert all({one["seed"] for one, at in zip(drawn, points, strict=True) if at == point} == {1, 2} for point in points)
    assert points == [(config["reg_weight"], config["learning_rate"]) for config in sample(configs, 4)]
    assert len(sample(configs, 100)) == len(configs)
    assert any(
        points[::2] != [(one["reg_weight"], one["learning_rate"]) for one in sample([c.at(seed=s) for c in configs[::2]], 4)]
        for s in range(5, 15)
    )


PROGRAM = """
import sys
sys.path.insert(0, {src!r})
from mambarec.cli import train as main
import mambarec.config.catalogue as catalogue
from pathlib import Path
if __name__ == "__main__":
    catalogue.CONFIGS = Path({configs!r})
    sys.exit(main.main({words!r}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_grid_killed_at_random_moments_ends_as_an_undisturbed_one(configs, toy, tmp_path, jobs):
    """SIGKILL to the program alone: its workers must go with it and leave their locks."""

    def command(place: str, jobs: str) -> list[str]:
        words = f"-m MambaRec -d toy --data_path {toy.parent} --results_dir {tmp_path / place} --jobs {jobs} --threads 1 "
        words += "--embedding_size 8 --train_batch_size 32 --epochs 30 --use_gpu false --checkpoint_seconds 0 "
        words += "--mmd_weight 0.1 0.2 --reduction_factor 2 4 8 --seed 1 2"
        script = tmp_path / "program.py"
        script.write_text(PROGRAM.format(src=str(SRC), configs=str(configs), words=words.split()))
        return [sys.executable, str(script)]

    table = subprocess.run(command("undisturbed", "1"), capture_output=True, text=True, check=True).stdout
    moments = random.Random(7)
    kills = 0
    for _ in range(60):
        with subprocess.Popen(command("killed", jobs), stdout=subprocess.PIPE, text=True) as process:
            try:
                again, _ = process.communicate(timeout=moments.uniform(3, 8))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
    assert kills >= 2 and process.returncode == 0
    assert _table(again) == _table(table)
    runs = list((tmp_path / "undisturbed" / "toy" / "MambaRec").glob("seed*"))
    assert len(runs) == 12
    for path in runs:
        log = (tmp_path / "killed" / "toy" / "MambaRec" / path.name / "train.log").read_text()
        assert log.count("epoch 30/30") == 1
        assert same_result(path, tmp_path / "killed" / "toy" / "MambaRec" / path.name) == []


def _table(text: str) -> str:
    return text[text.index("seeds  validation") : text.index("The table again at any time")]  # which names the place
