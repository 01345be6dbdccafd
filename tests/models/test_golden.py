"""Every model against figures recorded from the reference implementations: loss, gradients, scores, metrics."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from mambarec.data.dataloader import EvalDataLoader
from mambarec.evaluation.topk_evaluator import TopKEvaluator
from mambarec.running.run import load_model_class

GOLDEN = Path(__file__).parents[1] / "golden"

# our parameter name -> the reference's, or a function of the golden's arrays
BPR = {"user_embedding.weight": "user_embedding.weight", "item_embedding.weight": "item_embedding.weight"}
LIGHTGCN = {"user_embedding": "embedding_dict.user_emb", "item_embedding": "embedding_dict.item_emb"}


def multiview_names():
    names = {"encoder.user_embedding": "user_embedding.weight", "encoder.item_embedding": "item_id_embedding.weight"}
    for ours, gate, preference in (("visual", "gate_v", "gate_image_prefer"), ("text", "gate_t", "gate_text_prefer")):
        for part in ("weight", "bias"):
            names[f"encoder.gates.{ours}.{part}"] = f"{gate}.0.{part}"
            names[f"encoder.preferences.{ours}.{part}"] = f"{preference}.0.{part}"
    for ours, theirs in (("0.weight", "0.weight"), ("0.bias", "0.bias"), ("2.weight", "2.weight")):
        names[f"encoder.attention.{ours}"] = f"query_common.{theirs}"
    return names


def mambarec_names():
    names = multiview_names() | {"norm.weight": "norm.weight", "norm.bias": "norm.bias"}
    for ours, theirs in (("visual", "image"), ("text", "text")):
        names[f"feature_tables.{ours}"] = f"{theirs}_embedding.weight"
        dream, reference = f"modal_encoders.{ours}.1", f"dream_{theirs}"
        convolutions = [f"{reference}.branch{i}.0" for i in (1, 2, 3, 4)] + [f"{reference}.branch5_conv"]
        norms = [f"{reference}.branch{i}.1" for i in (1, 2, 3, 4)] + [f"{reference}.branch5_bn"]
        for i, convolution in enumerate(convolutions):
            names[f"{dream}.branches.weights.{i}"] = f"{convolution}.weight"
        names[f"{dream}.branches.bias"] = [f"{convolution}.bias" for convolution in convolutions]
        for part in ("weight", "bias", "running_mean", "running_var"):
            names[f"{dream}.branches.norm.{part}"] = [f"{norm}.{part}" for norm in norms]
            names[f"{dream}.norm.{part}"] = f"{reference}.conv_cat.1.{part}"
        names[f"{dream}.channel.weight"] = f"{reference}.fusion.channel.fc.weight"
        names[f"{dream}.spatial.weight"] = f"{reference}.fusion.spatial.Conv1x1.weight"
        for part in ("weight", "bias"):
            names[f"{dream}.project.{part}"] = f"{reference}.conv_cat.0.{part}"
    for part in ("weight", "bias"):
        names[f"modal_encoders.visual.0.inner.{part}"] = f"image_reduce.{part}"
        names[f"modal_encoders.visual.0.outer.{part}"] = f"image_trs.{part}"
        names[f"modal_encoders.text.0.{part}"] = f"text_trs.{part}"
    return names


def projection_names(embeddings):
    """Trained item features and their linear maps, as FREEDOM and MGCN have them."""
    names = dict(embeddings)
    for ours, theirs in (("visual", "image"), ("text", "text")):
        names[f"feature_tables.{ours}"] = f"{theirs}_embedding.weight"
        for part in ("weight", "bias"):
            names[f"projections.{ours}.{part}"] = f"{theirs}_trs.{part}"
    return names


EMBEDDINGS = {"user_embedding": "user_embedding.weight", "item_embedding": "item_id_embedding.weight"}
VBPR = {
    "user_embedding": "u_embedding",
    "item_embedding": "i_embedding",
    "projection.weight": "item_linear.weight",
    "projection.bias": "item_linear.bias",
}
LGMREC = EMBEDDINGS | {
    "features.visual": "image_embedding.weight",
    "features.text": "text_embedding.weight",
    "projections.visual": "item_image_trs",
    "projections.text": "item_text_trs",
    "hyperedges.visual": "v_hyper",
    "hyperedges.text": "t_hyper",
}


def mmgcn_names():
    names = {"id_embedding": "id_embedding"}
    for ours, theirs in (("visual", "v_gcn"), ("text", "t_gcn")):
        names[f"nets.{ours}.preference"] = f"{theirs}.preference"
        for i in range(3):
            names[f"nets.{ours}.layers.{i}.weight"] = f"{theirs}.conv_embed_{i + 1}.weight"
            for part in ("weight", "bias"):
                names[f"nets.{ours}.layers.{i}.own.{part}"] = f"{theirs}.linear_layer{i + 1}.{part}"
                names[f"nets.{ours}.layers.{i}.combine.{part}"] = f"{theirs}.g_layer{i + 1}.{part}"
    return names | {f"nets.visual.project.{part}": f"v_gcn.MLP.{part}" for part in ("weight", "bias")}


def grcn_names():
    names = {"id_embedding": "id_gcn.id_embedding", "confidence": "model_specific_conf"}
    for ours, theirs in (("visual", "v_gcn"), ("text", "t_gcn")):
        names[f"nets.{ours}.preference"] = f"{theirs}.preference"
        for part in ("weight", "bias"):
            names[f"nets.{ours}.project.{part}"] = f"{theirs}.MLP.{part}"
    return names


def slmrec_names():
    names = {"user_embedding": "embedding_user.weight", "item_embedding": "embedding_item.weight"}
    layers = {
        "projections.visual": "v_dense",
        "projections.text": "t_dense",
        "fuse_users": "embedding_user_after_GCN",
        "fuse_items": "embedding_item_after_GCN",
        "id_maps.0": "g_i_iv",
        "id_maps.1.0": "g_iv_iva",
        "id_maps.1.1": "g_iva_ivat",
        "modal_maps.0": "g_v_iv",
        "modal_maps.1": "g_t_ivat",
    }
    return names | {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in layers.items() for part in ("weight", "bias")}


def smore_names():
    names = projection_names(EMBEDDINGS)
    for ours, theirs, letter in (("visual", "image", "v"), ("text", "text", "t"), ("fusion", "fusion", "f")):
        names[f"filters.{ours}"] = f"{theirs}_complex_weight"
        names[f"attention.{ours}.2.weight"] = f"query_{letter}.2.weight"
        for part in ("weight", "bias"):
            names[f"gates.{ours}.{part}"] = f"gate_{letter}.0.{part}"
            names[f"attention.{ours}.0.{part}"] = f"query_{letter}.0.{part}"
            names[f"preferences.{ours}.{part}"] = f"gate_{theirs}_prefer.0.{part}"
    return names


def lattice_names():
    names = projection_names(EMBEDDINGS) | {"modal_weight": "modal_weight"}
    for i in range(2):
        for part in ("weight", "bias"):
            names[f"ngcf_layers.{i}.sum.{part}"] = f"GC_Linear_list.{i}.{part}"
            names[f"ngcf_layers.{i}.product.{part}"] = f"Bi_Linear_list.{i}.{part}"
    return names


BM3 = projection_names(EMBEDDINGS) | {f"predictor.{part}": f"predictor.{part}" for part in ("weight", "bias")}
PGL = projection_names({"user_embedding": ("user_image.weight", "user_text.weight")})

NAMES = {  # by the golden's file: a model, and for some of them _ and a variant
    "BPR": BPR,
    "LightGCN": LIGHTGCN,
    "MambaRec": mambarec_names(),
    "VBPR": VBPR,
    "FREEDOM": projection_names(EMBEDDINGS),
    "MGCN": projection_names(multiview_names()),
    "LGMRec": LGMREC,
    "MMGCN": mmgcn_names(),
    "GRCN": grcn_names(),
    "SLMRec": slmrec_names(),
    "BM3": BM3,
    "BM3_text": BM3,
    "LATTICE": lattice_names(),
    "LATTICE_ngcf": lattice_names(),
    "LATTICE_text": lattice_names(),
    "SMORE": smore_names(),
    "PGL": PGL,
    "PGL_global": PGL,
}
SETTINGS = {
    "MambaRec": {"variant": "released", "dropout": 0.0},
    "LGMRec": {"gumbel_noise": False},
    "MMGCN": {"train_embeddings": False},
    "GRCN": {"routing": "mmrec"},
    "BM3_text": {"modalities": ["text"]},
    "LATTICE_text": {"modalities": ["text"]},
}
NOT_OURS = ("recdim", "reg")  # keys of the reference's SLMRec: embedding_size once more, and one without effect


def reference(golden, kind, names, shape):
    """The golden's array for one of our tensors; of a 3x3 kernel the centre tap counts.

    names: one; a list of several, whose arrays follow one another; or a tuple of several, whose columns do.
    """
    if isinstance(names, tuple):
        return torch.from_numpy(np.concatenate([golden[f"{kind}/{name}"] for name in names], 1))
    arrays = [golden[f"{kind}/{name}"] for name in ([names] if isinstance(names, str) else names)]
    arrays = [array[:, :, 1:2, 1:2] if array.shape[-2:] == (3, 3) else array for array in arrays]
    return torch.from_numpy(np.concatenate([array.ravel() for array in arrays])).view(shape)


@pytest.fixture(params=sorted(NAMES))
def case(request, make_config, make_loader):
    """(golden arrays, names, config, loader, model with the golden's parameters and random draws)"""
    name, model_name = request.param, request.param.partition("_")[0]
    golden = np.load(GOLDEN / f"{name}.npz")
    recorded = {key: value for key, value in json.loads(str(golden["config"])).items() if key not in NOT_OURS}
    config = make_config(model_name, **{"train_batch_size": 32, **recorded}, **SETTINGS.get(name, {}))
    loader = make_loader(config)
    model = load_model_class(model_name)(config, loader)
    if "noise/kept_edges" in golden:
        users, items = golden["noise/kept_edges"]
        model.drawn_pairs = lambda: sp.csr_matrix((np.ones(len(users)), (users, items)), (model.n_users, model.n_items))
        model.pre_epoch_processing()
    with torch.no_grad():
        for ours, parameter in model.named_parameters():
            parameter.copy_(reference(golden, "param", NAMES[name][ours], parameter.shape))
        for modality, table in model.features.items():  # fixed features are no parameters here
            if f"features.{modality}" in NAMES[name]:
                table.copy_(reference(golden, "param", NAMES[name][f"features.{modality}"], table.shape))
        for ours, buffer in model.named_buffers():  # nor are tensors that stay as they were drawn
            if ours in NAMES[name] and "running" not in ours:
                buffer.copy_(reference(golden, "param", NAMES[name][ours], buffer.shape))
    return golden, NAMES[name], config, loader, model


def test_loss_gradients_scores_and_metrics_equal_the_reference(case):
    golden, names, config, loader, model = case
    model.train()
    loss = model.calculate_loss(torch.from_numpy(golden["batch"])).sum()
    assert loss.item() == pytest.approx(float(golden["train_loss"]), abs=1e-5)

    loss.backward()
    for ours, parameter in model.named_parameters():
        expected = reference(golden, "grad", names[ours], parameter.shape)
        torch.testing.assert_close(
            parameter.grad, expected, atol=1e-5, rtol=1e-5, msg=lambda text, ours=ours: f"{ours}: {text}"
        )
    for ours, buffer in model.named_buffers():
        if "running" in ours:
            torch.testing.assert_close(buffer, reference(golden, "buffer", names[ours], buffer.shape), atol=1e-5, rtol=1e-5)

    if config["model"] == "LATTICE":  # the item graph is a constant after an epoch's first batch
        check_second_batch(golden, names, model)

    model.eval()
    with torch.no_grad():
        scores = model.full_sort_predict([torch.arange(model.n_users), None])
    scores = scores.sigmoid() if config["model"] == "SLMRec" else scores  # the reference's are; the order is the same
    torch.testing.assert_close(scores, torch.from_numpy(golden["scores"]), atol=1e-5, rtol=1e-5)

    metrics = TopKEvaluator(config).evaluate(model, EvalDataLoader(config, loader.dataset, "test")).metrics
    recorded = json.loads(str(golden["test_metrics"]))
    assert {name: round(metrics[name], 4) for name in recorded} == pytest.approx(recorded, abs=1e-4)


def check_second_batch(golden, names, model):
    """The recorded gradients of the same batch when it is not the epoch's first; the other parameters get none."""
    model.zero_grad()
    model.calculate_loss(torch.from_numpy(golden["batch"])).backward()
    gradients = {names[ours]: parameter.grad for ours, parameter in model.named_parameters() if parameter.grad is not None}
    recorded = {key.removeprefix("grad2/"): torch.from_numpy(golden[key]) for key in golden if key.startswith("grad2/")}
    torch.testing.assert_close(gradients, recorded, atol=1e-5, rtol=1e-5)
