"""The contract that every trained model in src/models keeps; a model file dropped there is tested without a further line.

MAMBAREC_MODEL_PATH names a folder whose models are tested too.
"""

import copy
import os
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from mambarec.config.catalogue import available_models
from mambarec.config.configurator import Config
from mambarec.data.dataloader import EvalDataLoader
from mambarec.evaluation.topk_evaluator import TopKEvaluator
from mambarec.running.run import load_model_class
from mambarec.running.trained import load_trained
from mambarec.serving.lists import evaluated_users, recommend
from mambarec.serving.vectors import export_vectors
from mambarec.training.trainer import Trainer, init_seed

FOLDER = os.environ.get("MAMBAREC_MODEL_PATH")
PLACE = {"model_path": FOLDER} if FOLDER else {}
NAMES = [name for name in available_models(FOLDER) if Config(name, "demo", PLACE)["req_training"]]
MULTIMODAL = [name for name in NAMES if "modalities" in Config(name, "demo", PLACE)]  # those that read item features
OURS = [name for name in MULTIMODAL if name in available_models()]  # these read any number of modalities
SEARCHED = dict.fromkeys(
    (name, key, value)
    for name in available_models(FOLDER)
    for space in ("search_space", "wide_search_space")
    for key, values in (Config(name, "demo", PLACE).get(space) or {}).items()
    for value in values
)
N_BLOCKS, USERS_PER_BLOCK, ITEMS_PER_BLOCK = 4, 12, 6


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def build(make_config, make_loader):
    """build(name, **overrides) -> (config, loader, model) on the toy data, seeded."""

    def make(name: str, **overrides):
        settings = {"train_batch_size": 128, **PLACE, **overrides}
        config = make_config(name, **settings).trials()[0]  # of lists in a YAML of MMRec, the first values
        loader = make_loader(config)
        init_seed(config["seed"])
        return config, loader, load_model_class(name, FOLDER)(config, loader)

    return make


def scores(model) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model.full_sort_predict([torch.arange(model.n_users), torch.zeros(2, 0, dtype=torch.long)])


def train(config, loader, model, epochs: int) -> float:
    trainer = Trainer(config, model, loader.generator)
    return [trainer._train_epoch(loader, epoch) for epoch in range(epochs)][-1]


def test_scores_are_finite_and_one_row_per_user_asked_for(name, build):
    _, loader, model = build(name)
    users = torch.tensor([3, 0, 7])
    model.eval()
    with torch.no_grad():
        some = model.full_sort_predict([users, torch.zeros(2, 0, dtype=torch.long)])
    assert some.shape == (3, loader.dataset.n_items) and some.isfinite().all()
    torch.testing.assert_close(some, scores(model)[users], atol=1e-6, rtol=1e-5)


def test_the_loss_is_finite_and_every_parameter_gets_a_gradient(name, build):
    _, loader, model = build(name)
    model.train()
    model.pre_epoch_processing()
    losses = model.calculate_loss(next(iter(loader)))
    loss = sum(losses).sum() if isinstance(losses, tuple) else losses.sum()
    assert loss.isfinite()
    loss.backward()
    without = [key for key, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]
    assert without == []


def test_the_same_seed_gives_the_same_scores_and_another_seed_others(name, build):
    def trained(seed):
        config, loader, model = build(name, seed=seed)
        train(config, loader, model, 1)
        return scores(model)

    first = trained(1)
    assert torch.equal(first, trained(1)) and not torch.equal(first, trained(2))


def test_a_state_dict_restores_the_scores(name, build):
    config, loader, model = build(name)
    train(config, loader, model, 1)
    _, _, other = build(name, seed=5)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(scores(other), scores(model))


def test_a_training_that_is_taken_up_from_its_state_goes_on_to_the_same_bits(name, build):
    def trainer(seed):
        config, loader, model = build(name, seed=seed)
        return Trainer(config, model, loader.generator), loader

    whole, loader = trainer(1)
    whole._train_epoch(loader, 0)
    state = copy.deepcopy(whole.state_dict())
    whole._train_epoch(loader, 1)
    rest, loader = trainer(2)
    rest.load_state_dict(state)
    rest._train_epoch(loader, 1)
    assert torch.equal(scores(rest.model), scores(whole.model))


@pytest.mark.parametrize("modality", ["visual", "text"])
@pytest.mark.parametrize("name", MULTIMODAL)
def test_one_modality_is_enough(name, modality, build):
    config, loader, model = build(name, modalities=[modality])
    assert np.isfinite(train(config, loader, model, 1))
    assert scores(model).isfinite().all()


@pytest.mark.parametrize("name", OURS)
def test_a_third_modality_counts(name, toy, build):
    np.save(toy / "audio_feat.npy", np.random.default_rng(0).normal(size=(64, 12)).astype(np.float32))
    config, loader, model = build(name, audio_feature_file="audio_feat.npy")
    assert list(model.features) == ["visual", "text", "audio"]
    assert np.isfinite(train(config, loader, model, 1))
    _, _, two = build(name)
    assert sum(p.numel() for p in model.parameters()) > sum(p.numel() for p in two.parameters())
    assert scores(model).isfinite().all()


def test_smore_refuses_a_modality_with_the_name_of_its_own_view(toy, build):
    np.save(toy / "more_feat.npy", np.ones((64, 12), np.float32))
    with pytest.raises(ValueError, match=r"fusion_feature_file.*another word"):
        build("SMORE", fusion_feature_file="more_feat.npy")
    build("BM3", fusion_feature_file="more_feat.npy")


