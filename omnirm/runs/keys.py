"""What a call is known by: a SHA-256 of all that decides its answer. For the record of a run.

That is: the model's name, revision and media settings, the prompt with local media by their content, and how the answer
is drawn. Not the device and not the order of calls. Knows no model and no file of a run.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from omnirm.judgment import prompt_hash
from omnirm.records import to_plain
from omnirm.scorers.base import Scored
from omnirm.types import Message, Request

if TYPE_CHECKING:
    from omnirm.rubrics.refine import RefineTask

_REMOTE = ("data:", "http:", "https:")


def request_key(model: Any, request: Request) -> str:
    """SHA-256 (hex) of model, prompt (media by content, see `by_content`) and decoding."""
    messages = tuple(by_content(one, model) for one in request.messages)
    trusted = "".join("01"[part.trusted] for message in messages for part in message.parts)
    decoding = [request.max_new_tokens, float(request.temperature), float(request.top_p), request.seed]
    marks = [list(request.stop), list(request.track), list(request.forced or ())]
    return _key("generate", model, prompt_hash(messages, request.prefill), trusted, *decoding, *marks)


def scored_key(model: Any, item: Scored) -> str:
    """SHA-256 (hex) of model, conversation and response."""
    messages = (*item.prompt, Message("assistant", item.response))
    return _key("score", model, prompt_hash(tuple(by_content(one, model) for one in messages), ""))


def task_key(model: Any, task: RefineTask) -> str:
    """SHA-256 (hex) of refiner, sample (id, prompt, candidates, metadata), candidate, rubrics and comments."""
    sample = task.sample
    messages = (*sample.prompt, *(Message("assistant", one.parts) for one in sample.candidates))
    shown = prompt_hash(tuple(by_content(one, model) for one in messages), "")
    rest = [to_plain(sample.metadata), task.candidate, to_plain(task.rubrics), task.comments]
    return _key("refine", model, sample.id, shown, *rest)


def by_content(message: Message, model: Any = None) -> Message:
    """The message with every local medium named by the SHA-256 of its content: a file may change under its path.

    A file is read where the model's own policy (`model.policy`, else the default) allows it; one that cannot be read,
    and whatever is on the network, counts by its reference.
    """
    if all(part.type == "text" for part in message.parts):
        return message
    from omnirm.preprocessing.source import open_source
    from omnirm.preprocessing.types import MediaError

    def content(value: Any) -> Any:
        if isinstance(value, list | tuple):  # the frames of a video
            return [content(one) for one in value]
        if not isinstance(value, str | os.PathLike) or str(value)[:6].lower().startswith(_REMOTE):
            return value
        try:
            return f"sha256:{open_source(value, getattr(model, 'policy', None)).sha256}"
        except MediaError:
            return value

    parts = (part if part.type == "text" else replace(part, value=content(part.value)) for part in message.parts)
    return replace(message, parts=tuple(parts))


def _key(what: str, model: Any, *values: Any) -> str:
    known = [model.name, getattr(model, "revision", ""), getattr(model, "media_settings", {})]
    text = json.dumps([what, *known, *values], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
