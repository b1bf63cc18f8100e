r"""Tuning a non-stationary rule: noise levels and weights together, by gradient descent.

The rule is unrolled from noise to data through the denoiser, and what it leaves of the exact flow,

    3/4 mean log e + 1/4 log sqrt(mean e^2),    e = |x_0(rule) - x_0(flow)| of each sample,

is lowered over the logarithms of the steps in log(sigma/alpha) and over the weights; the noise that
judges is not the noise that was fitted. The first term is for the usual sample, the second for the
worst ones, and both count in ratios, so that several denoisers can be fitted at once.

Source: Shaul et al. 2024 (arXiv 2403.01329), with its signal-to-noise loss.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from undiffuse import noise
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.grids.base import Grid
from undiffuse.grids.levels import Levels
from undiffuse.grids.log_snr import LogSNR
from undiffuse.grids.universal import table
from undiffuse.noise import Stream
from undiffuse.samplers.base import Sampler
from undiffuse.samplers.loop import sample, start
from undiffuse.samplers.non_stationary import NonStationary, adams_weights, rounded
from undiffuse.schedules.base import Schedule
from undiffuse.schedules.levels import level

FLOOR = 1e-7  # errors below are rounding
SAY = 3  # what a target above its par has beside what all have


class Tuned(NamedTuple):
    """What tuning found, in median errors on noise that it never saw."""

    rule: NonStationary
    start: str  # the best fixed rule, with which it began
    before: float  # the error of that one
    after: float  # that of the tuned rule; it is of use where this is less

    @property
    def better(self) -> bool:
        """Whether fresh noise confirms the gain."""
        return self.after < self.before


class Target(NamedTuple):
    """Noise, and where the exact flow takes it, in y = x / alpha."""

    denoiser: Denoiser
    start: float  # sigma/alpha where the noise begins
    y_T: Tensor  # [N, ...], float64
    x_0: Tensor  # [N, ...], float64
    condition: dict[str, Condition]  # named tensors [N, ...]
    par: float = 0.0  # the misfit that it is compared with

    def part(self, number: int, size: int) -> Target:
        """Samples number * size and those that follow, around the end of all."""
        count = len(self.y_T)
        chosen = (torch.arange(size) + number * size) % count
        condition = {k: None if v is None else v[chosen] for k, v in self.condition.items()}
        return self._replace(y_T=self.y_T[chosen], x_0=self.x_0[chosen], condition=condition)


class Parameters(nn.Module):
    """A rule as it is optimised: the logarithms of its steps in log(sigma/alpha), and its rows.

    A row is that of Adams-Bashforth between the levels plus something, so that the weights follow
    when the levels move.
    """

    def __init__(self, rule: NonStationary) -> None:
        super().__init__()
        ends = torch.tensor([rule.noise_max, *rule.noise_levels], dtype=torch.float64).log()
        self.first = float(ends[0])
        self.gaps = nn.Parameter((-ends.diff()).log())  # [n - 1]
        rows = [torch.tensor(row, dtype=torch.float64) for row in rule.weights]
        self.more = nn.ParameterList(rows)
        with torch.no_grad():
            for more, row in zip(self.more, self._adams(), strict=True):
                more -= row

    def levels(self) -> Tensor:
        """The noise levels after the start, [n - 1]."""
        return (self.first - self.gaps.exp().cumsum(0)).exp()

    def rows(self) -> list[Tensor]:
        """The weights of the older values in each step after the first."""
        return [more + row for more, row in zip(self.more, self._adams(), strict=True)]

    def _adams(self) -> list[Tensor]:
        """Exponential Adams-Bashforth of order 4, as long as the rows."""
        logs = torch.cat([self.gaps.new_tensor([self.first]), self.levels().log()])
        made = []
        for i, more in enumerate(self.more, start=1):
            order = min(len(more) + 1, 4)
            knots = logs[max(0, i + 1 - order) : i + 1].flip(0)
            row = adams_weights(knots, logs[i + 1] if i + 1 < len(logs) else None)[1:]
            made.append(nn.functional.pad(row, (0, len(more) - len(row))))
        return made

    def rule(self) -> NonStationary:
        """The rule, its numbers rounded to what matters."""
        weights = tuple(tuple(round(w, 7) for w in row.tolist()) for row in self.rows())
        levels = tuple(map(rounded, self.levels().tolist()))
        return NonStationary(levels, weights, rounded(math.exp(self.first)))


def unrolled(levels: Tensor, rows: Sequence[Tensor], targets: Sequence[Target]) -> list[Tensor]:
    """x_0 of the rule for each target, [N, ...], differentiable in its levels and weights.

    All samples of all targets go through the rule as one vector; only the denoisers see them apart.
    """
    shapes = [target.y_T.shape for target in targets]
    sizes = [shape.numel() for shape in shapes]

    def apart(flat: Tensor) -> list[Tensor]:
        return [part.reshape(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]

    y = torch.cat([target.y_T.flatten() for target in targets])
    starts = torch.cat(
        [levels.new_full((n,), t.start) for n, t in zip(sizes, targets, strict=True)]
    )
    rho = [starts, *levels, levels.new_zeros(())]
    clocks = [clock(target, levels) for target in targets]
    fields: list[Tensor] = []  # eps_hat, the newest first
    for i, row in enumerate([levels[:0], *rows]):
        x0_hat = torch.cat(
            [
                target.denoiser.denoise(alphas[i] * part, times[i], **target.condition).flatten()
                for target, part, (times, alphas) in zip(targets, apart(y), clocks, strict=True)
            ]
        )
        fields = [(y - x0_hat) / rho[i], *fields][: 1 + max(map(len, rows))]
        weights = torch.cat([1 - row.sum(0, keepdim=True), row])
        y = y + (rho[i + 1] - rho[i]) * (weights @ torch.stack(fields[: len(weights)]))
    return apart(y)


def clock(target: Target, levels: Tensor) -> tuple[Tensor, Tensor]:
    """The times of the start and the levels under a target's schedule, and alpha there, [n]."""
    schedule = target.denoiser.schedule
    times = time_of_level(schedule, torch.cat([levels.new_tensor([target.start]), levels]))
    return times, schedule.alpha(times)


