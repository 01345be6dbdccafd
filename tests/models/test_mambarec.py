"""MambaRec's `variant: paper` against its equations, written out with dense matrices and without any code of the project."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from mambarec.models.mambarec import MambaRec

from mambarec.training.trainer import init_seed

N_USERS, N_ITEMS = 48, 64
SMALL = {"reduction_factor": 2, "dropout": 0.0, "knn_k": 4, "mmd_weight": 0.3, "cl_loss": 0.2, "reg_weight": 0.01}


class Paper:
    """The equations of arXiv 2509.09114, from the parameters and buffers of a model, on the toy data. All in float64."""

    def __init__(self, model, config, folder):
        self.config, self.training = config, True
        self.values = {key: value.detach().double() for key, value in model.state_dict().items()}
        self.parameters = {key: self.values[key].requires_grad_() for key, _ in model.named_parameters()}
        files = {"visual": "image_feat.npy", "text": "text_feat.npy"}
        self.raw = {m: torch.from_numpy(np.load(folder / files[m])).double() for m in model.features}
        pairs = pd.read_csv(folder / "toy.inter", sep="\t").query("x_label == 0")
        interactions = torch.zeros(N_USERS, N_ITEMS, dtype=torch.float64)
        interactions[pairs["userID"].to_list(), pairs["itemID"].to_list()] = 1
        scale = [degree.clamp(min=1e-9) ** -0.5 for degree in (interactions.sum(1), interactions.sum(0))]
        self.block = scale[0][:, None] * interactions * scale[1]
        self.adjacency = torch.zeros(N_USERS + N_ITEMS, N_USERS + N_ITEMS, dtype=torch.float64)
        self.adjacency[:N_USERS, N_USERS:], self.adjacency[N_USERS:, :N_USERS] = self.block, self.block.T
        self.item_graphs = {modality: self.near(table) for modality, table in self.raw.items()}

    def near(self, table):
        """The item graph: the cosines of the knn_k nearest, over the roots of both row sums."""
        unit = table / table.norm(dim=1, keepdim=True)
        cosine, kept = unit @ unit.T, torch.zeros(N_ITEMS, N_ITEMS, dtype=torch.float64)
        for i in range(N_ITEMS):
            best = cosine[i].argsort(descending=True)[: self.config["knn_k"]]
            kept[i, best] = cosine[i, best]
        return kept / (kept.sum(1)[:, None] * kept.sum(1)).sqrt()

    def batch_norm(self, x, name, channels):
        """BatchNorm of (N, C, H, W) by the values of some channels of a layer; in training it moves the running statistics."""
        mean, variance = (self.values[f"{name}.running_{part}"][channels] for part in ("mean", "var"))
        if self.training:
            flat = x.transpose(0, 1).flatten(1)
            new_mean, new_variance = flat.mean(1), flat.var(1, correction=0)
            mean.mul_(0.9).add_(0.1 * new_mean.detach())
            variance.mul_(0.9).add_(0.1 * flat.detach().var(1))
            mean, variance = new_mean, new_variance
        weight, bias = (self.values[f"{name}.{part}"][channels][:, None, None] for part in ("weight", "bias"))
        return (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt() * weight + bias

    def dream(self, x, name):
        """(1)-(6) of maps (N, C, H, W) -> (N, D)."""
        v, (_, channels, height, width) = self.values, x.shape
        branches = []
        for i, dilation in enumerate((None, 6, 12, 18, None)):
            kernel, bias = v[f"{name}.branches.weights.{i}"], v[f"{name}.branches.bias"][i]
            if dilation is None:  # a 1x1 convolution, in the last branch of the mean over places
                source = x if i == 0 else x.mean((2, 3), keepdim=True)
                out = F.conv2d(source, kernel, bias)
            else:
                out = F.conv2d(x, F.pad(kernel, [(3 - kernel.shape[-1]) // 2] * 4), bias, padding=dilation, dilation=dilation)
            out = self.batch_norm(out, f"{name}.branches.norm", slice(i * channels, (i + 1) * channels)).relu()
            branches.append(F.interpolate(out, size=(height, width), mode="bilinear"))
        maps = torch.cat(branches, 1)  # (1)
        mean = maps.mean((2, 3))
        of_channels = torch.sigmoid(torch.relu(mean @ v[f"{name}.squeeze.weight"].T) @ v[f"{name}.excite.weight"].T)  # (2)
        of_places = torch.sigmoid(F.conv2d(maps.mean(1, keepdim=True), v[f"{name}.spatial.weight"], v[f"{name}.spatial.bias"]))
        fused = torch.maximum(maps * of_channels[:, :, None, None], maps * of_places)  # (3)-(6)
        weight = v[f"{name}.project.weight"].reshape(-1, 5 * channels, 1, 1)
        flat = F.conv2d(fused, weight, v[f"{name}.project.bias"]).flatten(1)
        if f"{name}.output.weight" in v:
            flat = flat @ v[f"{name}.output.weight"].T + v[f"{name}.output.bias"]
        return flat

    def linear(self, x, name):
        return x @ self.values[f"{name}.weight"].T + self.values.get(f"{name}.bias", 0)

    def forward(self):
        """Modal vectors and views by modality, side and content."""
        v, modal, views = self.values, {}, {}
        for m, raw in self.raw.items():
            reduced = self.linear(v.get(f"feature_tables.{m}", raw), f"modal_encoders.{m}.0")  # (12), (13)
            shape = self.config["feature_map"] or [reduced.shape[1], 1, 1]
            local = self.config["use_local_alignment"]
            name = f"modal_encoders.{m}.1"
            modal[m] = self.dream(reduced.reshape(-1, *shape), name) if local else self.linear(reduced, name)
            normed = F.layer_norm(modal[m], modal[m].shape[1:], v["norm.weight"], v["norm.bias"])
            items = v["encoder.item_embedding"] * torch.sigmoid(self.linear(normed, f"encoder.gates.{m}"))
            for _ in range(self.config["n_layers"]):
                items = self.item_graphs[m] @ items
            views[m] = torch.cat((self.block @ items, items))
        layers = [torch.cat((v["encoder.user_embedding"], v["encoder.item_embedding"]))]
        for _ in range(self.config["n_ui_layers"]):
            layers.append(self.adjacency @ layers[-1])
        content = torch.stack(layers).mean(0)
        if len(views) == 1:
            return modal, views, next(iter(views.values())), content
        hidden = [torch.tanh(self.linear(x, "encoder.attention.0")) for x in views.values()]
        queries = [self.linear(x, "encoder.attention.2") for x in hidden]
        shares = torch.softmax(torch.cat(queries, 1), 1)
        common = sum(shares[:, [i]] * x for i, x in enumerate(views.values()))
        separate = [torch.sigmoid(self.linear(content, f"encoder.preferences.{m}")) * (x - common) for m, x in views.items()]
        return modal, views, (sum(separate) + common) / (1 + len(views)), content

    def loss(self, batch):
        """(16), and its gradients by parameter."""
        modal, views, side, content = self.forward()
        users, positives, negatives = batch[0], batch[1] + N_USERS, batch[2] + N_USERS
        final, config = side + content, self.config
        margins = (final[users] * (final[positives] - final[negatives])).sum(1)
        loss = -torch.log(torch.sigmoid(margins)).mean()  # (15)
        squares = sum((final[rows] ** 2).sum() for rows in (users, positives, negatives))
        loss = loss + config["reg_weight"] * squares / 2 / config["train_batch_size"]
        if config["contrast"] in (None, "both", "behaviour"):
            behaviour = self.contrast(side[users], content[users]) + self.contrast(side[positives], content[positives])
            loss = loss + config["cl_loss"] * behaviour
        aligned = modal if config["align_on"] in (None, "dream") else {m: x[N_USERS:] for m, x in views.items()}
        pairs = list(itertools.combinations([table[batch[1]] for table in aligned.values()], 2))
        if config["use_global_alignment"] and pairs:
            loss = loss + config["mmd_weight"] * sum(self.discrepancy(x, y) for x, y in pairs) / len(pairs)  # (7)-(9)
            if config["contrast"] in (None, "both", "modality"):
                loss = loss + config["cl_loss"] * sum(self.contrast(x, y) for x, y in pairs) / len(pairs)  # (10)
        return loss.item(), dict(zip(self.parameters, torch.autograd.grad(loss, self.parameters.values()), strict=True))

    def contrast(self, x, y):
        cosine = F.cosine_similarity(x[:, None], y[None], dim=2) / self.config["cl_temperature"]
        return -torch.log(torch.exp(cosine.diag()) / torch.exp(cosine).sum(1)).mean()

    def discrepancy(self, x, y):
        if self.config["mmd_normalize"] in (None, True):
            x, y = x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)

        def kernel(a, b):
            return torch.exp(-((a[:, None] - b[None]) ** 2).sum(2) / (2 * self.config["mmd_kernel_bandwidth"] ** 2)).mean()

        return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)

    def scores(self):
        self.training = False
        _, _, side, content = self.forward()
        return (side + content)[:N_USERS] @ (side + content)[N_USERS:].T


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"feature_map": [2, 2, 2]},
        {"feature_map": [1, 2, 4], "attention_reduction": 2},
        {"mmd_normalize": False},
        {"mmd_normalize": False, "align_on": "views", "mmd_kernel_bandwidth": 0.8},
        {"contrast": "modality", "n_ui_layers": 2, "n_layers": 2},
        {"contrast": "behaviour", "train_features": False},
        {"use_local_alignment": False},
        {"use_global_alignment": False},
        {"modalities": ["text"]},
    ],
    ids=str,
)
def test_loss_gradients_and_scores_are_those_of_the_equations(overrides, toy, make_config, make_loader):
    config = make_config("MambaRec", **SMALL | overrides)
    loader = make_loader(config)
    init_seed(3)
    model, batch = MambaRec(config, loader), next(iter(loader))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # nothing stays 0 or 1
    paper = Paper(model, config, toy)
    expected, gradients = paper.loss(batch)

    loss = model.train().calculate_loss(batch)
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad.double(), gradients[name], atol=1e-5, rtol=1e-4, msg=name)
    with torch.no_grad():
        scores = model.eval().full_sort_predict([torch.arange(N_USERS), None])
    torch.testing.assert_close(scores.double(), paper.scores().detach(), atol=1e-5, rtol=1e-4)


def test_a_key_that_came_later_renames_no_run_at_its_old_meaning(make_config):
    before = {key: value for key, value in make_config("MambaRec").plain().items() if key != "mmd_normalize"}
    identity = make_config("MambaRec").identity()
    assert "mmd_normalize" not in identity and set(identity) <= {*before, "device", "threads"}
    assert make_config("MambaRec", mmd_normalize=False).identity()["mmd_normalize"] is False


@pytest.mark.parametrize(("key", "value"), [("feature_map", [1, 2, 4]), ("attention_reduction", 2)])
def test_a_key_of_dream_is_refused_without_dream(make_config, make_loader, key, value):
    config = make_config("MambaRec", **SMALL, use_local_alignment=False, **{key: value})
    with pytest.raises(ValueError, match=rf"{key}=.* has no effect with use_local_alignment: false; leave it out"):
        MambaRec(config, make_loader(config))
