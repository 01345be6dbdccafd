"""BPR: matrix factorisation trained on pairwise preferences.

Rendle et al., UAI 2009, arXiv 1205.2618. Departs from the paper: Adam in place of plain gradient descent, no item bias, and
norms in place of squared norms as the regulariser, as MMRec has it.
"""

from torch import Tensor, nn

from mambarec.base.settings import Settings, key
from mambarec.nn.abstract_recommender import GeneralRecommender
from mambarec.nn.init import xavier_normal_initialization
from mambarec.nn.loss import BPRLoss, EmbLoss


class BPRSettings(Settings):
    """The keys of BPR."""

    reg_weight: float = key("Weight of the penalty on large parameters (L2).", ge=0)


class BPR(GeneralRecommender):
    """Scores are inner products of user and item embeddings, U users, I items, D embedding_size."""

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.reg_weight = config["reg_weight"]
        self.user_embedding = nn.Embedding(self.n_users, config["embedding_size"])
        self.item_embedding = nn.Embedding(self.n_items, config["embedding_size"])
        self.bpr_loss, self.reg_loss = BPRLoss(), EmbLoss()
        self.apply(xavier_normal_initialization)

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, D) and item (I, D) embeddings."""
        return self.user_embedding.weight, self.item_embedding.weight

    def calculate_loss(self, interaction: Tensor) -> Tensor:
        """BPR + reg_weight * EmbLoss on a batch (3, B) of users, positives, negatives; shape (1,)."""
        user = self.user_embedding(interaction[0])  # (B, D)
        positive, negative = self.item_embedding(interaction[1]), self.item_embedding(interaction[2])
        bpr = self.bpr_loss((user * positive).sum(-1), (user * negative).sum(-1))
        return bpr + self.reg_weight * self.reg_loss(user, positive, negative)
