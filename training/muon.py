"""Muon for small models on a CPU: orthogonalised momentum for weight matrices, AdamW for everything else, in float32.

For `omnirm.training.sft` with `optimizer = "muon"`. torch's own Muon orthogonalises in bfloat16, which a CPU without
bf16 units emulates at a hundredth of the speed. After Jordan et al., "Muon: an optimizer for hidden layers in neural
networks" (2024).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


def orthogonalised(matrix: torch.Tensor, steps: int = 4) -> torch.Tensor:
    """Nearly the nearest semi-orthogonal matrix, by a quintic Newton-Schulz iteration.

    Singular values come out in about [0.7, 1.2].

    Args:
        matrix: [rows, columns], float32, not all zero.
        steps: iterations.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T.contiguous()
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class MuonAdamW(torch.optim.Optimizer):
    """One optimizer with two rules, so that schedulers, checkpoints and resuming treat it like any other.

    Groups with `muon` True: `m <- mu m + g`, `w <- (1 - lr wd) w - lr sqrt(max(1, rows / columns)) orth(g + mu m)`.
    Other groups: AdamW.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float = 1e-3, weight_decay: float = 0.01) -> None:
        defaults = {
            "lr": lr, "weight_decay": weight_decay, "muon": False, "momentum": 0.95, "betas": (0.9, 0.98), "eps": 1e-8,
        }  # fmt: skip
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Takes one step."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    (self._muon if group["muon"] else self._adam)(weight, group)
        return loss

    def _muon(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].mul_(group["momentum"]).add_(weight.grad)
        update = orthogonalised(weight.grad.add(momentum, alpha=group["momentum"]))
        weight.add_(update, alpha=-group["lr"] * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5)

    def _adam(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state.update(step=0, first=torch.zeros_like(weight), second=torch.zeros_like(weight))
        state["step"] += 1
        (beta1, beta2), n = group["betas"], state["step"]
        state["first"].lerp_(weight.grad, 1 - beta1)
        state["second"].mul_(beta2).addcmul_(weight.grad, weight.grad, value=1 - beta2)
        scale = (state["second"] / (1 - beta2**n)).sqrt_().add_(group["eps"])
        weight.addcdiv_(state["first"], scale, value=-group["lr"] / (1 - beta1**n))


def muon_groups(model: Any, lr: float, muon_lr: float) -> list[dict[str, Any]]:
    """Hidden weight matrices go to Muon; embeddings, heads and all else to AdamW."""
    matrices: list[torch.Tensor] = []
    rest: list[torch.Tensor] = []
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            hidden = weight.ndim == 2 and not any(part in name for part in ("embed", "lm_head", "v_head", "score"))
            (matrices if hidden else rest).append(weight)
    return [{"params": matrices, "lr": muon_lr, "muon": True}, {"params": rest, "lr": lr}]
