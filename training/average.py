"""One judge of several: the weighted mean of the weights of judges that were trained from one start.

    python -m omnirm.training.average runs/mean runs/grpo-0/final runs/grpo-1/final=2 --dtype float16

A mean of runs with other seeds, or of a trained judge and what it was trained from, often judges as well as the best of
them and forgets less of what was not trained (Wortsman et al. 2022; for reward models Rame et al. 2024). It is a judge
like any other: nothing more to pay when it judges.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omnirm.errors import BackendError, ConfigError


def average(sources: Sequence[tuple[str, float]], output: Path, dtype: str = "") -> Path:
    """Writes `sum_i w_i theta_i / sum_i w_i` as a folder that loads into `Judge`; all else there is the first one's.

    Two judges are in memory at a time, in float32.

    Args:
        sources: (folder or hub name, weight above 0) of two or more judges of one family and size.
        output: folder to write; must be empty or not there yet.
        dtype: of the written weights; "" is float32, in which the mean is taken.

    Raises:
        ConfigError: fewer than two, a weight that is none, something in `output`, or judges of other shapes.
        BackendError: one of them cannot be loaded.
    """
    from omnirm.training.models import load_trainable

    if len(sources) < 2:
        raise ConfigError("a mean needs two judges or more")
    for name, weight in sources:
        if not 0 < weight < math.inf:
            raise ConfigError(f"{name}: weight {weight}: give a number above 0")
    if output.exists() and any(output.iterdir()):
        raise ConfigError(f"{output}: is not empty; name a new folder")
    total = sum(weight for _, weight in sources)
    (first, weight), *others = sources
    trainable = load_trainable(first, device="cpu", dtype="float32")
    mean = _weights(trainable.model)
    for value in mean.values():
        value.mul_(weight / total)
    for name, share in others:
        own = _weights(load_trainable(name, device="cpu", dtype="float32").model)
        if {key: one.shape for key, one in own.items()} != {key: one.shape for key, one in mean.items()}:
            raise ConfigError(f"{name}: has other weights than {first}; only judges trained from one start have a mean")
        for key, value in mean.items():
            value.add_(own[key], alpha=share / total)
    return trainable.save(output, dtype)


def _weights(model: Any) -> dict[str, Any]:
    """The parameters by name, each once where several names share one; what is written into them is the model's."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _source(text: str) -> tuple[str, float]:
    name, mark, weight = text.rpartition("=")
    try:
        return (name, float(weight)) if mark else (text, 1.0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: write FOLDER or FOLDER=WEIGHT") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the mean and prints its folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("sources", type=_source, nargs="+", metavar="FOLDER[=WEIGHT]")
    parser.add_argument("--dtype", default="", help="of the written weights, as float16 or bfloat16")
    options = parser.parse_args(arguments)
    try:
        print(average(options.sources, options.output, options.dtype))
    except (BackendError, ConfigError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
