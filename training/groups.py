"""TRL's GRPOTrainer for judges: groups of rollouts, our rewards and advantages, text, images, video and audio.

For `grpo.py` and `par.py`, which say what is asked and what a rollout is worth (`Task`). Clipping, KL, mini-batches,
logging and checkpoints are TRL's. What it took:

- Media. TRL hands a model images only. A number of each rollout travels through TRL's shuffling and splitting as one
  more column of the batch (`rollout`), and where TRL calls the model for log-probabilities, the media of just those
  rollouts are encoded by the judge's own encoder and given to it. Three methods are overridden for that.
- Rewards. A group's reward may hang on all its rollouts (beta, min-max normalisation, means of the other response), so
  what was read in each rollout is gathered over processes first and rewarded then. The advantages are those of
  `omnirm.scoring.grpo`: without a small number in the denominator, and zero where there is no reward.
- Epochs. TRL's sampler shuffles by how often it was asked; ours by the epoch, so that a resumed run sees the rows that
  it would have seen.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from omnirm.errors import CapabilityError, ConfigError
from omnirm.scoring.grpo import degenerate
from omnirm.training.backbone import with_backbone
from omnirm.training.models import Trainable
from omnirm.training.rollouts import Prompts, Rollout, Rollouts, Sampling
from omnirm.training.settings import TrainSettings, freeze, make_optimizer, newest_checkpoint, trainer_arguments

LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings(TrainSettings):
    """How to sample and optimise. A step takes batch_size x accumulation x devices rollouts.

    generations: rollouts of a prompt. minibatches: steps that the rollouts of one sampling are divided into.
    iterations: how often they are used. temperature, top_p, max_new_tokens: of rollouts. rollout_batch: rollouts that
        are generated together. vllm: let TRL's vLLM generate.
    clip: of the probability ratio, 1 - clip to 1 + clip. kl: weight of the divergence from the model as it was, 0 for
        none; more than 0 needs adapters. loss_type: how TRL joins the tokens' losses, one of `LOSSES`; `dapo` is the
        mean over all tokens of a step.
    unread: what a rollout without a readable answer gets: `none`, no reward, or `wrong`.
    patience: stop with an error where none of the first so many groups teaches anything; 0 never does.
    """

    learning_rate: float = 1e-6
    batch_size: int = 8
    accumulation: int = 16
    generations: int = 4
    minibatches: int = 4
    iterations: int = 1
    temperature: float = 1.0
    top_p: float = 0.9
    max_new_tokens: int = 2048
    rollout_batch: int = 16
    vllm: bool = False
    clip: float = 0.2
    kl: float = 0.0
    loss_type: str = "dapo"
    unread: str = "none"
    patience: int = 0
    log_steps: int = 1

    def __post_init__(self) -> None:
        TrainSettings.__post_init__(self)
        _ = self.rollouts  # checks its own
        if self.generations < 2:
            raise ConfigError(f"generations = {self.generations}: an advantage compares; give at least 2")
        if min(self.minibatches, self.iterations) < 1 or self.patience < 0:
            raise ConfigError("minibatches and iterations: give at least 1; patience: 0 or more")
        if not self.clip > 0 or self.kl < 0:
            raise ConfigError(f"clip = {self.clip}, kl = {self.kl}: give a clip above 0, and a kl of 0 or more")
        if self.loss_type not in LOSSES:
            raise ConfigError(f"loss_type {self.loss_type!r}: write one of {', '.join(LOSSES)}")
        if self.unread not in ("none", "wrong"):
            raise ConfigError(f"unread {self.unread!r}: write none or wrong")
        if self.sampling == "group_by_length":
            raise ConfigError("sampling: lengths of rollouts are not known before; write random or sequential")
        if self.save_steps % (self.minibatches * self.iterations):
            raise ConfigError(
                f"save_steps = {self.save_steps}: a checkpoint between minibatches of one sampling cannot be resumed "
                f"alike; give a multiple of minibatches x iterations = {self.minibatches * self.iterations}"
            )

    @property
    def rollouts(self) -> Sampling:
        """How rollouts are drawn."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.rollout_batch,
            seed=self.seed,
            vllm=self.vllm,
        )


