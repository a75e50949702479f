"""Loading a reward model by name."""

from __future__ import annotations

import sys

import pytest

from omnirm.errors import BackendError, ConfigError, MissingExtra
from omnirm.scorers import load
from omnirm.scorers.cached import CachedScorer
from omnirm.scorers.http import HTTPScorer


class Recorder:
    """Stands in for the scalar-head scorer and remembers how it was made."""

    revision, modalities = "", frozenset({"text"})

    def __init__(self, path: str, *, name: str = "", **options) -> None:
        self.name, self.path, self.options = name or path, path, options


@pytest.fixture
def scalar_head(monkeypatch):
    module = type(sys)("recorder")
    module.Scorer = Recorder
    monkeypatch.setitem(sys.modules, "recorder", module)
    monkeypatch.setattr(load, "SCALAR_HEAD", "recorder:Scorer")


def test_scripted_needs_nothing():
    assert load.load_scorer("scripted:random", device="cuda").name == "scripted:random"
    assert load.load_scorer("scripted").name == "scripted:length"
    with pytest.raises(ConfigError, match="scripted:length"):
        load.load_scorer("scripted:nobody")


@pytest.mark.usefixtures("scalar_head")
@pytest.mark.parametrize("name", ["Skywork/Skywork-Reward-V2-Qwen3-0.6B", "./folder", "https-folder"])
def test_any_other_name_is_a_folder_or_hub_name(name):
    scorer = load.load_scorer(name, device="cpu", dtype=None)
    assert isinstance(scorer, CachedScorer)
    assert (scorer.name, scorer.scorer.path, scorer.scorer.options) == (name, name, {"device": "cpu"})


@pytest.mark.usefixtures("scalar_head")
def test_nano_is_the_package_s_own(monkeypatch, tmp_path):
    monkeypatch.setattr(load, "nano_folder", lambda: tmp_path / "disrm")
    with pytest.raises(BackendError, match="reinstall"):
        load.load_scorer("nano")
    (tmp_path / "disrm").mkdir()
    scorer = load.load_scorer("nano", batch_size=4)
    assert (scorer.name, scorer.scorer.path) == ("nano", str(tmp_path / "disrm"))
    assert scorer.scorer.options == {"batch_size": 4}


@pytest.mark.parametrize("url", ["http://localhost:8000", "HTTPS://host/classify"])
def test_a_url_is_a_server_and_takes_no_settings_of_local_models(url):
    scorer = load.load_scorer(url, device="cuda", dtype="bfloat16", batch_size=8, model="org/rm", timeout=5)
    assert isinstance(scorer.scorer, HTTPScorer)
    assert scorer.name == "org/rm"


@pytest.mark.parametrize("name", ["", "  "])
def test_no_name(name):
    with pytest.raises(ConfigError, match="nano"):
        load.load_scorer(name)


def test_a_missing_package_has_an_install_command(monkeypatch, tmp_path):
    (tmp_path / "needs_more.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(load, "SCALAR_HEAD", "needs_more:Scorer")
    with pytest.raises(MissingExtra, match="a_package_that_is_not_there"):
        load.load_scorer("org/model")
