"""BM3: LightGCN whose users and items predict each other's vectors and those of the features, without negative items.

Zhou et al., *Bootstrap Latent Representations for Multi-modal Recommendation*, WWW 2023, arXiv 2207.05969. Departs from the
paper, as MMRec does: the raw features are trained too (`train_features: false` leaves them fixed), and the regulariser is norms
of the whole tables in place of squared norms.
U users, I items, B batch, N its distinct users or items, D embedding_size, D_m width of a raw feature.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import Settings, key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.alignment import Distinct, distinct
from mambarec.nn.graph import SparseGraph, normalized_adjacency, propagate_mean


class BM3Settings(Settings):
    """The keys of BM3."""

    n_layers: int = key("Layers of the user-item graph.", ge=0, le=1000)
    dropout: float = key("Share of the target vectors that is dropped in training.", ge=0, le=1)
    reg_weight: float = key("Weight of the penalty on large parameters (L2).", ge=0)
    cl_weight: float = key("Weight of the predictions from features.", ge=0)
    train_features: bool = key("Whether the raw item features are trained too.")


class BM3(GeneralRecommender):
    """Scores are inner products of predicted vectors. Trained on pairs alone: `use_neg_sampling: false`."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        dim = config["embedding_size"]
        self.n_layers = config["n_layers"]
        self.reg_weight, self.cl_weight = config["reg_weight"], config["cl_weight"]
        features = self.require_features()

        self.user_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_users, dim)))
        self.item_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_items, dim)))
        self.feature_tables = self.feature_parameters(config)
        self.projections = nn.ModuleDict({m: nn.Linear(table.shape[1], dim) for m, table in features.items()})
        self.predictor = nn.Linear(dim, dim)
        for layer in (self.predictor, *self.projections.values()):
            nn.init.xavier_normal_(layer.weight)
        self.dropout = nn.Dropout(config["dropout"])
        self.adjacency = SparseGraph(normalized_adjacency(dataloader.inter_matrix("coo")))

    def forward(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors before the predictor."""
        embeddings = torch.cat((self.user_embedding, self.item_embedding))
        users, items = propagate_mean(self.adjacency, embeddings, self.n_layers).split((self.n_users, self.n_items))
        return users, items + self.item_embedding

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors after the predictor."""
        users, items = self.forward()
        return self.predictor(users), self.predictor(items)

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """The cosine distances of predictions to targets, and norms, on a batch of users and positives (2, B); a scalar."""
        tables = self.forward()
        parts = [distinct(ids) for ids in interaction[:2]]  # MMRec's third row, negatives, has no effect
        user, item = (F.embedding(part.values, table) for part, table in zip(parts, tables, strict=True))  # (N, D) each
        of_users, of_items = parts
        user_target, item_target = self.target(user, of_users, self.n_users), self.target(item, of_items, self.n_items)

        norms = sum(torch.linalg.vector_norm(table) for table in tables)
        loss = self.reg_weight * norms / self.n_items
        loss = loss + distance(of_users.expand(self.predictor(user)), of_items.expand(item_target))
        loss = loss + distance(of_items.expand(self.predictor(item)), of_users.expand(user_target))
        for modality, project in self.projections.items():
            vectors = project(F.embedding(of_items.values, self.feature_tables[modality]))  # (N, D)
            predicted = self.predictor(vectors)
            for target in (item_target, self.target(vectors, of_items, self.n_items)):
                loss = loss + self.cl_weight * distance(predicted, target, of_items)
        return loss

    def target(self, vectors: Tensor, of: Distinct, n: int) -> Tensor:
        """What a prediction is compared with: vectors (N, D) without a gradient, of which dropout leaves some coordinates.

        Each of the n users or items has one mask, also where the rows of a batch name it several times.
        """
        if of.inverse is not None:
            return self.dropout(vectors.detach())
        masks = self.dropout(vectors.new_ones(n, vectors.shape[1]))
        return vectors.detach() * F.embedding(of.values, masks)


def distance(one: Tensor, other: Tensor, of: Distinct | None = None) -> Tensor:
    """1 - the mean cosine of two (B, D), or of the distinct rows (N, D) of a batch, as often as they stand there; a scalar."""
    cosine = F.cosine_similarity(one, other)
    if of is None or of.counts is None:
        return 1 - cosine.mean()
    return 1 - (cosine * of.counts).sum() / of.counts.sum()
