r"""The one loop that goes through time to sample.

It owns the grid, the seeds, the batches, the progress and the trajectory, and knows nothing about
the rule of a step. `walk` yields a record per step; `sample` collects the last one.

The promise: the noise of sample i depends on (seed, i) alone, so it is bit-equal for any batch size
and any number of processes; samples are bit-equal at equal batch shape, device, versions and
threads, and otherwise agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from undiffuse import catalogue
from undiffuse.broadcast import over
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import RunFailed, UndiffuseError
from undiffuse.grids.base import Grid
from undiffuse.noise import Brownian, StepNoise, Stream
from undiffuse.samplers.base import Noise, Sampler
from undiffuse.schedules.base import Schedule, Time, as_time

DEFAULT = "exponential-adams"
DEFAULT_STEPS = 20


class Step(NamedTuple):
    """What the loop tells after each step: where it is, and the estimate that took it there."""

    number: int  # 0 is the start, before any step
    t: float
    x: Tensor  # the samples at time t, [B, ...]
    x0_hat: Tensor | None  # the last denoised estimate, [B, ...]; None at the start
    evaluations: int  # calls of the denoiser so far


@dataclass(frozen=True)
class Trajectory:
    """A whole run of the loop: times [n + 1], x [n + 1, B, ...], x0_hat [n, B, ...]."""

    times: Tensor
    x: Tensor
    x0_hat: Tensor
    evaluations: int


@dataclass
class _Seen:
    """What was asked so far; apart from the module, whose attributes are slow to set."""

    calls: int = 0
    last: Tensor | None = None


class Watched(Denoiser):
    """A denoiser with its conditions bound, which counts its calls and keeps its last answer."""

    def __init__(self, denoiser: Denoiser, condition: dict[str, Condition]) -> None:
        super().__init__()
        self.denoiser, self.condition = denoiser, condition
        self.schedule = denoiser.schedule
        self._seen = _Seen()

    @property
    def calls(self) -> int:
        """How often the denoiser was asked."""
        return self._seen.calls

    @property
    def last(self) -> Tensor | None:
        """Its last answer, [B, ...]."""
        return self._seen.last

    @property
    def log_snr_range(self) -> tuple[float, float]:
        """The range of the denoiser underneath."""
        return self.denoiser.log_snr_range

    def forward(self, x_t: Tensor, t: Time, **condition: Condition) -> Tensor:
        """The denoiser's answer; it looks after the ends, so nothing is checked twice."""
        x0_hat = self.denoiser(x_t, t, **self.condition)
        self._saw(x0_hat)
        return x0_hat

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        return self.forward(x_t, t, **condition)

    def reverse(
        self, x_t: Tensor, t: Time, s: Time, **condition: Condition
    ) -> tuple[Tensor, Tensor]:
        """As that of the denoiser underneath; counts as one call."""
        x0_hat, variance = self.denoiser.reverse(x_t, t, s, **self.condition)
        self._saw(x0_hat)
        return x0_hat, variance

    def _saw(self, x0_hat: Tensor) -> None:
        self._seen.calls += 1
        self._seen.last = x0_hat


def walk(
    denoiser: Denoiser,
    x: Tensor,
    times: Tensor,
    sampler: Sampler,
    stream: Stream,
    condition: dict[str, Condition] | None = None,
    last_denoise: bool = False,
) -> Iterator[Step]:
    """Take x through `times`, yielding a record at the start and after each step.

    Args:
        denoiser: E[x_0 | x_t].
        x: samples at times[0], [B, ...].
        times: [n + 1], falling (or rising, for a rule without noise).
        sampler: the rule of a step.
        stream: the noise of these samples.
        condition: named tensors for the denoiser.
        last_denoise: end with x = denoiser(x, times[-1]), where p_0 still holds noise.
    """
    watched = Watched(denoiser, condition or {})
    path, memory = Brownian(stream.seed, stream.indices), None
    yield Step(0, float(times[0]), x, None, 0)
    for n, (t, s) in enumerate(pairwise(times)):
        x, memory = sampler.step(watched, x, t, s, memory, noise_of(stream, n + 1, path))
        yield Step(n + 1, float(s), x, watched.last, watched.calls)
    if last_denoise:
        x = watched(x, times[-1])
        yield Step(len(times), float(times[-1]), x, x, watched.calls)


