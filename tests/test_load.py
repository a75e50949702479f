"""Loading by name: what needs no model, and clear words where a model is missing."""

from __future__ import annotations

import sys

import pytest

from omnirm.backends import load
from omnirm.errors import BackendError, ConfigError, MissingExtra


class Recorder:
    """Stands in for the transformers backend and remembers how it was made."""

    def __init__(self, path: str, *, name: str = "", **options) -> None:
        self.name, self.path, self.options = name or path, path, options


@pytest.fixture
def hf(monkeypatch):
    module = type(sys)("recorder")
    module.Backend = Recorder
    monkeypatch.setitem(sys.modules, "recorder", module)
    monkeypatch.setitem(load.REGISTRY, "hf", "recorder:Backend")


def test_scripted_needs_nothing():
    assert load.load_backend("scripted:always-b", device="cuda").name == "scripted:always-b"
    assert load.load_backend("scripted").name == "scripted:always-a"
    with pytest.raises(ConfigError, match="always-a"):
        load.load_backend("scripted:nobody")


@pytest.mark.parametrize(
    ("name", "given"),
    [("org/model", "org/model"), ("./folder", "./folder"), ("hf:org/model", "org/model"), ("hf:nano", "nano")],
)
def test_any_other_name_goes_to_transformers(hf, name, given):
    backend = load.load_backend(name, device="cpu", dtype=None)
    assert (backend.name, backend.options) == (given, {"device": "cpu"})


def test_nano_is_the_package_s_own(hf, monkeypatch, tmp_path):
    monkeypatch.setattr(load, "nano_folder", lambda: tmp_path)
    with pytest.raises(BackendError, match="reinstall"):
        load.load_backend("nano")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    backend = load.load_backend("nano")
    assert (backend.name, backend.path) == ("nano", str(tmp_path))


@pytest.mark.parametrize("name", ["", "  "])
def test_no_name(name):
    with pytest.raises(ConfigError, match="nano"):
        load.load_backend(name)


def test_a_missing_package_has_an_install_command(monkeypatch, tmp_path):
    (tmp_path / "needs_more.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(load.REGISTRY, "hf", "needs_more:Backend")
    with pytest.raises(MissingExtra, match="pip install a_package_that_is_not_there"):
        load.load_backend("org/model")
