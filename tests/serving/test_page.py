"""The page of recommendations: history, lists and reasons side by side, offline, and every text escaped."""

import base64
import hashlib
import html
import io
import re

import numpy as np
import pandas as pd
import pytest

from mambarec.base.errors import DataError
from mambarec.running.trained import load_trained
from mambarec.serving.lists import recommend
from mambarec.serving.page import N_HISTORY, Gallery, lists_page
from mambarec.serving.titles import item_titles

EVIL = '</style><script>alert("1")</script>&\x1b[31m'


@pytest.fixture
def trained(make_run, toy):
    for kind, n in (("user", 48), ("item", 64)):
        frame = pd.DataFrame({f"{kind}_id": [f"{kind[0]}{i}{EVIL * (i == 3)}" for i in range(n)], f"{kind}ID": range(n)})
        frame.to_csv(toy / f"{kind[0]}_id_mapping.csv", index=False)
    items = pd.read_csv(toy / "i_id_mapping.csv")["item_id"]
    frame = pd.DataFrame({"item_id": range(64), "original_id": items, "text": [f"thing {i} {EVIL}" for i in range(64)]})
    frame.to_csv(toy / "items.csv", index=False)
    return load_trained(make_run("VBPR"))


@pytest.fixture
def page_of(trained):
    def make(users, n_reasons=1, images=None):
        frame = pd.concat(recommend(trained, users, 5, n_reasons=n_reasons), ignore_index=True)
        gallery = Gallery(item_titles(trained.dataset), images)
        return frame, lists_page(trained, users, frame, gallery, len(users))

    return make


def test_the_page_has_history_recommendations_and_reasons(trained, page_of):
    frame, page = page_of(np.array([3, 7]), n_reasons=2)
    _, first, second = page.split("<section>")
    assert "User u3" in first and "User u7" in second
    had = trained.dataset.items["train"][trained.dataset.users["train"] == 7]
    left, right = second.split("<table>")
    assert re.findall(r"thing (\d+) ", left) == [str(item) for item in had[-N_HISTORY:]]
    row = frame[frame["user"] == "u7"].iloc[0]
    first_row = right.split("<tr>")[2]
    names = [row["item"], row["visual_seen_1"], row["visual_seen_2"], row["text_seen_1"], row["text_seen_2"]]
    assert re.findall(r'class="id">([^<]*)<', first_row) == [
        html.escape(name, quote=True).replace("&#x27;", "&#39;") for name in names
    ]
    assert f"visual {row['visual_cosine_1']:.2f}" in first_row and f"{row['score']:.4g}" in first_row


def test_every_text_is_escaped(page_of):
    _, page = page_of(np.arange(48))
    assert EVIL[:16] not in page.partition("</style>")[2] and "<script" not in page and "\x1b" not in page
    assert "&lt;/style&gt;&lt;script&gt;" in page


def test_the_page_loads_nothing_but_its_own_style(page_of):
    _, page = page_of(np.arange(3))
    sheet = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'" in html.unescape(page)
    assert not re.search(r"(src|href)=|https?:|@import", page)


def test_a_picture_is_on_the_page_once_however_often_its_item_is_shown(page_of, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs the extra features")
    (tmp_path / "pictures").mkdir()
    for item in range(64):
        if item != 3:
            image.new("RGB", (400, 300), (item, 0, 0)).save(tmp_path / "pictures" / f"i{item}.png")
    (tmp_path / "pictures" / "i5.png").write_bytes(b"broken")
    _, page = page_of(np.array([7, 8]), images=tmp_path / "pictures")
    pictures = re.findall(r"\.p(\d+)\{background-image:url\(data:image/jpeg;base64,([\w+/=]+)\)\}", page)
    shown = set(re.findall(r'class="picture p(\d+)"', page))
    assert {number for number, _ in pictures} == shown and len({content for _, content in pictures}) > 5
    with image.open(io.BytesIO(base64.b64decode(pictures[0][1]))) as picture:
        assert picture.size == (160, 120)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        page_of(np.array([7]), images=tmp_path / "nowhere")


def test_a_model_without_features_has_a_page_without_reasons(make_run):
    trained = load_trained(make_run("BPR"))
    frame = pd.concat(recommend(trained, np.arange(2), 3))
    page = lists_page(trained, np.arange(2), frame, Gallery(None, None), 48)
    assert "<th>Reasons</th>" not in page and "The page shows the first 2 of 48 users." in page
