"""PGL: the modalities side by side over the principal part of the user-item graph in training, over all of it at evaluation.

Yu et al., *Mind Individual Information! Principal Graph Learning for Multimedia Recommendation*, AAAI 2025, doi
10.1609/aaai.v39i12.33429. Departs from the paper, as the authors' code does: the raw features are trained too
(`train_features: false` leaves them fixed), and mode `global` pairs the largest singular values with smaller ones.
U users, I items, B batch, E training pairs, D embedding_size, D_m width of a raw feature, M modalities.
"""

from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import key
from mambarec.nn.abstract_recommender import FeatureDimSettings, GeneralRecommender
from mambarec.nn.alignment import info_nce, unit
from mambarec.nn.graph import (
    FrozenItemGraphSettings,
    SparseGraph,
    draw_pairs,
    frozen_item_graph,
    normalized_adjacency,
    normalized_interactions,
    propagate_mean,
)
from mambarec.nn.loss import bpr_logistic

KEPT = 0.3  # share of the training pairs in an epoch's graph, `local`; this and the next three are fixed in the authors' code
PRINCIPAL = 0.25  # share of the singular vectors that make the graph, `global`
SMALLEST = 1e-3  # entries of that graph below it are 0
TEMPERATURE = 0.2  # of the contrast


class PGLSettings(FeatureDimSettings, FrozenItemGraphSettings):
    """The keys of PGL."""

    mode: Literal["local", "global"] = key(
        "The graph in training. local: drawn in each epoch. global: made of the largest singular values."
    )
    n_ui_layers: int = key("Layers of the user-item graph.", ge=0, le=1000)
    dropout: float = key("Share of each vector that the contrast drops.", ge=0, lt=1)
    reg_weight: float = key("Weight of the contrastive loss.", ge=0)
    train_features: bool = key("Whether the raw item features are trained too.")


class PGL(GeneralRecommender):
    """Scores are inner products of vectors M D wide, to which the items add those of the item-item graph."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        dim = self.feature_dim(config)
        self.mode = config["mode"]
        self.n_ui_layers, self.n_mm_layers = config["n_ui_layers"], config["n_mm_layers"]
        self.reg_weight = config["reg_weight"]
        features = self.require_features()

        tables = [nn.init.xavier_uniform_(torch.empty(self.n_users, dim)) for _ in features]
        self.user_embedding = nn.Parameter(torch.cat(tables, 1))  # (U, M D)
        self.feature_tables = self.feature_parameters(config)
        self.projections = nn.ModuleDict({m: nn.Linear(table.shape[1], dim) for m, table in features.items()})
        self.dropout = config["dropout"]

        self.interactions = dataloader.inter_matrix("csr")
        self.adjacency = SparseGraph(normalized_adjacency(self.interactions))
        self.train_adjacency = self.adjacency
        if self.mode == "global":
            block = principal_block(normalized_interactions(self.interactions), dim)
            self.train_adjacency = SparseGraph(sp.bmat([[None, block], [block.T, None]]))
        self.item_graph = SparseGraph(frozen_item_graph(features, config["knn_k"], config["mm_image_weight"], self.masks))

    def pre_epoch_processing(self) -> None:
        """In mode `local`, draw the epoch's graph."""
        if self.mode == "local":
            self.train_adjacency = SparseGraph(normalized_adjacency(self.drawn_pairs())).to(self.device)

    def drawn_pairs(self) -> sp.csr_matrix:
        """The training pairs of an epoch's graph, CSR (U, I)."""
        return draw_pairs(self.interactions, int(KEPT * self.interactions.nnz))

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, M D) and item (I, M D) vectors, over the principal graph while training and over all pairs at evaluation."""
        adjacency = self.train_adjacency if self.training else self.adjacency
        items = torch.cat([unit(layer(self.feature_tables[m])) for m, layer in self.projections.items()], 1)
        view = items
        for _ in range(self.n_mm_layers):
            view = self.item_graph(view)
        final = propagate_mean(adjacency, torch.cat((self.user_embedding, items)), self.n_ui_layers)
        users, items = final.split((self.n_users, self.n_items))
        return users, items + view

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR, and reg_weight * the contrast, on a batch (3, B) of users, positives, negatives; a scalar."""
        users, items = self.representations()
        user = F.embedding(interaction[0], users)  # (B, M D)
        positive, negative = F.embedding(interaction[1:].flatten(), items).chunk(2)
        loss = bpr_logistic(user, positive, negative)
        if self.reg_weight:
            loss = loss + self.reg_weight * (self.contrast(user) + self.contrast(positive)) / 2
        return loss

    def contrast(self, rows: Tensor) -> Tensor:
        """Rows (B, M D) under one dropout against the same rows under another; a scalar."""
        return info_nce(self.dropped(rows), self.dropped(rows), TEMPERATURE)

    def dropped(self, rows: Tensor) -> Tensor:
        """Rows under dropout while training; what is left is not scaled, since lengths do not count in a cosine."""
        if not self.training or not self.dropout:
            return rows
        return rows.masked_fill(torch.rand_like(rows) < self.dropout, 0.0)


def principal_block(block: sp.csr_matrix, dim: int, rows_at_once: int = 1024) -> sp.csr_matrix:
    """The user-item block of the graph of mode `global`, from that of the normalised adjacency. CSR (U, I).

    Of the D largest singular triplets (s, u, v) of the adjacency and q = D / 4, the graph is the sum over j <= q of
    s_j s_(D-q+j) u_j v_j^T. These triplets come in pairs, one for each triplet of the block, so D / 2 of the block's suffice.
    """
    n_pairs = dim // 2
    q = int(PRINCIPAL * dim)
    if dim % 2 or q % 2 or not q:  # half a pair would depend on the solver
        raise ValueError(f"embedding_size={dim}: mode: global needs a multiple of 8")
    if n_pairs > min(block.shape):
        raise ValueError(f"embedding_size={dim}: mode: global takes at most {2 * min(block.shape)}, twice the smaller side")
    left, values, right = _largest_triplets(block, n_pairs)
    n = q // 2
    left, right = left[:, :n] * (values[:n] * values[n_pairs - n :]), right[:n]
    parts = []
    for start in range(0, len(left), rows_at_once):
        dense = left[start : start + rows_at_once] @ right
        parts.append(sp.csr_matrix(np.where(np.abs(dense) < SMALLEST, 0, dense)))
    return sp.csr_matrix(sp.vstack(parts))


def _largest_triplets(block: sp.csr_matrix, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The n largest singular values (n,) of a matrix (U, I), descending, with the vectors (U, n) and (n, I)."""
    if n >= min(block.shape):
        left, values, right = np.linalg.svd(block.toarray(), full_matrices=False)
        return left[:, :n], values[:n], right[:n]
    from scipy.sparse.linalg import svds  # its import is a large part of a start

    start = np.random.default_rng(0).normal(size=min(block.shape))
    left, values, right = svds(block, n, v0=start)
    order = np.argsort(-values)
    return left[:, order], values[order], right[order]
