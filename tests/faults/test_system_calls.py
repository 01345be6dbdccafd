"""SIGKILL at a system call that writes, by strace: what libraries write is met as well as what Python does."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faults.harness import TALLY, WHOLE, contents
from mambarec.running.directory import same_result

SRC = Path(__file__).resolve().parents[2] / "src"
CALLS = "write pwrite64 fsync rename renameat2 unlink mkdir rmdir ftruncate fallocate sendfile".split()
KILLS = 14  # of each command
PROGRAM = """
import sys
sys.path.insert(0, {src!r})
import mambarec.cli.{door} as program
import mambarec.config.catalogue as catalogue
from pathlib import Path
catalogue.CONFIGS = Path({configs!r})
sys.exit(program.main(sys.argv[1:]))
"""

pytestmark = [
    pytest.mark.skipif(not WHOLE, reason="part of make faults"),
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace"),
]


@pytest.fixture
def start(configs, tmp_path):
    """start(door, words, *options of strace) -> the exit status; with options, tmp_path/trace lists the system calls."""

    def run(door, words, *options):
        strace = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={','.join(CALLS)}", *options]
        program = [sys.executable, "-c", PROGRAM.format(src=str(SRC), door=door, configs=str(configs)), *map(str, words)]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([*(strace if options else []), *program], capture_output=True, env=environment).returncode

    return run


@pytest.fixture
def kills(start, tmp_path):
    """kills(door, words) -> options of strace that kill the command at one of its writing calls each."""

    def make(door, words):
        start(door, words, "-v")
        names = [line.split(None, 1)[1].split("(")[0] for line in (tmp_path / "trace").read_text().splitlines()]
        every = [(name, number) for name in CALLS for number in range(1, names.count(name) + 1)]
        chosen = random.Random(door).sample(every, min(KILLS, len(every)))
        return [("-e", f"inject={name}:signal=SIGKILL:when={number}") for name, number in chosen]

    return make


@pytest.mark.parametrize("more", [(), ("--restart",)])
def test_a_training_killed_at_a_system_call_resumes_to_the_same_bits(more, words, start, kills, tmp_path):
    whole, other, killed = (tmp_path / name for name in ("whole", "other", "killed"))
    assert start("train", words(whole)) == start("train", words(other, reg_weight=10.0)) == 0
    (undisturbed,), (old,) = ((place / "toy" / "BPR").glob("seed*") for place in (whole, other))
    run = killed / "toy" / "BPR" / undisturbed.name

    def prepare():
        shutil.rmtree(killed, ignore_errors=True)
        if more:
            shutil.copytree(old, run)

    prepare()
    for kill in kills("train", [*words(killed), *more]):
        prepare()
        start("train", [*words(killed), *more], *kill)
        well = start("train", [*words(killed), "--resume"]) == 0 and not list(killed.rglob("*.tmp"))
        well = well and (same_result(run, undisturbed) == [] or (bool(more) and same_result(run, old) == []))
        TALLY.count("restart killed at a system call" if more else "training killed at a system call", well, kill)


def test_an_overwriting_preparation_killed_at_a_system_call_leaves_the_old_data_or_the_new(start, kills, tmp_path):
    pytest.importorskip("duckdb", reason="needs the extra prepare")
    folder, kept = tmp_path / "data" / "mine", tmp_path / "kept"

    def table(seed):
        rng, path = np.random.default_rng(seed), tmp_path / f"visits{seed}.csv"
        rows = (f"u{user},i{item}\n" for user in range(20) for item in rng.permutation(20)[:8])
        path.write_text("user,item\n" + "".join(rows))
        columns = ("--user-column", "user", "--item-column", "item", "--k-core", 2, "--threads", 1, "--overwrite")
        return ["table", "-d", "mine", "--data_path", folder.parent, "--interactions", path, *columns]

    assert start("prepare", table(2)) == 0
    new = contents(folder, but=["report.json"])
    assert start("prepare", table(1)) == 0
    old = contents(folder, but=["report.json"])
    shutil.copytree(folder, kept)
    for kill in kills("prepare", table(2)):
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        start("prepare", table(2), *kill)
        well = folder.exists() and contents(folder, but=["report.json"]) in (old, new)
        well = well and start("prepare", table(2)) == 0 and contents(folder, but=["report.json"]) == new
        TALLY.count("data set overwritten, killed at a system call", well and not list(folder.parent.glob(".mine*")), kill)
