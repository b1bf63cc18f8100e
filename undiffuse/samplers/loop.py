r"""The one loop that goes through time to sample.

It owns the grid, the seeds, the batches, the progress and the trajectory, and knows nothing about
the rule of a step. `walk` yields a record per step; `stream` yields the last one of each batch, in
the memory of one batch however many there are; `sample` puts the batches together.

The promise: the noise of sample i depends on (seed, i) alone, so it is bit-equal for any batch size
and any number of processes; samples are bit-equal at equal batch shape, device, versions and
threads, and otherwise agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from undiffuse.broadcast import over
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.grids.base import Grid
from undiffuse.noise import Brownian, StepNoise, Stream
from undiffuse.samplers.asked import rule_of, times_of
from undiffuse.samplers.base import Noise, Sampler
from undiffuse.samplers.fault import Probe, broken, located
from undiffuse.samplers.records import Step, Trajectory, joined
from undiffuse.samplers.watched import Watched
from undiffuse.schedules.base import Schedule, Time

DEFAULT = "universal"
DEFAULT_BATCH = 256


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
        condition: named tensors for the denoiser, which prepares them once.
        last_denoise: end with x = denoiser(x, times[-1]), where p_0 still holds noise.
    """
    watched = Watched(denoiser, denoiser.prepare(len(x), **(condition or {})))
    path, memory = Brownian(stream.seed, stream.indices), None
    yield Step(0, float(times[0]), x, None, 0)
    for n, (t, s) in enumerate(pairwise(times)):
        x, memory = sampler.step(watched, x, t, s, memory, noise_of(stream, n + 1, path))
        yield Step(n + 1, float(s), x, watched.last, watched.calls)
    if last_denoise:
        x = sampler.last(watched, x, times[-1], memory)
        yield Step(len(times), float(times[-1]), x, watched.last, watched.calls)


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


@dataclass(frozen=True, eq=False)
class _Request:
    """A checked request for samples, each batch of which can be walked by itself."""

    denoiser: Denoiser
    shape: tuple[int, ...]
    rule: Sampler
    times: Tensor
    last_denoise: bool
    seed: int
    x_T: Tensor | None
    batch_size: int
    first_index: int
    condition: dict[str, Condition]

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.x_T is None else self.x_T.dtype

    def paths(self, whole: bool = False) -> Iterator[list[Step]]:
        """The last record of each batch in turn, or all of its records."""
        count = self.shape[0]
        for low in range(0, count, self.batch_size):
            yield self._path(slice(low, min(low + self.batch_size, count)), whole)

    def _path(self, rows: slice, whole: bool) -> list[Step]:
        indices = range(self.first_index + rows.start, self.first_index + rows.stop)
        stream, schedule = Stream(self.seed, tuple(indices)), self.denoiser.schedule
        parameter = next(self.denoiser.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
        x = (
            start(schedule, self.times[0], stream, self.shape[1:])
            if self.x_T is None
            else self.x_T[rows]
        )
        x = x.to(device).double()
        part = {k: None if v is None else v[rows].to(device) for k, v in self.condition.items()}

        def steps(denoiser: Denoiser) -> Iterator[Step]:
            return walk(denoiser, x, self.times, self.rule, stream, part, self.last_denoise)

        with torch.no_grad():
            path = list(steps(self.denoiser)) if whole else [_last(steps(self.denoiser))]
            if bad := broken(path[-1].x):
                probe = Probe(self.denoiser)
                raise located(steps(probe), probe, bad, self.rule.name)
        return path


def stream(
    denoiser: Denoiser,
    shape: Sequence[int],
    sampler: Sampler | str = DEFAULT,
    steps: int | None = None,
    grid: Grid | str | None = None,
    seed: int = 0,
    *,
    x_T: Tensor | None = None,
    times: Tensor | Sequence[float] | None = None,
    last_denoise: bool | None = None,
    batch_size: int = DEFAULT_BATCH,
    first_index: int = 0,
    **condition: Condition,
) -> Iterator[Tensor]:
    """Draw samples batch by batch: as `sample`, in the memory of one batch however many there are.

    Arguments and errors are those of `sample`; what can be refused is refused in the call, before
    the first batch is asked for.

    Returns:
        the batches in order, [B, ...] each with B <= batch_size.

    >>> from undiffuse.exact.gaussian import Gaussian
    >>> from undiffuse.schedules.vp import VP
    >>> oracle = Gaussian(torch.zeros(2), VP(), std=0.5)
    >>> [len(x) for x in stream(oracle, (10, 2), steps=5, batch_size=4)]
    [4, 4, 2]
    """
    options = (x_T, times, last_denoise, batch_size, first_index, condition)
    request = _request(denoiser, shape, sampler, steps, grid, seed, *options)
    return (path[-1].x.to(request.dtype) for path in request.paths())


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
        RunFailed: NaN or infinity at the end of a batch; it is walked again to say in which step
            and at which t the denoiser first gave them.

    >>> from undiffuse.exact.gaussian import Gaussian
    >>> from undiffuse.schedules.vp import VP
    >>> sample(Gaussian(torch.zeros(2), VP(), std=0.5), (4, 2), "ddim(eta=1)", steps=10).shape
    torch.Size([4, 2])
    """
    options = (x_T, times, last_denoise, batch_size, first_index, condition)
    request = _request(denoiser, shape, sampler, steps, grid, seed, *options)
    count, done, paths = request.shape[0], 0, []
    made = torch.empty(0)
    for path in request.paths(whole=trajectory):
        x = path[-1].x
        if trajectory:
            paths.append(path)
        else:
            if not done:
                made = torch.empty(request.shape, dtype=request.dtype, device=x.device)
            made[done : done + len(x)] = x
        done += len(x)
        if progress is not None:
            progress(done, count)
    return joined(paths, request.dtype) if trajectory else made


def _request(
    denoiser: Denoiser,
    shape: Sequence[int],
    sampler: Sampler | str,
    steps: int | None,
    grid: Grid | str | None,
    seed: int,
    x_T: Tensor | None,
    times: Tensor | Sequence[float] | None,
    last_denoise: bool | None,
    batch_size: int | None,
    first_index: int,
    condition: dict[str, Condition],
) -> _Request:
    rule = rule_of(sampler)
    moments = times_of(denoiser.schedule, rule, steps, grid, times)
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
    return _Request(
        *(denoiser, tuple(shape), rule, moments, last_denoise, seed, x_T),
        *(batch_size or count, first_index, condition),
    )


def _last(path: Iterator[Step]) -> Step:
    for step in path:  # noqa: B007  (the last value is what remains)
        pass
    return step
