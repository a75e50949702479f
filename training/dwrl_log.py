"""What DWRL logs, and when it stops or warns because there is nothing to learn from. For `omnirm.training.dwrl`.

All but `clipped` are of fresh thoughts on pairs that the current pass over the data has not trained on yet.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from omnirm.errors import SampleError
from omnirm.scoring.dwrl import log_likelihood, misalignment, normalised_scores
from omnirm.training.dialogs import Thought

_log = logging.getLogger(__name__)
#: nll: -log P(chosen > rejected), nats, of pairs; accuracy: mean p+ > mean p-, a half where equal; misalignment: w;
#: entropy: of v, nats, log n where all thoughts are equally good; p_yes: mean p; usable: share of thoughts that count;
#: thought_tokens: mean length; clipped: share of tokens that PPO's clip holds back.
NAMES = ("nll", "accuracy", "misalignment", "entropy", "p_yes", "usable", "thought_tokens", "clipped")


class DWRLLog:
    """Means since the last log. `patience`: micro-batches on end without a usable pair that are borne."""

    def __init__(self, patience: int) -> None:
        import torch

        self._sums = torch.zeros(2, len(NAMES), dtype=torch.float64)  # and counts
        self._patience = patience
        self._barren = self._level = 0

    def scored(self, logp: Any, thoughts: Sequence[Thought]) -> None:
        """Takes in a scoring micro-batch.

        Args:
            logp: log P("Yes"), nats, [pairs, 2, n]; NaN where there is none.
            thoughts: all of them, whether usable or not.

        Raises:
            SampleError: no pair had a usable thought on both responses, for the patience-th time on end.
        """
        import torch

        found = logp.double().cpu().numpy()
        w = torch.from_numpy(misalignment(found[:, 0], found[:, 1]))
        v = torch.from_numpy(normalised_scores(found))
        judged, scored = ~w.isnan(), ~v.isnan().all(dim=-1)
        self._add("nll", -torch.from_numpy(log_likelihood(found[:, 0], found[:, 1])))
        self._add("accuracy", ((w < 0.5) + 0.5 * (w == 0.5))[judged])
        self._add("misalignment", w)
        self._add("entropy", torch.special.entr(v).nansum(dim=-1)[scored])
        self._add("p_yes", logp.exp())
        self._add("usable", torch.tensor([float(not one.failure) for one in thoughts]))
        self._add("thought_tokens", torch.tensor([float(len(one.ids)) for one in thoughts]))
        spread = v.nan_to_num(nan=-1.0).amax(dim=-1) - v.nan_to_num(nan=2.0).amin(dim=-1)
        level = bool((spread[scored] < 1e-6).all())
        self._barren = 0 if judged.any() else self._barren + 1
        self._level = self._level + 1 if level and judged.any() else 0
        if self._barren >= self._patience:
            reasons = sorted({one.failure for one in thoughts if one.failure})
            raise SampleError(
                f"no pair of the last {self._patience} batches had a usable thought on both responses "
                f"({', '.join(reasons)}): raise max_new_tokens, or start from a model that can follow the prompt"
            )
        if self._level == self._patience:
            _log.warning("in %d batches on end all thoughts on a response had the same P(Yes)", self._level)

    def clipped(self, log_ratio: Any, advantage: Any, mask: Any, clip: float) -> None:
        """Takes in a thought micro-batch: log-ratios [C, T], advantages [C], mask [C, T]."""
        up = (advantage[:, None] > 0) & (log_ratio > math.log(1 + clip))
        down = (advantage[:, None] < 0) & (log_ratio < math.log(1 - clip))
        self._add("clipped", (up | down)[mask])

    def means(self, summed: Callable[[Any], Any]) -> dict[str, float]:
        """The means since the last call, of all processes; nothing for what was not counted.

        Args:
            summed: adds a tensor up over processes.
        """
        sums, counts = summed(self._sums).tolist()
        self._sums.zero_()
        return {name: total / count for name, total, count in zip(NAMES, sums, counts, strict=True) if count}

    def _add(self, name: str, values: Any) -> None:
        known = values.double()
        known = known[~known.isnan()]
        self._sums[0, NAMES.index(name)] += known.sum().cpu()
        self._sums[1, NAMES.index(name)] += known.numel()


__all__ = ["NAMES", "DWRLLog"]
