"""Runs the commands of tutorial.md, and puts what they print into the page.

    python docs/tutorial.py --folder /tmp/tutorial --write      as the page says; half an hour to two on two cores
    python docs/tutorial.py --folder /tmp/short --epochs 1      all runs short, and nothing written

A command is a line with four spaces before it. A block between fences shows what the commands since the last block printed.
A comment before the block says which lines: `<!-- lines 1-6, 20-, -17 -->` are the first six, those from the 20th on and the
last 17, with … between, and `<!-- from Test performance -->` is all from that line on. What is shown is what a terminal keeps,
without the line a minute of a log. What a command printed stays in --folder, so a second call goes on where the first ended.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SRC = Path(__file__).resolve().parents[1] / "src"
PAGE = Path(__file__).with_suffix(".md")
INSTEAD = {"make run": "python main.py -m MambaRec -d demo --resume"}  # which make calls, after it has installed
LEFT_OUT = ("git ", "source ", "pip ", "python prepare.py table", "python main.py -m usable")  # what the reader has, or knows
MINUTE = re.compile(r": epoch +\d+/\d+, |^generated the demo data|^experiment .*--all takes every run$")
FIGURE = "modality.png"  # that the page shows


class TutorialError(Exception):
    """A command that failed, or a block that cannot be filled."""


@dataclass(frozen=True)
class Block:
    """An output in the page: the lines between its fences, which of the printed lines it shows, and the commands."""

    start: int
    end: int
    shown: str
    commands: list[str]


def commands_and_blocks(page: str) -> tuple[list[str], list[Block]]:
    """The commands in their order, and the blocks; a block without a command before it is an error."""
    commands: list[str] = []
    blocks: list[Block] = []
    new: list[str] = []  # commands since the last block
    opened, shown = None, ""
    for number, line in enumerate(page.splitlines()):
        if line.startswith("```"):
            if opened is None:
                opened = number + 1
                continue
            of = new or (blocks[-1].commands if blocks else [])
            if not of:
                raise TutorialError(f"line {number}: no command before this output")
            blocks.append(Block(opened, number, shown, of))
            opened, shown, new = None, "", []
        elif opened is not None:
            continue
        elif match := re.fullmatch(r"<!-- (.*) -->", line):
            shown = match[1]
        elif line.startswith("    ") and line.strip():
            command = re.sub(r"\s{2,}# .*", "", line.strip())
            commands.append(command)
            if not command.startswith(LEFT_OUT):
                new.append(command)
    return commands, blocks


def to_run(commands: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The commands that are run: as the page has them, and as they are called."""
    for command in commands:
        if not command.startswith(LEFT_OUT):
            yield command, INSTEAD.get(command, command)


def called(command: str, folder: Path, epochs: int | None) -> str:
    """A command with its results in a folder, and with fewer epochs where asked for."""
    results = shlex.quote(f"{folder / 'results'}")
    if not command.startswith("python "):
        return command
    programs = f"{shlex.quote(sys.executable)} {shlex.quote(f'{SRC}')}/"
    words = command.replace("python ", programs, 1)
    if "main.py" in command or "report.py modality" in command:
        return f"{words} --results_dir {results}" + (f" --epochs {epochs}" if epochs else "")
    return f"{words} --results {results}"


def printed(command: str, number: int, folder: Path, epochs: int | None) -> str:
    """What a command prints, from the folder if it was run before; TutorialError when it fails."""
    kept = folder / f"{number:02}.txt"
    if kept.exists():
        return kept.read_text(encoding="utf-8")
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "encoding": "utf-8"}
    done = subprocess.run(["bash", "-c", called(command, folder, epochs)], cwd=work, check=False, **pipe)
    if done.returncode:
        raise TutorialError(f"{command}\n{done.stdout[-4000:]}")
    text = as_shown(done.stdout, folder)
    kept.write_text(text, encoding="utf-8")
    return text


def as_shown(text: str, folder: Path) -> str:
    """An output with short paths, and without what a terminal shows in a table that moves."""
    text = text.replace(f" --results {folder / 'results'}", "").replace(f"{folder}", "…/mambarec")
    kept = [line for line in text.splitlines() if not MINUTE.search(line)]
    return "\n".join(kept).strip("\n") + "\n" if kept else ""


def selected(text: str, shown: str) -> list[str]:
    """The lines that a block shows; TutorialError where the output has none of them."""
    lines = text.splitlines()
    if shown.startswith("from "):
        begin = next((number for number, line in enumerate(lines) if line == shown.removeprefix("from ")), None)
        if begin is None:
            raise TutorialError(f"no line is '{shown.removeprefix('from ')}'")
        return lines[begin:]
    if not shown:
        return lines
    if not shown.startswith("lines "):
        raise TutorialError(f"<!-- {shown} -->: expected 'lines 1-6, -17' or 'from TEXT'")
    found: list[str] = []
    for part in shown.removeprefix("lines ").split(", "):
        match = re.fullmatch(r"(\d*)(-?)(\d*)", part)
        if not match or not (match[1] or match[3]):
            raise TutorialError(f"<!-- {shown} -->: '{part}' is no range of lines")
        first, dash, last = match.groups()
        some = lines[-int(last) :] if not first else lines[int(first) - 1 : int(last) if last else None if dash else int(first)]
        found += [*(["…"] if found else []), *some]
    if not found:
        raise TutorialError("it printed nothing")
    return found


def filled(page: str, outputs: dict[str, str]) -> str:
    """The page with what its commands printed in its blocks."""
    lines = page.splitlines()
    for block in reversed(commands_and_blocks(page)[1]):
        try:
            text = "".join(outputs[command] for command in block.commands)
            lines[block.start : block.end] = selected(text, block.shown)
        except TutorialError as error:
            raise TutorialError(f"{block.commands[-1]}: {error}") from None
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for results and outputs")
    parser.add_argument("--epochs", type=int, help="at most so many epochs a run")
    parser.add_argument("--write", action="store_true", help="put the outputs into the page")
    options = parser.parse_args(arguments)
    page = PAGE.read_text(encoding="utf-8")
    outputs = {}
    folder = options.folder.resolve()
    try:
        for number, (command, call) in enumerate(to_run(commands_and_blocks(page)[0])):
            print(command, file=sys.stderr, flush=True)
            outputs[command] = printed(call, number, folder, options.epochs)
        text = filled(page, outputs)
    except TutorialError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
        shutil.copy(folder / "results" / "demo" / "figures" / FIGURE, PAGE.parent / "tutorial" / FIGURE)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    sys.exit(main(sys.argv[1:]))