def time_of_level(schedule: Schedule, noise_level: Tensor) -> Tensor:
    """t at sigma/alpha = noise_level, with the derivative of the inverse function."""
    log_snr = -2 * noise_level.log()
    t = schedule.t_from_log_snr(log_snr.detach())
    return t + (log_snr - log_snr.detach()) / schedule.log_snr_rate(t)


def errors(x: Tensor, x_0: Tensor) -> Tensor:
    """The root mean square over the values of each sample, [N], with a slope of 0 at 0."""
    return (x - x_0).square().flatten(1).mean(1).clamp(min=FLOOR**4).sqrt()


def misfit(left: Tensor) -> Tensor:
    """3/4 of the mean logarithm and 1/4 of the logarithm of the root mean square, of [N] errors."""
    left = left + FLOOR
    return 0.75 * left.log().mean() + 0.125 * left.square().mean().log()


def together(over: Tensor) -> Tensor:
    """What several targets leave over their pars, [K], as one number to lower."""
    return (over + SAY * over.relu()).mean()


def fit(
    rule: NonStationary,
    targets: Sequence[Target],
    iterations: int = 400,
    batch_size: int = 16,
    rate: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
) -> NonStationary:
    """The rule after gradient descent on the misfit of what it leaves.

    Args:
        rule: where to begin; it has the lengths of the rows.
        targets: what to fit, each with equal say, and with more where more than par is left.
        iterations: steps of Adam; the rate falls to almost nothing along half a cosine.
        batch_size: samples of each target in a step.
        rate: of Adam, at the beginning.
        progress: called with (iterations done, iterations).
    """
    own = Parameters(rule)
    if not rule.noise_levels:
        return rule
    optimizer = torch.optim.Adam(own.parameters(), lr=rate, betas=(0.9, 0.99))
    for i in range(iterations):
        share = (1 + math.cos(math.pi * i / iterations)) / 2
        optimizer.param_groups[0]["lr"] = rate * max(share, 0.01)
        optimizer.zero_grad()
        parts = [target.part(i, batch_size) for target in targets]
        ends = unrolled(own.levels(), own.rows(), parts)
        over = [misfit(errors(x, part.x_0)) - part.par for x, part in zip(ends, parts, strict=True)]
        together(torch.stack(over)).backward()
        nn.utils.clip_grad_norm_(own.parameters(), 1.0)
        optimizer.step()
        if progress is not None:
            progress(i + 1, iterations)
    return own.rule()


