"""Fixtures of the tests of faults, and the table of what they tried."""

import pytest

from faults.harness import TALLY, Disk


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own; skipped where file systems cannot be mounted."""
    import subprocess

    try:
        made = Disk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk needs the right to mount one: run as root")
    yield made
    made.close()


@pytest.fixture
def words(toy, tmp_path):
    """words(results=…, **settings) -> what main.py needs for a small training on the toy data."""

    def make(results=tmp_path / "results", **settings):
        small = {"embedding_size": 8, "train_batch_size": 128, "epochs": 2, "threads": 1, "checkpoint_seconds": 0}
        given = {**small, "use_gpu": "false", "data_path": toy.parent, "results_dir": results, **settings}
        pairs = [[f"--{key}", *(value if isinstance(value, list) else [value])] for key, value in given.items()]
        return ["-m", "BPR", "-d", "toy", *(word for pair in pairs for word in pair)]

    return make


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test fails for what it has noted as lost."""
    before = len(TALLY.lost)
    result = yield
    assert len(TALLY.lost) == before, "\n".join(TALLY.lost[before:])
    return result


def pytest_sessionfinish(session):
    """Hand what a worker of pytest-xdist has tried to the process that shows the table."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = TALLY.rows


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Count what a worker of pytest-xdist has tried."""
    TALLY.add(getattr(node, "workeroutput", {}).get("tally", {}))


def pytest_terminal_summary(terminalreporter):
    """What was tried, how often, and how it went."""
    if TALLY.rows:
        terminalreporter.section("faults")
        width = max(map(len, TALLY.rows))
        terminalreporter.write_line(f"{'':{width}}   tried  survived  lost")
        for kind, (tried, well) in TALLY.rows.items():
            terminalreporter.write_line(f"{kind:{width}}  {tried:>6}  {well:>8}  {tried - well:>4}")
