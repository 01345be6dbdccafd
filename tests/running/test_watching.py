"""What is shown of running trials: rows on a terminal, lines in a log, and times that are upper bounds."""

import io
import json
import sys
from dataclasses import replace
from types import ModuleType

import pytest
from rich.console import Console
from rich.live import Live

import mambarec.running.watching as watching_module
from mambarec.config.configurator import Axis
from mambarec.experiments.trials import _Clock, prepare, run_trials
from mambarec.running.run import run
from mambarec.running.watching import Status, _Lines, _Table, watching

STATUS = Status(
    epoch=13, cap=200, step=34, steps=100, saved=12, metric="recall@20", loss=0.69312, value=0.1032, best=0.1041, patience=18,
    seconds_left=720.0,
)  # fmt: skip
NAMES = ["MambaRec on tiktok mmd_weight=0.15 reduction_factor=16 seed=1", "LightGCN on tiktok seed=2"]


def drawn(*named: tuple[str, Status | None], width: int = 100) -> str:
    """What a terminal of this width shows last."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    table = _Table(Live(console=console, auto_refresh=False))
    for name, status in named:
        table.show(name, status)
    with console.capture() as capture:
        console.print(table.live.renderable)
    return capture.get()


def test_a_row_says_where_a_trial_is_and_fits_on_100_columns():
    text = drawn((NAMES[0], STATUS), (NAMES[1], replace(STATUS, epoch=1000, cap=1000, patience=0, seconds_left=None)))
    lines = text.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert "…" not in text and set(NAMES[0].split()) <= set(text.split())
    assert "13/200    34%  0.6931      0.1032  0.1041        18     12 min" in text
    assert "1000/1000" in text and lines[-1].rstrip().endswith("unknown")
    assert "running" in lines[1] and "patience  time left" in lines[0]


def test_a_row_goes_when_its_trial_no_longer_runs():
    assert NAMES[1] not in drawn((NAMES[0], STATUS), (NAMES[1], STATUS), (NAMES[1], None))
    assert drawn((NAMES[1], STATUS), (NAMES[1], None)).strip() == ""


def test_a_log_has_a_line_a_minute_of_each_trial_and_no_control_characters(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(watching_module.time, "monotonic", lambda: now)
    lines = _Lines()
    for second in range(0, 150):
        now = float(second)
        for name in NAMES:
            lines.show(name, STATUS)
    printed = capsys.readouterr().out
    expected = "epoch 13/200, loss 0.69312, validation recall@20 0.10320 (best 0.10410), patience 18, at most 12 min left"
    assert printed.splitlines() == [f"{name}: {expected}" for name in NAMES] * 2
    assert printed.replace("\n", "").isprintable()


def test_outside_a_terminal_there_is_no_table(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # another test may have imported it
    with watching() as display:
        assert isinstance(display, _Lines)


@pytest.fixture
def grid(make_config):
    return make_config("BPR", reg_weight=Axis([0.1, 0.01]), seed=Axis([1, 2]), epochs=10).trials()


def finished(trial, seconds: float, epochs: int) -> None:
    """Leave a finished run of so many epochs that took so long."""
    trial.path.mkdir(parents=True)
    counts = {"seed": 1, "best_epoch": 0, "epochs": epochs, "parameters": 1, "parameters_without_features": 1}
    measured = {"seconds_per_epoch": seconds / epochs, "seconds_total": seconds, "peak_memory_mb": 1.0}
    metrics = {"valid": {"recall@20": 0.5}, "test": {"recall@20": 0.5}}
    result = {"model": "BPR", "dataset": "toy", **counts, **measured, **metrics}
    (trial.path / "result.json").write_text(json.dumps(result))


def test_time_to_go_is_the_epochs_up_to_the_cap_of_each_trial_and_not_the_length_of_another(grid):
    trials = prepare(grid)
    finished(trials[0], seconds=60.0, epochs=3)  # 20 s an epoch; it ended early
    left = trials[1:]
    assert _Clock(trials, 1).time_for(left) == "at most 10 min"  # three times 10 epochs of 20 s
    assert _Clock(trials, 2).time_for(left) == "at most 7 min"  # 5 min, and half of a trial that may begin last
    trials[1].path.mkdir(parents=True)
    (trials[1].path / "metrics.jsonl").write_text('{"epoch": 0}\n' * 5)
    assert _Clock(trials, 1).time_for(left) == "at most 10 min"  # nothing of it is saved
    (trials[1].path / "checkpoint.pt").touch()
    assert _Clock(trials, 1).time_for(left) == "at most 8 min"


def test_a_running_trial_counts_with_its_own_pace_and_an_unknown_model_is_said(grid, make_config):
    trials = prepare([*grid, make_config("LightGCN")])
    clock = _Clock(trials, 1)
    assert clock.time_for(trials) == ""
    clock.running[trials[0].path] = STATUS
    assert clock.time_for(trials) == "at most 12 min for 1 trial, unknown for the other 4"


def test_a_run_tells_how_far_it_is_from_its_first_epoch_to_its_end(make_config):
    seen = []
    result = run(make_config("BPR", epochs=3, stopping_step=7, train_batch_size=32), watch=seen.append)
    assert [status.epoch for status in seen if status.step == 1] == [1, 2, 3]
    assert {(status.cap, status.steps) for status in seen if status.step} == {(3, 12)}
    assert seen[0].seconds_left is None and seen[0].saved == 0 and seen[0].patience == 7
    assert seen[-1].seconds_left == 0 and seen[-1].saved == 3 and seen[-1].best == pytest.approx(result["valid"]["recall@20"])
    again = []
    run(make_config("BPR", epochs=4, seed=1), watch=again.append)
    assert again[0].seconds_left == pytest.approx(4 * result["seconds_total"] / 3)  # before it has an epoch of its own


@pytest.mark.parametrize(("settings", "why"), [
    ({"epochs": 3}, "ended: the cap of 3 epochs is reached. Best epoch"),
    ({"epochs": 9, "stopping_step": 2, "min_epochs": 0, "learning_rate": 1e-12},
     "ended: no better validation Recall@20 for 2 evaluations. Best epoch 1 of 3"),
])  # fmt: skip
def test_a_run_says_why_it_ended(make_config, capsys, settings, why):
    result = run(make_config("BPR", **settings))
    assert why in capsys.readouterr().out
    assert result["stopped_by"] == ("cap" if settings["epochs"] == 3 else "patience")


def test_all_lines_of_a_run_count_epochs_from_1(make_config, capsys):
    outcomes = run_trials(prepare(make_config("BPR", epochs=2, seed=Axis([1, 2])).trials()))
    printed = capsys.readouterr().out
    assert "epoch 1/2" in printed and "epoch 2/2" in printed and "epoch 0" not in printed
    assert all(outcome.result["best_epoch"] in (0, 1) for outcome in outcomes)


def test_a_notebook_shows_a_table_with_bars_in_one_output_that_is_replaced(monkeypatch):
    shown = []

    class Handle:
        def update(self, what):
            shown.append(what)

    def display(what, display_id):
        shown.append(what)
        return Handle()

    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    fake = ModuleType("IPython.display")
    fake.display, fake.HTML = display, str
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    with watching() as display_of_runs:
        display_of_runs.show(NAMES[1], STATUS)
        display_of_runs.show(NAMES[1], replace(STATUS, epoch=150))
    drawings = [one._repr_mimebundle_([], [])["text/html"] for one in shown[:2]]
    assert "13/200" in drawings[0] and "150/200" in drawings[1] and shown[2:] == [""]
    assert drawings[1].count("━") > drawings[0].count("━") or "╸" in drawings[0]
