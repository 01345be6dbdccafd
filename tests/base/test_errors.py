"""How a command ends."""

import errno
import os
import subprocess
import sys

import pytest

from mambarec.base.errors import ConfigError, exit_status, explained
from mambarec.base.places import CODE


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1)])
def test_a_command_ends_with_what_its_work_returns(returned, status):
    assert exit_status(lambda: returned, "stopped") == status


def test_a_mistake_is_shown_without_a_traceback(capsys):
    def work():
        raise ConfigError("no such model")

    assert exit_status(work, "stopped") == 2
    assert capsys.readouterr().err == "error: no such model\n"


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / "table.npy").mkdir()
    (tmp_path / "partial").touch()
    with pytest.raises(OSError) as raised:
        (tmp_path / "partial").replace(tmp_path / "table.npy")
    assert explained(raised.value).startswith(f"{tmp_path / 'table.npy'}: a folder is there")


def test_an_interrupt_says_how_to_go_on(capsys):
    def work():
        raise KeyboardInterrupt

    assert exit_status(work, "stopped; --resume goes on") == 130
    assert "--resume goes on" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    assert left_by_its_reader("print('line\\n' * 100_000)") == (0, b"")


def test_a_mistake_is_shown_when_its_reader_has_left_too():
    status, errors = left_by_its_reader("print('line\\n' * 100), time.sleep(0.5), exec('raise ConfigError(\"no\")')")
    assert (status, errors) == (2, b"error: no\n")


def test_another_pipe_that_breaks_is_an_error():
    def work():
        raise BrokenPipeError("of a worker")

    with pytest.raises(BrokenPipeError):
        exit_status(work, "stopped")


def test_a_command_without_standard_output_ends_as_others_do(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert exit_status(lambda: 1, "stopped") == 1


def left_by_its_reader(work: str) -> tuple[int, bytes]:
    """Exit status and standard error of a command whose reader leaves at once."""
    code = f"import sys, time; from mambarec.base.errors import *; sys.exit(exit_status(lambda: [{work}] and None, ''))"
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    command = subprocess.Popen(
        [sys.executable, "-c", code], cwd=CODE, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    command.stdout.close()
    errors = command.stderr.read()
    return command.wait(timeout=60), errors


def test_the_file_that_is_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    error = NotADirectoryError(errno.ENOTDIR, "", str(tmp_path / "file" / "data" / "mine"))
    assert f"Move {tmp_path / 'file'} away" in (explained(error) or "")
    error = FileExistsError(errno.EEXIST, "", str(tmp_path / "file"))
    assert f"Move {tmp_path / 'file'} away" in (explained(error) or "")
