"""One page of recommendations for people: what each user had, what is recommended, and why, with pictures.

The page is page/lists.html filled in. It loads nothing: its Content-Security-Policy allows one style sheet, and pictures that
are within the page. Every text is escaped.
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from mambarec.base.console import printable
from mambarec.base.errors import DataError
from mambarec.base.extras import optional
from mambarec.base.pages import content_hash, templates
from mambarec.base.text import trimmed_text
from mambarec.preparation.features.pictures import SUFFIXES, upright_rgb
from mambarec.running.trained import Trained
from mambarec.serving.identifiers import item_identifiers, user_identifiers

N_USERS = 100  # on a page
N_HISTORY = 24  # items that a user had
_PIXELS = 160  # the longer side of a picture
_PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Item:
    """What the page shows of an item. picture: the number of its picture on the page, None if it has none."""

    id: str
    title: str
    picture: int | None


class Gallery:
    """The items of a page. Each picture is in the page once, however often its item is shown."""

    def __init__(self, titles: pd.Series | None, images: Path | None):
        """images: a folder whose pictures are named by original ids. DataError where there is no such folder."""
        if images is not None and not images.is_dir():
            raise DataError(f"--images {images} is not a folder; name the folder of the pictures")
        self.titles = {} if titles is None else titles.to_dict()
        self.paths: dict[str, Path] = {}
        for path in sorted(images.rglob("*")) if images else ():
            if path.suffix.lower() in SUFFIXES:
                self.paths.setdefault(trimmed_text(path.stem), path)
        self.pictures: list[str] = []
        self.items: dict[str, Item] = {}

    def item(self, name: object) -> Item:
        """The item with an original id."""
        key = str(name)
        if key not in self.items:
            uri = self._picture(self.paths.get(trimmed_text(key)))
            self.pictures += [uri] * bool(uri)
            self.items[key] = Item(key, self.titles.get(key, ""), len(self.pictures) - 1 if uri else None)
        return self.items[key]

    def _picture(self, path: Path | None) -> str:
        """A small JPEG as a data URI; '' where there is no picture, or it cannot be read."""
        if path is None:
            return ""
        image = optional("PIL.Image", "pillow", "features", "pictures on the page need")
        file = io.BytesIO()
        try:
            with image.open(path) as picture:
                small = upright_rgb(picture)
                small.thumbnail((_PIXELS, _PIXELS))
                small.save(file, "JPEG", quality=80)
        except Exception:  # a broken file makes the decoders raise almost anything
            return ""
        return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def lists_page(trained: Trained, users: np.ndarray, frame: pd.DataFrame, gallery: Gallery, asked: int) -> str:
    """The page of a table of recommendations, as serving.lists.recommend makes it, for these users (N,), at most N_USERS.

    asked: how many users the command named. The columns <modality>_seen_<n> and <modality>_cosine_<n> are the reasons.
    """
    modalities = list(dict.fromkeys(name.rpartition("_seen_")[0] for name in frame if "_seen_" in name))
    item_ids = item_identifiers(trained.dataset)
    groups = dict(list(frame.groupby("user", sort=False)))
    names = list(user_identifiers(trained.dataset).of(users))
    people = []
    for number, name in zip(users, names, strict=True):
        had = trained.dataset.items["train"][trained.dataset.users["train"] == number]
        rows = groups.get(name)
        shown = [gallery.item(one) for one in item_ids.of(had[-N_HISTORY:])]
        recommended = [] if rows is None else [_row(row, modalities, gallery) for row in rows.to_dict("records")]
        people.append({"name": name, "history": shown, "more": len(had) - len(shown), "rows": recommended})
    config = trained.config
    environment = templates(_PAGE)
    environment.finalize = lambda value: printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
    sheet = (_PAGE / "lists.css").read_text(encoding="utf-8") + "".join(
        f".p{number}{{background-image:url({uri})}}\n" for number, uri in enumerate(gallery.pictures)
    )
    return environment.get_template("lists.html").render(
        css=Markup(sheet),  # of this package, and base64
        css_hash=content_hash(sheet),
        run={
            "model": config["model"],
            "dataset": config["dataset"],
            "seed": config["seed"],
            "path": str(trained.directory.path),
        },
        people=people,
        asked=asked,
        has_reasons=bool(modalities),
    )


def _row(row: dict, modalities: list[str], gallery: Gallery) -> dict:
    """A recommendation, with its reasons: (modality, item, cosine), the nearest of each modality first."""
    reasons = []
    for modality in modalities:
        place = 1
        while f"{modality}_seen_{place}" in row:
            seen = row[f"{modality}_seen_{place}"]
            if not pd.isna(seen):
                reasons.append((modality, gallery.item(seen), f"{row[f'{modality}_cosine_{place}']:.2f}"))
            place += 1
    return {"rank": row["rank"], "item": gallery.item(row["item"]), "score": f"{row['score']:.4g}", "reasons": reasons}
