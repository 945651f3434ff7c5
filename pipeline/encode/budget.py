"""How many tokens a batch on a GPU holds: found by trying, since it depends on the model and on the card."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

BUDGETS = (16_384, 32_768, 65_536, 131_072, 262_144)
"""What is tried, in tokens of one forward pass."""

WORTH = 1.03
"""A bigger batch has to be this much faster: it takes the memory of longer texts, and ends later."""


def fastest_budget(rate: Callable[[int], float | None], budgets: Sequence[int] = BUDGETS) -> int:
    """The budget at which encoding is quickest, tried upwards as long as that pays.

    rate: tokens per second at a budget; None where the device's memory doesn't suffice for it.
    """
    best, best_rate = budgets[0], rate(budgets[0]) or 0.0
    for budget in budgets[1:]:
        found = rate(budget)
        if found is None or found < WORTH * best_rate:
            break
        best, best_rate = budget, found
    return best


def repeated(
    token_ids: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], tokens: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The same texts, flat ids and offsets, over and over until there are so many tokens."""
    times = -(-tokens // len(token_ids))
    lengths = np.tile(np.diff(offsets), times)
    return np.tile(token_ids, times), np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
