"""VBPR: matrix factorisation whose items have, beside their embedding, a projection of their features.

He and McAuley, AAAI 2016, arXiv 1510.01784. Departs from the paper, as MMRec does: every modality's features in place of the
visual ones alone, a bias in their projection and none in the score, norms in place of squared norms as the regulariser.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambarec.base.settings import key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.alignment import distinct
from mambarec.nn.init import xavier_normal_initialization
from mambarec.nn.loss import BPRLoss, EmbLoss
from mambarec.nn.new_items import NEIGHBOURS, Links, NewItems, NewItemSettings, NewItemVectors


class VBPRSettings(NewItemSettings):
    """The keys of VBPR."""

    reg_weight: float = key("Weight of the penalty on large parameters (L2).", ge=0)


class VBPR(GeneralRecommender):
    """Scores are inner products of vectors 2D wide, U users, I items, D embedding_size. The features stay fixed."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        dim = config["embedding_size"]
        self.reg_weight = config["reg_weight"]
        features = self.require_features()
        order = sorted(features, key=lambda modality: {"text": 0, "visual": 1}.get(modality, 2))
        self.order = order  # [text; visual; others], MMRec's
        self.tables = [features[modality] for modality in order]
        self.new_items = NewItems.of(config, features, dataloader.inter_matrix("coo"), self.masks, NEIGHBOURS)

        self.user_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_users, 2 * dim)))
        self.item_embedding = nn.Parameter(nn.init.xavier_uniform_(torch.empty(self.n_items, dim)))
        self.projection = nn.Linear(sum(table.shape[1] for table in self.tables), dim)
        self.bpr_loss, self.reg_loss = BPRLoss(), EmbLoss()
        self.apply(xavier_normal_initialization)

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        """[embedding; projected features] of some items (B,), or of all: (B, 2D)."""
        if rows is not None and self.n_items <= len(rows):  # a batch that names items twice, in a small catalogue
            return F.embedding(rows, self.item_vectors())

        def take(table: Tensor) -> Tensor:
            return table if rows is None else F.embedding(rows, table)

        return torch.cat((take(self.item_embedding), self.projected([take(table) for table in self.tables])), dim=1)  # (B, 2D)

    def projected(self, tables: list[Tensor]) -> Tensor:
        """Projected features of some items, a table (B, D_m) for each modality in `order`: (B, D)."""
        weights = self.projection.weight.split([table.shape[1] for table in tables], dim=1)
        # the product with the concatenated features, which are not concatenated: they are the largest thing here
        products = [F.linear(table, weight) for table, weight in zip(tables, weights, strict=True)]
        return sum(products) + self.projection.bias

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, 2D) and item (I, 2D) vectors."""
        items = self.item_vectors()
        return self.user_embedding, self.new_items.with_cold(items, self.for_new_items()) if self.new_items else items

    def for_new_items(self) -> NewItemVectors:
        """Vectors of new items: their neighbours' mean embedding, and their own projected features."""

        def vectors(features, links: Links) -> Tensor:
            projected = self.projected([features[modality] for modality in self.order])
            return torch.cat((links.mean(self.item_embedding), projected), dim=1)

        return vectors

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR + reg_weight * EmbLoss on a batch (3, B) of users, positives, negatives; shape (1,)."""
        user = F.embedding(interaction[0], self.user_embedding)  # (B, 2D)
        items = distinct(interaction[1:].flatten())
        vectors = self.item_vectors(items.values)  # (N, 2D)
        if self.new_items:
            dim = self.item_embedding.shape[1]
            embedding = vectors[:, :dim]
            (embedding,) = self.new_items.dropped(
                items.values, (embedding,), lambda _, links: (links.mean(self.item_embedding),)
            )
            vectors = torch.cat((embedding, vectors[:, dim:]), dim=1)
        positive, negative = items.expand(vectors).chunk(2)
        bpr = self.bpr_loss((user * positive).sum(-1), (user * negative).sum(-1))
        return bpr + self.reg_weight * self.reg_loss(user, positive, negative)
