"""A model that is to be downloaded: the hub is asked once, and a network that is not there is said."""

import pytest

from mambarec.base.errors import ConfigError
from mambarec.preparation.features.libraries import fetched

hub = pytest.importorskip("huggingface_hub", reason="needs the extra features")


@pytest.fixture
def answers(monkeypatch):
    """answers(error) -> the list of repositories that the hub was asked for; it raises the error, where there is one."""

    def make(error: Exception | None) -> list[str]:
        asked: list[str] = []

        def model_info(self, repository, **_):
            asked.append(repository)
            if error:
                raise error

        monkeypatch.setattr(hub.HfApi, "model_info", model_info)
        return asked

    return make


def local(found: bool):
    """A model that is in the cache or not."""

    def load(only_local: bool) -> str:
        if only_local and not found:
            raise OSError("not in the cache")
        return "of the cache" if only_local else "of the hub"

    return load


def test_nothing_is_asked_without_download_or_for_a_folder(answers, tmp_path):
    asked = answers(None)
    assert fetched("it", "some/model", False, local(True), "") == "of the cache"
    assert fetched("it", str(tmp_path), True, local(True), "") == "of the hub"
    assert asked == []


def test_a_hub_that_answers_is_used(answers):
    asked = answers(None)
    assert fetched("it", "some/model", True, local(True), "") == "of the hub"
    assert asked == ["some/model"]


def test_without_a_network_the_cache_is_used_or_a_sentence_says_what_to_do(answers):
    asked = answers(ConnectionError("no route to host"))
    assert fetched("it", "some/model", True, local(True), "") == "of the cache"
    with pytest.raises(
        ConfigError, match=r"^it is not on this machine, and http.* cannot be reached \(no route to host\)\. Check"
    ):
        fetched("it", "some/model", True, local(False), "Or name a folder")
    assert len(asked) == 2


@pytest.mark.parametrize("repository", ["a b!", "a/b/c", "-a"])
def test_a_name_that_no_repository_can_have_is_no_fault_of_the_network(repository):
    def load(only_local: bool) -> str:
        raise ValueError(f"no model is named {repository}")

    with pytest.raises(ValueError, match="no model is named"):  # the library's own error, and not one of the network
        fetched("it", repository, True, load, "")
