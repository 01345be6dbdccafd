"""Several processes, started by torchrun, train one model: the numbers, a killed process, and going on with another number."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from mambarec.base.processes import Processes
from mambarec.running.directory import RunDirectory, same_result

SRC = Path(__file__).resolve().parents[2] / "src"
FEW = ["--propagation", "sampled", "--fanouts", "3", "--layer_size", "1"]


@pytest.fixture
def start(toy, configs, tmp_path):
    """start(n, folder, *words) -> a training of the toy data by n processes, as a Popen."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom pathlib import Path\nimport mambarec.config.catalogue as catalogue\n"
        f"catalogue.CONFIGS = Path({str(configs)!r})\n"
        "from mambarec.cli.train import main\nsys.exit(main(sys.argv[1:]))\n"
    )

    def begin(n: int, folder: str, *words: str) -> subprocess.Popen:
        many = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)] if n > 1 else []
        small = "--embedding_size 8 --train_batch_size 32 --epochs 3 --threads 1 --use_gpu false --checkpoint_seconds 0".split()
        given = {word for word in words if word.startswith("--")}
        defaults = [word for i in range(0, len(small), 2) if small[i] not in given for word in small[i : i + 2]]
        places = ["--data_path", str(toy.parent), "--results_dir", str(tmp_path / folder)]
        environment = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *many, str(program), "-d", "toy", *words, *defaults, *places]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return begin


def finished(process: subprocess.Popen, folder: Path) -> RunDirectory:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, out + errors
    return RunDirectory(next(folder.glob("toy/*/*/result.json")).parent)


class Tables(torch.nn.Module):
    """Two tables with sparse gradients, of other widths, and a dense layer; each process touches other rows."""

    def __init__(self, rank: int):
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.narrow = torch.nn.Embedding(9, 5, sparse=True), torch.nn.Embedding(4, 2, sparse=True)
        self.layer = torch.nn.Linear(5, 2)
        wide, narrow = (([0, 3, 8], [1]), ([3, 4], []))[rank]
        loss = self.layer(self.wide(torch.tensor(wide))).sin().sum()
        (loss + self.narrow(torch.tensor(narrow, dtype=torch.int64)).exp().sum()).backward()

    def gradients(self) -> dict[str, torch.Tensor]:
        return {name: parameter.grad.to_dense() for name, parameter in self.named_parameters()}


def averaged(rank: int, address: str, results) -> None:
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    model = Tables(rank)
    Processes(rank, 2).average_gradients(model)
    results.put((rank, {name: gradient.tolist() for name, gradient in model.gradients().items()}))
    torch.distributed.destroy_process_group()


def test_gradients_are_averaged_with_other_rows_in_each_process(tmp_path):
    results = (context := multiprocessing.get_context("spawn")).Queue()
    processes = [context.Process(target=averaged, args=(rank, f"file://{tmp_path}/meeting", results)) for rank in range(2)]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    first, second = Tables(0).gradients(), Tables(1).gradients()
    for gradients in found.values():
        for name in first:
            torch.testing.assert_close(torch.tensor(gradients[name]), (first[name] + second[name]) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["-m", "MambaRec", "--reduction_factor", "2"], ["-m", "LightGCN"]])
def test_with_full_propagation_two_processes_give_what_one_gives(start, tmp_path, words):
    one, two = (finished(start(n, f"by{n}", *words), tmp_path / f"by{n}") for n in (1, 2))
    losses = [[row["loss"] for row in run.metrics()] for run in (one, two)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert same_result(one.path, two.path) == []


@pytest.mark.slow
def test_sampled_parts_of_a_batch_give_one_model_that_another_number_of_processes_takes_up(start, tmp_path):
    words = ["-m", "MambaRec", "--reduction_factor", "2", *FEW]
    cut = finished(start(2, "results", *words, "--epochs", "2"), tmp_path / "results")
    whole = start(1, "results", *words, "--epochs", "4")
    out, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors
    assert "goes on from" in out and cut.path.name in out
    run = RunDirectory(max(cut.path.parent.glob("*/result.json"), key=lambda path: path.stat().st_mtime).parent)
    assert [row["epoch"] for row in run.metrics()] == [0, 1, 2, 3]
    assert run.metrics()[:2] == cut.metrics()


@pytest.mark.slow
def test_when_a_process_is_killed_the_others_end_and_resume_goes_on(start, tmp_path):
    words = ["-m", "LightGCN", *FEW, "--epochs", "60", "--stopping_step", "1000"]
    process = start(2, "results", *words)
    deadline = time.monotonic() + 200
    while not list((tmp_path / "results").glob("toy/*/*/checkpoint.pt")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in children if "program.py" in " ".join(child.cmdline())]
    next(one for one in workers if one.environ()["RANK"] == "1").kill()
    out, errors = process.communicate(timeout=200)
    assert process.returncode != 0 and "cli/train.py" not in errors  # torchrun has a traceback, the training has none
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in workers)
    run = RunDirectory(next((tmp_path / "results").glob("toy/*/*/checkpoint.pt")).parent)
    saved = run.checkpoint()["progress"]["epoch"]
    assert not run.is_finished
    resumed = start(1, "results", *words, "--resume")
    out, errors = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, errors
    assert f"resumed after epoch {saved + 1}" in out


@pytest.mark.slow
def test_several_trials_are_not_for_torchrun(start):
    process = start(2, "results", "-m", "LightGCN", "--n_layers", "1", "2")
    _, errors = process.communicate(timeout=200)
    assert process.returncode != 0 and "torchrun trains one run with several processes" in errors


def test_alone_a_process_has_everything():
    alone, batch = Processes(), torch.arange(12).view(3, 4)
    assert torch.equal(alone.part(batch), batch) and alone.from_first("x") == "x"
    assert [value for _, value in alone.mine("abc")] == list("abc")


def test_parts_of_a_batch_are_all_of_it():
    batch = torch.arange(15).view(3, 5)
    parts = [Processes(rank, 2).part(batch) for rank in range(2)]
    assert sorted(torch.cat(parts, 1)[0].tolist()) == batch[0].tolist()
    assert torch.equal(Processes(3, 8).part(batch), batch)  # fewer columns than processes
