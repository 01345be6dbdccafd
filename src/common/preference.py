"""What the graph nets of DRAGON, MENTOR and COHESION share: where a net starts, and whose vectors evaluation scores with."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.abstract_recommender import GeneralRecommender, one_of

EVALUATED = ("parameters", "last_forward")


class PreferenceNet(nn.Module):
    """Trained preferences of the users, and item features through two linear layers. D_m width of a feature, D of a vector."""

    def __init__(self, n_users: int, width: int, dim: int):
        """width: D_m; dim: D. The hidden layer is 4D wide, as in the authors' code."""
        super().__init__()
        self.preference = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_users, dim)))
        self.hidden, self.project = nn.Linear(width, 4 * dim), nn.Linear(4 * dim, dim)

    def items(self, features: Tensor) -> Tensor:
        """Features (I, D_m) -> (I, D)."""
        return self.project(F.leaky_relu(self.hidden(features)))

    def start(self, items: Tensor) -> Tensor:
        """The preferences above item vectors (I, D), each row of length 1: (U+I, D)."""
        return F.normalize(torch.cat((self.preference, items)))

    def forward(self, features: Tensor) -> Tensor:
        """Features (I, D_m) -> the vectors that the net starts from, (U+I, D)."""
        return self.start(self.items(features))


def modality_weights(n_users: int, n_modalities: int) -> nn.Parameter:
    """Trained weights (U, M) of each user's modalities, which start near 1 / M."""
    return nn.Parameter(torch.softmax(nn.init.xavier_normal_(torch.empty(n_users, n_modalities, 1)), 1).squeeze(2))


def weigh(vectors: Tensor, weights: Tensor) -> Tensor:
    """Users' vectors (U, M D), block by block times weights (U, M)."""
    return (vectors.unflatten(1, (weights.shape[1], -1)) * weights.unsqueeze(2)).flatten(1)


class PreferenceRecommender(GeneralRecommender):
    """Base of the three: `vectors()` gives user (U, W) and item (I, W) vectors, and `evaluate_on` says which of them are scored.

    parameters: those of the current parameters. last_forward: those that the last training step left, from before its update,
    as in the authors' code; random ones before any step.
    """

    last_users: Tensor
    last_items: Tensor

    def __init__(self, config, dataloader):
        super().__init__(config, dataloader)
        self.evaluate_on = one_of("evaluate_on", config["evaluate_on"], EVALUATED)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """User (U, W) and item (I, W) vectors of the current parameters."""
        raise NotImplementedError

    def remember(self, width: int) -> None:
        """Make room for what last_forward needs, vectors W = `width` wide."""
        if self.evaluate_on == "last_forward":
            for name, size in (("last_users", self.n_users), ("last_items", self.n_items)):
                self.register_buffer(name, nn.init.xavier_normal_(torch.empty(size, width)))

    def keep(self, users: Tensor, items: Tensor) -> None:
        """Note the vectors of a training step."""
        if self.evaluate_on == "last_forward":
            self.last_users.copy_(users.detach())
            self.last_items.copy_(items.detach())

    def representations(self) -> tuple[Tensor, Tensor]:
        """User (U, W) and item (I, W) vectors to score with."""
        return (self.last_users, self.last_items) if self.evaluate_on == "last_forward" else self.vectors()
