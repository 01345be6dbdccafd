"""MGCN: item features, purified by behaviour, in multi-view graph convolutions with a contrast between the views.

Yu et al., *Multi-View Graph Convolutional Network for Multimedia Recommendation*, MM 2023, arXiv 2308.03588. Departs from the
paper: the raw features are trained too, and L2 is over the batch's final embeddings, as in the authors' code.
U users, I items, B batch, D embedding_size, D_m width of a raw feature.
"""

import torch
from torch import Tensor, nn

from mambarec.base.settings import key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.alignment import distinct, info_nce
from mambarec.nn.loss import bpr_logistic
from mambarec.nn.multiview import MultiViewEncoder, SampledViews, Views
from mambarec.nn.new_items import Links, NewItems, NewItemSettings, NewItemVectors, at_length, moved
from mambarec.nn.sampled import Batch, SampledSettings, modal_in_blocks, sampling_of, take_rows

TEMPERATURE = 0.2  # of the contrast; fixed in the authors' code


class MGCNSettings(NewItemSettings, SampledSettings):
    """The keys of MGCN."""

    n_ui_layers: int = key("Layers of the user-item graph.", ge=0, le=1000)
    n_layers: int = key("Layers of the item-item graphs.", ge=0, le=1000)
    knn_k: int = key("Neighbours of an item in the item-item graph.", gt=0, le=10**6)
    cl_loss: float = key("Weight of the contrastive loss.", ge=0)
    reg_weight: float = key("Weight of the penalty on large parameters (L2).", ge=0)


class MGCN(GeneralRecommender):
    """Scores are inner products of content + side vectors, those of the user-item view and of the fused item-item views."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        dim = config["embedding_size"]
        self.cl_weight = config["cl_loss"]
        self.reg_weight = config["reg_weight"]
        features = self.require_features()
        interactions, sizes = dataloader.inter_matrix("coo"), (config["n_ui_layers"], config["n_layers"], config["knn_k"])
        self.encoder = MultiViewEncoder(interactions, features, dim, *sizes, masks=self.masks)
        self.new_items = NewItems.of(config, features, interactions, self.masks, config["knn_k"])
        self.feature_tables = nn.ParameterDict({m: nn.Parameter(table.clone()) for m, table in features.items()})
        self.projections = nn.ModuleDict({m: nn.Linear(table.shape[1], dim) for m, table in features.items()})
        self.sampling = sampling_of(config, self.new_items)
        self.samplers = self.encoder.samplers() if self.sampling else {}

    def forward(self) -> tuple[dict[str, Tensor], Views]:
        """The projected features, modality -> (I, D), and the Views of the encoder that they guide."""
        modal = {m: project(self.feature_tables[m]) for m, project in self.projections.items()}
        return modal, self.encoder(modal)

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) vectors, content + side."""
        if self.sampling and not self.training:
            return self.encoder.final_vectors(modal_in_blocks(self.projections, self.feature_tables))
        modal, views = self.forward()
        side, content = self.encoder.fuse(views)
        users, items = (side + content).split((self.n_users, self.n_items))
        return users, self.new_items.with_cold(items, self._of_new_items(modal, views, items)) if self.new_items else items

    def for_new_items(self) -> NewItemVectors:
        """Vectors of new items by their features: content + side, the encoder's for new items."""
        modal, views = self.forward()
        return self._of_new_items(modal, views, sum(self.encoder.fuse(views))[self.n_users :])

    def _of_new_items(self, modal: dict[str, Tensor], views: Views, items: Tensor) -> NewItemVectors:
        """items: the vectors (I, D) of the data set's."""

        def vectors(features, links: Links) -> Tensor:
            tables = self.feature_tables
            own = {
                m: project(moved(features[m], links, m, tables[m], self.features[m])) for m, project in self.projections.items()
            }
            new = sum(self.encoder.fuse(self.encoder.new_items(own, modal, views, links)))
            return at_length(new, links, items)

        return vectors

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR + L2 + the contrast of side with content, on a batch (3, B) of users, positives, negatives; a scalar."""
        return self._loss(interaction, self.n_users, *self.forward())

    def sample(self, interaction: Tensor, generator) -> SampledViews:
        """The sampled layers of a batch (3, B)."""
        return self.encoder.sample(Batch.of(interaction), self.samplers, self.sampling, generator)

    def sampled_loss(self, sample: SampledViews) -> Tensor:
        """calculate_loss over the sampled layers."""
        modal = {m: project(take_rows(self.feature_tables[m], sample.items[m])) for m, project in self.projections.items()}
        views = self.encoder.sampled_views(modal, sample)
        batch = sample.propagation
        return self._loss(batch.interaction, batch.sizes[0], modal, views)

    def _loss(self, interaction: Tensor, n_users: int, modal: dict[str, Tensor], views: Views) -> Tensor:
        """modal, views: what `forward` returns, of the rows that the ids of the batch number; n_users: of the views' rows."""
        users, positives, negatives = interaction
        parts = [distinct(ids) for ids in (users, positives + n_users, negatives + n_users)]
        rows, sizes = torch.cat([part.values for part in parts]), [len(part.values) for part in parts]
        side, content = self.encoder.fuse(views, rows)
        if self.new_items:
            side, content = self.encoder.with_new(self.new_items, sizes[0], rows, (side, content), modal, views)
        user, positive, negative = final = [
            part.expand(rows) for part, rows in zip(parts, (side + content).split(sizes), strict=True)
        ]  # (B, D) each

        loss = bpr_logistic(user, positive, negative)
        loss = loss + self.reg_weight * 0.5 * sum(rows.square().sum() for rows in final) / self.batch_size
        if self.cl_weight:
            for part, own, other in zip(parts[:2], side.split(sizes), content.split(sizes), strict=False):  # users, positives
                loss = loss + self.cl_weight * info_nce(own, other, TEMPERATURE, part.counts, part.counts)
        return loss
