"""Trials on Ray: results in the driver's directory, data sent where it is not, a lost node's trials finished elsewhere."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch

from mambarec.config.configurator import Axis
from mambarec.experiments.ray_engine import RayCluster, _collect, _data_folder, _pack, _unpack, _work, _work_together
from mambarec.experiments.trials import prepare, run_trials
from mambarec.running.directory import RunDirectory, same_result
from mambarec.running.run import run

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")


@pytest.fixture
def grid(make_config):
    axes = {"mmd_weight": Axis([0.1, 0.2]), "seed": Axis([1, 2, 3])}
    return make_config("MambaRec", **axes, epochs=12, min_epochs=12, train_batch_size=16).trials()


def test_a_node_without_data_and_without_the_drivers_disk_sends_its_run_back(make_config, toy, tmp_path, monkeypatch):
    config = make_config("MambaRec", tensorboard=True)
    expected = run(config.at(results_dir=f"{tmp_path}/expected/"))
    (trial,) = prepare([config])
    packed = _pack(Path(_data_folder(config)))
    toy.rename(toy.parent / "hidden")
    monkeypatch.setattr(ray, "get", lambda reference: packed)
    monkeypatch.setattr("mambarec.experiments.ray_engine._set_up_node", lambda: None)  # this process is not a node
    outcome, files = _work(trial, [object()], str(tmp_path / "no marker here"))
    assert outcome.error is None and not trial.path.exists()
    _unpack(files, trial.path)
    assert trial.state == "finished"
    assert same_result(trial.path, expected["directory"]) == []
    assert RunDirectory(trial.path).settings() == config.plain()
    assert list((trial.path / "tensorboard").iterdir())


def test_a_mistake_of_a_task_is_the_trials_error(make_config, monkeypatch):
    def fail(task):
        raise ray.exceptions.RayTaskError("_work", "\x1b[36mray::_work()", ValueError("no room")).as_instanceof_cause()

    monkeypatch.setattr(ray, "get", fail)
    (trial,) = prepare([make_config("BPR")])
    assert _collect(ray, object(), trial).error == "ValueError: no room"


@pytest.mark.slow
def test_trials_whose_threads_are_left_to_torch_have_the_drivers(make_config):
    (trial,) = prepare([make_config("BPR", threads=0)])
    ray.init(num_cpus=2, runtime_env={"working_dir": str(Path(__file__).parents[2] / "src")}, log_to_driver=False)
    try:
        (outcome,) = RayCluster()([trial])
    finally:
        ray.shutdown()
    assert outcome.error is None and Path(outcome.result["directory"]) == trial.path
    assert RunDirectory(trial.path).read_json("config.json")["threads"] == torch.get_num_threads()


@pytest.mark.slow
def test_every_trial_finishes_when_one_of_two_nodes_is_killed(grid, tmp_path):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, runtime_env={"working_dir": str(Path(__file__).parents[2] / "src")}, log_to_driver=False)
    try:
        cluster.wait_for_nodes()
        trials = prepare(grid)
        engine = RayCluster()(trials)
        outcomes = [next(engine)]
        time.sleep(1)
        cluster.remove_node(second, allow_graceful=False)
        outcomes += list(engine)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert {outcome.trial.path for outcome in outcomes} == {trial.path for trial in trials}
    assert [outcome.error for outcome in outcomes] == [None] * len(trials)
    alone = run_trials(prepare([config.at(results_dir=f"{tmp_path}/alone/") for config in grid[:2]]))
    for trial, other in zip(trials, alone, strict=False):
        assert same_result(trial.path, other.result["directory"]) == []


@pytest.mark.slow
def test_a_trial_of_several_workers_goes_on_when_one_of_them_is_killed(make_config, tmp_path):
    settings = {"epochs": 40, "min_epochs": 40, "propagation": "sampled", "fanouts": [3], "layer_size": 1}
    config = make_config("LightGCN", **settings, train_batch_size=16)
    (trial,) = prepare([config])
    ray.init(num_cpus=3, runtime_env={"working_dir": str(Path(__file__).parents[2] / "src")}, log_to_driver=False)
    try:
        with ThreadPoolExecutor(1) as thread:
            ending = thread.submit(lambda: list(RayCluster(workers=2)([trial])))
            directory = RunDirectory(trial.path)
            while not ending.done() and not (directory.is_stopped and len(directory.metrics()) > 2):
                time.sleep(0.05)
            assert not ending.done(), ending.result()
            workers = [one for one in psutil.process_iter() if "RayTrainWorker" in " ".join(one.cmdline())]
            assert len(workers) == 2 and not ending.done()
            workers[-1].kill()
            (outcome,) = ending.result()
    finally:
        ray.shutdown()
    assert outcome.error is None and outcome.result["epochs"] == 40
    assert [row["epoch"] for row in directory.metrics()] == list(range(40))
    log = (trial.path / "train.log").read_text()
    assert "trained by 2 processes" in log and "resumed after epoch" in log


@pytest.mark.slow
def test_a_mistake_in_one_of_several_workers_is_the_trials_error(make_config, tmp_path):
    (trial,) = prepare([make_config("LightGCN", learning_rate=1e30)])
    ray.init(num_cpus=3, runtime_env={"working_dir": str(Path(__file__).parents[2] / "src")}, log_to_driver=False)
    try:
        (outcome,) = RayCluster(workers=2)([trial])
    finally:
        ray.shutdown()
    assert outcome.error.startswith("LightGCN: the loss is ") and "Try a smaller learning_rate" in outcome.error


def test_workers_that_share_no_folders_are_refused(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr("mambarec.experiments.ray_engine._set_up_node", lambda: None)  # this process is not a node
    (trial,) = prepare([make_config("LightGCN")])
    outcome, _ = _work_together(trial, [], str(tmp_path / "no marker here"), workers=2, gpus=1)
    assert outcome.error == "2 workers of a trial need data and results in folders that the nodes share"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_ray_starts_and_one_while_it_trains_are_said_and_lose_nothing(number, tmp_path):
    words = f"-m BPR LightGCN -d demo --data_path {tmp_path} --epochs 14 --min_epochs 14 --threads 1"
    command = [sys.executable, "main.py", *words.split(), "--use_gpu", "false", "--results_dir"]
    source = Path(__file__).parents[2] / "src"
    subprocess.run([*command, str(tmp_path / "alone")], cwd=source, check=True, capture_output=True)
    together = tmp_path / "together"
    for seconds_or_file in (4.0, "*/*/*/metrics.jsonl"):
        process = subprocess.Popen([*command, str(together), "--engine", "ray"], cwd=source, stderr=subprocess.PIPE, text=True)
        if isinstance(seconds_or_file, float):
            time.sleep(seconds_or_file)
        while isinstance(seconds_or_file, str) and not list(together.glob(seconds_or_file)) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
        assert process.returncode in (128 + number, 0) and "Traceback" not in said
    subprocess.run([*command, str(together), "--engine", "ray"], cwd=source, check=True, capture_output=True)
    runs = sorted((tmp_path / "alone").glob("demo/*/*"))
    assert len(runs) == 2
    for one in runs:
        assert same_result(one, together / one.relative_to(tmp_path / "alone")) == []
    assert not list(together.rglob("*.tmp")) and not list(together.glob(".shared-*"))
