"""A basket stands for a user by the mean of its items' vectors."""

import numpy as np
import pytest

from mambarec.base.errors import DataError
from mambarec.running.trained import load_trained
from mambarec.serving.lists import recommend_to_basket


@pytest.mark.parametrize("model", ["LightGCN", "MambaRec"])
def test_the_list_is_ranked_by_the_mean_of_the_items_vectors(make_run, model):
    trained = load_trained(make_run(model))
    items = trained.model.representations()[1].detach().numpy()
    scores = items @ items[[3, 7, 20]].mean(0)
    scores[[3, 7, 20]] = -np.inf
    frame = recommend_to_basket(trained, ["7", "3", "20", "3"], 10)
    assert frame["item"].tolist() == np.argsort(-scores)[:10].tolist()
    np.testing.assert_allclose(frame["score"], np.sort(scores)[::-1][:10], rtol=1e-4)
    assert frame["rank"].tolist() == list(range(1, 11))


def test_items_of_the_basket_may_be_asked_for_and_must_be_known(make_run):
    trained = load_trained(make_run("LightGCN"))
    assert len(recommend_to_basket(trained, ["3"], 100)) == 63
    assert len(recommend_to_basket(trained, ["3"], 100, include_seen=True)) == 64
    with pytest.raises(DataError, match="there is no item 'x'"):
        recommend_to_basket(trained, ["3", "x"], 5)
