"""The peak memory of a run does not depend on the command that trained it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mambarec.config.configurator import Config
from mambarec.experiments.engines import LocalProcesses
from mambarec.experiments.trials import prepare
from mambarec.preparation.demo import ensure_demo

SRC = Path(__file__).resolve().parents[2] / "src"
SETTINGS = "--epochs 1 --threads 1 --use_gpu false --seed 1"
TOLERANCE = 0.03

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="elsewhere the peak holds the start too")


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    ensure_demo(folder / "demo")
    return folder


@pytest.fixture
def peaks(demo, tmp_path):
    """peaks(program, words) -> peak_memory_mb by name of the runs with default settings that the command trains."""

    def measure(program: str, words: str) -> dict[str, float]:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        command = f"{words} -d demo {SETTINGS} --data_path {demo} --results_dir {place}".split()
        subprocess.run([sys.executable, str(SRC / program), *command], check=True, capture_output=True)
        return {path.parent.name: json.loads(path.read_text())["peak_memory_mb"] for path in place.rglob("result.json")}

    return measure


@pytest.mark.slow
def test_a_run_of_main_and_a_trial_in_a_process_of_its_own_take_the_same(peaks, demo, tmp_path):
    ((name, alone),) = peaks("main.py", "-m BPR").items()
    settings = {"epochs": 1, "threads": 1, "use_gpu": False, "seed": 1, "data_path": str(demo)}
    config = Config("BPR", "demo", {**settings, "results_dir": str(tmp_path / "trials")})
    (outcome,) = LocalProcesses(1)(prepare([config]))
    assert Path(outcome.result["directory"]).name == name
    assert outcome.result["peak_memory_mb"] == pytest.approx(alone, rel=TOLERANCE)


@pytest.mark.slow
def test_a_trial_of_a_comparison_or_a_study_takes_the_same(peaks):
    ((name, alone),) = peaks("main.py", "-m MambaRec").items()
    for program, words in (("main.py", "-m BPR MambaRec LightGCN --jobs 2"), ("report.py", "ablation")):
        assert peaks(program, words)[name] == pytest.approx(alone, rel=TOLERANCE), program
