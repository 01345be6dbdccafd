"""Trials on a Ray cluster: an existing one that RAY_ADDRESS names, or one of this machine. Ray is the optional extra [ray].

A trial is a task of Ray, or with several workers a training of Ray Train, which starts them and starts them again from the
last checkpoint where one is lost.
"""

import io
import os
import signal
import tarfile
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mambarec.base.bounded import first_line
from mambarec.base.errors import DataError, explained
from mambarec.base.extras import optional
from mambarec.base.files import replacing_folder
from mambarec.base.logger import get_logger, silence_console
from mambarec.base.places import CHECKOUT, CODE, PACKAGE
from mambarec.base.processes import PATIENCE
from mambarec.base.stopping import stop
from mambarec.config.configurator import Config
from mambarec.data.dataset import RecDataset
from mambarec.experiments.trials import Outcome, Show, Trial, attempt, how_to_go_on, show_nothing
from mambarec.running.directory import RunDirectory
from mambarec.running.run import run_path

_RETRIES = 3  # of a trial whose worker or node was lost
_LOOK_SECONDS = 0.5
_LISTEN_SECONDS = 0.02
_STOP_SECONDS = 60.0  # that stopped trials have to save


@dataclass(frozen=True)
class RayCluster:
    """An engine: one Ray task per trial, on as many processors as the trial has threads. For 0 they are torch's number here.

    workers: processes that train a trial together, each on so many processors. The nodes must share data and results then.
    gpus: of each process of a trial that trains on a GPU; half a one lets two share it.

    The code travels with the tasks. The data is read where it lies when a node has the same, else it is sent through Ray.
    Where the nodes share results_dir, runs are written there, and a lost worker's trial goes on from its last checkpoint; else
    a run comes back as a whole when it ends, and a lost one starts anew.
    """

    workers: int = 1
    gpus: float = 1.0

    def __call__(self, trials: Sequence[Trial], show: Show = show_nothing) -> Iterator[Outcome]:
        if not trials:
            return
        ray = _ray()
        words = f"stopped. Trials whose nodes share the results are saved. {how_to_go_on(trials)}"
        started = not ray.is_initialized()
        if started:
            place = {"working_dir": str(CODE)} if CHECKOUT else {"py_modules": [str(PACKAGE)]}
            code = {**place, "excludes": ["__pycache__"]}
            address = os.environ.get("RAY_ADDRESS")
            _start(ray, address=address, runtime_env=code, log_to_driver=False, logging_level="error")
        markers: dict[str, Path] = {}

        def remove_markers() -> None:
            for marker in markers.values():
                marker.unlink(missing_ok=True)

        stop.last_acts.append(remove_markers)
        for results in {trial.config["results_dir"] for trial in trials}:
            markers[results] = _mark(Path(results))
        data = {folder: ray.put(_pack(Path(folder))) for folder in {_data_folder(trial.config) for trial in trials}}
        work, more = (_work, ()) if self.workers == 1 else (_work_together, (self.workers, self.gpus))
        remote = ray.remote(max_retries=_RETRIES, max_calls=1)(work)  # a process each, whose peak of memory is the trial's
        running: dict[Any, Trial] = {}
        try:
            for trial in trials:
                config = trial.config.at(threads=trial.config["threads"] or torch.get_num_threads())
                alone = self.workers == 1  # else the workers are what needs processors
                gpus = self.gpus * alone * (config["device"].type == "cuda")
                task = remote.options(num_cpus=config["threads"] * alone, num_gpus=gpus)
                reference = task.remote(
                    replace(trial, config=config),
                    [data[_data_folder(config)]],
                    str(markers[config["results_dir"]]),
                    *more,
                )
                running[reference] = trial
            with stop.guard(lambda: True, lambda: words):
                while running:
                    done, _ = ray.wait(list(running), timeout=_LOOK_SECONDS)
                    if stop.signal:
                        get_logger().info("stopping: what is not saved yet is saved first. Ctrl-C again stops at once")
                        _cancel(ray, list(running))
                        break
                    for task in done:
                        yield _collect(ray, task, running.pop(task))
        finally:
            remove_markers()
            stop.last_acts.remove(remove_markers)
            if started:
                ray.shutdown()
            if stop.signal and running:
                with stop.guard(lambda: False, lambda: words):
                    stop.end()


def _start(ray: Any, **options: Any) -> None:
    """Call ray.init in a thread of its own: it takes the handlers of signals away, and here they are put back while it works.

    The thread stays until this process ends. Linux ends the processes that Ray starts when the thread that started them ends.
    """
    started: Future[None] = Future()

    def work() -> None:
        try:
            ray.init(**options)
            started.set_result(None)
        except BaseException as error:
            started.set_exception(error)
        threading.Event().wait()

    threading.Thread(target=work, name="ray", daemon=True).start()
    while not started.done():
        stop.listen_again()
        wait([started], timeout=_LISTEN_SECONDS)
    stop.listen_again()
    started.result()


def _cancel(ray: Any, tasks: list[Any]) -> None:
    """Let running tasks save and end, and the others not begin."""
    for task in tasks:
        ray.cancel(task, force=False)
    ray.wait(tasks, num_returns=len(tasks), timeout=_STOP_SECONDS)


