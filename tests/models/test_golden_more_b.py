"""DRAGON, MENTOR, GUME and COHESION against figures recorded from the reference implementations.

Their random draws were recorded too, and take the place of the model's own through one method of it.
"""

import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from test_golden import GOLDEN, reference

from mambarec.data.dataloader import EvalDataLoader
from mambarec.evaluation.topk_evaluator import TopKEvaluator
from mambarec.running.run import load_model_class

THEIRS = {"visual": ("v_gcn", "image"), "text": ("t_gcn", "text")}


def net_names(pairs):
    """Nets from preferences and features: ours -> theirs, for (ours, theirs) pairs of nets."""
    names = {}
    for ours, theirs in pairs:
        names[f"{ours}.preference"] = f"{theirs}.preference"
        for part in ("weight", "bias"):
            names[f"{ours}.hidden.{part}"] = f"{theirs}.MLP.{part}"
            names[f"{ours}.project.{part}"] = f"{theirs}.MLP_1.{part}"
    return names


MODAL_NETS = [(f"nets.{ours}", net) for ours, (net, _) in THEIRS.items()]
NOISY_NETS = [(f"noisy_nets.{view}.{ours}", f"{net}_n{view + 1}") for view in (0, 1) for ours, (net, _) in THEIRS.items()]
MENTOR = {"weights": "weight_u", "item_ids": "id_feat", "predict.weight": "mlp.weight", "predict.bias": "mlp.bias"}


def gume_names():
    names = {"encoder.user_embedding": "user_embedding.weight", "encoder.item_embedding": "item_id_embedding.weight"}
    for ours, (_, theirs) in THEIRS.items():
        names[f"user_tables.{ours}"] = f"extended_{theirs}_user.weight"
        names[f"feature_tables.{ours}"] = f"{theirs}_embedding.weight"
        for part in ("weight", "bias"):
            names[f"projections.{ours}.{part}"] = f"{theirs}_reduce_dim.{part}"
            names[f"encoder.gates.{ours}.{part}"] = f"{theirs}_trans_dim.0.{part}"
            names[f"encoder.preferences.{ours}.{part}"] = f"{theirs}_behavior.0.{part}"
    return names | {f"encoder.attention.{part}": f"separate_coarse.{part}" for part in ("0.weight", "0.bias", "2.weight")}


NAMES = {
    "GUME": gume_names(),
    "COHESION": net_names([*MODAL_NETS, ("id_net", "id_gcn")]) | {"item_ids": "id_feat"},
    "DRAGON": net_names(MODAL_NETS) | {"weights": "weight_u"},
    "MENTOR": net_names([*MODAL_NETS, *NOISY_NETS, ("id_net", "id_gcn")]) | MENTOR,
}
PUBLIC = {
    "MENTOR": {"feature_mask": "constant"},
    "COHESION": {"train_id": False},
}  # settings that compute what the reference does, beside those of the golden
NOT_OURS = ("aggr_mode",)
VARIANTS = ["DRAGON", "DRAGON_text", "MENTOR", "GUME", "COHESION", "COHESION_drop"]


def replay(model, name, golden):
    """Put the recorded draws in place of those of the model."""
    draws = [torch.from_numpy(golden[key]) for key in sorted(key for key in golden.files if key.startswith("noise/"))]
    if name == "MENTOR":  # recorded net by net, both layers of each
        model.draw = lambda blocks, layer: torch.stack(draws[layer::2], 1)
    if name == "GUME":
        model.draw = draws.__getitem__
    if name == "COHESION" and draws:
        users, items = golden["noise/kept_edges"]
        pairs = sp.csr_matrix((np.ones(len(users)), (users, items)), shape=(model.n_users, model.n_items))
        model.drawn_pairs = lambda: pairs


def unused_penalty(golden, config, model):
    """What the reference's loss has beside ours: the penalty on weights of modalities that enter nothing else."""
    if "param/weight_u" not in golden or getattr(model, "weights", None) is not None:
        return 0.0
    return config["reg_weight"] * float(np.square(golden["param/weight_u"]).mean())


@pytest.mark.parametrize("evaluate_on", ["parameters", "last_forward"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_gradients_scores_and_metrics_equal_the_reference(variant, evaluate_on, make_config, make_loader):
    name, _, part = variant.partition("_")
    golden = np.load(GOLDEN / f"{variant}.npz")
    recorded = {key: value for key, value in json.loads(str(golden["config"])).items() if key not in NOT_OURS}
    settings = recorded | PUBLIC.get(name, {}) | ({"modalities": ["text"]} if part == "text" else {})
    if name != "GUME":
        settings["evaluate_on"] = evaluate_on
    elif evaluate_on == "last_forward":
        pytest.skip("GUME's reference scores with its parameters")
    config = make_config(name, **settings)
    loader = make_loader(config)
    model = load_model_class(name)(config, loader)
    with torch.no_grad():
        for ours, parameter in model.named_parameters():
            parameter.copy_(reference(golden, "param", NAMES[name][ours], parameter.shape))
    replay(model, name, golden)

    model.train()
    model.pre_epoch_processing()
    loss = model.calculate_loss(torch.from_numpy(golden["batch"]))
    assert loss.item() + unused_penalty(golden, config, model) == pytest.approx(float(golden["train_loss"]), abs=1e-5)
    loss.backward()
    for ours, parameter in model.named_parameters():
        theirs = NAMES[name][ours]
        assert (parameter.grad is None) == (f"grad/{theirs}" not in golden), ours
        if parameter.grad is not None:
            expected = reference(golden, "grad", theirs, parameter.shape)
            torch.testing.assert_close(
                parameter.grad, expected, atol=1e-5, rtol=1e-5, msg=lambda text, ours=ours: f"{ours}: {text}"
            )

    model.eval()
    if variant == "COHESION_drop" and evaluate_on == "parameters":
        return  # the reference scores on the thinned graph, this one on the full one
    with torch.no_grad():
        scores = model.full_sort_predict([torch.arange(model.n_users), None])
    torch.testing.assert_close(scores, torch.from_numpy(golden["scores"]), atol=1e-5, rtol=1e-5)
    metrics = TopKEvaluator(config).evaluate(model, EvalDataLoader(config, loader.dataset, "test")).metrics
    expected = json.loads(str(golden["test_metrics"]))
    assert {key: round(metrics[key], 4) for key in expected} == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("variant", ["DRAGON", "COHESION"])
def test_the_user_graph_equals_the_reference(variant, make_config, make_loader):
    golden = np.load(GOLDEN / f"{variant}.npz")
    config = make_config(variant, user_graph_k=4)
    graph = load_model_class(variant)(config, make_loader(config)).user_graph
    index, weight = golden["graph/user_index"], golden["graph/user_weight"]
    expected = torch.zeros(len(index), len(index)).scatter_(1, torch.from_numpy(index), torch.from_numpy(weight))
    found = graph.graph(torch.eye(len(index)))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
