"""What the last step to sigma = 0 costs each deterministic sampler, as a table.

Eight modes of standard deviation 0.2 on the unit circle under VP, 256 starts, at most 20
evaluations (a rule of k evaluations a step takes as many steps as fit). For each rule: the median
distance from the exact flow at the end, and the same when the last step is exact, so that only the
steps before it count. Their difference is what the first-order step to sigma = 0 costs.

    python benchmarks/last_step.py [SAMPLER ...]
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.likelihood import decode

RULES = {  # evaluations of a step between two finite log-SNRs
    **dict.fromkeys(("ddim", "euler"), 1),
    **dict.fromkeys(("heun", "midpoint"), 2),
    "rk4": 4,
    "gradient-estimation": 1,
    **{f"exponential-adams(order={p})": 1 for p in (2, 3, 4)},
    **{f"deis(order={p})": 1 for p in (2, 3, 4)},
    **{f"lms(order={p})": 1 for p in (2, 4)},
    "plms": 1,
    **{f"dpm-solver++(order={p})": 1 for p in (2, 3)},
    "dpm-solver++2s": 2,
    **{f"unipc(order={p}, variant={b})": 1 for p in (2, 3) for b in ("bh1", "bh2")},
}
BUDGET = 20
SCHEDULE = ud.schedules.VP()
ANGLES = torch.arange(8) * (2 * math.pi / 8)
ORACLE = ud.exact.GaussianMixture(
    torch.stack([ANGLES.cos(), ANGLES.sin()], 1), None, SCHEDULE, std=0.2
)
NEARLY = float(SCHEDULE.t_from_log_snr(-2 * math.log(1e-4)))  # from here x0_hat is exact to 1e-7


def exact(x: Tensor, t: Tensor) -> Tensor:
    """Where the flow takes x, at time t, at sigma = 0."""
    near = decode(ORACLE, x, start=NEARLY, end=t, rtol=1e-9, atol=1e-9)
    return ORACLE(near, NEARLY)


def errors(rule: str, cost: int, grid: str) -> tuple[float, float]:
    """The median error with the last step as it is, and with an exact one."""
    times = ud.catalogue.build(grid, "grids").times(SCHEDULE, 1 + (BUDGET - 1) // cost)
    z = ud.noise.Stream(0, tuple(range(256))).draw((2,), step=0).double()
    path = ud.sample(ORACLE, (256, 2), rule, x_T=z, times=times, trajectory=True)
    true = exact(z, times[0])
    ends = path.x[-1], exact(path.x[-2], times[-2])
    return tuple(float((end - true).square().mean(1).sqrt().median()) for end in ends)


def main(rules: list[str]) -> None:
    print("| sampler | log-snr | exact last step | uniform | exact last step |")
    print("|---|---|---|---|---|")
    for rule in rules or RULES:
        row = [e for grid in ("log-snr", "uniform") for e in errors(rule, RULES[rule], grid)]
        print(f"| `{rule}` | " + " | ".join(f"{e:.1e}" for e in row) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
