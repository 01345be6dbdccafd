"""Vectors of users and items: the nearest of an item, and files for serving elsewhere."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from mambarec.base.errors import ConfigError, RunError
from mambarec.base.extras import optional
from mambarec.base.files import replacing
from mambarec.data.dataloader import user_batches
from mambarec.evaluation.topk_evaluator import masked_scores
from mambarec.running.trained import ROUNDING, Trained
from mambarec.serving.identifiers import Identifiers, item_identifiers, user_identifiers

ENDINGS = {".npz": "npz", ".faiss": "faiss", ".index": "faiss"}  # of files of vectors
N_CHECKED = 64  # users whose scores must be the inner products of what is exported


@torch.no_grad()
def vectors(trained: Trained) -> tuple[Tensor, Tensor]:
    """User (U, D) and item (I, D) vectors whose inner products are the scores, float32 on the CPU; RunError without such."""
    name = trained.config["model"]
    if not hasattr(trained.model, "representations"):
        raise RunError(f"{name} has no representations(), only scores, so there are no vectors of its users and items")
    tables = inner_products(trained)
    if tables is None:
        raise RunError(f"{name}: its scores are not the inner products of its representations, so these rank otherwise than it")
    users, items = (table.detach().float().cpu().contiguous() for table in tables)
    return users, items


@torch.no_grad()
def inner_products(trained: Trained) -> tuple[Tensor, Tensor] | None:
    """The model's representations, (U, D) and (I, D), if there are such and their inner products are its scores; else None."""
    model = trained.model
    if not hasattr(model, "representations"):
        return None
    users, items = model.representations()  # type: ignore[operator]
    some = np.linspace(0, trained.dataset.n_users - 1, N_CHECKED).astype(np.int64)
    batch = next(user_batches(trained.dataset, some, trained.config, hide_seen=False))
    present = torch.from_numpy(trained.dataset.present_items).to(items.device)
    scores = masked_scores(model, batch, trained.dataset)[:, present]
    error = (users[batch[0]] @ items[present].T - scores).abs().max()
    return None if error > ROUNDING * scores.abs().max() else (users, items)


def vector_tables(trained: Trained) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`vectors` of the users and items that occur in some split: (U, D) and (I, D), a row each, indexed by original id."""
    of_users, of_items = vectors(trained)
    return _by_id(of_users, user_identifiers(trained.dataset)), _by_id(of_items, item_identifiers(trained.dataset))


def _by_id(table: Tensor, ids: Identifiers) -> pd.DataFrame:
    """The rows of those that occur, of a table with a row for each number."""
    return pd.DataFrame(table.numpy()[ids.present], index=ids.index(ids.present))


def similar_items(trained: Trained, item: str, k: int) -> pd.DataFrame:
    """The k items nearest to one by cosine: columns by, item, rank, cosine; by 'representation' and by each modality read.

    item: its id. A model that has no representations is left to the features. An item without a modality is near to none by it.
    """
    ids = item_identifiers(trained.dataset)
    number = int(ids.numbers([item])[0])
    tables = {"representation": F.normalize(vectors(trained)[1])} if hasattr(trained.model, "representations") else {}
    tables |= unit_features(trained)
    if not tables:
        raise RunError(f"{trained.config['model']} has neither representations() nor item features to compare items by")
    parts, masks = [], trained.dataset.masks()
    for name, table in tables.items():
        has = masks.get(name)
        if has is not None and not has[number]:
            continue  # what stands in for its features says nothing of it
        cosine = table @ table[number]  # (I,)
        if has is not None:
            cosine[~has] = -torch.inf
        cosine[number] = -torch.inf
        cosine[trained.dataset.absent_items] = -torch.inf
        values, places = cosine.topk(min(k, int((cosine > -torch.inf).sum())))
        ranks = np.arange(1, len(values) + 1)
        parts.append(pd.DataFrame({"by": name, "item": ids.of(places.numpy()), "rank": ranks, "cosine": values.numpy()}))
    if not parts:
        raise RunError(f"item {item} has none of the features that {trained.config['model']} reads, so nothing is near to it")
    return pd.concat(parts, ignore_index=True)


def export_vectors(trained: Trained, form: str, output: Path) -> list[Path]:
    """Write the vectors of the users and items that occur in some split for serving elsewhere; returns the files.

    npz: `output` with users (U, D), items (I, D), float32, and user_ids, item_ids. faiss: `output`, an exact inner-product
    index of the items in the order of their numbers, and the npz beside it, for the users and the ids.
    """
    if not output.name:
        raise ConfigError(f"--output '{output}': expected the name of a file")
    dataset, (users, items) = trained.dataset, vectors(trained)
    arrays = {"users": users.numpy()[dataset.present_users], "items": items.numpy()[dataset.present_items]}
    for kind, ids in (("user_ids", user_identifiers(dataset)), ("item_ids", item_identifiers(dataset))):
        arrays[kind] = ids.present if ids.names is None else ids.names.to_numpy(dtype=str)
    archive = output if form == "npz" else output.with_suffix(".npz")
    if form == "faiss":
        faiss = optional("faiss", "faiss-cpu", "serving", "--format faiss needs")
        if archive == output:
            raise ConfigError(f"--output {output}: the index needs another ending than .npz, which the vectors beside it have")
        index = faiss.IndexFlatIP(items.shape[1])
        index.add(arrays["items"])
        with replacing(output) as file:
            file.write(faiss.serialize_index(index).data)
    with replacing(archive) as file:
        if archive.is_file() or not archive.exists():
            np.savez(file, allow_pickle=False, **arrays)
        else:  # a device cannot go back to its start
            whole = io.BytesIO()
            np.savez(whole, allow_pickle=False, **arrays)
            file.write(whole.getbuffer())
    return list(dict.fromkeys((output, archive)))


def unit_features(trained: Trained) -> dict[str, Tensor]:
    """The raw features that the run reads, each row of length 1: modality -> (I, D_m), on the CPU."""
    return {modality: F.normalize(torch.from_numpy(table)) for modality, table in trained.dataset.features().items()}
