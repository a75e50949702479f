"""Small pictures of the images and videos of samples, for lists of judgments. Made when first wanted, then remembered.

They lie in the media store like every medium that the app shows. Originals are read under the same policy as media to
judge, with tighter limits: a medium that takes too long, is too large or cannot be read has no small picture.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnirm.app.runs.facts import parts_of
from omnirm.errors import OmnirmError
from omnirm.preprocessing.types import ImageSettings, Limits, MediaError, Policy, VideoSettings

if TYPE_CHECKING:
    import numpy as np

    from omnirm.app.media_store import MediaStore

MOST = 3  # of a sample
_PIXELS = 96 * 96
_LIMITS = Limits(max_bytes=32 << 20, max_pixels=40_000_000, max_seconds=120.0, timeout_s=3.0)
_REMEMBERED = 5000


class Thumbnails:
    """Makes and remembers them; threads may share one.

    Args:
        media: where they are kept.
        roots: folders that originals may lie in, besides the store.
    """

    def __init__(self, media: MediaStore, roots: Sequence[Path]) -> None:
        self._media = media
        self._policy = Policy(roots=(media.folder, *roots), limits=_LIMITS)
        self._known: OrderedDict[tuple[Any, ...], str] = OrderedDict()
        self._guard = threading.Lock()

    def of_samples(
        self, samples: Sequence[Mapping[str, Any] | None], *, patience: float = 8.0
    ) -> list[tuple[str, ...]]:
        """The files of the small pictures of each sample, those of its candidates before those of its prompt.

        Args:
            samples: in their file form.
            patience: seconds after which no more are made; those that are known already always come.
        """
        until = time.monotonic() + patience
        return [self._of_sample(one, until) if one else () for one in samples]

    def _of_sample(self, sample: Mapping[str, Any], until: float) -> tuple[str, ...]:
        wanted = [*parts_of({"candidates": sample.get("candidates")}), *parts_of({"prompt": sample.get("prompt")})]
        media = [(kind, value) for kind, value in wanted if kind in ("image", "video") and isinstance(value, str)]
        return tuple(path for path in (self._picture(kind, value, until) for kind, value in media[:MOST]) if path)

    def _picture(self, kind: str, value: str, until: float) -> str:
        try:
            found = os.stat(value)
        except (OSError, ValueError):  # a URL, something inside the record, or gone
            return ""
        key = (kind, value, found.st_size, found.st_mtime_ns)
        with self._guard:
            known = self._known.get(key)
        if known is not None and (not known or os.path.exists(known)):
            return known
        if time.monotonic() > until:
            return ""
        made = self._make(kind, value)
        with self._guard:
            self._known[key] = made
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return made

    def _make(self, kind: str, value: str) -> str:
        from PIL import Image

        try:
            picture = io.BytesIO()
            Image.fromarray(self._pixels(kind, value)).save(picture, "PNG")
            return str(self._media.add(picture.getvalue(), expected="image").path)
        except (MediaError, OmnirmError, OSError):
            return ""

    def _pixels(self, kind: str, value: str) -> np.ndarray:
        from omnirm.preprocessing import load_image, load_video

        if kind == "image":
            return load_image(value, ImageSettings(4, 16, _PIXELS), self._policy).pixels
        settings = VideoSettings(4, nframes=2, min_frames=2, min_pixels=16, max_pixels=_PIXELS)
        return load_video(value, settings, self._policy).frames[0].transpose(1, 2, 0)
