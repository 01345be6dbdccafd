"""The tutorial: its commands run as they stand there, and its outputs are what they print."""

import importlib.util
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
_SPEC = importlib.util.spec_from_file_location("tutorial", DOCS / "tutorial.py")
tutorial = importlib.util.module_from_spec(_SPEC)
sys.modules["tutorial"] = tutorial  # where its dataclass looks itself up
_SPEC.loader.exec_module(tutorial)

PAGE = """Text.

    make run                # installs, then trains
    python report.py table -d demo

<!-- lines 1-2, 5-, -1 -->
```
old
```

<!-- from Test -->
```
```

    python recommend.py --all
"""


def test_a_block_shows_the_chosen_lines_of_what_the_commands_before_it_print():
    commands, blocks = tutorial.commands_and_blocks(PAGE)
    assert commands == ["make run", "python report.py table -d demo", "python recommend.py --all"]
    assert [block.commands for block in blocks] == [commands[:2], commands[:2]]
    outputs = {"make run": "a\nb\n", "python report.py table -d demo": "c\nd\ne\nTest\nz\n"}
    page = tutorial.filled(PAGE, outputs).splitlines()
    assert page[6:14] == ["```", "a", "b", "…", "e", "Test", "z", "…"] and page[14:16] == ["z", "```"]
    assert page[18:22] == ["```", "Test", "z", "```"]
    assert tutorial.filled("\n".join(page), outputs).splitlines() == page


@pytest.mark.parametrize("shown", ["lines x", "lines -", "from nowhere", "all"])
def test_a_block_that_cannot_be_filled_is_an_error(shown):
    with pytest.raises(tutorial.TutorialError):
        tutorial.selected("a\nb\n", shown)


def test_the_page_has_every_command_that_it_shows_an_output_of():
    commands, blocks = tutorial.commands_and_blocks((DOCS / "tutorial.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 7 and all(set(block.commands) <= set(commands) for block in blocks)


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs_and_fills_its_output(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install -e '.[report]'")
    assert tutorial.main(["--folder", str(tmp_path / "short"), "--epochs", "1"]) == 0
    page = capsys.readouterr().out
    assert "15 trials: 15 to train" in page and "Significance" in page and "ended: the cap of 1 epoch is reached" in page
    assert "9 trials: 3 finished; 6 to train" in page and "6 recommendations for 2 users" in page
    assert (tmp_path / "short" / "results" / "demo" / "report.html").exists()


def test_what_is_run_is_of_the_demo_and_each_exception_stands_in_the_page():
    commands, _ = tutorial.commands_and_blocks(tutorial.PAGE.read_text())
    assert all(any(command.startswith(left) for command in commands) for left in tutorial.LEFT_OUT)
    words = [command.split() for command, _ in tutorial.to_run(commands)]
    assert {line[line.index("-d") + 1] for line in words if "-d" in line} == {"demo"}
