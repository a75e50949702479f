"""From the name that a user gives to a scorer. For the service and for Python users.

`nano` is the reward model inside this package, `scripted:<name>` a smoke test without a model, a URL a server, anything
else a folder or a hub name. Nothing heavy is imported before a model is asked for.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from omnirm.errors import BackendError, ConfigError, MissingExtra
from omnirm.scorers.base import Scorer
from omnirm.scorers.cached import CachedScorer

SCALAR_HEAD = "omnirm.scorers.scalar_head:ScalarHead"
NANO = "nano"
#: settings of a model that runs here; they mean nothing to a server
LOCAL = frozenset({"device", "dtype", "batch_size", "max_tokens", "allow_pickle", "allow_remote_code", "revision"})


def nano_folder() -> Path:
    """Where the weights of the embedded reward model are (whether or not they are there)."""
    import omnirm.nano

    return Path(omnirm.nano.__path__[0]) / "disrm"


def load_scorer(name: str, **options: Any) -> Scorer:
    """Loads a reward model by name, with a cache around it.

    Args:
        name: `nano`; `scripted:length`, `scripted:random`; `http://...` or `https://...`; a folder or hub name.
        options: passed to the scorer, e.g. `device`, `dtype`, `batch_size`, `policy`, or `model`, `api_key`, `timeout`
            for a server. Options that are None are left to its defaults; those of models that run here (`device`,
            `dtype`, `batch_size`, ...) are not for servers and left out there; scripted scorers take none.

    Raises:
        ConfigError: an empty name, a scripted scorer that does not exist, or a setting that cannot be used.
        BackendError: the model could not be loaded.
        MissingExtra: a package that it needs is not installed.
    """
    if not name.strip():
        raise ConfigError("the reward model has no name; give `nano`, a URL, a folder or a hub name")
    given = {key: value for key, value in options.items() if value is not None}
    kind, _, rest = name.partition(":")
    if kind == "scripted":
        from omnirm.scorers.scripted import named

        return CachedScorer(named(rest or "length"))
    if kind.lower() in ("http", "https"):
        from omnirm.scorers.http import HTTPScorer

        return CachedScorer(HTTPScorer(name, **{key: value for key, value in given.items() if key not in LOCAL}))
    if name == NANO:
        folder = nano_folder()
        if not folder.is_dir():
            raise BackendError(f"the reward model of nano is not in {folder}: reinstall omnirm, or name another model")
        return CachedScorer(_scalar_head()(str(folder), name=NANO, **given))
    return CachedScorer(_scalar_head()(name, **given))


def _scalar_head() -> Any:
    module, _, attribute = SCALAR_HEAD.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as e:
        missing = (e.name or "").partition(".")[0]
        if missing in ("", "omnirm"):
            raise
        raise MissingExtra(f"a reward model needs the package {missing!r}: make install in the clone") from e
