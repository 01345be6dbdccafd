"""LightGCN as a part of other models, under the name that models written for MMRec import."""

import torch
from torch import Tensor, nn

from mambarec.nn.graph import EdgeGraph, SparseGraph, normalized_adjacency, propagate_mean


class LightGCN_Encoder(nn.Module):
    """Mean of the layers of a linear graph convolution (He et al., SIGIR 2020, arXiv 2002.02126), without a loss.

    In `forward` each layer uses the same random part of the edges: a share drawn anew between 0 and 1 is dropped in each step,
    and the weights of the others grow to the same expectation. U users, I items, D embedding_size, n_layers 3 if not set.
    """

    weights: Tensor

    def __init__(self, config, dataset):
        super().__init__()
        interactions = dataset.inter_matrix("coo")
        self.n_users, self.n_items = interactions.shape
        self.n_layers = 3 if config["n_layers"] is None else config["n_layers"]
        sizes = {"user_emb": self.n_users, "item_emb": self.n_items}
        tables = {name: torch.empty(size, config["embedding_size"]) for name, size in sizes.items()}
        self.embedding_dict = nn.ParameterDict({n: nn.Parameter(nn.init.xavier_uniform_(t)) for n, t in tables.items()})
        adjacency = normalized_adjacency(interactions)
        self.graph, self.edges = SparseGraph(adjacency), EdgeGraph(adjacency)
        self.register_buffer("weights", torch.from_numpy(adjacency.data).float(), persistent=False)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """inputs: int64, its first two rows are users and items (B,). Returns their vectors under edge dropout, two (B, D)."""
        kept = 1 - torch.rand((), device=self.weights.device)  # above 0
        weights = self.weights * (torch.rand_like(self.weights) < kept) / kept
        users, items = self._split(lambda table: self.edges.weighted_sum(weights, table, "rows"))
        return users[inputs[0]], items[inputs[1]]

    @torch.no_grad()
    def get_embedding(self) -> tuple[Tensor, Tensor]:
        """Vectors of all users (U, D) and items (I, D), over all edges and without a gradient."""
        return self._split(self.graph)

    def _split(self, graph) -> tuple[Tensor, Tensor]:
        embeddings = torch.cat((self.embedding_dict["user_emb"], self.embedding_dict["item_emb"]))
        users, items = propagate_mean(graph, embeddings, self.n_layers).split((self.n_users, self.n_items))
        return users, items
