"""A finished run opened again: the same scores as when it ended, or a refusal that names what differs."""

import json
import shutil

import numpy as np
import pytest
import torch
from mambarec.models.bpr import BPR
from torch import nn

from mambarec.base.errors import DataError, RunError
from mambarec.base.places import version
from mambarec.config.catalogue import available_models
from mambarec.data.dataloader import EvalDataLoader
from mambarec.data.dataset import RecDataset
from mambarec.evaluation.topk_evaluator import TopKEvaluator
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.running.directory import RunDirectory
from mambarec.running.run import run
from mambarec.running.trained import load_trained, open_run


class Forgetful(BPR):
    """Predicts from what its last training step left, which no state_dict holds, as some of MMRec's models do."""

    def calculate_loss(self, interaction):
        self.result = [part.detach() + torch.randn_like(part) for part in super().representations()]
        return super().calculate_loss(interaction)

    def representations(self):
        return getattr(self, "result", super().representations())


class ScoresOnly(GeneralRecommender):
    """Has no representations, as models written for MMRec."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.users, self.items = nn.Embedding(self.n_users, 8), nn.Embedding(self.n_items, 8)

    def calculate_loss(self, interaction):
        user, positive, negative = self.users(interaction[0]), self.items(interaction[1]), self.items(interaction[2])
        return -nn.functional.logsigmoid((user * (positive - negative)).sum(-1)).mean()

    def full_sort_predict(self, interaction):
        return self.users(interaction[0]) @ self.items.weight.T


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    RunDirectory(path.parent).write_json(path.name, content)


@pytest.mark.parametrize("name", available_models())
def test_an_opened_run_evaluates_as_it_did(name, make_run):
    directory = make_run(name, epochs=1, mg=name == "BPR")
    trained = load_trained(directory)
    assert not trained.model.training
    evaluation = TopKEvaluator(trained.config).evaluate(trained.model, EvalDataLoader(trained.config, trained.dataset, "test"))
    assert evaluation.metrics == json.loads((directory / "result.json").read_text())["test"]
    users, lists = trained.lists()
    assert (evaluation.users == users).all() and (evaluation.topk == lists).all()


def test_settings_of_the_command_line_come_back(make_run):
    directory = make_run("MambaRec", feature_map=[2, 1, 1], modalities=["text"], topk=[3, 20], mmd_weight=0.2)
    config = load_trained(directory).config
    assert (config["feature_map"], config["modalities"], config["topk"]) == ([2, 1, 1], ["text"], [3, 20])
    assert config["mmd_weight"] == 0.2


def test_modalities_keep_the_order_they_were_given_in(make_run, toy):
    np.save(toy / "sound.npy", np.random.default_rng(0).normal(size=(64, 20)).astype(np.float32))
    given = {"zither_feature_file": "sound.npy", "audio_feature_file": "sound.npy"}
    assert list(load_trained(make_run("MGCN", **given)).model.features) == ["visual", "text", "zither", "audio"]


def test_a_modality_declared_after_the_run_is_not_read(make_run, toy, configs):
    directory = make_run("VBPR")
    np.save(toy / "sound.npy", np.ones((64, 4), dtype=np.float32))
    with (configs / "dataset" / "toy.yaml").open("a") as file:
        file.write("audio_feature_file: sound.npy\n")
    assert list(load_trained(directory).model.features) == ["visual", "text"]


def test_moved_run_and_moved_data_are_found(make_run, toy, tmp_path):
    directory = make_run("VBPR")
    shutil.move(directory, tmp_path / "here")
    shutil.copytree(toy, tmp_path / "there" / "toy")
    shutil.rmtree(toy)
    with pytest.raises(DataError, match=r"toy\.inter does not exist.*--data_path"):
        load_trained(tmp_path / "here")
    assert load_trained(tmp_path / "here", tmp_path / "there").name["run"] == str(tmp_path / "here")


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"is no run's directory: config\.json cannot be read"):
        open_run(tmp_path)


def test_an_unfinished_run_is_refused(make_run):
    directory = make_run("BPR")
    (directory / "result.json").unlink()
    with pytest.raises(RunError, match=r"is not finished: it has no result\.json.*--resume"):
        open_run(directory)


def test_other_data_are_refused_with_the_file_that_differs(make_run, toy):
    directory = make_run("MambaRec")
    table = np.load(toy / "text_feat.npy")
    np.save(toy / "text_feat.npy", table + 1)
    with pytest.raises(RunError, match=r"is not the data that .*: text_feat\.npy has another content \(fingerprint"):
        open_run(directory)
    (toy / "text_feat.npy").unlink()
    with pytest.raises(RunError, match=r"text_feat\.npy is missing"):
        open_run(directory)
    edit_json(directory / "environment.json", lambda content: content.pop("data_files"))
    with pytest.raises(RunError, match=r"one of toy\.inter, image_feat\.npy is another"):
        open_run(directory)


def test_a_key_of_another_version_is_refused_with_both_commits(make_run):
    directory = make_run("BPR")
    edit_json(directory / "config.json", lambda content: content.update(rank_loss="softmax"))
    edit_json(directory / "environment.json", lambda content: content.update(git="abc1234"))
    with pytest.raises(
        RunError, match=r"does not fit this version: BPR has no key 'rank_loss'.*commit abc1234 and torch .* this is"
    ):
        open_run(directory)


def test_a_state_of_another_version_is_refused_with_the_tensors(make_run):
    directory = make_run("BPR")
    state = torch.load(directory / "best.pt", weights_only=True)
    state["user_bias"] = torch.zeros(3)
    state["item_embedding.weight"] = torch.zeros(64, 9)
    del state["user_embedding.weight"]
    RunDirectory(directory).write("best.pt", lambda file: torch.save(state, file))
    with pytest.raises(
        RunError, match=r"user_embedding\.weight is in this version's model only; user_bias is in best\.pt only; "
    ) as e:
        load_trained(directory)
    assert "item_embedding.weight is (64, 9) in best.pt, (64, 8) in this version's model. The run is of commit" in str(e.value)


def test_a_broken_state_is_refused(make_run):
    directory = make_run("BPR")
    RunDirectory(directory).write("best.pt", lambda file: file.write(b"not a model"))
    with pytest.raises(RunError, match=r"best\.pt cannot be read"):
        load_trained(directory)


def test_scores_that_give_other_lists_are_refused(make_run):
    directory = make_run("BPR")
    state = torch.load(directory / "best.pt", weights_only=True)
    state["item_embedding.weight"] = state["item_embedding.weight"].roll(1, 0)
    RunDirectory(directory).write("best.pt", lambda file: torch.save(state, file))
    with pytest.raises(
        RunError, match=r"the saved BPR does not recommend what the run recorded: \d+ of \d+ users get other items"
    ):
        load_trained(directory)


def test_scores_that_differ_by_rounding_are_taken(make_run):
    directory = make_run("BPR")
    state = torch.load(directory / "best.pt", weights_only=True)
    noise = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    state["item_embedding.weight"] *= 1 + 1e-6 * noise
    RunDirectory(directory).write("best.pt", lambda file: torch.save(state, file))
    load_trained(directory)


def test_a_model_that_predicts_from_outside_its_state_is_refused(make_run, monkeypatch):
    monkeypatch.setattr("mambarec.running.run.load_model_class", lambda *_: Forgetful)
    with pytest.raises(RunError, match="tensors that its state_dict does not hold"):
        load_trained(make_run("BPR"))


def test_a_model_with_scores_only_is_opened(make_run, monkeypatch):
    monkeypatch.setattr("mambarec.running.run.load_model_class", lambda *_: ScoresOnly)
    assert isinstance(load_trained(make_run("BPR")).model, ScoresOnly)


def test_a_run_that_kept_no_lists_is_checked_by_its_metrics(make_run):
    directory = make_run("BPR", save_recommended_topk=False)
    with pytest.raises(RunError, match="kept no recommendations, since save_recommended_topk is false"):
        load_trained(directory).lists()
    edit_json(directory / "result.json", lambda content: content["test"].update({"recall@20": 0.9}))
    with pytest.raises(RunError, match=r"test recall@20 is .*, and 0\.9000 in result\.json"):
        load_trained(directory)


def test_environment_records_the_version_and_the_hash_of_each_file(make_config):
    config = make_config("MambaRec")
    directory = open_run(run(config)["directory"]).directory
    assert json.loads(directory.file("environment.json").read_text())["mambarec"] == version()
    files = json.loads(directory.file("environment.json").read_text())["data_files"]
    assert list(files.items()) == RecDataset(config).digests
    assert list(files) == ["toy.inter", "image_feat.npy", "text_feat.npy"]
