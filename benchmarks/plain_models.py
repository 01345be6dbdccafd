"""Every model's training step written the obvious way: same parameters, same loss, none of the arrangement.

What the fast forms do and these do not: products in CSR with a stored transpose (here COO), all modalities in one
product, sums over edges without a vector per edge, distances in blocks and over distinct rows, DREAM as one product,
projections folded, nothing computed for rows outside the batch where that is not needed, Adam in one pass.
U users, I items, B batch, D embedding_size.
"""

import math
from itertools import combinations

import torch
import torch.nn.functional as F
from mambarec.models.bm3 import BM3
from mambarec.models.bpr import BPR
from mambarec.models.cohesion import COHESION
from mambarec.models.dragon import DRAGON
from mambarec.models.dragon import N_LAYERS as DRAGON_LAYERS
from mambarec.models.freedom import FREEDOM
from mambarec.models.grcn import GRCN
from mambarec.models.gume import GUME
from mambarec.models.lattice import LATTICE
from mambarec.models.lgmrec import TEMPERATURE as LGMREC_TEMPERATURE
from mambarec.models.lgmrec import LGMRec
from mambarec.models.lightgcn import LightGCN
from mambarec.models.mambarec import MambaRec
from mambarec.models.mentor import MENTOR
from mambarec.models.mentor import N_LAYERS as MENTOR_LAYERS
from mambarec.models.mgcn import MGCN
from mambarec.models.mgcn import TEMPERATURE as MGCN_TEMPERATURE
from mambarec.models.mmgcn import MMGCN
from mambarec.models.pgl import PGL
from mambarec.models.pgl import TEMPERATURE as PGL_TEMPERATURE
from mambarec.models.slmrec import SLMRec
from mambarec.models.smore import FUSION, SMORE
from mambarec.models.smore import TEMPERATURE as SMORE_TEMPERATURE
from mambarec.models.vbpr import VBPR
from torch import Tensor, nn

from benchmarks import plain
from mambarec.nn.dream import DREAM
from mambarec.nn.preference import PreferenceNet, PreferenceRecommender
from mambarec.training.trainer import Trainer

LOG_2 = math.log(2)


class PlainTrainer(Trainer):
    """Adam as torch has it by default, parameter by parameter and operation by operation."""

    def _build_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            self.model.parameters(), lr=self.config["learning_rate"], weight_decay=self.config["weight_decay"], fused=False
        )


