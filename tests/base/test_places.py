"""Where things lie, and which version this is."""

from importlib import metadata

from mambarec.base import places


def test_code_that_was_sent_alone_has_a_version_or_none(monkeypatch, tmp_path):
    monkeypatch.setattr(places, "CHECKOUT", tmp_path)  # as on a machine of a cluster: no setup.cfg lies above
    assert places.version() in (None, metadata.version("mambarec"))

    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(places.metadata, "version", not_installed)
    assert places.version() is None