def remembering(rule: NonStationary, longest: int) -> NonStationary:
    """The same rule with room for the last `longest` values in each row."""
    room = [min(i + 1, longest - 1) for i in range(len(rule.weights))]
    rows = [(*w, *[0.0] * (most - len(w))) for w, most in zip(rule.weights, room, strict=True)]
    return NonStationary(rule.noise_levels, tuple(rows), rule.noise_max)


def candidates(schedule: Schedule, steps: int) -> dict[str, NonStationary]:
    """The fixed rules from which tuning may begin, by name."""
    times = LogSNR().times(schedule, steps)
    ratios = [level(schedule, t).ratio for t in times.tolist()]
    high, *levels = [ratio for ratio in ratios if ratio > 0][:steps]
    found = {
        f"exponential-adams(order={p})": NonStationary.adams(levels, p, high) for p in (2, 3, 4)
    }
    row = table().get(steps)
    if row is not None and Levels(row.noise_levels).fits(schedule):
        found["universal"] = NonStationary(*row, high)
    return found


def tune(
    denoiser: Denoiser,
    shape: Sequence[int],
    steps: int,
    *,
    condition: Callable[[Tensor], dict[str, Condition]] = lambda index: {},
    calibration: int = 64,
    fresh: int = 64,
    reference: int = 200,
    iterations: int = 300,
    batch_size: int = 8,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Tuned:
    """The best rule of `steps` evaluations for one denoiser.

    It begins with the best fixed rule and is fitted to `calibration` samples of noise; `fresh` ones
    tell what both leave. The truth is exponential Adams-Bashforth of order 4
    with `reference` steps down to sigma/alpha = 0.002, and one denoising call there.

    Args:
        denoiser: learned, exact, guided.
        shape: of one sample.
        steps: evaluations of the rule, >= 1; of use up to about 20.
        condition: the conditions of the samples of the given numbers [N], such as a label for each.
        calibration: how many samples of noise are fitted.
        fresh: how many judge.
        reference: evaluations for the truth.
        iterations: steps of gradient descent.
        batch_size: samples in one of them; memory grows with batch_size times steps.
        seed: of the noise.
        progress: called with (what is done, how far, of how much).

    Raises:
        UndiffuseError: steps below 1, or no noise left to step through.
    """
    told = progress or (lambda what, done, whole: None)
    schedule = denoiser.schedule
    rules = candidates(schedule, steps)
    count, key = calibration + fresh, noise.integer(seed, "tuning")
    given = condition(torch.arange(count))
    begin = LogSNR().times(schedule, 2)[0]
    x_T = start(schedule, begin, Stream(key, tuple(range(count))), shape)

    def drawn(rule: Sampler | str, n: int, grid: Grid | str, part: slice) -> Tensor:
        chosen: Any = {k: None if v is None else v[part] for k, v in given.items()}
        x = x_T[part]
        made = sample(denoiser, x.shape, rule, n, grid, x_T=x, batch_size=batch_size, **chosen)
        return cast(Tensor, made)

    x_0 = []
    for low in range(0, count, batch_size):
        part = slice(low, low + batch_size)
        x_0.append(drawn("exponential-adams(order=4)", reference, LogSNR(noise_min=0.002), part))
        told("reference", min(low + batch_size, count), count)
    truth = torch.cat(x_0)

    def error(rule: NonStationary, part: slice) -> float:
        return float(errors(drawn(rule, steps, rule.grid, part), truth[part]).median())

    seen, unseen = slice(0, calibration), slice(calibration, count)
    name = min(rules, key=lambda name: error(rules[name], seen))
    first = remembering(rules[name], 12 if steps <= 12 else 6)
    alpha = float(schedule.alpha(begin))
    noted = {k: None if v is None else v[seen] for k, v in given.items()}
    target = Target(denoiser, first.noise_max, x_T[seen] / alpha, truth[seen], noted)
    with frozen(denoiser):
        rule = fit(first, [target], iterations, batch_size, 0.01, functools.partial(told, "tune"))
    return Tuned(rule, name, error(rules[name], unseen), error(rule, unseen))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Without gradients of the parameters: they are not what is fitted."""
    learning = [p for p in module.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
