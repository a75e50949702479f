"""DWRL: trains a judge that thinks and then says Yes, so that P(chosen > rejected) rises (METHODS.md 4, docs/dwrl.md).

    Z(y) = E_{o ~ pi} p(Yes | y, o)          P(chosen > rejected) = Z(y+) / (Z(y+) + Z(y-))

Two updates take turns, each a step of one optimiser. The scoring update samples n thoughts on both responses and moves
P(Yes) behind them; then, with the weights w and v recomputed by the updated model, the thought update moves the
thoughts themselves, with PPO's clip against the policy that sampled them. `omnirm.scoring.dwrl` derives both from the
likelihood, `losses_dwrl` has them as functions, `dialogs` is what they are computed from; here is the schedule.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from omnirm.backends.hf import HFBackend
from omnirm.errors import ConfigError, SampleError
from omnirm.sample import Sample
from omnirm.scoring.dwrl import misalignment, thought_advantages
from omnirm.training.backbone import with_backbone
from omnirm.training.dialogs import Dialogs, Pair, Thought, pairs_of
from omnirm.training.dwrl_log import DWRLLog
from omnirm.training.losses_dwrl import Scale, scoring_loss, thought_loss
from omnirm.training.models import Trainable
from omnirm.training.settings import TrainSettings, freeze, make_optimizer, newest_checkpoint, trainer_arguments

_THOUGHTS_FILE = "thoughts-{}.json"

Dialog = tuple[int, int, int]  # of a micro-batch: row, side, which of the n thoughts


@dataclass(frozen=True, slots=True, kw_only=True)
class DWRLSettings(TrainSettings):
    """How to optimise; defaults are the paper's: 5e-7, four thoughts of at most 1000 tokens, clip 0.2, two epochs.

    batch_size: pairs a step and device: 2 x thoughts dialogs each. max_steps counts both updates; an epoch has two
        steps for each batch.
    thoughts: n, at least 2: a thought is better or worse than the mean of n.
    temperature, top_p: of sampling. 1: the gradient is that of thoughts drawn from the policy itself.
    clip: eps of PPO, in (0, 1).
    scale: of the thought update, `paper` or `likelihood` (see `losses_dwrl.thought_loss`).
    misalignment: weigh pairs by w; False is the paper's ablation, w = 1.
    scoring_weight, thought_weight: factors of the two losses.
    steps_per_rollout: scoring steps before as many thought steps follow on the same thoughts (paper: 256 / 32 = 8).
    chunk: dialogs in one forward pass; 0 is all of a micro-batch. Fewer need less memory and one pass more.
    rollout_batch: thoughts that are generated together.
    patience: scoring steps without one usable pair, after which training stops with an error.
    """

    learning_rate: float = 5e-7
    epochs: float = 2.0
    thoughts: int = 4
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 1000
    clip: float = 0.2
    scale: Scale = "paper"
    misalignment: bool = True
    scoring_weight: float = 1.0
    thought_weight: float = 1.0
    steps_per_rollout: int = 1
    chunk: int = 0
    rollout_batch: int = 16
    patience: int = 10

    def __post_init__(self) -> None:
        TrainSettings.__post_init__(self)
        if self.thoughts < 2:
            raise ConfigError(f"thoughts = {self.thoughts}: give at least 2; one alone is never better than the mean")
        for name in ("max_new_tokens", "steps_per_rollout", "rollout_batch", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}: give at least 1")
        if self.temperature != 1 or self.top_p != 1:
            raise ConfigError(
                f"temperature = {self.temperature}, top_p = {self.top_p}: DWRL's gradient is that of thoughts drawn "
                "from the policy itself; leave both at 1"
            )
        if not 0 < self.clip < 1:
            raise ConfigError(f"clip = {self.clip}: give a number between 0 and 1, as 0.2")
        if self.scale not in ("paper", "likelihood"):
            raise ConfigError(f"scale {self.scale!r}: write paper or likelihood")
        if self.chunk < 0:
            raise ConfigError(f"chunk = {self.chunk}: give 0 (all) or more")
        if min(self.scoring_weight, self.thought_weight) < 0:
            raise ConfigError("scoring_weight, thought_weight: give 0 or more")
        if self.sampling == "group_by_length":
            raise ConfigError(f"sampling {self.sampling!r}: write random or sequential")


def train_dwrl(
    trainable: Trainable,
    rows: Sequence[Sample],
    settings: DWRLSettings,
    output: Path,
    *,
    max_tokens: int = 4096,
    resume: bool = True,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Trains the model in place and returns the trainer.

    Args:
        trainable: the policy.
        rows: labelled samples; those without a preferred candidate are left out.
        settings: see `DWRLSettings`. Dropout is off: ratios compare policies, not noise.
        output: folder of the checkpoints.
        max_tokens: of a whole dialog; a longer one is an error, nothing is cut.
        resume: continue from the newest checkpoint in `output` where there is one.
        callbacks: more trainer callbacks.

    Raises:
        SampleError: before anything is trained: no labelled sample, too few for a step, or one whose text is over
            `max_tokens`; later, one that is over it with its media, or `patience` steps without a usable thought.
        CapabilityError: the model cannot be trained this way (see `Dialogs.check`).
        BackendError: thoughts cannot be generated.
    """
    from transformers import TrainingArguments
    from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model

    pairs = pairs_of(rows)
    dialogs = Dialogs(
        trainable, thoughts=settings.thoughts, max_new_tokens=settings.max_new_tokens, max_tokens=max_tokens,
        seed=settings.seed,
    )  # fmt: skip
    dialogs.check(pairs)
    model = trainable.model
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    own_forward, own_generation = base.__dict__.get("forward"), base.generation_config
    freeze(model, settings.freeze)
    disable_dropout_in_model(model)
    arguments = trainer_arguments(settings, output, 2 * len(pairs)) | {
        "dataloader_num_workers": 0,  # a row is a number
        "dataloader_prefetch_factor": None,
        "dataloader_drop_last": True,
        "dataloader_pin_memory": False,
    }
    try:
        add_fused_lm_head(with_backbone(base))
        trainer = _trainer_class()(
            model=model,
            args=TrainingArguments(**arguments),
            train_dataset=list(range(len(pairs))),
            data_collator=_numbers,
            processing_class=trainable.processor,
            callbacks=list(callbacks),
            optimizers=(make_optimizer(model, settings), None),
        )
        trainer.prepare(trainable, pairs, dialogs, settings)
        checkpoint = newest_checkpoint(output) if resume else None
        if checkpoint is not None:
            trainer.load_thoughts(Path(checkpoint))
        trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        base.generation_config = own_generation
        if own_forward is None:
            base.__dict__.pop("forward", None)
        else:
            base.forward = own_forward
    return trainer


