"""A reward model behind a URL: the classification API of a vLLM server.

    vllm serve Skywork/Skywork-Reward-V2-Llama-3.1-8B --runner pooling
    scorer = HTTPScorer("http://localhost:8000", model="Skywork/Skywork-Reward-V2-Llama-3.1-8B")

For `omnirm.scorers.load` and callers. One request an item, several at a time (the server makes batches of them), so
that one bad item loses no other. Knows no rubric; what the server does to a number it cannot tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from omnirm.errors import BackendError, CapabilityError, ConfigError
from omnirm.posting import Endpoint, Refused, data_uri, in_parallel
from omnirm.preprocessing.types import MediaError, Policy
from omnirm.scorers.base import Scored
from omnirm.types import Message, Modality, ParseFailure, Part


class HTTPScorer:
    """Scores through `POST /classify`, as vLLM offers it for sequence classification models with one label.

    The raw value of the head is asked for (`use_activation: false`); without that vLLM gives its sigmoid.

    Args:
        url: of the server; with a path, exactly this address (e.g. `http://host/v1/classify`), else `/classify` there.
        model: the model's name, for servers that have several.
        tokenizer: a transformers tokenizer that applies its chat template here; the server then gets token ids, in
            which no response can hold a special token. None: the server gets messages and applies the template of its
            model, in which the text `<|im_end|>` may end a turn.
        modalities: what the served model takes. Media are sent as `data:` URIs, without preprocessing options.
        policy: which media may be opened.
        api_key: sent as a bearer token.
        timeout, retries: see `omnirm.posting.Endpoint`.
        parallel: requests under way at a time.

    Raises:
        ConfigError: a setting that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        tokenizer: Any = None,
        modalities: Iterable[Modality] = ("text",),
        policy: Policy | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 2,
        parallel: int = 8,
    ) -> None:
        self._endpoint = Endpoint(_address(url), timeout=timeout, retries=retries, api_key=api_key)
        self.name = model or self._endpoint.name
        self.revision = ""
        self.modalities: frozenset[Modality] = frozenset(modalities)
        if parallel < 1:
            raise ConfigError(f"parallel {parallel}: give at least 1")
        if tokenizer is not None and self.modalities != {"text"}:
            raise ConfigError("a tokenizer encodes text only; leave it out for models that take media")
        self._model, self._policy, self._parallel = model, policy, parallel
        self._encoder, self._encoding = None, Lock()  # tokenizers change their own settings while they work
        if tokenizer is not None:
            if not getattr(tokenizer, "chat_template", None):
                raise ConfigError("the tokenizer has no chat template; leave it out, and the server applies its own")
            from omnirm.backends.hf_inputs import InputEncoder
            from omnirm.scorers.reward_model import TextProcessor

            self._encoder = InputEncoder(TextProcessor(tokenizer), open_turn=False)

    def score(self, items: Sequence[Scored]) -> list[float | ParseFailure]:
        """The reward of each item, in order.

        A `ParseFailure`: `backend_error` (the server refused this item, e.g. for its length, or kept failing on it),
        `media_error`, `capability` (a modality or an option that cannot be sent), `out_of_range` (no finite number).

        Raises:
            BackendError: there is no such server, model or right to use it, or what is served is no reward model.
        """
        return in_parallel(self._one, items, self._parallel)

    def _one(self, item: Scored) -> float | ParseFailure:
        try:
            return self._read(self._endpoint.post(self._payload(item)))
        except MediaError as e:
            return ParseFailure("media_error", str(e))
        except CapabilityError as e:
            return ParseFailure("capability", str(e))
        except Refused as e:
            return ParseFailure("backend_error", str(e))

    def _payload(self, item: Scored) -> dict[str, Any]:
        messages = (*item.prompt, Message("assistant", item.response))
        found = {part.type for message in messages for part in message.parts}
        if missing := sorted(found - self.modalities):
            takes = ", ".join(sorted(self.modalities))
            raise CapabilityError(f"{self.name} takes {takes}, not {', '.join(missing)}")
        payload: dict[str, Any] = {} if self._model is None else {"model": self._model}
        payload["use_activation"] = False
        payload["add_special_tokens"] = False  # the template has them
        if self._encoder is not None:
            return payload | {"input": self._ids(messages)}
        turns = [{"role": message.role, "content": self._content(message.parts)} for message in messages]
        return payload | {"messages": turns, "add_generation_prompt": False}

    def _ids(self, messages: tuple[Message, ...]) -> list[int]:
        """Token ids just as `omnirm.scorers.scalar_head` makes them."""
        from omnirm.backends.hf_inputs import Conversation

        assert self._encoder is not None
        with self._encoding:
            return self._encoder([Conversation(messages)])["input_ids"][0].tolist()

    def _content(self, parts: Sequence[Part]) -> str | list[dict[str, Any]]:
        if all(part.type == "text" for part in parts):
            return "".join(part.value for part in parts)
        content: list[dict[str, Any]] = []
        for part in parts:
            if part.type == "text":
                content.append({"type": "text", "text": part.value})
                continue
            if part.options:
                raise CapabilityError(f"{', '.join(sorted(part.options))}: options of media cannot be sent to a server")
            kind = f"{part.type}_url"
            content.append({"type": kind, kind: {"url": data_uri(part, self._policy)}})
        return content

    def _read(self, answer: Any) -> float | ParseFailure:
        data = answer.get("data") if isinstance(answer, dict) else None
        first = data[0] if isinstance(data, list) and len(data) == 1 else None
        values = first.get("probs") if isinstance(first, dict) else None
        if not isinstance(values, list):
            raise BackendError(f"{self._endpoint.name} does not answer as /classify does; give the address of a server")
        if len(values) != 1:
            raise BackendError(f"{self.name} tells {len(values)} classes; a reward model has one label")
        value = values[0]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return ParseFailure("out_of_range", "the score is not a finite number")
        return float(value)


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url  # refused by the endpoint, in its own words
    return url if parts.path not in ("", "/") else parts._replace(path="/classify").geturl()
