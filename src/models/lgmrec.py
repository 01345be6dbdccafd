"""LGMRec: local graph embeddings of ids and features, and global ones from hypergraphs that the features learn.

Guo et al., *LGMRec: Local and Global Graph Learning for Multimodal Recommendation*, AAAI 2024, arXiv 2312.16400. Departs from
the paper: norms in place of squared norms, of the batch's final embeddings, as the regulariser. No noise at evaluation, where
MMRec adds it too.
U users, I items, B batch, D embedding_size, H hyper_num, D_m width of a raw feature, M modalities.
"""

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import key
from mambarec.nn.abstract_recommender import FeatureDimSettings, GeneralRecommender
from mambarec.nn.alignment import distinct, info_nce
from mambarec.nn.graph import SparseGraph, normalized_adjacency, propagate_mean
from mambarec.nn.loss import EmbLoss, bpr_logistic

TEMPERATURE = 0.2  # of the Gumbel-softmax and of the contrast; fixed in the authors' code


class LGMRecSettings(FeatureDimSettings):
    """The keys of LGMRec."""

    n_ui_layers: int = key("Layers of the user-item graph for the id embeddings.", ge=0, le=1000)
    n_mm_layers: int = key("Layers of the user-item graph for the features.", ge=0, le=1000)
    n_hyper_layer: int = key("Layers of the hypergraphs.", gt=0, le=1000)
    hyper_num: int = key("Hyperedges of a modality.", gt=0, le=10**6)
    keep_rate: float = key("Share of the hyperedges' incidence that training keeps.", ge=0, le=1)
    alpha: float = key("Weight of the global embeddings.", ge=0)
    cl_weight: float = key("Weight of the contrast between the modalities' hypergraphs, a sum over the batch.", ge=0)
    reg_weight: float = key("Weight of the penalty on large parameters (L2).", ge=0)
    gumbel_noise: bool = key("Whether the incidence has noise in training. It never has in evaluation.")


class LGMRec(GeneralRecommender):
    """Scores are inner products of local + alpha * global embeddings. The features stay fixed."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        dim, n_hyperedges = self.feature_dim(config), config["hyper_num"]
        self.n_ui_layers, self.n_mm_layers = config["n_ui_layers"], config["n_mm_layers"]
        self.n_hyper_layers = config["n_hyper_layer"]
        self.alpha = config["alpha"]
        self.cl_weight = config["cl_weight"]
        self.reg_weight = config["reg_weight"]
        self.gumbel_noise = config["gumbel_noise"]
        features = self.require_features()

        def xavier(*shape: int) -> nn.Parameter:
            return nn.Parameter(nn.init.xavier_uniform_(torch.empty(*shape)))

        self.user_embedding, self.item_embedding = xavier(self.n_users, dim), xavier(self.n_items, dim)
        self.projections = nn.ParameterDict({m: xavier(table.shape[1], dim) for m, table in features.items()})
        self.hyperedges = nn.ParameterDict({m: xavier(table.shape[1], n_hyperedges) for m, table in features.items()})
        self.dropout = nn.Dropout(1 - config["keep_rate"])
        self.reg_loss = EmbLoss()

        interactions = dataloader.inter_matrix("csr")
        self.adjacency = SparseGraph(normalized_adjacency(interactions))
        self.user_items = SparseGraph(interactions)
        degree = torch.from_numpy(interactions.sum(axis=1)).float().clamp(min=1)  # (U, 1)
        self.register_buffer("user_degree", degree, persistent=False)

    def forward(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return final embeddings (U+I, D) and the hypergraph's of each modality, (U+I, D); rows are users, then items."""
        vectors, logits = self.modal_inputs()
        embeddings = torch.cat((self.user_embedding, self.item_embedding))
        collaborative = propagate_mean(self.adjacency, embeddings, self.n_ui_layers)

        modal = torch.cat(vectors, 1)  # (U+I, M D): all modalities in one product
        for _ in range(self.n_mm_layers):
            modal = self.adjacency(modal)
        local = collaborative + F.normalize(modal.unflatten(1, (len(logits), -1)), dim=-1).sum(1)

        items = collaborative[self.n_users :]
        hyper = {modality: self.hypergraph(items, incidence) for modality, incidence in logits.items()}
        return local + self.alpha * F.normalize(torch.stack(tuple(hyper.values())).sum(0)), hyper

    def modal_inputs(self) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Projected features (U+I, D) and logits of the incidence of hyperedges (U+I, H), of each modality.

        A user has the mean of the items' features, and the sum of their logits.
        """
        widths = [self.item_embedding.shape[1], next(iter(self.hyperedges.values())).shape[1]]
        weights = [torch.cat((self.projections[m], self.hyperedges[m]), 1) for m in self.features]
        items = [table @ weight for table, weight in zip(self.features.values(), weights, strict=True)]  # (I, D+H) each
        users = self.user_items(torch.cat(items, 1)).split(sum(widths), 1)  # (U, D+H) each
        modal, logits = [], {}
        for modality, user, item in zip(self.features, users, items, strict=True):
            (user_vectors, user_logits), (item_vectors, item_logits) = user.split(widths, 1), item.split(widths, 1)
            modal.append(torch.cat((user_vectors / self.user_degree, item_vectors)))
            logits[modality] = torch.cat((user_logits, item_logits))
        return modal, logits

    def hypergraph(self, items: Tensor, logits: Tensor) -> Tensor:
        """Pass item vectors (I, D) through the hyperedges to users and items: (U+I, D). logits: (U+I, H)."""
        if self.gumbel_noise and self.training:
            incidence = F.gumbel_softmax(logits, TEMPERATURE, dim=1)
        else:
            incidence = torch.softmax(logits / TEMPERATURE, dim=1)
        users_on, items_on = self.dropout(incidence).split((self.n_users, self.n_items))
        for _ in range(self.n_hyper_layers):
            edges = items_on.T @ items  # (H, D)
            items = items_on @ edges
        return torch.cat((users_on @ edges, items))

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors."""
        users, items = self.forward()[0].split((self.n_users, self.n_items))
        return users, items

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR + the hypergraphs' contrast + norms, on a batch (3, B) of users, positives, negatives; shape (1,)."""
        final, hyper = self.forward()
        users, positives, negatives = interaction
        rows = torch.cat((users, positives + self.n_users, negatives + self.n_users))
        user, positive, negative = F.embedding(rows, final).chunk(3)  # (B, D) each
        bpr = bpr_logistic(user, positive, negative)
        loss = bpr + self.reg_weight * self.reg_loss(user, positive, negative)

        for one, other in combinations(hyper.values(), 2) if self.cl_weight else ():
            sides = [table.split((self.n_users, self.n_items)) for table in (one, other)]
            for anchors, candidates, part in zip(*sides, (distinct(users), distinct(positives)), strict=True):
                mean = info_nce(F.embedding(part.values, anchors), candidates, TEMPERATURE, part.counts, targets=part.values)
                loss = loss + self.cl_weight * len(users) * mean
        return loss
