"""The P(Yes) dialog as training sees it: thoughts sampled from the policy, and what is read from one forward pass.

For `omnirm.training.dwrl`. A dialog is (prompt and response, "evaluate") -> thought o -> (question) -> "Yes", as in
`omnirm.prompts.p_yes`. Of each dialog a single pass gives the log-probability of every token of o, the end-of-turn
token included, and log P("Yes"). A thought's tokens are those that were sampled, never its text encoded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from omnirm.asking import call_seed
from omnirm.backends.hf import HFBackend
from omnirm.backends.hf_inputs import IGNORE, Conversation, InputEncoder, media_parts
from omnirm.errors import BackendError, CapabilityError, SampleError
from omnirm.preprocessing import MediaCache, prepare
from omnirm.prompts.formats import get_format
from omnirm.prompts.rendered import Rendered
from omnirm.sample import Sample
from omnirm.training.models import Trainable
from omnirm.types import Message, ParseFailure, Part

_YES = "Yes"
_BEHIND = 2  # labels behind a thought and its end: Yes, and the end of that turn


@dataclass(frozen=True, slots=True)
class Pair:
    """One row: a sample with the indices of a better and of a worse candidate. `name` is unique among the rows."""

    sample: Sample
    chosen: int
    rejected: int
    name: str

    @property
    def sides(self) -> tuple[int, int]:
        return self.chosen, self.rejected


@dataclass(frozen=True, slots=True)
class Thought:
    """A sampled evaluation.

    ids: its tokens and the end token. old: their log-probabilities under the policy that sampled them, nats; empty
    where not known yet. failure: why it cannot be used ("" where it can): such a thought has no score.
    """

    text: str
    ids: tuple[int, ...]
    old: tuple[float, ...] = ()
    failure: str = ""


class _Sampled(str):
    """A text that knows the tokens it came in."""

    ids: tuple[int, ...]
    __slots__ = ("ids",)

    @classmethod
    def of(cls, thought: Thought) -> _Sampled:
        """Without the end token: the chat template writes the end of a turn."""
        text = cls(thought.text)
        text.ids = thought.ids[:-1]
        return text


class _DialogEncoder(InputEncoder):
    """Keeps the tokens of sampled thoughts."""

    def untrusted_ids(self, text: str) -> list[int]:
        return list(text.ids) if isinstance(text, _Sampled) else super().untrusted_ids(text)


def pairs_of(samples: Iterable[Sample]) -> list[Pair]:
    """Every labelled sample as rows: its better candidate over each of the others; ties and unlabelled ones give none.

    Raises:
        SampleError: no labelled sample at all.
    """
    found = [
        Pair(one, one.label, worse, f"{number} {one.id} {sorted((one.label, worse))}")
        for number, one in enumerate(samples)
        if isinstance(one.label, int)
        for worse in range(len(one.candidates))
        if worse != one.label
    ]
    if not found:
        raise SampleError("no sample has a label that prefers one candidate: there is nothing to train on")
    return found


class Dialogs:
    """Samples thoughts and encodes dialogs for one model.

    Args:
        trainable: the model's processor and media budgets.
        thoughts: n, for each response.
        max_new_tokens: of a thought; a longer one cannot be used.
        max_tokens: of a whole dialog; a longer one is an error.
        seed: thoughts of a row at a step depend on it, the row and the step alone.
    """

    def __init__(self, trainable: Trainable, *, thoughts: int, max_new_tokens: int, max_tokens: int, seed: int) -> None:
        self._trainable, self.n, self._seed = trainable, thoughts, seed
        self._max_new_tokens, self._max_tokens = max_new_tokens, max_tokens
        self._encoder = _DialogEncoder(trainable.processor)
        self._tokenizer = trainable.processor.tokenizer
        known = self._tokenizer.added_tokens_decoder
        media = {getattr(trainable.processor, f"{kind}_token", None) for kind in ("image", "video", "audio")}
        self._special = frozenset(i for i, token in known.items() if token.special or token.content in media)
        self._form = get_format("p-yes")
        self.cache = MediaCache()

    def check(self, pairs: Sequence[Pair]) -> None:
        """Looks through all rows before anything is trained; a medium counts as one token here.

        Raises:
            SampleError: a dialog with a thought of `max_new_tokens` would be over `max_tokens`.
            CapabilityError: "Yes" is no single token, the model takes not such media, or its chat template shows a
                finished turn otherwise than it opens one, so that thoughts would not be read as they were written.
        """
        if len(self._encoder.text_ids(_YES)) != 1:
            raise CapabilityError("'Yes' is not a single token for this model: P(Yes) cannot be read from one position")
        short = self.stand_in()
        for number, pair in enumerate(pairs):
            for candidate in pair.sides:
                first = self._first(pair, candidate)
                dialog = self._conversation(first, short)
                opened, whole = self._encoder.unexpanded([Conversation(first.messages, (), first.prefill), dialog])
                begun = [*opened, *short.ids[:-1]]
                if not number and whole[: len(begun)] != begun:
                    raise CapabilityError("the chat template of this model changes a turn once it is finished")
                self._within(pair, candidate, len(whole) - _BEHIND + self._max_new_tokens)

    def stand_in(self) -> Thought:
        """A thought of one token, for where there must be one."""
        end = self._tokenizer.eos_token_id
        return Thought(".", (*self._encoder.untrusted_ids("."), end))

    def sample(self, backend: HFBackend, pairs: Sequence[Pair], step: int) -> list[list[list[Thought]]]:
        """n thoughts on the chosen and n on the rejected response of each pair: [pair][side][n].

        Args:
            backend: on the policy, giving tokens.
            pairs: the rows.
            step: of the optimiser.

        Raises:
            SampleError: a medium that cannot be read, or a prompt that the model cannot take.
            BackendError: it cannot be generated, e.g. for lack of memory.
        """
        asked = [(pair, self._first(pair, c), c, k) for pair in pairs for c in pair.sides for k in range(self.n)]
        requests = [
            first.request(
                temperature=1.0, max_new_tokens=self._max_new_tokens,
                seed=call_seed(self._seed, pair.name, f"{step} {candidate}", k),
            )
            for pair, first, candidate, k in asked
        ]  # fmt: skip
        found = []
        for (pair, first, candidate, _), completion in zip(asked, backend.generate(requests), strict=True):
            if completion.finish_reason == "error":
                kind = SampleError if completion.error.startswith(("media_error", "capability_error")) else BackendError
                raise kind(f"sample {pair.sample.id}, candidate {candidate}: {completion.error}")
            ids: tuple[int, ...] = completion.token_ids  # type: ignore[attr-defined]
            parsed = self._form.parse(first, completion.text, completion.finish_reason)
            failure = parsed.reason if isinstance(parsed, ParseFailure) else ""
            if not failure and not self._special.isdisjoint(ids[:-1]):
                failure = "special_token"  # a medium's placeholder, or the opening of another turn
            found.append(Thought(completion.text, ids, failure=failure))
        rest = iter(found)
        return [[[next(rest) for _ in range(self.n)] for _ in pair.sides] for pair in pairs]

    def with_sound(self, pair: Pair) -> bool:
        """Do videos of this pair carry their sound? Those that do and those that do not go into separate batches."""
        shown = [*media_parts(pair.sample.prompt), *(p for c in pair.sides for p in pair.sample.candidates[c].parts)]
        default = self._trainable.settings.video.with_audio
        return any(p.type == "video" and p.options.get("use_audio_in_video", default) for p in shown)

    def read(self, model: Any, asked: Sequence[tuple[Pair, int, Thought]]) -> tuple[Any, Any, Any]:
        """What one forward pass says about dialogs.

        Args:
            model: the policy, with TRL's fused head, in whatever wraps it.
            asked: pairs, candidates, thoughts: C dialogs.

        Returns:
            log P("Yes") over the whole vocabulary, nats, [C]; log-probabilities of the thoughts' tokens [C, T]; the
            mask of those that there are [C, T].

        Raises:
            SampleError, MediaError: see `batch`.
        """
        import torch

        weight = next(model.parameters())

        def placed(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            features = value.is_floating_point() and value.dim() > 1  # as the backend does
            return value.to(weight.device, weight.dtype) if features else value.to(weight.device)

        batch, columns, mask = self.batch(asked)
        columns, mask = columns.to(weight.device), mask.to(weight.device)
        output = model(**{name: placed(value) for name, value in batch.items()}, fused_lm_head=True)
        found = output.log_probs.float().gather(1, (columns - 1).clamp(min=0))  # log_probs [C, L - 1] look ahead
        return found[:, -1], found[:, :-1], mask[:, :-1]

    def batch(self, asked: Sequence[tuple[Pair, int, Thought]]) -> tuple[dict[str, Any], Any, Any]:
        """Model inputs of dialogs, right-padded.

        Args:
            asked: pairs, candidates, thoughts.

        Returns:
            The batch, whose `labels` [B, L] are the tokens of thoughts with their ends, and "Yes"; the columns of
            `labels` [B, T] where a thought's tokens stand, and a mask [B, T] of those that there are. The last column
            of a row is that of "Yes".

        Raises:
            SampleError: a dialog over `max_tokens`.
            MediaError: a medium that cannot be decoded.
        """
        import torch

        conversations = []
        for pair, candidate, thought in asked:
            dialog = self._conversation(self._first(pair, candidate), thought)
            media = [self._prepared(part) for part in media_parts(dialog.messages)]
            conversations.append(replace(dialog, media=tuple(media)))
        batch = self._encoder(conversations, padding_side="right")
        labels = batch["labels"]
        width = max(len(thought.ids) for _, _, thought in asked) + 1
        columns = torch.zeros((len(asked), width), dtype=torch.long)
        mask = torch.zeros((len(asked), width), dtype=torch.bool)
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        for row, ((pair, candidate, thought), length) in enumerate(zip(asked, lengths, strict=True)):
            self._within(pair, candidate, length - _BEHIND)
            taught = (labels[row] != IGNORE).nonzero().squeeze(1)
            count = len(thought.ids)
            if len(taught) != count + _BEHIND:
                raise CapabilityError("the chat template of this model changes what the judge has written")
            labels[row, taught[count - 1]] = thought.ids[-1]  # the model may end with another token than the template
            labels[row, taught[-1]] = IGNORE
            columns[row, :count] = taught[:count]
            columns[row, -1] = taught[count]
            mask[row, :count] = True
        return batch, columns, mask

    def _first(self, pair: Pair, candidate: int) -> Rendered:
        return self._form.render_thought(pair.sample, rubrics=pair.sample.rubrics, candidate=candidate)

    def _conversation(self, first: Rendered, thought: Thought) -> Conversation:
        """The dialog up to and with "Yes"; its media are still references."""
        *before, _, question = self._form.render_question(first, thought.text).messages
        own = Message("assistant", (Part("text", _Sampled.of(thought)),))
        return Conversation((*before, own, question), (), "", _YES, learn_history=True)

    def _prepared(self, part: Part) -> Any:
        return prepare(part.value, part.type, self._trainable.settings, None, part.options, self.cache)  # type: ignore[arg-type]

    def _within(self, pair: Pair, candidate: int, length: int) -> None:
        if length > self._max_tokens:
            raise SampleError(
                f"sample {pair.sample.id}, candidate {candidate}: prompt, thought and question take {length} tokens, "
                f"over max_tokens = {self._max_tokens}: raise that, lower max_new_tokens, or drop the sample"
            )


__all__ = ["Dialogs", "Pair", "Thought", "pairs_of"]
