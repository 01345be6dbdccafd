"""Ctrl-C and SIGTERM at any moment: what is finished is saved, nothing is left half-written, and no process stays behind."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from mambarec.base.stopping import stop as stop_state
from mambarec.cli import train as program
from mambarec.preparation.demo import ensure_demo
from mambarec.running.directory import RunDirectory, same_result
from mambarec.running.run import run

SRC = Path(__file__).resolve().parents[2] / "src"
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
SINGLE = "-m BPR --epochs 4 --resume"
GRID = "-m BPR LightGCN --seed 1 2 --epochs 3 --jobs 2"
UNTIL_THE_END = "--checkpoint_seconds 3600"  # so that nothing is saved before a stop
HELD = f"""
import sys, time
sys.path.insert(0, {str(SRC)!r})
from mambarec.base.stopping import stop
stop.listen()
from mambarec.cli.train import main
from mambarec.training.trainer import Trainer
train = Trainer._train_epoch
def held(self, loader, epoch):
    if epoch == 1:
        print("held", flush=True)
    while epoch == 1 and not stop.signal:
        time.sleep(0.01)
    return train(self, loader, epoch)
Trainer._train_epoch = held
sys.exit(main(sys.argv[1:]))
"""  # main.py whose second epoch begins with a signal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """A data_path with the demo in it."""
    folder = tmp_path_factory.mktemp("data")
    ensure_demo(folder / "demo")
    return folder


@pytest.fixture
def command(demo, tmp_path):
    """command(words, place) -> what starts main.py on the demo, small, with results in tmp_path / place."""

    def make(words: str, place: str = "results") -> list[str]:
        small = f"-d demo --data_path {demo} --results_dir {tmp_path / place} --embedding_size 8 --threads 1 --use_gpu false"
        return [sys.executable, str(SRC / "main.py"), *words.split(), *small.split()]

    return make


@contextmanager
def started(command: list[str]):
    """The process of a command, first of a group as in a terminal; killed with all it started when the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        for one in of_session(process.pid):
            one.kill()
        process.communicate()


def of_session(leader: int) -> list[psutil.Process]:
    """All processes that a command and its children started and that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, ProcessLookupError):
            pass
    return found


def stop(process: subprocess.Popen, number: signal.Signals) -> None:
    """Ctrl-C reaches a terminal's whole group; SIGTERM one process."""
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


def ended_clean(process: subprocess.Popen, place: Path, number: signal.Signals) -> str:
    """Wait for the end of a stopped command, check that it left nothing behind, and return the last line that it said."""
    out, err = process.communicate(timeout=600)
    assert process.returncode in (STATUS[number], 0), (process.returncode, out, err)
    assert "Traceback" not in out + err and "leaked" not in err and "Exception" not in out + err, err
    assert not [path for path in place.rglob("*") if ".tmp" in path.name]
    until = time.monotonic() + 60
    while of_session(process.pid):  # `git`, which a run asks for its commit, may still end
        assert time.monotonic() < until
        time.sleep(0.05)
    return (err.strip().splitlines() or [""])[-1]


def wait_for(process: subprocess.Popen, text: str) -> None:
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"'{text}' was not printed: {process.stderr.read()}")


