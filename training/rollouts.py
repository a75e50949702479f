"""Rollouts: a model in training answers the prompts of a batch, each several times, for GRPO and PaTaRM.

For `groups.py`. What is asked, a task says (`Task`); who answers is the model in training through the judge's own
backend, so prompts, media, forced verdict lines and stop texts are those of inference. A rollout keeps the tokens as
they were generated: text encoded again could be cut otherwise. This file knows no reward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from omnirm.asking import call_seed
from omnirm.backends.hf import HFBackend, TokenCompletion
from omnirm.backends.hf_inputs import Conversation, InputEncoder, media_parts
from omnirm.errors import BackendError, CapabilityError, ConfigError, SampleError
from omnirm.preprocessing.types import Media
from omnirm.prompts.rendered import Rendered
from omnirm.training.models import Trainable
from omnirm.types import Completion, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How rollouts are drawn.

    max_new_tokens: of an answer with thinking; a format without has its own limit. batch_size: rollouts that are
    generated together. vllm: leave text to TRL's vLLM (not run yet by anybody here, see `_by_vllm`).
    """

    temperature: float = 1.0
    top_p: float = 0.9
    max_new_tokens: int = 2048
    batch_size: int = 16
    seed: int = 0
    vllm: bool = False

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"temperature {self.temperature}: all rollouts of a group would be one; give more than 0")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p {self.top_p}: give more than 0 and at most 1")
        if min(self.max_new_tokens, self.batch_size) < 1:
            raise ConfigError("max_new_tokens and the batch of rollouts: give at least 1")


class Prompts(Protocol):
    """What is asked. The rollouts of a group share a row; `variants` prompts of it are asked equally often, those of
    the first variant first."""

    variants: int

    def __len__(self) -> int:
        """Rows."""
        ...

    def name(self, row: int) -> str:
        """What to call a row in messages, e.g. its sample's id."""
        ...

    def render(self, row: int, variant: int) -> Rendered:
        """The prompt."""
        ...


@dataclass(frozen=True, slots=True)
class Rollout:
    """One answer. place: in its group, from 0. conversation: the prompt with its media decoded."""

    row: int
    variant: int
    place: int
    rendered: Rendered
    conversation: Conversation
    completion: Completion

    @property
    def text(self) -> str:
        """Prefill and completion, as parsers read it."""
        return self.rendered.prefill + self.completion.text


