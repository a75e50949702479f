"""Media reference in, model-ready arrays out: the names other packages use.

`prepare(ref, kind, settings, policy)` reads an image, a video or an audio clip and returns `Image`, `Video` or
`Audio`; `prepare_many` does so for a batch, in which a bad medium becomes a `MediaError` in its place; `MediaCache`
keeps decoded media for as long as several requests share them. Types and errors are imported at once (numpy only);
everything that decodes is imported on first use, so that `import omnirm.preprocessing` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from omnirm.preprocessing.types import (
    Audio,
    AudioSettings,
    Image,
    ImageSettings,
    Limits,
    Media,
    MediaCorrupt,
    MediaError,
    MediaNotAllowed,
    MediaNotFound,
    MediaTimeout,
    MediaTooLarge,
    MediaUnsupported,
    Policy,
    Settings,
    Video,
    VideoSettings,
)

if TYPE_CHECKING:
    from omnirm.preprocessing.audio import load_audio
    from omnirm.preprocessing.cache import MediaCache
    from omnirm.preprocessing.decoders import available_decoders
    from omnirm.preprocessing.image import load_image
    from omnirm.preprocessing.preparation import MediaItem, prepare, prepare_many
    from omnirm.preprocessing.resize import smart_resize
    from omnirm.preprocessing.source import open_source
    from omnirm.preprocessing.video import load_video

_LAZY = {
    "MediaCache": "cache",
    "MediaItem": "preparation",
    "available_decoders": "decoders",
    "load_audio": "audio",
    "load_image": "image",
    "load_video": "video",
    "open_source": "source",
    "prepare": "preparation",
    "prepare_many": "preparation",
    "smart_resize": "resize",
}

__all__ = [
    "Audio",
    "AudioSettings",
    "Image",
    "ImageSettings",
    "Limits",
    "Media",
    "MediaCache",
    "MediaCorrupt",
    "MediaError",
    "MediaItem",
    "MediaNotAllowed",
    "MediaNotFound",
    "MediaTimeout",
    "MediaTooLarge",
    "MediaUnsupported",
    "Policy",
    "Settings",
    "Video",
    "VideoSettings",
    "available_decoders",
    "load_audio",
    "load_image",
    "load_video",
    "open_source",
    "prepare",
    "prepare_many",
    "smart_resize",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
