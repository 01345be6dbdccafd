"""How a command ends."""

import subprocess
import sys

import pytest

from utils.configurator import SRC
from utils.errors import ConfigError, exit_status


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1)])
def test_a_command_ends_with_what_its_work_returns(returned, status):
    assert exit_status(lambda: returned, "stopped") == status


def test_a_mistake_is_shown_without_a_traceback(capsys):
    def work():
        raise ConfigError("no such model")

    assert exit_status(work, "stopped") == 2
    assert capsys.readouterr().err == "error: no such model\n"


def test_an_interrupt_says_how_to_go_on(capsys):
    def work():
        raise KeyboardInterrupt

    assert exit_status(work, "stopped; --resume goes on") == 130
    assert "--resume goes on" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_ends_it_without_a_word():
    code = "import sys; from utils.errors import exit_status; sys.exit(exit_status(lambda: print('line\\n' * 100_000), ''))"
    command = subprocess.Popen([sys.executable, "-c", code], cwd=SRC, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    command.stdout.readline()
    command.stdout.close()
    assert command.stderr.read() == b""
    assert command.wait(timeout=60) == 141