class Rollouts:
    """A `rollout_func` for TRL's GRPOTrainer: takes row numbers as prompts, one for each rollout.

    The seed of a rollout comes from the settings' seed, the row, the optimiser's step and the place in its group, so
    that a run can be repeated, and resumed as if it had never stopped.

    Attributes:
        latest: the rollouts of the last call, in the order of its prompts.
    """

    def __init__(self, trainable: Trainable, prompts: Prompts, sampling: Sampling, max_tokens: int) -> None:
        self.trainable, self.prompts, self.sampling, self.max_tokens = trainable, prompts, sampling, max_tokens
        self.encoder: InputEncoder = trainable.encoder
        self.latest: list[Rollout] = []

    def check_lengths(self) -> None:
        """Raises `SampleError` for the first prompt that leaves no room for its answer, media counted as one token each
        (what they really take is looked at when they are decoded)."""
        for row in range(len(self.prompts)):
            for variant in range(self.prompts.variants):
                rendered = self.prompts.render(row, variant)
                (ids,) = self.encoder.unexpanded([Conversation(rendered.messages, (), rendered.prefill)])
                self._check_length(row, len(ids), rendered)

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Tokens for TRL: `prompt_ids`, `completion_ids`, `logprobs` (None but with vLLM), and `env_mask`: 0 for a
        token that was not the model's choice.

        Raises:
            SampleError: a prompt over the limit (it names the row), or media that cannot be decoded.
            BackendError: no prompt of the batch could be answered.
        """
        first, group = trainer.accelerator.process_index * len(prompts), trainer.num_generations
        places = [(int(prompt), (first + i) % group) for i, prompt in enumerate(prompts)]
        with self._generating(trainer) as backend:
            asked, prompt_ids = self._asked(places, group, backend)
            if self.sampling.vllm:
                completions, logprobs = self._by_vllm(asked, prompt_ids, trainer)
            else:
                requests = [
                    one.rendered.request(
                        max_new_tokens=self._room(one.rendered),
                        temperature=self.sampling.temperature,
                        top_p=self.sampling.top_p,
                        seed=call_seed(
                            self.sampling.seed, str(one.row), f"step {trainer.state.global_step}", one.place
                        ),
                    )
                    for one in asked
                ]
                completions, logprobs = backend.generate(requests), None
        if all(one.finish_reason == "error" for one in completions):
            raise BackendError(f"no rollout could be generated: {completions[0].error}")
        self.latest = [replace(one, completion=c) for one, c in zip(asked, completions, strict=True)]
        end = [self.trainable.processor.tokenizer.eos_token_id]  # of a rollout that failed: nothing is learnt from it
        return {
            "prompt_ids": prompt_ids,
            "completion_ids": [list(getattr(c, "token_ids", ())) or end for c in completions],
            "logprobs": logprobs,
            "env_mask": [[int(x) for x in getattr(c, "chosen", ())] or [0] for c in completions],
        }

    def features(self, rows: Sequence[Rollout], width: int, answer: int) -> dict[str, Any]:
        """What the forward needs of the rollouts' media beside the tokens: {} for text.

        Args:
            rows: rollouts of a batch.
            width: length of its prompts with their padding, on the left.
            answer: length of its completions with their padding.

        Raises:
            CapabilityError: videos of which only some carry their sound; take them apart.
        """
        import torch

        if not any(one.conversation.media for one in rows):
            return {}
        batch = self.encoder([one.conversation for one in rows])
        short = width - batch["input_ids"].shape[1]
        found = {k: v for k, v in batch.items() if k not in ("input_ids", "attention_mask")}
        if "mm_token_type_ids" in found:  # one for each token
            found["mm_token_type_ids"] = torch.nn.functional.pad(found["mm_token_type_ids"], (short, answer))
        weight = next(self.trainable.model.parameters())

        def placed(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            feature = value.is_floating_point() and value.dim() > 1  # seconds per grid stay as they are
            return value.to(weight.device, weight.dtype) if feature else value.to(weight.device)

        return {k: placed(v) for k, v in found.items()}

    def _asked(
        self, places: Sequence[tuple[int, int]], group: int, backend: HFBackend
    ) -> tuple[list[Rollout], list[list[int]]]:
        """The rollouts to be, without their answers, and the tokens of their prompts."""
        shown: dict[tuple[int, int], tuple[Rendered, Conversation, list[int]]] = {}
        asked, ids = [], []
        for row, place in places:
            variant = place * self.prompts.variants // group
            if (row, variant) not in shown:
                rendered = self.prompts.render(row, variant)
                media = self._media(row, rendered.messages, backend)
                conversation = Conversation(rendered.messages, media, rendered.prefill)
                tokens = self.encoder([conversation])["input_ids"][0].tolist()
                self._check_length(row, len(tokens), rendered)
                shown[row, variant] = rendered, conversation, tokens
            rendered, conversation, tokens = shown[row, variant]
            asked.append(Rollout(row, variant, place, rendered, conversation, Completion("", "error")))
            ids.append(tokens)
        return asked, ids

    def _media(self, row: int, messages: Sequence[Message], backend: HFBackend) -> tuple[Media, ...]:
        from omnirm.preprocessing import MediaItem, prepare_many
        from omnirm.preprocessing.types import MediaError

        items = [MediaItem(p.value, p.type, p.options) for p in media_parts(messages) if p.type != "text"]
        found = list(prepare_many(items, backend.settings, backend.policy, cache=backend.cache)) if items else []
        for one in found:
            if isinstance(one, MediaError):
                raise SampleError(f"row {self.prompts.name(row)}: {one}") from one
        return tuple(one for one in found if not isinstance(one, MediaError))

    def _room(self, rendered: Rendered) -> int:
        return self.sampling.max_new_tokens if rendered.thinking else rendered.max_new_tokens

    def _check_length(self, row: int, tokens: int, rendered: Rendered) -> None:
        room = self._room(rendered)
        if tokens + room > self.max_tokens:
            raise SampleError(
                f"row {self.prompts.name(row)}: a prompt of {tokens} tokens and {room} for the answer are over "
                f"max_tokens = {self.max_tokens}: raise that, lower max_new_tokens, or drop the row; nothing is cut"
            )

    @contextmanager
    def _generating(self, trainer: Any) -> Iterator[HFBackend]:
        """A backend on the model in training: in eval mode, whole, without gradient checkpointing; then back."""
        import torch
        from trl.models import unwrap_model_for_generation

        with (
            unwrap_model_for_generation(
                trainer.model_wrapped,
                trainer.accelerator,
                gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
            ) as unwrapped,
            torch.no_grad(),
        ):
            base = unwrapped.get_base_model() if hasattr(unwrapped, "get_base_model") else unwrapped
            modes = [(module, module.training) for module in unwrapped.modules()]
            unwrapped.eval()
            try:
                yield HFBackend.of(
                    base,
                    self.trainable.processor,
                    self.trainable.settings,
                    name=self.trainable.source,
                    batch_size=self.sampling.batch_size,
                    tokens=True,
                )
            finally:
                for module, mode in modes:
                    module.training = mode

    def _by_vllm(
        self, asked: Sequence[Rollout], prompt_ids: list[list[int]], trainer: Any
    ) -> tuple[list[Completion], list[list[float]]]:
        """TRL's own generation from our prompts. Nothing is forced, and its seeds are vLLM's.

        Written after TRL's code and not run: there is no vLLM where this was written.
        """
        if any(one.conversation.media for one in asked):
            raise CapabilityError("vllm: TRL hands it no video and no audio; set vllm to false for rows with media")
        same = trainer.num_generations // self.prompts.variants
        _, answers, found, _ = trainer.vllm_generation.generate(prompt_ids, images=None, num_generations=same)
        tokenizer = self.trainable.processor.tokenizer
        completions: list[Completion] = []
        for ids in answers:
            ended = ids[-1] in trainer.eos_token_ids
            text = tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False)
            reason: Any = "stop" if ended else "length"
            completions.append(TokenCompletion(text, reason, token_ids=tuple(ids), chosen=(True,) * len(ids)))
        return completions, [[one[0] for one in row] for row in found]


__all__ = ["Prompts", "Rollout", "Rollouts", "Sampling"]