def _collect(ray: Any, task: Any, trial: Trial) -> Outcome:
    try:
        outcome, files = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        return Outcome(trial, error=f"{type(error.cause).__name__}: {error.cause}")
    except ray.exceptions.RayError as error:
        return Outcome(trial, error=f"lost by the cluster: {first_line(error)}")
    has_ended = outcome.result or outcome.pruned is not None
    if files and (has_ended or not RunDirectory(trial.path).is_stopped):  # a failure takes no checkpoint away
        try:
            with replacing_folder(trial.path) as place:
                _unpack(files, place)
        except OSError as error:
            return Outcome(trial, error=explained(error) or str(error))
    result = outcome.result and {**outcome.result, "directory": str(trial.path)}
    return Outcome(trial, result, outcome.error, outcome.pruned)


def _work(trial: Trial, data: list[Any], marker: str) -> tuple[Outcome, bytes | None]:
    """On a node: run the trial; the files of its run where the driver cannot see them."""
    _set_up_node()
    torch.set_num_threads(trial.config["threads"])
    with tempfile.TemporaryDirectory(prefix="mambarec-") as place:
        config = trial.config
        if not _has_data(trial):
            folder = Path(place) / "data" / config["dataset"]
            _unpack(_ray().get(data[0]), folder)
            config = config.at(data_path=f"{folder.parent}/")
        if Path(marker).exists():
            return attempt(replace(trial, config=config)), None
        config = config.at(results_dir=f"{place}/results/")
        here = replace(trial, config=config, path=run_path(config, RecDataset(config)))
        outcome = attempt(here)
        if RunDirectory(here.path).settings():
            _name_places(RunDirectory(here.path), trial.config)
        return outcome, _pack(here.path, folders_too=True) if here.path.exists() else None


def _name_places(directory: RunDirectory, config: Config) -> None:
    """Let a run that is sent back name the driver's folders, since those of the node go."""
    places = {key: config[key] for key in ("data_path", "results_dir")}
    directory.write_json("config.json", {**directory.settings(), **places})


def _work_together(trial: Trial, data: list[Any], marker: str, workers: int, gpus: float) -> tuple[Outcome, None]:
    """On a node: let Ray Train run the trial by several workers."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    _set_up_node()
    torch.set_num_threads(trial.config["threads"])  # part of the run's name
    if not Path(marker).exists() or not _has_data(trial):
        return Outcome(trial, error=f"{workers} workers of a trial need data and results in folders that the nodes share"), None
    config = trial.config
    on_gpu = config["device"].type == "cuda"
    needs = {"CPU": config["threads"]} | ({"GPU": gpus} if on_gpu else {})
    with tempfile.TemporaryDirectory(prefix="mambarec-") as place:
        trainer = TorchTrainer(
            _one_of_several,
            train_loop_config={"trial": trial},
            torch_config=TorchConfig("nccl" if on_gpu else "gloo", timeout_s=int(PATIENCE.total_seconds())),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpu, resources_per_worker=needs),
            run_config=RunConfig(storage_path=place, failure_config=FailureConfig(max_failures=_RETRIES)),
        )
        try:
            trainer.fit()
        except _ray().train.TrainingFailedError as error:
            said = [line.partition("RuntimeError: ")[2] for line in str(error).splitlines() if "RuntimeError: " in line]
            return Outcome(trial, error=(said or [f"lost by the cluster: {first_line(error)}"])[-1]), None
    return attempt(trial), None  # a finished run gives its result


def _one_of_several(given: dict[str, Any]) -> None:
    """In a worker of Ray Train: train beside the others. What goes wrong ends all of them, and Ray Train starts them again."""
    silence_console()  # a thread of the worker's, which gets no signals: Ray ends workers itself
    trial = given["trial"]
    torch.set_num_threads(trial.config["threads"])
    if error := attempt(trial).error:
        raise RuntimeError(error)


def _set_up_node() -> None:
    silence_console()
    stop.exit = _leave
    signal.signal(signal.SIGINT, stop.on_signal)  # which Ray sends to a cancelled task


def _leave(status: int) -> None:
    """End a task, not its process, whose end Ray would report as a fault."""
    raise KeyboardInterrupt


def _has_data(trial: Trial) -> bool:
    """Whether this node has the trial's data, the same as the driver's."""
    try:
        return run_path(trial.config, RecDataset(trial.config)) == trial.path
    except DataError:
        return False


def _data_folder(config: Config) -> str:
    return str(Path(config["data_path"]) / config["dataset"])


def _mark(results: Path) -> Path:
    """A file by which a node sees that it shares the driver's results directory."""
    results.mkdir(parents=True, exist_ok=True)
    marker = results / f".shared-{uuid.uuid4().hex}"
    marker.touch()
    return marker


def _pack(folder: Path, folders_too: bool = False) -> bytes:
    """The files of a folder; a data set's pictures, which lie in folders, are left out."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.iterdir(), key=lambda path: path.name == "result.json"):  # what says finished comes last
            if (path.is_file() or folders_too) and path.name != ".lock":
                archive.add(path, path.name)
    return buffer.getvalue()


def _unpack(packed: bytes, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def _ray() -> Any:
    return optional("ray", "ray", "ray", "--engine ray needs")
