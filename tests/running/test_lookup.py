"""Finding runs disturbs none, and tells what state they are in."""

from pathlib import Path
from threading import Event, Thread

import filelock
import pytest

from mambarec.base.errors import RunError
from mambarec.running.directory import RunDirectory
from mambarec.running.lookup import choose_run, find_runs
from mambarec.running.run import run


@pytest.fixture
def stopped(make_config, interrupted_after):
    """The directory of a run that was stopped after an epoch."""
    with interrupted_after(1):
        run(make_config("BPR", epochs=3))
    (found,) = find_runs([Path(make_config("BPR")["results_dir"])])
    return found.path


def test_a_glance_at_a_run_keeps_no_training_from_it(stopped):
    looking, done = Event(), Event()

    def look() -> None:
        with filelock.FileLock(stopped / ".lock"):
            looking.set()
            done.wait(0.1)

    looks = Thread(target=look)
    looks.start()
    assert looking.wait(60)
    with RunDirectory(stopped).lock():  # waits until the other has looked
        done.set()
    looks.join()


def test_a_run_in_use_is_running(stopped):
    with RunDirectory(stopped).lock():
        assert [one.state() for one in find_runs([stopped])] == ["running"]


def test_a_stopped_run_in_a_folder_without_write_rights_is_stopped(stopped, monkeypatch):
    def refused(*_, **__):
        raise PermissionError

    monkeypatch.setattr("mambarec.running.lookup.filelock.FileLock.acquire", refused)
    assert [one.state() for one in find_runs([stopped])] == ["stopped"]


def test_a_damaged_run_near_the_root_is_named(make_config, monkeypatch):
    made = Path(run(make_config("BPR"))["directory"])
    (made / "result.json").write_text("{")
    monkeypatch.chdir(made.parent)
    with pytest.raises(RunError, match=r"result\.json"):
        choose_run([Path(made.name)], ["BPR"])


def test_a_run_that_left_no_checkpoint_has_nothing_saved(stopped):
    for name in ("checkpoint.pt", "checkpoint.older.pt"):
        (stopped / name).unlink(missing_ok=True)
    (found,) = find_runs([stopped])
    assert (found.state(), found.progress()) == ("stopped", "nothing saved yet: it starts anew")


def test_runs_with_the_same_settings_are_told_apart_by_threads_and_data(make_config, toy):
    run(make_config("BPR"))
    run(make_config("BPR", threads=2))
    file = toy / "toy.inter"
    head, *lines = file.read_text().splitlines()
    file.write_text("\n".join([head, *reversed(lines)]) + "\n")
    run(make_config("BPR"))
    with pytest.raises(RunError) as error:
        choose_run([Path(make_config("BPR")["results_dir"])])
    told = [line.partition(": ")[2] for line in str(error.value).splitlines() if line.startswith("  ")]
    assert sorted(line.partition(",")[0] for line in told) == ["threads=1", "threads=1", "threads=2"]
    assert [", data " in line for line in sorted(told)] == [True, True, False] and len(set(told)) == 3
