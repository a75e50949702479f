"""From the name that a user gives to a backend that answers. For the service and for Python users.

`nano` is the model inside this package, `scripted:<name>` a smoke test without a model, anything else a folder or a
hub name for the transformers backend. Nothing heavy is imported before a backend is asked for.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from omnirm.backends.base import Backend
from omnirm.errors import BackendError, ConfigError, MissingExtra

REGISTRY: dict[str, str] = {
    "hf": "omnirm.backends.hf:HFBackend",
    "scripted": "omnirm.backends.scripted:named",
}
NANO = "nano"
_INSTALL = dict.fromkeys(("torch", "transformers"), "make install in the clone")


def nano_folder() -> Path:
    """Where the weights of the embedded model are (whether or not they are there)."""
    import omnirm.nano

    return Path(omnirm.nano.__path__[0]) / "weights"


def has_nano() -> bool:
    """Are the weights of the embedded model installed?"""
    folder = nano_folder()
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def checkpoint_path(name: str) -> str:
    """Folder or hub name of the checkpoint behind a model's name.

    Raises:
        BackendError: the embedded model is not installed.
    """
    if name != NANO:
        return name.removeprefix("hf:")
    if not has_nano():
        raise BackendError(
            f"the weights of nano are not in {nano_folder()}: reinstall omnirm, or name another model with --model"
        )
    return str(nano_folder())


def load_backend(name: str, **options: Any) -> Backend:
    """Loads a model by name.

    Args:
        name: `nano`; `scripted:always-a`, `scripted:always-b`, `scripted:random`; `hf:<path or hub name>` or just a
            path or hub name.
        options: passed to the backend, e.g. `device`, `dtype`, `batch_size`, `policy`, `settings`, `revision`.
            Options that are None are left to the backend's defaults. Scripted backends take none and ignore them.

    Raises:
        ConfigError: an empty name, or a scripted backend that does not exist.
        BackendError: the model could not be loaded.
        MissingExtra: a package that the backend needs is not installed.
    """
    if not name.strip():
        raise ConfigError("the model has no name; give `nano`, a folder or a hub name")
    kind, _, rest = name.partition(":")
    if kind == "scripted":
        return _import(kind)(rest or "always-a")
    given = {key: value for key, value in options.items() if value is not None}
    if name == NANO:
        given["name"] = NANO
    return _import("hf")(checkpoint_path(name), **given)


def _import(kind: str) -> Any:
    module, _, attribute = REGISTRY[kind].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as e:
        missing = (e.name or "").partition(".")[0]
        if missing in ("", "omnirm"):
            raise
        raise MissingExtra(
            f"the {kind} backend needs the package {missing!r}: {_INSTALL.get(missing, f'pip install {missing}')}"
        ) from e