def noise_of(stream: Stream, step: int, path: Brownian | None = None) -> Noise:
    """noise(x) for one step: fresh at each call, a function of (seed, index, step, call).

    `noise.increment` follows `path`, the Brownian path of the same samples.
    """
    return StepNoise(stream, path or Brownian(stream.seed, stream.indices), step)


def start(schedule: Schedule, t: Time, stream: Stream, shape: Sequence[int]) -> Tensor:
    """x_t ~ N(0, (alpha^2 + sigma^2) I) at the noisy end: data of unit scale is drowned in noise.

    [len(stream.indices), *shape], float64. Equal to N(0, I) for variance-preserving schedules.
    """
    z = stream.draw(shape, step=0).double()
    return over(torch.hypot(schedule.alpha(t), schedule.sigma(t)), z) * z


def sample(
    denoiser: Denoiser,
    shape: Sequence[int],
    sampler: Sampler | str = DEFAULT,
    steps: int | None = None,
    grid: Grid | str | None = None,
    seed: int = 0,
    *,
    x_T: Tensor | None = None,
    times: Tensor | Sequence[float] | None = None,
    trajectory: bool = False,
    last_denoise: bool | None = None,
    batch_size: int | None = None,
    first_index: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **condition: Condition,
) -> Tensor | Trajectory:
    """Draw samples: simulate the reverse process from noise to data.

    Args:
        denoiser: any denoiser: learned, exact, guided.
        shape: (N, ...): how many samples, of which shape.
        sampler: a rule, its name, or "name(option=value)".
        steps: evaluations of a one-evaluation rule, >= 1; default: 20.
        grid: where to stop; default: the sampler's own choice.
        seed: the samples are a function of (seed, index).
        x_T: samples at the first time instead of fresh noise, [N, ...].
        times: the times themselves instead of `steps` and `grid`; at least two, in [0, 1].
        trajectory: return every step as a `Trajectory`.
        last_denoise: end with a counted denoising call; default: if sigma(0) > 0, unless given
            `times` stop before 0.
        batch_size: how many samples at once; default: all.
        first_index: the index of the first sample: a later part of the same sequence of samples.
        progress: called with (samples done, N) after each batch.
        condition: named tensors [N, ...], such as label.

    Returns:
        x_0 [N, ...], float32 (float64 if x_T is), or the Trajectory.

    Raises:
        UndiffuseError: unknown names, impossible steps or times.
        RunFailed: the denoiser gives NaN or infinity.

    >>> from undiffuse.exact.gaussian import Gaussian
    >>> from undiffuse.schedules.vp import VP
    >>> sample(Gaussian(torch.zeros(2), VP(), std=0.5), (4, 2), "ddim(eta=1)", steps=10).shape
    torch.Size([4, 2])
    """
    rule: Sampler = catalogue.build(sampler, "samplers") if isinstance(sampler, str) else sampler
    moments = _times(denoiser.schedule, rule, steps, grid, times)
    if last_denoise is None:
        noisy_end = bool(denoiser.schedule.sigma(0.0) > 0)
        last_denoise = noisy_end and (times is None or float(moments[-1]) == 0)
    if len(moments) < 2 and not last_denoise:
        raise UndiffuseError(
            f"one step under {denoiser.schedule.name} is the denoising call at its end: ask for"
            " more steps, or leave last_denoise as it is"
        )
    if not shape or shape[0] < 1:
        raise UndiffuseError(f"shape must be (N, ...) with N >= 1 samples, not {tuple(shape)}")
    if batch_size is not None and batch_size < 1:
        raise UndiffuseError(f"batch_size must be at least 1, not {batch_size}")
    count = shape[0]
    if x_T is not None and tuple(x_T.shape) != tuple(shape):
        raise UndiffuseError(f"x_T has shape {list(x_T.shape)} but {list(shape)} was asked for")
    for name, value in condition.items():
        if value is not None and getattr(value, "shape", ())[:1] != (count,):
            raise UndiffuseError(
                f"the condition {name} must be a tensor with one entry for each of the {count}"
                f" samples, not {value!s:.60}"
            )
    parameter = next(denoiser.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    paths: list[list[Step]] = []
    for low in range(0, count, batch_size or count):
        high = min(low + (batch_size or count), count)
        stream = Stream(seed, tuple(range(first_index + low, first_index + high)))
        x = (
            start(denoiser.schedule, moments[0], stream, shape[1:])
            if x_T is None
            else x_T[low:high]
        )
        part = {k: None if v is None else v[low:high].to(device) for k, v in condition.items()}
        with torch.no_grad():
            path = walk(denoiser, x.to(device).double(), moments, rule, stream, part, last_denoise)
            steps_taken = list(path) if trajectory else [_last(path)]
        _refuse_non_finite(steps_taken[-1].x, rule)
        paths.append(steps_taken)
        if progress is not None:
            progress(high, count)
    dtype = torch.float32 if x_T is None else x_T.dtype
    if not trajectory:
        return torch.cat([path[-1].x for path in paths]).to(dtype)
    columns = list(zip(*paths, strict=True))
    return Trajectory(
        times=torch.tensor([column[0].t for column in columns], dtype=torch.float64),
        x=torch.stack([torch.cat([s.x for s in column]) for column in columns]).to(dtype),
        x0_hat=torch.stack(
            [torch.cat([s.x0_hat for s in c if s.x0_hat is not None]) for c in columns[1:]]
        ).to(dtype),
        evaluations=paths[0][-1].evaluations,
    )


def _times(
    schedule: Schedule,
    rule: Sampler,
    steps: int | None,
    grid: Grid | str | None,
    times: Tensor | Sequence[float] | None,
) -> Tensor:
    if times is None:
        chosen: Grid = (
            grid if isinstance(grid, Grid) else catalogue.build(grid or rule.grid, "grids")
        )
        return chosen.times(schedule, DEFAULT_STEPS if steps is None else steps)
    if steps is not None or grid is not None:
        raise UndiffuseError("give times, or steps and a grid, not both")
    moments = as_time(torch.as_tensor(times, dtype=torch.float64))
    if moments.ndim != 1 or len(moments) < 2:
        raise UndiffuseError("times must be a list of at least two times")
    if not bool(((moments >= 0) & (moments <= 1)).all()):
        raise UndiffuseError("times must lie in [0, 1], where 0 is data and 1 is noise")
    gaps = moments.diff()
    if not bool((gaps < 0).all()) and (rule.stochastic or not bool((gaps > 0).all())):
        raise UndiffuseError(
            "times must fall from noise to data"
            + (f", and {rule.name} cannot go back to noise" if rule.stochastic else " (or rise)")
        )
    if bool(gaps[0] > 0) and bool(schedule.sigma(moments[0]) == 0):
        raise UndiffuseError(
            "times that rise must start above 0: at sigma = 0 the noise to follow is not defined"
        )
    return moments


def _last(path: Iterator[Step]) -> Step:
    for step in path:  # noqa: B007  (the last value is what remains)
        pass
    return step


def _refuse_non_finite(x: Tensor, rule: Sampler) -> None:
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x.reshape(len(x), -1)).all(1)).sum())
        raise RunFailed(
            f"{bad} of {len(x)} samples are not finite after sampling with {rule.name}: the"
            " denoiser gave NaN or infinity; look at its loss and weights"
        )