def bpr(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """-mean log sigmoid of the difference of the scores, three (B, D) -> scalar."""
    return -F.logsigmoid((user * positive).sum(-1) - (user * negative).sum(-1)).mean()


class PlainBPR(BPR):
    """The same step: there is nothing in it to arrange but the optimiser."""


class PlainLightGCN(LightGCN):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        plain.with_coo_graphs(self)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        embeddings = torch.cat((self.user_embedding, self.item_embedding))
        users, items = plain.propagate_mean(self.adjacency, embeddings, self.n_layers).split((self.n_users, self.n_items))
        user, positive, negative = interaction
        loss = self.bpr_loss((users[user] * items[positive]).sum(-1), (users[user] * items[negative]).sum(-1))
        layer_0 = self.user_embedding[user], self.item_embedding[positive], self.item_embedding[negative]
        return loss + self.reg_weight * self.reg_loss(*layer_0)


class PlainVBPR(VBPR):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.raw = torch.cat(self.tables, 1)  # (I, sum of widths)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        items = torch.cat((self.item_embedding, self.projection(self.raw)), 1)  # (I, 2D)
        user, positive, negative = self.user_embedding[interaction[0]], items[interaction[1]], items[interaction[2]]
        loss = self.bpr_loss((user * positive).sum(-1), (user * negative).sum(-1))
        return loss + self.reg_weight * self.reg_loss(user, positive, negative)


def both_directions(dataloader, n_users: int, n_items: int) -> plain.Edges:
    """Every training pair as two edges, users first among the nodes."""
    users, items = (torch.from_numpy(dataloader.dataset.__dict__[side]["train"]) for side in ("users", "items"))
    items = items + n_users
    return plain.Edges(torch.cat((users, items)), torch.cat((items, users)), n_users + n_items)


class PlainMMGCN(MMGCN):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.edges = both_directions(dataloader, self.n_users, self.n_items)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        views = []
        for modality, net in self.nets.items():
            x = F.normalize(torch.cat((net.preference, net.project(self.features[modality]))))  # (U+I, W)
            for layer in net.layers:
                around = F.leaky_relu(self.edges.mean(x @ layer.weight))
                own = F.leaky_relu(layer.own(x)) + self.id_embedding
                x = F.leaky_relu(layer.combine(torch.cat((around, own), 1)))
            views.append(x)
        final = torch.stack(views).mean(0)
        users, positives, negatives = interaction[0], interaction[1] + self.n_users, interaction[2] + self.n_users
        penalty = self.id_embedding[users].square().mean()
        penalty = penalty + self.id_embedding[torch.cat((positives, negatives))].square().mean()
        if "visual" in self.nets:
            penalty = penalty + self.nets["visual"].preference.square().mean()
        return bpr(final[users], final[positives], final[negatives]) + self.reg_weight * penalty


class PlainGRCN(GRCN):
    """For `routing: mmrec`."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.both = both_directions(dataloader, self.n_users, self.n_items)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        edges, views, attentions = self.both, [], []
        for modality, net in self.nets.items():
            items = F.normalize(F.leaky_relu(net.project(self.features[modality])))
            x = torch.cat((F.normalize(net.preference), items))
            attention = edges.attention(x)
            views.append(x + edges.sum(x, attention))
            attentions.append(attention)
        weights = torch.relu((torch.stack(attentions, 1) * self.confidence[edges.source]).max(1).values)  # (2E,)
        layer = total = F.normalize(self.id_embedding)
        for _ in range(2):
            layer = edges.sum(layer, weights)
            total = total + layer
        final = torch.cat((total, *views), 1)
        users, positives, negatives = interaction[0], interaction[1] + self.n_users, interaction[2] + self.n_users
        penalty = self.id_embedding[users].square().mean()
        penalty = penalty + self.id_embedding[torch.cat((positives, negatives))].square().mean()
        for net in self.nets.values():
            penalty = penalty + net.preference[users].square().mean()
        if "visual" in self.nets:
            penalty = penalty + self.nets["visual"].preference.square().mean()
        return bpr(final[users], final[positives], final[negatives]) + self.reg_weight * penalty


class PlainSLMRec(SLMRec):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        plain.with_coo_graphs(self)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        tables = [self.item_embedding]
        tables += [layer(F.normalize(self.features[modality])) for modality, layer in self.projections.items()]
        users, items = zip(
            *(
                plain.propagate_mean(self.adjacency, torch.cat((self.user_embedding, table)), self.n_layers).split(
                    (self.n_users, self.n_items)
                )
                for table in tables
            ),
            strict=True,
        )
        user, item = self.fuse_users(torch.cat(users, 1)), self.fuse_items(torch.cat(items, 1))
        loss = plain.info_nce(user[interaction[0]], item[interaction[1]], self.temperature)
        mapped, *modal = (table[interaction[1]] for table in items)
        for id_map, modal_map, vectors in zip(self.id_maps, self.modal_maps, modal, strict=True):
            mapped = id_map(mapped)
            contrast = plain.info_nce(mapped, modal_map(vectors), self.ssl_temperature, normalize=False)
            loss = loss + self.ssl_weight * contrast
        return loss


class PlainFREEDOM(FREEDOM):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        plain.with_coo_graphs(self)

    def pre_epoch_processing(self) -> None:
        super().pre_epoch_processing()
        plain.with_coo_graphs(self)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        embeddings = torch.cat((self.user_embedding, self.item_embedding))
        final = plain.propagate_mean(self.train_adjacency, embeddings, self.n_ui_layers)
        users, items = final.split((self.n_users, self.n_items))
        view = self.item_embedding
        for _ in range(self.n_mm_layers):
            view = self.item_graph(view)
        items = items + view
        user, positive, negative = users[interaction[0]], items[interaction[1]], items[interaction[2]]
        loss = bpr(user, positive, negative)
        for modality, project in self.projections.items():
            projected = project(self.feature_tables[modality])
            loss = loss + self.reg_weight * bpr(user, projected[interaction[1]], projected[interaction[2]])
        return loss


def multi_view(encoder, modal: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Side and content (U+I, D) of mambarec.nn.multiview.MultiViewEncoder, modality by modality and for every row."""
    embeddings = torch.cat((encoder.user_embedding, encoder.item_embedding))
    content = plain.propagate_mean(encoder.adjacency, embeddings, encoder.n_ui_layers)
    views = []
    for modality, vectors in modal.items():
        items = encoder.item_embedding * torch.sigmoid(encoder.gates[modality](vectors))
        for _ in range(encoder.n_layers):
            items = encoder.item_graphs[modality](items)
        views.append(torch.cat((encoder.user_items(items), items)))
    if len(views) == 1:
        return views[0], content
    weights = torch.softmax(torch.cat([encoder.attention(view) for view in views], 1), 1)  # (U+I, M)
    common = sum(weight[:, None] * view for weight, view in zip(weights.unbind(1), views, strict=True))
    separate = [
        torch.sigmoid(encoder.preferences[modality](content)) * (view - common)
        for modality, view in zip(modal, views, strict=True)
    ]
    return (sum(separate) + common) / (len(views) + 1), content


class PlainMGCN(MGCN):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        plain.with_coo_graphs(self)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        modal = {modality: project(self.feature_tables[modality]) for modality, project in self.projections.items()}
        side, content = multi_view(self.encoder, modal)
        users, positives, negatives = interaction[0], interaction[1] + self.n_users, interaction[2] + self.n_users
        final = side + content
        user, positive, negative = final[users], final[positives], final[negatives]
        l2 = 0.5 * (user.square().sum() + positive.square().sum() + negative.square().sum()) / self.batch_size
        contrast = plain.info_nce(side[positives], content[positives], MGCN_TEMPERATURE)
        contrast = contrast + plain.info_nce(side[users], content[users], MGCN_TEMPERATURE)
        return bpr(user, positive, negative) + self.reg_weight * l2 + self.cl_weight * contrast


class PlainMambaRec(MambaRec):
    """Both variants, on two modalities; with the default contrast and align_on of each."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        plain.with_coo_graphs(self)
        self.modal_encoders = nn.ModuleDict({m: _plain_encoder(encoder) for m, encoder in self.modal_encoders.items()})

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        modal = self.modal_vectors()
        guides = {modality: self.dropout(self.norm(vectors)) for modality, vectors in modal.items()}
        side, content = multi_view(self.encoder, guides)
        users, positives, negatives = interaction[0], interaction[1] + self.n_users, interaction[2] + self.n_users
        final = side + content
        user, positive, negative = final[users], final[positives], final[negatives]
        l2 = 0.5 * (user.square().sum() + positive.square().sum() + negative.square().sum()) / self.batch_size
        contrast = plain.info_nce(side[positives], content[positives], self.temperature)
        contrast = contrast + plain.info_nce(side[users], content[users], self.temperature)

        aligned = self.modal_vectors() if self.released else modal  # the published code runs DREAM a second time
        visual, text = (vectors[interaction[1]] for vectors in aligned.values())
        if not self.released:
            contrast = contrast + plain.info_nce(visual, text, self.temperature)
        discrepancy = plain.mmd(visual, text, self.mmd_bandwidth)
        loss = bpr(user, positive, negative) + self.reg_weight * l2
        return loss + self.cl_weight * contrast + self.mmd_weight * discrepancy


def _plain_encoder(encoder: nn.Sequential) -> nn.Sequential:
    """The reduction in its two steps, where it has two, and DREAM with Conv2d."""
    reduce, dream = encoder
    steps = [reduce.inner, reduce.outer] if hasattr(reduce, "inner") else [reduce]
    if isinstance(dream, DREAM):
        hidden, out_dim = dream.squeeze.out_features, (dream.output if dream.on_map else dream.project).out_features
        copy = plain.DREAM(*dream.branches.shape, out_dim, 5 * dream.branches.shape[0] // hidden)
    else:
        copy = plain.ReleasedDREAM(dream.norm.num_features)
    return nn.Sequential(*steps, plain.load_dream(copy, dream))


class PlainLGMRec(LGMRec):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        plain.with_coo_graphs(self)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        embeddings = torch.cat((self.user_embedding, self.item_embedding))
        collaborative = plain.propagate_mean(self.adjacency, embeddings, self.n_ui_layers)
        final, hyper = collaborative, []
        for modality, table in self.features.items():
            items = table @ self.projections[modality]
            modal = torch.cat((self.user_items(items) / self.user_degree, items))
            for _ in range(self.n_mm_layers):
                modal = self.adjacency(modal)
            final = final + F.normalize(modal)
            incidence = table @ self.hyperedges[modality]
            logits = torch.cat((self.user_items(incidence), incidence))
            hyper.append(self.hypergraph(collaborative[self.n_users :], logits))
        final = final + self.alpha * F.normalize(sum(hyper))
        users, positives, negatives = interaction[0], interaction[1] + self.n_users, interaction[2] + self.n_users
        loss = bpr(final[users], final[positives], final[negatives])
        loss = loss + self.reg_weight * self.reg_loss(final[users], final[positives], final[negatives])
        if len(hyper) > 1:
            visual, text = (table.split((self.n_users, self.n_items)) for table in hyper)
            for one, other, batch in zip(visual, text, interaction[:2], strict=True):
                contrast = plain.info_nce(one[batch], other, LGMREC_TEMPERATURE, batch)
                loss = loss + self.cl_weight * len(batch) * contrast
        return loss


class PlainBM3(BM3):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        plain.with_coo_graphs(self)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        embeddings = torch.cat((self.user_embedding, self.item_embedding))
        users, items = plain.propagate_mean(self.adjacency, embeddings, self.n_layers).split((self.n_users, self.n_items))
        items = items + self.item_embedding
        user, item = interaction[:2]

        def distance(one: Tensor, other: Tensor) -> Tensor:
            return 1 - F.cosine_similarity(one, other).mean()

        user_target, item_target = self.dropout(users.detach())[user], self.dropout(items.detach())[item]
        loss = distance(self.predictor(users)[user], item_target) + distance(self.predictor(items)[item], user_target)
        loss = loss + self.reg_weight * (users.norm() + items.norm()) / self.n_items
        for modality, project in self.projections.items():
            vectors = project(self.feature_tables[modality])  # (I, D)
            predicted, target = self.predictor(vectors)[item], self.dropout(vectors.detach())[item]
            loss = loss + self.cl_weight * (distance(predicted, item_target) + distance(predicted, target))
        return loss


class PlainLATTICE(LATTICE):
    """With `cf_model: lightgcn`; every item graph is a dense matrix (I, I)."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        plain.with_coo_graphs(self)
        self.raw = [graph.matrix.to_dense() for graph in self.raw_graphs.values()]
        self.dense: Tensor | None = None

    def pre_epoch_processing(self) -> None:
        self.dense = None

    def dense_graph(self) -> Tensor:
        """The item graph of the current parameters, (I, I)."""
        mixture = torch.softmax(self.modal_weight, 0) if len(self.raw) > 1 else torch.ones(1)
        total, raw = torch.zeros(self.n_items, self.n_items), torch.zeros(self.n_items, self.n_items)
        for share, fixed, (modality, project) in zip(mixture, self.raw, self.projections.items(), strict=True):
            unit = F.normalize(project(self.feature_tables[modality]))
            cosines = unit @ unit.T
            values, neighbours = cosines.topk(self.knn_k)
            total = total + share * torch.zeros_like(cosines).scatter(1, neighbours, values)
            raw = raw + share * fixed
        scale = torch.where(total.sum(1) > 0, total.sum(1), torch.inf) ** -0.5
        learned = torch.diag(scale) @ total @ torch.diag(scale)
        return (1 - self.lambda_coeff) * learned + self.lambda_coeff * raw

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        graph = self.dense_graph() if self.dense is None else self.dense
        if self.gradient == "first_batch":
            self.dense = graph.detach()
        embeddings = torch.cat((self.user_embedding, self.item_embedding))
        final = plain.propagate_mean(self.user_item_graph, embeddings, self.n_ui_layers)
        users, items = final.split((self.n_users, self.n_items))
        view = self.item_embedding
        for _ in range(self.n_layers):
            view = graph @ view
        items = items + F.normalize(view)
        user, positive, negative = users[interaction[0]], items[interaction[1]], items[interaction[2]]
        l2 = 0.5 * (user.square().sum() + positive.square().sum() + negative.square().sum()) / self.batch_size
        return bpr(user, positive, negative) + self.reg_weight * l2


class PlainSMORE(SMORE):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        plain.with_coo_graphs(self)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        embeddings = torch.cat((self.user_embedding, self.item_embedding))
        content = plain.propagate_mean(self.adjacency, embeddings, self.n_ui_layers)
        spectra = {m: torch.fft.rfft(layer(self.feature_tables[m]), norm="ortho") for m, layer in self.projections.items()}
        spectra[FUSION] = torch.stack(list(spectra.values())).prod(0)
        views = {}
        for view, spectrum in spectra.items():
            weights = torch.complex(*self.filters[view].unbind(1))
            guide = torch.fft.irfft(spectrum * weights, n=self.item_embedding.shape[1], norm="ortho")
            items = self.item_embedding * torch.sigmoid(self.gates[view](guide))
            for _ in range(self.n_layers):
                items = self.item_graphs[view](items)
            views[view] = torch.cat((self.user_items(items), items))
        parts = []
        for view, vectors in views.items():
            if view != FUSION:
                vectors = torch.softmax(self.attention[view](views[FUSION]), 1) * vectors
            parts.append(self.dropout(torch.sigmoid(self.preferences[view](content))) * vectors)
        side = torch.stack(parts).mean(0)

        users, positives, negatives = interaction[0], interaction[1] + self.n_users, interaction[2] + self.n_users
        final = side + content
        user, positive, negative = final[users], final[positives], final[negatives]
        l2 = 0.5 * (user.square().sum() + positive.square().sum() + negative.square().sum()) / self.batch_size
        contrast = plain.info_nce(side[positives], content[positives], SMORE_TEMPERATURE)
        contrast = contrast + plain.info_nce(side[users], content[users], SMORE_TEMPERATURE)
        return bpr(user, positive, negative) + self.reg_weight * l2 + self.cl_weight * contrast


class PlainPGL(PGL):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        plain.with_coo_graphs(self)

    def pre_epoch_processing(self) -> None:
        super().pre_epoch_processing()
        plain.with_coo_graphs(self)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        items = torch.cat([F.normalize(layer(self.feature_tables[m])) for m, layer in self.projections.items()], 1)
        final = plain.propagate_mean(self.train_adjacency, torch.cat((self.user_embedding, items)), self.n_ui_layers)
        users = final[: self.n_users]
        for _ in range(self.n_mm_layers):
            items = self.item_graph(items)
        items = final[self.n_users :] + items
        user, positive, negative = users[interaction[0]], items[interaction[1]], items[interaction[2]]
        views = [[F.dropout(rows, self.dropout) for _ in range(2)] for rows in (user, positive)]
        contrasts = [plain.info_nce(*pair, PGL_TEMPERATURE) for pair in views]
        return bpr(user, positive, negative) + self.reg_weight * sum(contrasts) / 2


class PlainPreferenceNets:
    """What the plain forms of DRAGON, MENTOR and COHESION share: messages along edges, and users' lists as (U, k) rows."""

    def set_up(self: PreferenceRecommender, dataloader) -> None:  # type: ignore[misc]
        self.edges = both_directions(dataloader, self.n_users, self.n_items)
        plain.with_coo_graphs(self)

    def normalised_sum(self, x: Tensor) -> Tensor:
        """The product by the normalised adjacency, whose weights are made anew: (U+I, D) -> (U+I, D)."""
        scale = self.edges.degree.clamp(min=1) ** -0.5
        return self.edges.sum(x, scale[self.edges.source] * scale[self.edges.target])

    def start(self, net: PreferenceNet, features: Tensor, ids: Tensor | None = None) -> Tensor:
        items = net.project(F.leaky_relu(net.hidden(features)))
        if ids is not None:
            items = torch.sqrt((ids.square() + items.square()) / 2 + 1e-8)
        return F.normalize(torch.cat((net.preference, items)))

    def smoothed(self: PreferenceRecommender, items: Tensor) -> Tensor:  # type: ignore[misc]
        view = items
        for _ in range(self.n_mm_layers):
            view = self.item_graph(view)
        return items + view

    def mean_squares(self: PreferenceRecommender, users: Tensor) -> Tensor:  # type: ignore[misc]
        total = sum(net.preference[users].square().mean() for net in self.nets.values())
        return total if self.weights is None else total + self.weights.square().mean()


def neighbour_lists(graph: nn.Module, k: int) -> tuple[Tensor, Tensor]:
    """The rows of a sparse matrix as columns and values, two (N, k), short rows filled up with zeros."""
    offsets, columns, values = (getattr(graph, f"_forward_{name}") for name in ("offsets", "columns", "values"))
    sizes = offsets.diff()
    rows, places = torch.arange(len(sizes)).repeat_interleave(sizes), torch.arange(len(columns))
    places = places - offsets[:-1].long().repeat_interleave(sizes)
    index, weights = torch.zeros(len(sizes), k, dtype=torch.long), torch.zeros(len(sizes), k)
    index[rows, places], weights[rows, places] = columns.long(), values
    return index, weights


class PlainDRAGON(PlainPreferenceNets, DRAGON):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.lists = neighbour_lists(self.user_graph.graph, self.user_graph.k)
        self.set_up(dataloader)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        views = []
        for modality, net in self.nets.items():
            layers = [self.start(net, self.features[modality])]
            for _ in range(DRAGON_LAYERS):
                layers.append(self.normalised_sum(layers[-1]))
            views.append(sum(layers))
        users = torch.stack([view[: self.n_users] for view in views], 1)  # (U, M, D)
        if self.weights is not None:
            users = users * self.weights[:, :, None]
        users = users.flatten(1)
        index, weights = self.lists
        users = users + (weights[:, None] @ users[index]).squeeze(1)  # of (U, k, M D)
        items = self.smoothed(torch.cat([view[self.n_users :] for view in views], 1))
        user, positive, negative = users[interaction[0]], items[interaction[1]], items[interaction[2]]
        return bpr(user, positive, negative) / LOG_2 + self.reg_weight * self.mean_squares(interaction[0])


class PlainMENTOR(PlainPreferenceNets, MENTOR):
    """Each contrast from the products of all users, (U, U), and of all items."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.set_up(dataloader)

    def net_vectors(self, net: PreferenceNet, features: Tensor, noise: float = 0.0) -> Tensor:
        layers = [self.start(net, features)]
        for _ in range(MENTOR_LAYERS):
            layer = self.normalised_sum(layers[-1])
            if noise:
                layer = layer + noise * layer.sign() * F.normalize(torch.rand_like(layer))
            layers.append(layer)
        return sum(layers)

    def join(self, views: list[Tensor], weighted: bool = False) -> Tensor:
        users, items = torch.cat(views, 1).split((self.n_users, self.n_items))
        if weighted and self.weights is not None:
            users = users * self.weights.repeat_interleave(self.dim, 1)
        return torch.cat((users, self.smoothed(items)))

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        modal = [self.net_vectors(net, self.features[modality]) for modality, net in self.nets.items()]
        ids = self.net_vectors(self.id_net, self.item_ids)
        final = self.join(modal, weighted=True)
        views = [self.join([view] * len(modal)) for view in (ids, *modal)] + ([final] if len(modal) > 1 else [])
        one, other = (
            self.join([self.net_vectors(net, self.features[m], self.noise) for m, net in nets.items()], weighted=True)
            for nets in self.noisy_nets
        )

        users, items = final.split((self.n_users, self.n_items))
        user, positive, negative = users[interaction[0]], items[interaction[1]], items[interaction[2]]
        loss = bpr(user, positive, negative) / LOG_2 + self.reg_weight * self.mean_squares(interaction[0])
        for view, second in combinations(views, 2):
            gaps = (view.var() - second.var()).abs() + (view.mean() - second.mean()).abs()
            loss = loss + self.align_weight * gaps
        for part in (users, items):
            with torch.set_grad_enabled(self.mask == "trained"):
                cosine = F.cosine_similarity(self.dropout(part.detach()), self.predict(part)).mean()
            loss = loss + self.mask_weight * (1 - cosine)
        for part in (slice(None, self.n_users), slice(self.n_users, None)):
            x, y = F.normalize(one[part]), F.normalize(other[part])
            positive = torch.exp((x * y).sum(1) / self.temperature)
            total = torch.exp(x @ y.T / self.temperature).sum(1)
            loss = loss - self.contrast_weight * torch.log(positive / total).mean()
        return loss


class PlainGUME(GUME):
    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        plain.with_coo_graphs(self)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        encoder, (users, positives, negatives) = self.encoder, interaction
        embeddings = torch.cat((encoder.user_embedding, encoder.item_embedding))
        content = plain.propagate_mean(encoder.adjacency, embeddings, encoder.n_ui_layers)
        views, extended = [], []
        for modality, project in self.projections.items():
            guide = project(self.feature_tables[modality])
            items = encoder.item_embedding * torch.sigmoid(encoder.gates[modality](guide))
            for _ in range(encoder.n_layers):
                items = encoder.item_graphs[modality](items)
            views.append(torch.cat((encoder.user_items(items), items)))
            start = torch.cat((self.user_tables[modality], items))
            extended.append(plain.propagate_mean(encoder.adjacency, start, encoder.n_ui_layers))
        interests = torch.stack(extended).mean(0)
        side, distances = views[0], content.new_zeros(())
        if len(views) > 1:
            weights = torch.softmax(torch.cat([encoder.attention(view) for view in views], 1), 1)  # (U+I, M)
            common = sum(weight[:, None] * view for weight, view in zip(weights.unbind(1), views, strict=True))
            gates = [torch.sigmoid(layer(content)) for layer in encoder.preferences.values()]
            separate = [gate * (view - common) for gate, view in zip(gates, views, strict=True)]
            side = (sum(separate) + common) / (len(views) + 1)
        for view, second in combinations(views, 2):
            distances = distances + (view.var() - second.var()).abs() + (view.mean() - second.mean()).abs()
        final, items_of = content + side, positives + self.n_users
        user, positive, negative = final[users], final[items_of], final[negatives + self.n_users]

        def noisy(table: Tensor) -> Tensor:
            rows = table[: self.n_users]
            return (rows + self.noise * rows.sign() * F.normalize(torch.rand_like(rows)))[users] if self.noise else rows[users]

        l2 = 0.5 * (user.square().sum() + positive.square().sum() + negative.square().sum()) / self.batch_size
        loss = bpr(user, positive, negative) + self.reg_weight_1 * l2 + self.variance_weight * distances
        loss = loss + self.reg_weight_2 * 0.5 * interests[items_of].square().sum() / self.batch_size
        for rows in (users, items_of):
            contrast = plain.info_nce(side[rows], content[rows], self.behaviour_temperature)
            loss = loss + self.behaviour_weight * contrast
        contrast = plain.info_nce(interests[users], side[users], self.user_temperature)
        for table in (side, interests):
            contrast = contrast + plain.info_nce(noisy(table), noisy(table), self.user_temperature)
        return loss + self.user_weight * contrast


class PlainCOHESION(PlainPreferenceNets, COHESION):
    """With every training pair in its graph: `dropout: 0`."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.lists = neighbour_lists(self.user_graph.graph, self.user_graph.k)
        self.set_up(dataloader)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        blocks = []
        nets = [(self.id_net, self.item_ids), *((net, self.features[modality]) for modality, net in self.nets.items())]
        for net, features in nets:
            layers = [self.start(net, features, self.item_ids)]
            for _ in range(self.n_layers):
                layer = self.normalised_sum(layers[-1])
                layers.append(F.cosine_similarity(layer, layers[0])[:, None] * layer)
            blocks.append(sum(layers) if net is not self.id_net or self.train_id else sum(layers).detach())
        final = torch.cat(blocks, 1)
        users, items = final.split((self.n_users, self.n_items))
        index, weights = self.lists
        users, items = users + (weights[:, None] @ users[index]).squeeze(1), self.smoothed(items)
        user, positive, negative = users[interaction[0]], items[interaction[1]], items[interaction[2]]
        differences = [
            (u * p).sum(1) - (u * n).sum(1)
            for u, p, n in zip(user.split(self.dim, 1), positive.split(self.dim, 1), negative.split(self.dim, 1), strict=True)
        ]
        margins = torch.stack(differences, 1)  # (B, 1 + M)
        shares = 1 - torch.softmax(margins, 1).detach()
        loss = -F.logsigmoid((shares * margins).sum(1)).mean() / LOG_2
        return loss + self.reg_weight * self.mean_squares(interaction[0])


PLAIN = {
    cls.__name__.removeprefix("Plain"): cls
    for cls in (
        PlainBPR,
        PlainLightGCN,
        PlainVBPR,
        PlainMMGCN,
        PlainGRCN,
        PlainSLMRec,
        PlainFREEDOM,
        PlainMGCN,
        PlainLGMRec,
        PlainMambaRec,
        PlainBM3,
        PlainLATTICE,
        PlainSMORE,
        PlainPGL,
        PlainDRAGON,
        PlainMENTOR,
        PlainGUME,
        PlainCOHESION,
    )
}