CONTRASTS = {
    "SMORE": ["cl_loss"], "PGL": ["reg_weight"], "GUME": ["bm_loss", "um_loss"], "MENTOR": ["mask_weight_g"],
    "MGCN": ["cl_loss"], "LGMRec": ["cl_weight"], "MambaRec": ["cl_loss", "mmd_weight"], "SLMRec": ["ssl_alpha"],
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRASTS)
def test_a_contrast_without_weight_is_not_computed(name, build, monkeypatch):
    def loss(weights):
        _, loader, model = build(name, **weights)
        model.train()
        model.pre_epoch_processing()
        called, module = [], sys.modules[type(model).__module__]
        with monkeypatch.context() as patch:
            for function in ("info_nce", "mmd"):
                if real := getattr(module, function, None):
                    patch.setattr(module, function, lambda *args, real=real, **more: called.append(1) or real(*args, **more))
            value = model.calculate_loss(next(iter(loader)))
        return value.sum().item(), len(called)

    without, calls = loss(dict.fromkeys(CONTRASTS[name], 0.0))
    tiny, more = loss(dict.fromkeys(CONTRASTS[name], 1e-30))
    assert calls == (1 if name == "SLMRec" else 0) < more  # SLMRec's main loss is an InfoNCE
    assert without == pytest.approx(tiny, rel=1e-5)


@pytest.mark.parametrize("name", [name for name in MULTIMODAL if "train_features" in Config(name, "demo", PLACE)])
def test_features_that_are_not_trained_stay_as_they_are(name, build):
    for trained in (True, False):
        config, loader, model = build(name, train_features=trained)
        assert any(key.startswith("feature_tables") for key, _ in model.named_parameters()) == trained
        before = {modality: table.clone() for modality, table in model.feature_tables.items()}
        train(config, loader, model, 1)
        for modality, table in model.feature_tables.items():
            assert torch.equal(table, before[modality]) != trained


@pytest.mark.parametrize("name", MULTIMODAL)
def test_without_features_the_error_names_them(name, build, configs):
    (configs / "dataset" / "toy.yaml").write_text("inter_file_name: toy.inter\n")
    with pytest.raises(ValueError, match="needs item features"):
        build(name)


def test_training_items_are_masked_in_the_recommendations(name, build):
    config, loader, model = build(name)
    evaluation = TopKEvaluator(config).evaluate(model, EvalDataLoader(config, loader.dataset, "test"))
    for user, items in zip(evaluation.users.tolist(), evaluation.topk.tolist(), strict=True):
        assert not loader.history_items_per_u[user] & set(items)


@pytest.mark.parametrize("name", [name for name in NAMES if name in available_models()])
def test_a_saved_model_recommends_and_exports(name, make_run, tmp_path):
    trained = load_trained(make_run(name, epochs=1, **PLACE))
    lists = pd.concat(recommend(trained, evaluated_users(trained.dataset), 5), ignore_index=True)
    (file,) = export_vectors(trained, "npz", tmp_path / "vectors.npz")
    with np.load(file) as exported:
        users = exported["users"][lists["user"].to_numpy(int)]
        items = exported["items"][lists["item"].to_numpy(int)]
    np.testing.assert_allclose(lists["score"], (users * items).sum(1), rtol=1e-4, atol=1e-5)


def test_it_learns_blocks_of_users_that_share_their_items(name, toy, build, make_config):
    """Users of a block have all of its items but one; that one is the right top-1, of test or, for a few, of validation."""
    rng = np.random.default_rng(0)
    rows = []
    for block in range(N_BLOCKS):
        items = block * ITEMS_PER_BLOCK + np.arange(ITEMS_PER_BLOCK)
        for member in range(USERS_PER_BLOCK):
            labels = np.zeros(ITEMS_PER_BLOCK, dtype=int)
            labels[member % ITEMS_PER_BLOCK] = 1 if member >= USERS_PER_BLOCK - 2 else 2
            rows += [(block * USERS_PER_BLOCK + member, item, label) for item, label in zip(items, labels, strict=True)]
    pd.DataFrame(rows, columns=["userID", "itemID", "x_label"]).to_csv(toy / "toy.inter", sep="\t", index=False)
    for file, width in (("image_feat.npy", 24), ("text_feat.npy", 16)):
        centres = np.repeat(rng.normal(size=(N_BLOCKS, width)), ITEMS_PER_BLOCK, axis=0)
        np.save(toy / file, (centres + 0.3 * rng.normal(size=centres.shape)).astype(np.float32))

    overrides = {"learning_rate": 0.02, "train_batch_size": 64, "embedding_size": 16, "topk": [1], "valid_metric": "Recall@1"}
    known = {"knn_k": ITEMS_PER_BLOCK, "n_layers": 1, "n_ui_layers": 1}
    known = {key: value for key, value in known.items() if key in make_config(name, **PLACE)}
    config, loader, model = build(name, **overrides, **known)
    trainer, test = Trainer(config, model, loader.generator), EvalDataLoader(config, loader.dataset, "test")
    recall = 0.0
    for epoch in range(60):
        trainer._train_epoch(loader, epoch)
        if epoch % 6 == 5:
            recall = TopKEvaluator(config).evaluate(model, test).metrics["recall@1"]
        if recall >= 0.9:
            return
    pytest.fail(f"recall@1 is {recall} after 60 epochs")


@pytest.mark.parametrize("name, key, value", SEARCHED)
def test_a_value_that_a_search_tries_has_an_effect(build, name, key, value):
    def trained(**overrides):
        config, loader, model = build(name, **overrides)
        if config["req_training"]:
            train(config, loader, model, epochs=2)
        return scores(model)

    if str(value) != str(build(name)[0][key]):
        assert not torch.equal(trained(**{key: value}), trained())
