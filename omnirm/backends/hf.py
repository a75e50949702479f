"""Generates with transformers: Qwen2.5-Omni (thinker), Qwen3-Omni (thinker), Qwen3-VL, from a path or hub name.

For the judge and for everything that needs completions. One bad request (a broken file, a prompt too long) gets an
error completion and loses nothing else. Sampling is seeded per request: the same request gives the same completion
whatever it is batched with. Knows neither prompts nor parsers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from omnirm.backends.base import Capabilities
from omnirm.backends.hf_batches import batches
from omnirm.backends.hf_branches import generate_shared
from omnirm.backends.hf_forced import ForcedText
from omnirm.backends.hf_inputs import Conversation, InputEncoder, media_parts
from omnirm.backends.hf_load import checkpoint_revision, checkpoint_settings, load_checkpoint, torch_dtype
from omnirm.backends.hf_prefix import Beginnings, share
from omnirm.backends.hf_steps import StepLog, StopTexts, media_tokens, no_media, sample_processor
from omnirm.errors import BackendError, CapabilityError, ConfigError
from omnirm.preprocessing.types import MediaError, Policy, Settings
from omnirm.types import Completion, Part, Request


@dataclass(frozen=True, slots=True)
class TokenCompletion(Completion):
    """A completion with its tokens, for those who train on it.

    token_ids: of the text, with the end token where the model wrote one. chosen: for each of them, was it the model's
        choice? False where the request's fixed text was put in its place.
    """

    token_ids: tuple[int, ...] = ()
    chosen: tuple[bool, ...] = ()


class HFBackend:
    """A Qwen model on this machine.

    Args:
        name_or_path: folder or hub name.
        device: `cpu`, `cuda`, `cuda:1`, ...; the best there is when None.
        dtype: `float32`, `bfloat16`, `float16`; what suits the device when None.
        batch_size: requests that are generated together, up to four times as many where they begin alike; halved by
            itself when memory runs out.
        settings: media budgets; the checkpoint's `omnirm.json` or the family's defaults when None.
        policy: which media may be read, and limits.
        allow_pickle: load weights that are not safetensors. Such files can run any code.
        allow_remote_code: run code that comes with the checkpoint.
        revision: hub revision.
        name: what to call the model; `name_or_path` when None.

    Raises:
        UnsafeCheckpoint: pickled weights or remote code, and not allowed.
        BackendError: the checkpoint cannot be loaded.
        ConfigError: a batch size below 1, or an unknown dtype.
    """

    def __init__(
        self,
        name_or_path: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int = 8,
        settings: Settings | None = None,
        policy: Policy | None = None,
        allow_pickle: bool = False,
        allow_remote_code: bool = False,
        revision: str | None = None,
        name: str | None = None,
    ) -> None:
        import torch

        path = str(name_or_path)
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model, processor = load_checkpoint(
            path,
            where,
            torch_dtype(dtype, where),
            allow_pickle=allow_pickle,
            allow_remote_code=allow_remote_code,
            revision=revision,
        )
        self.revision = checkpoint_revision(path, model)
        self._take(model, processor, settings or checkpoint_settings(path, processor), name or path, batch_size, policy)

    @classmethod
    def of(
        cls,
        model: Any,
        processor: Any,
        settings: Settings,
        *,
        name: str = "model",
        batch_size: int = 8,
        policy: Policy | None = None,
        tokens: bool = False,
    ) -> HFBackend:
        """A backend on a model that is loaded already, e.g. one in training; its `revision` is "".

        With `tokens`, completions are `TokenCompletion`. The model's generation settings become the backend's (greedy,
        no penalties). Whoever owns the model sees to its mode: in training mode, dropout would be at work.
        """
        backend = cls.__new__(cls)
        backend.revision = ""
        backend._take(model, processor, settings, name, batch_size, policy)
        backend._tokens = tokens
        return backend

    def _take(
        self, model: Any, processor: Any, settings: Settings, name: str, batch_size: int, policy: Policy | None
    ) -> None:
        from transformers import GenerationConfig

        from omnirm.preprocessing import MediaCache

        if batch_size < 1:
            raise ConfigError(f"batch_size {batch_size}: must be at least 1")
        self.name, self.model, self.processor, self.settings = name, model, processor, settings
        weight = next(model.parameters())
        self.device, self.dtype = str(weight.device), weight.dtype
        self.batch_size, self._tokens = batch_size, False
        self._media_tokens = media_tokens(model.config)
        self.policy = policy or Policy()
        self.cache = MediaCache()
        self.encoder = InputEncoder(self.processor)
        context = int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 32768))
        self.capabilities = Capabilities(self.encoder.modalities, logprobs=True, context=context)
        tokenizer = self.processor.tokenizer
        configured = self.model.generation_config.eos_token_id
        ends = [configured] if isinstance(configured, int) else list(configured or ())
        self._ends = {*ends, tokenizer.eos_token_id, tokenizer.pad_token_id} - {None}
        # a checkpoint's own sampling settings (penalties, top-k, ...) would change distributions unseen
        self.model.generation_config = GenerationConfig(
            eos_token_id=sorted(self._ends), pad_token_id=tokenizer.pad_token_id, do_sample=False
        )

    @property
    def media_settings(self) -> dict[str, Any]:
        """The media budgets, JSON-ready, for the record of a judgment."""
        return asdict(self.settings)

    def decoding(self, request: Request) -> dict[str, Any]:
        """What decides a completion besides the prompt, JSON-ready."""
        keys = ("max_new_tokens", "temperature", "top_p", "seed")
        found = {k: getattr(request, k) for k in keys}
        return found | {
            "stop": list(request.stop),
            "forced": list(request.forced or ()),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device,
        }

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers every request, in order. Requests of like length are batched together, and what requests share at
        their beginning (the same pair under many rubrics) is computed once.

        What is wrong with one request is in its completion: `finish_reason` is "error", and `error` begins with
        `media_error`, `capability_error`, `out_of_memory`, `bad_request` or `backend_error`.

        Raises:
            BackendError: the device failed; nothing can be generated any more.
        """
        results: list[Completion | None] = [None] * len(requests)
        beginnings = Beginnings(self.model)
        for batch in batches(requests, self.batch_size, self._group):
            found = self._prepare_and_answer([requests[i] for i in batch], beginnings)
            for i, completion in zip(batch, found, strict=True):
                results[i] = completion
        return [r for r in results if r is not None]

    def _group(self, request: Request) -> tuple[bool, bool, int]:
        """Requests that are equal in this may share a batch: videos, their sound, and how long an answer may be."""
        videos = [p for p in media_parts(request.messages) if p.type == "video"]
        return bool(videos), any(map(self._with_sound, videos)), request.max_new_tokens

    def _with_sound(self, video: Part) -> bool:
        return bool(video.options.get("use_audio_in_video", self.settings.video.with_audio))

    def _prepare_and_answer(self, requests: Sequence[Request], beginnings: Beginnings) -> list[Completion]:
        results: list[Completion | None] = [None] * len(requests)
        ready: list[tuple[int, Request, Conversation]] = []
        for i, (request, found) in enumerate(zip(requests, self._conversations(requests), strict=True)):
            if isinstance(found, Conversation):
                ready.append((i, request, found))
            else:
                results[i] = found
        batch = [(request, conversation) for _, request, conversation in ready]
        answers = self._answer(batch, beginnings) if ready else []
        for (i, _, _), completion in zip(ready, answers, strict=True):
            results[i] = completion
        return [r for r in results if r is not None]

    def _conversations(self, requests: Sequence[Request]) -> Iterator[Conversation | Completion]:
        """Each request with its media, or the completion that says why not. Media are decoded in one go."""
        from omnirm.preprocessing import MediaItem, prepare_many

        wrong = [self._wrong(request) for request in requests]
        parts = [() if why else tuple(media_parts(r.messages)) for r, why in zip(requests, wrong, strict=True)]
        items = [MediaItem(p.value, p.type, p.options) for one in parts for p in one if p.type != "text"]
        media = iter(prepare_many(items, self.settings, self.policy, cache=self.cache))
        for request, why, own in zip(requests, wrong, parts, strict=True):
            prepared = [next(media) for _ in own]
            if why:
                yield _failed(why)
            elif errors := [m for m in prepared if isinstance(m, MediaError)]:
                yield _failed(f"media_error: {errors[0]}")
            else:
                found = tuple(m for m in prepared if not isinstance(m, MediaError))
                yield Conversation(request.messages, found, request.prefill)

    def _wrong(self, request: Request) -> str:
        """Why a request cannot be answered at all, "" where it can."""
        for part in media_parts(request.messages):
            if part.type not in self.encoder.modalities:
                return f"capability_error: {self.name} takes no {part.type}; choose a Qwen-Omni model for it"
            if part.type == "video" and self._with_sound(part) and "audio" not in self.encoder.modalities:
                return f"capability_error: {self.name} hears no sound: leave out use_audio_in_video"
        if request.max_new_tokens < 1:
            return f"bad_request: max_new_tokens {request.max_new_tokens}: give at least 1"
        if not 0 <= request.temperature < float("inf"):
            return f"bad_request: temperature {request.temperature}: give 0 or more"
        if not 0 < request.top_p <= 1:
            return f"bad_request: top_p {request.top_p}: give more than 0 and at most 1"
        return ""

    def _answer(self, batch: list[tuple[Request, Conversation]], beginnings: Beginnings) -> list[Completion]:
        """One batch; halves it when memory runs out, and isolates a request that cannot be encoded or run."""
        import torch

        try:
            return self._run(batch, beginnings)
        except CapabilityError as error:
            why = f"capability_error: {error}"
        except torch.AcceleratorError as error:
            raise BackendError(f"{self.name}: {self.device} failed, start anew: {error}") from error
        except (ValueError, IndexError, TypeError, RuntimeError, MemoryError) as error:  # of processor or model
            why = f"backend_error: {type(error).__name__}: {error}"
            if _out_of_memory(error):
                why = "out_of_memory: shorten the prompt, or lower the media budget"
                if self.device.startswith("cuda"):
                    torch.cuda.empty_cache()
        if len(batch) == 1:
            return [_failed(why)]
        half = (len(batch) + 1) // 2
        return self._answer(batch[:half], beginnings) + self._answer(batch[half:], beginnings)

    def _run(self, batch: list[tuple[Request, Conversation]], beginnings: Beginnings) -> list[Completion]:
        import torch

        requests, conversations = [r for r, _ in batch], [c for _, c in batch]
        shared = share(self.model, self.encoder, conversations)
        inputs = {} if shared else self.encoder(conversations)
        lengths = shared.lengths if shared else inputs["attention_mask"].sum(1).tolist()
        longest = max(n + r.max_new_tokens for n, r in zip(lengths, requests, strict=True))
        if longest > self.capabilities.context:
            raise CapabilityError(
                f"{longest} tokens of prompt and answer, but {self.name} takes {self.capabilities.context}: "
                "shorten the prompt, lower the media budget or max_new_tokens"
            )
        tokenizer, width = self.processor.tokenizer, 0 if shared else inputs["input_ids"].shape[1]
        log = StepLog(tokenizer, [r.track for r in requests])
        stops = StopTexts(tokenizer, requests, width)
        forced = ForcedText(tokenizer, requests, width)
        steps: list[Any] = [log.before, no_media(self._media_tokens), sample_processor(requests), forced, log.after]
        limit = max(r.max_new_tokens for r in requests)
        with torch.inference_mode():
            if shared:
                new = generate_shared(
                    self.model, shared, self._to_device, limit, sorted(self._ends), tokenizer.pad_token_id, steps, stops
                )
            else:
                new = self._generate({k: self._to_device(v) for k, v in inputs.items()}, limit, steps, stops)
        computed = shared.computed if shared else lengths
        if shared:
            least = beginnings.of_shared(shared)
        else:
            least = [beginnings.of(ids, c.media) for ids, c in zip(_unpadded(inputs), conversations, strict=True)]
        return [
            replace(
                self._completion(row, ids, request, lengths[row], log, stops, forced),
                computed_prompt_tokens=computed[row],
                least_prompt_tokens=least[row],
            )
            for row, (ids, request) in enumerate(zip(new, requests, strict=True))
        ]

    def _generate(self, inputs: dict[str, Any], limit: int, steps: list[Any], stops: StopTexts) -> list[list[int]]:
        from transformers import LogitsProcessorList, StoppingCriteriaList

        output = self.model.generate(
            **inputs,
            max_new_tokens=limit,
            logits_processor=LogitsProcessorList(steps),
            stopping_criteria=StoppingCriteriaList([stops]),
        )
        return output[:, inputs["input_ids"].shape[1] :].tolist()

    def _completion(
        self,
        row: int,
        ids: list[int],
        request: Request,
        prompt_tokens: int,
        log: StepLog,
        stops: StopTexts,
        forced: ForcedText,
    ) -> Completion:
        ids = ids[: request.max_new_tokens]
        ended = next((i for i, t in enumerate(ids) if t in self._ends), None)
        stopped = stops.at(row)
        kept = ids[: min(x for x in (ended, stopped, len(ids)) if x is not None)]
        text = self.processor.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if stopped is not None:
            cuts = [text.index(stop) + len(stop) for stop in request.stop if stop in text]
            text = text[: min(cuts, default=len(text))]
        reason: Literal["stop", "length"] = "length" if ended is None and stopped is None else "stop"
        at_end = ended == len(kept) and stopped != len(kept)  # behind a stop text it is only what fills up the row
        logged = ids[: len(kept) + at_end]  # with the end token, whose text is "": P(Yes) may stand there
        logprobs = log.token_logprobs(row, logged, text) if request.track else ()
        if not self._tokens:
            return Completion(text, reason, prompt_tokens, len(kept), logprobs)
        fixed = forced.at(row)
        chosen = tuple(place not in fixed for place in range(len(logged)))
        return TokenCompletion(text, reason, prompt_tokens, len(kept), logprobs, token_ids=tuple(logged), chosen=chosen)

    def _to_device(self, value: Any) -> Any:
        import torch

        if not isinstance(value, torch.Tensor):
            return value
        features = value.is_floating_point() and value.dim() > 1  # seconds per grid stay as they are
        return value.to(self.device, self.dtype) if features else value.to(self.device)


def _out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # of torch's CPU allocator


def _unpadded(inputs: dict[str, Any]) -> list[list[int]]:
    """The tokens of each row that are no padding."""
    return [ids[mask.bool()].tolist() for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]


def _failed(why: str) -> Completion:
    return Completion("", "error", error=why)