def listens(number: int) -> bool:
    """Whether a process catches SIGTERM, which Python by itself does not."""
    caught = Path(f"/proc/{number}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def only_run(place: Path, model: str = "BPR") -> Path:
    (path,) = (place / "demo" / model).iterdir()
    return path


def test_a_run_that_is_stopped_saves_the_epoch_it_is_in_and_goes_on_to_the_same_result(command, tmp_path):
    python, _, *words = command(f"{SINGLE} {UNTIL_THE_END}")
    with started([python, "-c", HELD, *words]) as process:
        wait_for(process, "held")
        stop(process, signal.SIGINT)
        words = ended_clean(process, tmp_path / "results", signal.SIGINT)
        assert process.returncode == 130
    run = only_run(tmp_path / "results")
    assert words == f"stopped: epoch 2 of at most 4 is saved: {run}. The same command goes on after it"
    assert "stopped by the user after epoch 2" in (run / "train.log").read_text()
    assert program.main(command(SINGLE)[2:]) == 0
    assert "resumed after epoch 2" in (run / "train.log").read_text()
    assert program.main(command(SINGLE, "whole")[2:]) == 0
    assert same_result(run, only_run(tmp_path / "whole")) == []


@pytest.mark.slow
def test_workers_save_and_end_with_the_command_that_started_them(command, tmp_path):
    with started(command(f"-m BPR --seed 1 2 --epochs 400 --jobs 2 {UNTIL_THE_END}")) as process:
        logs = [tmp_path / "results" / "demo" / "BPR"]
        while not any("epoch   1/400" in log.read_text() for log in logs[0].glob("*/train.log")):
            time.sleep(0.05)
        stop(process, signal.SIGTERM)
        words = ended_clean(process, tmp_path / "results", signal.SIGTERM)
        assert process.returncode == 143
    assert words.startswith("stopped. Saved: BPR on demo seed=") and words.endswith(". The same command goes on")
    assert list((tmp_path / "results").rglob("checkpoint.pt"))


@pytest.mark.slow
def test_a_second_signal_stops_at_once(command, tmp_path):
    with started(command(f"-m BPR --epochs 400 --train_batch_size 12 {UNTIL_THE_END}")) as process:
        wait_for(process, "epoch   1/400")
        time.sleep(0.5)  # the second epoch has begun, and takes longer than that
        stop(process, signal.SIGTERM)
        time.sleep(0.1)
        stop(process, signal.SIGINT)
        words = ended_clean(process, tmp_path / "results", signal.SIGINT)
    assert words.startswith("stopped before an epoch was saved")


def test_a_stop_after_the_result_is_written_says_that_it_is_saved(make_config, monkeypatch, capfd, tmp_path):
    class Ended(BaseException):
        pass

    def exit(status):
        raise Ended

    def finish(self, result):
        real(self, result)
        stop_state.on_signal(signal.SIGINT, None)

    real = RunDirectory.finish
    monkeypatch.setattr(RunDirectory, "finish", finish)
    monkeypatch.setattr(stop_state, "exit", exit)
    monkeypatch.setattr(stop_state, "signal", None)
    handlers = {number: signal.getsignal(number) for number in STATUS}
    try:
        with pytest.raises(Ended):
            run(make_config("BPR", epochs=1))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    (path,) = tmp_path.rglob("result.json")
    assert capfd.readouterr().err.endswith(f"stopped after the end of the training. Its result is saved: {path.parent}\n")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux when the process listens")
def test_a_stop_during_the_imports_is_one_line(command, tmp_path):
    with started(command(SINGLE)) as process:
        until = time.monotonic() + 120
        while not listens(process.pid):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        stop(process, signal.SIGINT)
        assert ended_clean(process, tmp_path / "results", signal.SIGINT).startswith("stopped")


@pytest.mark.slow
@pytest.mark.parametrize("words", [SINGLE, GRID], ids=["one run", "a grid"])
@pytest.mark.parametrize("interval", ["0", "3600"])
def test_stopped_at_random_moments_a_command_ends_like_one_never_stopped(command, tmp_path, words, interval):
    """checkpoint_seconds 0: a stop comes into the writing of checkpoints; 3600: every stop has epochs to save."""
    begun = time.monotonic()
    subprocess.run(command(words, "whole"), check=True, capture_output=True)
    length = time.monotonic() - begun
    moments = random.Random(length)
    finished = stops = 0
    while stops < 40:
        place = f"stopped-{finished}"
        number = moments.choice([signal.SIGINT, signal.SIGTERM])
        with started(command(f"{words} --checkpoint_seconds {interval}", place)) as process:
            time.sleep(moments.uniform(0.1, length))
            stops += process.poll() is None
            stop(process, number) if process.poll() is None else None
            if moments.random() < 0.2:
                time.sleep(moments.uniform(0, 0.3))
                if process.poll() is None:
                    stop(process, number)
            ended_clean(process, tmp_path / place, number)
        finished += process.returncode == 0
    subprocess.run(command(words, f"stopped-{finished}"), check=True, capture_output=True)
    for path in (tmp_path / "whole" / "demo").glob("*/seed*"):
        for number in range(finished + 1):
            assert (
                same_result(path, tmp_path / f"stopped-{number}" / "demo" / path.relative_to(tmp_path / "whole" / "demo")) == []
            )