@dataclass(frozen=True, slots=True)
class Graded:
    """Rewards and advantages of P groups of G rollouts, [P, G] each, NaN for none, and what to log."""

    rewards: NDArray[np.float64]
    advantages: NDArray[np.float64]
    metrics: dict[str, float] = field(default_factory=dict)


class Task(Prompts, Protocol):
    """What is asked, what is read in a rollout, and what it is worth. name_of_reward: for the log."""

    name_of_reward: str

    def read(self, rollouts: Sequence[Rollout]) -> NDArray[np.float64]:
        """Some numbers of each rollout, [n, C], NaN where there is none. Rollouts are those of one process."""
        ...

    def grade(self, read: NDArray[np.float64]) -> Graded:
        """From what was read in whole groups, [P, G, C]."""
        ...


def mean(numbers: Any) -> float:
    """The mean of what is known, NaN where nothing is."""
    known = np.asarray(numbers, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else float("nan")


def train_groups(
    trainable: Trainable,
    task: Task,
    settings: GroupSettings,
    output: Path,
    *,
    max_tokens: int,
    resume: bool = True,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Trains trainable.model in place and returns the trainer.

    Args:
        trainable: the policy.
        task: prompts and rewards.
        settings: see `GroupSettings`; a group has `generations` rollouts of each variant.
        output: folder of the checkpoints.
        max_tokens: of a prompt with its answer; a longer one is an error, nothing is cut.
        resume: continue from the newest checkpoint in `output` where there is one.
        callbacks: more trainer callbacks.

    Raises:
        SampleError: before anything is trained, a prompt over `max_tokens`; when its media are decoded, one that is
            over it with them, or a medium that cannot be decoded.
        ConfigError: fewer rows than one sampling takes, `kl` without adapters, or `patience` is at its end.
    """
    trainer = make_trainer(trainable, task, settings, output, max_tokens=max_tokens, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=newest_checkpoint(output) if resume else None)
    return trainer


def make_trainer(
    trainable: Trainable,
    task: Task,
    settings: GroupSettings,
    output: Path,
    *,
    max_tokens: int,
    callbacks: Sequence[Any] = (),
) -> Any:
    """The trainer of `train_groups`, before its first step. Raises as that does."""
    import torch
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer
    from trl.trainer.utils import RepeatSampler

    model, group = trainable.model, settings.generations * task.variants
    rollouts = Rollouts(trainable, task, settings.rollouts, max_tokens)
    adapted = hasattr(model, "peft_config")
    if settings.kl and not adapted:
        raise ConfigError(
            f"kl = {settings.kl}: the reference is the model without its adapters; set lora.rank, or kl 0"
        )
    rollouts.check_lengths()
    watch = Watch(settings.patience)

    class EpochSampler(RepeatSampler):
        def set_epoch(self, epoch: int) -> None:
            self.generator = torch.Generator().manual_seed((self.seed or 0) + epoch)

    class GroupTrainer(GRPOTrainer):
        """See the module's docstring."""

        rows: list[Rollout] = []  # those of the batch that the model is called with next  # noqa: RUF012

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            plain = super()._get_train_sampler(dataset)
            own = EpochSampler(
                plain.data_source,
                plain.mini_repeat_count,
                plain.batch_size,
                plain.repeat_count,
                plain.shuffle,
                plain.seed,
            )
            return own

        def _generate(self, prompts: list[Any]) -> Any:
            found = super()._generate(prompts)
            self.rows = rollouts.latest
            return found

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            batch = super()._generate_and_score_completions(inputs)
            first = self.accelerator.process_index * len(inputs)
            own = self.advantages[first : first + len(inputs)]
            batch["advantages"] = own.to(batch["advantages"])
            batch["rollout"] = torch.arange(len(inputs), device=own.device)
            self._logs["advantages"].extend(self.advantages.tolist())  # over TRL's own: the length is limited
            return batch

        def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
            read = torch.tensor(task.read(rollouts.latest), dtype=torch.float64, device=self.accelerator.device)
            table = self.accelerator.gather(read).cpu().numpy()
            graded = task.grade(table.reshape(-1, group, table.shape[-1]))
            barren = degenerate(graded.rewards.reshape(len(graded.rewards), task.variants, -1))
            watch(barren, graded)
            for name, value in {**graded.metrics, "degenerate": float(barren.mean())}.items():
                self._metrics["train"][name].append(value)
            self.advantages = torch.tensor(np.nan_to_num(graded.advantages), device=read.device).flatten()
            return torch.tensor(graded.rewards, dtype=torch.float32, device=read.device).reshape(-1, 1)

        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
            self.rows = [rollouts.latest[i] for i in inputs["rollout"].tolist()]
            return super()._compute_loss(model, inputs)

        def _get_per_token_logps_and_entropies(
            self,
            model: Any,
            input_ids: Any,
            attention_mask: Any,
            logits_to_keep: int,
            batch_size: int | None = None,
            **options: Any,
        ) -> tuple[Any, Any, Any]:
            one_call = super()._get_per_token_logps_and_entropies
            if not any(row.conversation.media for row in self.rows):
                return one_call(model, input_ids, attention_mask, logits_to_keep, batch_size, **options)
            found, width = [], input_ids.shape[1] - logits_to_keep
            for part, media in _parts(rollouts, self.rows, batch_size or len(self.rows), width, logits_to_keep):
                shown = partial(model, **media)
                found.append(one_call(shown, input_ids[part], attention_mask[part], logits_to_keep, **options))
            logps, entropies, aux = zip(*found, strict=True)
            return (
                torch.cat(logps),
                None if entropies[0] is None else torch.cat(entropies),
                None if aux[0] is None else torch.stack(aux).mean(),
            )

    freeze(model, settings.freeze)
    with_backbone(model.get_base_model() if adapted else model)
    common = trainer_arguments(settings, output, len(task) * group * settings.iterations)
    arguments = GRPOConfig(
        **common | {"dataloader_num_workers": 0, "dataloader_prefetch_factor": None},
        dataloader_pin_memory=False,
        num_generations=group,
        steps_per_generation=settings.accumulation * settings.minibatches,
        num_iterations=settings.iterations,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        beta=settings.kl,
        epsilon=settings.clip,
        loss_type=settings.loss_type,
        scale_rewards="none",
        shuffle_dataset=settings.sampling == "random",
        use_vllm=settings.vllm,
    )
    if len(task) < (least := arguments.generation_batch_size // group):
        raise ConfigError(
            f"{len(task)} prompts, and one sampling takes {least}: lower batch_size, accumulation, minibatches"
        )

    def reward(**_: Any) -> list[float]:
        raise NotImplementedError("groups are rewarded as a whole")

    reward.__name__ = task.name_of_reward
    return GroupTrainer(
        model=model,
        reward_funcs=[reward],
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [str(row) for row in range(len(task))]}),
        processing_class=trainable.processor.tokenizer,
        callbacks=list(callbacks),
        optimizers=(make_optimizer(model, settings), None),
        rollout_func=rollouts,
    )


def _parts(
    rollouts: Rollouts, rows: Sequence[Rollout], size: int, width: int, answer: int
) -> Iterator[tuple[slice, dict[str, Any]]]:
    """Runs of rows that can be shown together, with their media; one by one where they cannot."""
    for start in range(0, len(rows), size):
        stop = min(start + size, len(rows))
        try:
            yield slice(start, stop), rollouts.features(rows[start:stop], width, answer)
        except CapabilityError:  # some videos with and some without their sound
            if stop - start == 1:
                raise
            yield from (
                (slice(i, i + 1), rollouts.features(rows[i : i + 1], width, answer)) for i in range(start, stop)
            )


class Watch:
    """Sees to it that nobody trains on nothing: a warning where a first batch has no group to learn from, an error
    after `patience` groups (0: never)."""

    def __init__(self, patience: int) -> None:
        self._patience, self._seen, self._quiet = patience, 0, False

    def __call__(self, barren: NDArray[np.bool_], graded: Graded) -> None:
        """Looks at a batch of groups, [P, variants]. Raises `ConfigError`."""
        if self._quiet or not barren.all():
            self._quiet = True
            return
        self._seen += len(barren)
        what = ", ".join(f"{name} {value:.3g}" for name, value in graded.metrics.items())
        said = f"the first {self._seen} groups have equal rewards or none, so nothing is learnt ({what})"
        if self._patience and self._seen >= self._patience:
            raise ConfigError(f"{said}: look at the rollouts, raise temperature or generations, or train by SFT first")
        if self._seen == len(barren):
            _log.warning(said)


__all__ = ["LOSSES", "Graded", "GroupSettings", "Task", "Watch", "make_trainer", "mean", "train_groups"]
