"""One byte of a file turned: it is noticed, or no figure differs."""

import random
import shutil

import numpy as np
import pytest
import torch

import mambarec.analysis.records as records
from faults.harness import TALLY, WHOLE
from mambarec.analysis.records import load_records
from mambarec.base.errors import UserError
from mambarec.nn.neighbours import nearest_neighbours, neighbour_search
from mambarec.running.directory import RunDirectory, same_result
from mambarec.running.run import run
from mambarec.running.trained import load_trained

PLACES = 200 if WHOLE else 3  # bytes of a file that are turned


def turned(path, seed):
    """Turn a bit in each of some bytes of a file, one after the other; the file is whole again at the end."""
    content = path.read_bytes()
    dice = random.Random(f"{path.name} {seed}")
    places = range(len(content)) if len(content) <= PLACES else sorted(dice.sample(range(len(content)), PLACES))
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        yield place
    path.write_bytes(content)


@pytest.fixture
def finished(make_config):
    """(config, directory) of a finished run."""
    config = make_config("BPR", epochs=2, train_batch_size=128)
    return config, RunDirectory(run(config)["directory"] and _path(config))


def _path(config):
    from pathlib import Path

    (path,) = (Path(config["results_dir"]) / "toy" / "BPR").glob("seed*")
    return path


def figures(config, path):
    """All that is read of a finished run."""
    (record,) = load_records([path])
    trained = load_trained(path)
    state = {key: value.tolist() for key, value in trained.model.state_dict().items()}
    lists = [part.tolist() for part in trained.lists()]
    per_user = {name: values.tolist() for name, values in record.per_user.items()}
    parts = (record.result, record.epochs, record.config, record.users.tolist(), per_user, lists, state, run(config))
    return repr(parts)


FILES = "config.json environment.json metrics.jsonl best.pt per_user.npz topk.npz result.json manifest.json".split()


@pytest.mark.parametrize("name", FILES)
def test_damage_to_a_finished_run_is_noticed_where_it_is_read(name, finished):
    config, path = finished[0], _path(finished[0])
    whole = figures(config, path)
    for place in turned(path / name, 0):
        try:
            well, said = figures(config, path) == whole, ""
        except UserError as error:
            said = str(error)
            well = name in said and "damaged" in said
        TALLY.count("finished run, a byte turned", well, (place, said))


@pytest.mark.parametrize("name", [*FILES[:6], "manifest.json", "checkpoint.pt", "checkpoint.older.pt"])
def test_damage_to_a_stopped_run_is_noticed_or_trained_away(name, make_config, tmp_path, monkeypatch):
    from mambarec.running.recorder import Recorder

    config = make_config("BPR", epochs=3, train_batch_size=128)
    undisturbed = run(config.at(results_dir=f"{tmp_path}/undisturbed/"))["directory"]
    checkpoint = Recorder.checkpoint

    def stopped(self, trainer, last):
        checkpoint(self, trainer, last)
        if trainer.progress.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "checkpoint", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    path, kept = _path(config), tmp_path / "kept"
    shutil.copytree(path, kept)
    for place in turned(path / name, 1):
        try:
            result, said = run(config, resume=True), ""
            well = same_result(result["directory"], undisturbed) == []
        except UserError as error:
            said = str(error)
            well = "damaged" in said and str(path) in said and "Remove the directory of this run" in said
        TALLY.count("stopped run, a byte turned", well, (place, said))
        if name in ("checkpoint.pt", "checkpoint.older.pt"):
            assert not said  # the other one serves
        shutil.rmtree(path)
        shutil.copytree(kept, path)


def test_a_damaged_checkpoint_is_said_with_the_one_that_serves(make_config, interrupted_after, capsys):
    config = make_config("BPR", epochs=3)
    with interrupted_after(2):
        run(config)
    path = _path(config)
    (path / "checkpoint.pt").write_bytes(b"damaged")
    run(config, resume=True)
    said = capsys.readouterr().out
    assert f"{path / 'checkpoint.pt'} is damaged" in said and "goes on from checkpoint.older.pt, after epoch 1" in said


def test_a_damaged_compact_record_is_noticed(finished, tmp_path):
    (record,) = load_records([_path(finished[0])])
    path = record.save(tmp_path / "kept")
    for place in turned(path, 2):
        try:
            (found,) = load_records([path])
            well = repr((found.result, found.per_user, found.epochs)) == repr((record.result, kept(record), record.epochs))
        except UserError as error:
            well = path.name in str(error)
        TALLY.count("compact record, a byte turned", well, place)


def kept(record):
    return {name: values for name, values in record.per_user.items() if name in records.KEPT}


def test_a_compact_record_without_a_seal_is_read(finished, tmp_path, monkeypatch):
    (record,) = load_records([_path(finished[0])])
    monkeypatch.setattr(records, "sealed", lambda content: content)
    path = record.save(tmp_path / "kept")
    assert load_records([path])[0].result == record.result


def test_damaged_neighbours_are_found_again(tmp_path, monkeypatch):
    monkeypatch.setattr("mambarec.nn.neighbours._KEPT_ABOVE", 0)
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    with neighbour_search(tmp_path):
        whole = nearest_neighbours(features, 4)
        (path,) = tmp_path.glob("neighbours-*.npz")
        for place in turned(path, 3):
            found = nearest_neighbours(features, 4)
            well = all(torch.equal(one, other) for one, other in zip(found, whole, strict=True))
            TALLY.count("neighbours kept on disk, a byte turned", well, place)


def test_a_run_without_a_manifest_is_read_and_it_is_said_once(finished, capsys, monkeypatch):
    monkeypatch.setattr("mambarec.running.directory._unchecked", [])
    config, path = finished[0], _path(finished[0])
    whole = figures(config, path)
    (path / "manifest.json").unlink()
    capsys.readouterr()
    assert figures(config, path) == whole
    assert capsys.readouterr().err.count("has no manifest.json: damage to its files cannot be noticed") == 1


def test_a_stopped_run_without_a_manifest_gets_one(make_config, tmp_path):
    config = make_config("BPR", epochs=2)
    directory = RunDirectory(_path(config)) if run(config) else None
    for name in ("manifest.json", "result.json"):
        directory.file(name).unlink()
    again = run(config, resume=True)
    undisturbed = run(config.at(results_dir=f"{tmp_path}/undisturbed/"))
    assert same_result(again["directory"], undisturbed["directory"]) == []
    assert directory.file("manifest.json").exists()


def test_a_file_that_is_damaged_during_training_does_not_enter_the_manifest(make_config, monkeypatch):
    finish = RunDirectory.finish

    def after_damage(self, result):
        np.savez(self.file("topk.npz"), users=np.arange(3), topk=np.zeros((3, 2)))
        finish(self, result)

    monkeypatch.setattr(RunDirectory, "finish", after_damage)
    with pytest.raises(UserError, match=r"topk\.npz is damaged"):
        run(make_config("BPR"))