class TwiceSampler:
    """Indices of rows such that what one rollout takes comes twice: first for its scoring, then for its thought steps.

    Args:
        rows: how many there are.
        rollout: rows of one rollout; a last one that is not full is left out.
        epoch: says which one begins; each has an order of its own.
        seed: of the orders; None keeps the rows in their order.
    """

    def __init__(self, rows: int, rollout: int, epoch: Callable[[], int], seed: int | None) -> None:
        if rows < rollout:
            raise SampleError(
                f"{rows} pairs, but a rollout takes {rollout} (batch_size x accumulation x steps_per_rollout x "
                "devices): lower one of them, or give more pairs"
            )
        self._rows, self._rollout, self._epoch, self._seed = rows, rollout, epoch, seed

    def __len__(self) -> int:
        return 2 * (self._rows // self._rollout) * self._rollout

    def __iter__(self) -> Iterator[int]:
        import torch

        order = list(range(self._rows))
        if self._seed is not None:
            generator = torch.Generator().manual_seed(self._seed + 1_000_003 * self._epoch())
            order = torch.randperm(self._rows, generator=generator).tolist()
        for start in range(0, self._rows - self._rollout + 1, self._rollout):
            for _ in range(2):
                yield from order[start : start + self._rollout]


def _trainer_class() -> Any:
    import torch
    from transformers import Trainer
    from trl.models import unwrap_model_for_generation

    class DWRLTrainer(Trainer):
        """transformers' trainer with a step of its own: thoughts, forward passes in chunks, DWRL's losses."""

        def prepare(
            self, trainable: Trainable, pairs: Sequence[Pair], dialogs: Dialogs, settings: DWRLSettings
        ) -> None:
            self._trainable, self._pairs, self._dialogs, self._settings = trainable, pairs, dialogs, settings
            self._thoughts: dict[int, list[list[Thought]]] = {}  # by row, between its scoring and its thought step
            self._log = DWRLLog(settings.patience * settings.accumulation)

        # -- schedule

        @property
        def scoring(self) -> bool:
            """Is this step a scoring update?"""
            return self.state.global_step // self._settings.steps_per_rollout % 2 == 0

        def _get_train_sampler(self, *_: Any) -> Any:
            s = self._settings
            rollout = s.batch_size * s.accumulation * s.steps_per_rollout * self.accelerator.num_processes
            steps = 2 * (len(self._pairs) // rollout) * s.steps_per_rollout  # of an epoch
            seed = s.seed if s.sampling == "random" else None
            return TwiceSampler(len(self._pairs), rollout, lambda: self.state.global_step // steps, seed)

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            rows = inputs["rows"].tolist()
            scoring = self.scoring
            if scoring or not all(row in self._thoughts for row in rows):  # e.g. resumed with other batches
                for row, found in zip(rows, self._sample(rows), strict=True):
                    self._thoughts[row] = found
            model.train()
            if hasattr(self.optimizer, "train") and callable(self.optimizer.train):
                self.optimizer.train()
            loss = self._update(model, rows, scoring)
            if not scoring:
                for row in rows:
                    del self._thoughts[row]
            return loss / self.current_gradient_accumulation_steps

        def _sample(self, rows: Sequence[int]) -> list[list[list[Thought]]]:
            again = self.args.gradient_checkpointing_kwargs
            with unwrap_model_for_generation(
                self.model_wrapped, self.accelerator, gradient_checkpointing_kwargs=again
            ) as policy:
                policy.eval()
                base = policy.get_base_model() if hasattr(policy, "peft_config") else policy
                t = self._trainable
                backend = HFBackend.of(
                    base, t.processor, t.settings, batch_size=self._settings.rollout_batch, tokens=True
                )
                backend.cache = self._dialogs.cache
                return self._dialogs.sample(backend, [self._pairs[row] for row in rows], self.state.global_step)

        # -- one micro-batch

        def _update(self, model: Any, rows: Sequence[int], scoring: bool) -> Any:
            """Backward of the micro-batch's loss, the mean over its pairs; a pair without a usable thought is 0."""
            usable = [
                (i, side, k)
                for i, row in enumerate(rows)
                for side, thoughts in enumerate(self._thoughts[row])
                for k, thought in enumerate(thoughts)
                if not thought.failure
            ]
            dialogs: list[Dialog] = usable or [(0, 0, -1)]  # every process makes a backward pass
            chunks = self._chunks(rows, dialogs)
            device = self.args.device
            logp = torch.full((len(rows), 2, self._settings.thoughts), torch.nan, device=device)
            tokens: dict[Dialog, Any] = {}
            if len(chunks) > 1:  # the weights need P(Yes) of all thoughts before the first backward pass
                with torch.no_grad():
                    for chunk in chunks:
                        yes, new, mask = self._read(model, rows, chunk)
                        self._note(chunk, yes, new, mask, logp, tokens)
            total = torch.zeros((), device=device)
            options = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
            for number, chunk in enumerate(chunks):
                last = number == len(chunks) - 1
                with nullcontext() if last else self.accelerator.no_sync(model):
                    yes, new, mask = self._read(model, rows, chunk)
                    if len(chunks) == 1:
                        self._note(chunk, yes, new, mask, logp, tokens)
                    if not usable:
                        loss = 0.0 * (yes.sum() + new.sum())
                    elif scoring:
                        loss = self._scoring(chunk, yes, logp)
                    else:
                        loss = self._thinking(rows, chunk, new, mask, logp)
                    self.accelerator.backward(loss / self.current_gradient_accumulation_steps, **options)
                total = loss.detach() if scoring else total + loss.detach()  # each chunk has the whole scoring loss
            if scoring:
                self._remember(rows, tokens)
                self._log.scored(logp, [one for row in rows for side in self._thoughts[row] for one in side])
            return total

        def _scoring(self, chunk: Sequence[Dialog], yes: Any, logp: Any) -> Any:
            i, side, k = torch.tensor(chunk, device=logp.device).T
            with_gradient = logp.clone().index_put((i, side, k), yes)
            w = None if self._settings.misalignment else 1.0
            losses = scoring_loss(with_gradient[:, 0], with_gradient[:, 1], w=w)
            return self._settings.scoring_weight * losses.mean()

        def _thinking(self, rows: Sequence[int], chunk: Sequence[Dialog], new: Any, mask: Any, logp: Any) -> Any:
            s = self._settings
            found = logp.double().cpu().numpy()
            w = torch.from_numpy(misalignment(found[:, 0], found[:, 1]))
            if not s.misalignment:
                w = torch.where(w.isnan(), w, 1.0)
            sides = [thought_advantages(found[:, 0], "chosen"), thought_advantages(found[:, 1], "rejected")]
            advantages = torch.stack([torch.from_numpy(one) for one in sides], dim=1)  # [P, 2, n]
            counts = (~advantages.isnan()).sum(dim=-1).clamp(min=1)
            i, side, k = torch.tensor(chunk).T
            old = new.detach().clone()
            for place, (row, which, one) in enumerate(chunk):
                if known := self._thoughts[rows[row]][which][one].old:
                    old[place, : len(known)] = torch.tensor(known, device=old.device)
            advantage, weight, n = (x.to(new.device) for x in (advantages[i, side, k], w[i], counts[i, side]))
            losses = thought_loss(
                new[:, None], old[:, None], mask[:, None], advantage[:, None], weight, s.clip, scale=s.scale, n=n
            )  # each dialog as a group of its own
            self._log.clipped(new.detach() - old, advantage, mask, s.clip)
            return s.thought_weight * losses.sum() / len(rows)

        def _chunks(self, rows: Sequence[int], dialogs: Sequence[Dialog]) -> list[list[Dialog]]:
            size = self._settings.chunk or len(dialogs)

            def kind(dialog: Dialog) -> bool:
                return self._dialogs.with_sound(self._pairs[rows[dialog[0]]])

            kinds = [list(group) for _, group in groupby(sorted(dialogs, key=kind), key=kind)]
            return [one[start : start + size] for one in kinds for start in range(0, len(one), size)]

        def _read(self, model: Any, rows: Sequence[int], chunk: Sequence[Dialog]) -> tuple[Any, Any, Any]:
            """log P("Yes") [C], log-probabilities of the thoughts' tokens [C, T], and their mask, in one pass."""
            asked = []
            for i, side, k in chunk:
                row = rows[i]
                thought = self._thoughts[row][side][k] if k >= 0 else self._dialogs.stand_in()
                asked.append((self._pairs[row], self._pairs[row].sides[side], thought))
            with self.compute_loss_context_manager():
                return self._dialogs.read(model, asked)

        @staticmethod
        def _note(chunk: Sequence[Dialog], yes: Any, new: Any, mask: Any, logp: Any, tokens: dict[Dialog, Any]) -> None:
            for place, dialog in enumerate(chunk):
                if dialog[2] >= 0:
                    logp[dialog] = yes[place].detach()
                    tokens[dialog] = new[place][mask[place]].detach().cpu()

        def _remember(self, rows: Sequence[int], tokens: dict[Dialog, Any]) -> None:
            """The thoughts' log-probabilities under the policy that sampled them: that of this step."""
            for (i, side, k), found in tokens.items():
                thoughts = self._thoughts[rows[i]][side]
                thoughts[k] = replace(thoughts[k], old=tuple(found.tolist()))

        # -- what is logged

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            means = self._log.means(lambda sums: self.accelerator.reduce(sums.to(self.args.device), "sum"))
            super().log(logs | means, *args, **kwargs)

        def floating_point_ops(self, *_: Any) -> int:
            return 0  # not counted: half of the work is generation

        # -- checkpoints

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            super()._save_checkpoint(model, trial)
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            kept = {row: [[asdict(one) for one in side] for side in both] for row, both in self._thoughts.items()}
            name = _THOUGHTS_FILE.format(self.args.process_index)
            (folder / name).write_text(json.dumps(kept), encoding="utf-8")

        def load_thoughts(self, folder: Path) -> None:
            """Thoughts between their scoring and their thought step; without the file they are sampled anew."""
            path = folder / _THOUGHTS_FILE.format(self.args.process_index)
            if not path.is_file():
                return
            for row, both in json.loads(path.read_text(encoding="utf-8")).items():
                self._thoughts[int(row)] = [[_thought(one) for one in side] for side in both]

    return DWRLTrainer


def _numbers(items: Sequence[int]) -> dict[str, Any]:
    import torch

    return {"rows": torch.tensor(items)}


def _thought(data: dict[str, Any]) -> Thought:
    return Thought(data["text"], tuple(data["ids"]), tuple(data["old"]), data["failure"])


__all__ = ["DWRLSettings", "TwiceSampler", "train_dwrl"]
