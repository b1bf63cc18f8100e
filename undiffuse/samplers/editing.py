r"""Editing of time: samples taken back to noise, part of the way or all of it.

The probability-flow ODE runs both ways, so a rule without noise on rising times turns a sample into
the noise that makes it, on a grid that goes down to little noise (`INVERSION_GRID`): what a round
trip loses, with enough steps, is what the denoiser takes away at the least noise. Between two
noises one goes along the sphere on which Gaussian noise lies, not through its middle, where there
is almost none.

Sources: Song et al. 2021 (arXiv 2010.02502), section 5.3 and appendix D.5; Meng et al. 2021
(SDEdit, arXiv 2108.01073).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from undiffuse import catalogue, process
from undiffuse.broadcast import over
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.grids.base import Grid, intervals
from undiffuse.noise import Stream
from undiffuse.samplers.asked import DEFAULT_STEPS
from undiffuse.samplers.base import Sampler
from undiffuse.samplers.loop import sample
from undiffuse.schedules.truncated import Truncated

RULE = "exponential-adams(order=3)"
INVERSION_GRID = "karras(noise_min=0.002)"


def invert(
    denoiser: Denoiser,
    x: Tensor,
    sampler: Sampler | str = RULE,
    steps: int = DEFAULT_STEPS,
    grid: Grid | str = INVERSION_GRID,
    *,
    times: Tensor | Sequence[float] | None = None,
    batch_size: int | None = None,
    **condition: Condition,
) -> Tensor:
    """The noise x_T that leads to x: the sampler along the same times, in rising order.

    Where sigma(0) = 0 the way starts at the last time before 0, as alpha x (at sigma = 0 there is
    no noise to follow); the grid says how small that is. The way back is

        sample(denoiser, x.shape, sampler, steps + 1, grid, x_T=x_T)

    over the same times, and one step more to the data; `sampler` and `grid` are those of this call,
    RULE and INVERSION_GRID if none were given. With enough steps what remains of the round trip is
    that last step, the denoising of x at the least noise. The default grid goes down to sigma/alpha
    = 0.002; the sampler's own, which is made for few steps, mostly ends at 0.01.

    Args:
        denoiser: any denoiser. Guidance makes the way longer and the error larger.
        x: data [N, ...]; with `times`, samples at the last of them.
        sampler: a rule without noise.
        steps: evaluations of a one-evaluation rule, >= 1.
        grid: the times in between.
        times: the times of the way back, falling, instead of `steps` and `grid`; the last with
            sigma > 0.
        batch_size: how many samples at once; default: all.
        condition: named tensors [N, ...], such as label.

    Returns:
        x_T [N, ...] at the first time, of x's dtype.

    Raises:
        UndiffuseError: a rule with noise, which cannot go back; impossible steps or times.

    Source: Song et al. 2021 (arXiv 2010.02502), section 4.3.
    """
    rule = _rule(sampler)
    if times is None:
        schedule = denoiser.schedule
        intervals(schedule, steps)  # refuses what is no number of steps
        falling = _grid(grid).times(schedule, steps + 1)
        moments = falling[:-1] if bool(schedule.sigma(falling[-1]) == 0) else falling
        x = over(schedule.alpha(moments[-1]), x) * x
    else:
        moments = torch.as_tensor(times, dtype=torch.float64)
    return _drawn(denoiser, x, rule, times=moments.flip(0), batch_size=batch_size, **condition)


def sdedit(
    denoiser: Denoiser,
    x: Tensor,
    t: float,
    sampler: Sampler | str = RULE,
    steps: int = DEFAULT_STEPS,
    grid: Grid | str | None = None,
    seed: int = 0,
    *,
    batch_size: int | None = None,
    first_index: int = 0,
    **condition: Condition,
) -> Tensor:
    """x with noise up to time t, x_t = alpha x + sigma eps, and then the sampler from there.

    A small t keeps x, t = 1 forgets it; between them what is coarse stays and what is fine is made
    anew, which turns sketches into pictures.

    Args:
        denoiser: any denoiser.
        x: data, or something like data, [N, ...].
        t: in [0, 1]; 0 returns x.
        sampler: a rule or its name.
        steps: evaluations of a one-evaluation rule between t and 0, >= 1.
        grid: of the piece of the schedule below t; default: the sampler's own choice.
        seed: the noise is a function of (seed, index).
        batch_size: how many samples at once; default: all.
        first_index: the index of the first sample.
        condition: named tensors [N, ...], such as label.

    Returns:
        [N, ...], of x's dtype.

    Raises:
        UndiffuseError: t outside of [0, 1]; impossible steps; a t below the grid's least noise.

    Source: Meng et al. 2021 (arXiv 2108.01073).
    """
    schedule = denoiser.schedule
    if not 0 <= t <= 1:
        raise UndiffuseError(f"t must lie in [0, 1], where 0 returns x and 1 forgets it, not {t}")
    if t == 0:
        return x
    rule = _rule(sampler)
    times = t * _grid(grid or rule.grid).times(Truncated(schedule, t_max=t), steps)
    eps = Stream(seed, tuple(range(first_index, first_index + len(x)))).draw(x.shape[1:], step=0)
    x_t = process.noised(schedule, x, t, eps.to(x))
    if len(times) < 2:
        raise UndiffuseError(
            f"one step under {schedule.name} is the denoising call at its end: ask for more steps"
        )
    return _drawn(
        denoiser,
        x_t,
        rule,
        times=times,
        last_denoise=bool(schedule.sigma(0.0) > 0),
        seed=seed,
        batch_size=batch_size,
        first_index=first_index,
        **condition,
    )


def slerp(a: Tensor, b: Tensor, w: Tensor | float) -> Tensor:
    """sin((1 - w) omega) / sin(omega) a + sin(w omega) / sin(omega) b, omega the angle of a and b.

    The angle is taken over all numbers of a sample. Along a great circle: two noises of equal norm
    have only noises of that norm between them, while on the line the middle of two independent ones
    is shorter by sqrt(2).

    Args:
        a: [B, ...].
        b: of the same shape.
        w: 0 is a, 1 is b; a number or [B].

    Returns:
        [B, ...].

    Raises:
        UndiffuseError: the shapes differ, or a sample of b is opposite to that of a.

    Source: Shoemake 1985; Song et al. 2021 (arXiv 2010.02502), appendix D.5.

    >>> slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5)
    tensor([[0.7071, 0.7071]])
    """
    if a.shape != b.shape:
        raise UndiffuseError(f"slerp goes between equal shapes, not {[*a.shape]} and {[*b.shape]}")
    one, two = (torch.nn.functional.normalize(v.flatten(1)) for v in (a, b))
    omega = 2 * torch.atan2((one - two).norm(dim=1), (one + two).norm(dim=1))  # [B], accurate
    w = torch.as_tensor(w, dtype=omega.dtype, device=omega.device)
    if bool((omega.sin().abs() < 1e-6).logical_and(omega > 1).any()):
        raise UndiffuseError("slerp has no way between opposite samples: every great circle is one")
    near = omega < 1e-6  # where sin(w omega) / sin(omega) = w
    safe = torch.where(near, 1.0, omega)
    of_a, of_b = (torch.where(near, v, torch.sin(v * safe) / torch.sin(safe)) for v in (1 - w, w))
    return over(of_a, a) * a + over(of_b, b) * b


def interpolate(
    denoiser: Denoiser,
    a: Tensor,
    b: Tensor,
    weights: Sequence[float],
    sampler: Sampler | str = RULE,
    steps: int = DEFAULT_STEPS,
    grid: Grid | str = INVERSION_GRID,
    *,
    batch_size: int | None = None,
    **condition: Condition,
) -> Tensor:
    """Samples between a and b: both to noise by `invert`, `slerp` between them, and back.

    Args:
        denoiser: any denoiser.
        a: data [N, ...].
        b: of the same shape.
        weights: W places on the way, 0 for a (up to the error of the round trip) and 1 for b.
        sampler: a rule without noise.
        steps: evaluations of a one-evaluation rule on the way to noise; one more on the way back.
        grid: the times in between.
        batch_size: how many samples at once; default: all.
        condition: named tensors [N, ...], the same for a and b and on the way back.

    Returns:
        [W, N, ...], of a's dtype.

    Raises:
        UndiffuseError: as `invert` and `slerp`; no weights.

    Source: Song et al. 2021 (arXiv 2010.02502), section 5.3.
    """
    if not len(weights):
        raise UndiffuseError("interpolate needs at least one weight, such as [0, 0.5, 1]")
    if a.shape != b.shape:
        raise UndiffuseError(f"a and b must have equal shapes, not {[*a.shape]} and {[*b.shape]}")
    rule = _rule(sampler)
    chosen = _grid(grid)
    both = _repeated(condition, 2)
    ends = invert(denoiser, torch.cat([a, b]), rule, steps, chosen, batch_size=batch_size, **both)
    from_a, from_b = ends.chunk(2)
    x_T = torch.cat([slerp(from_a, from_b, w) for w in weights])
    options = {"steps": steps + 1, "grid": chosen, "batch_size": batch_size}
    made = _drawn(denoiser, x_T, rule, **options, **_repeated(condition, len(weights)))
    return made.reshape(len(weights), *a.shape)


def _drawn(denoiser: Denoiser, x: Tensor, rule: Sampler, **options: Any) -> Tensor:
    """`sample` from x at the first time."""
    return cast(Tensor, sample(denoiser, tuple(x.shape), rule, x_T=x, **options))


def _rule(sampler: Sampler | str) -> Sampler:
    made: Sampler = catalogue.build(sampler, "samplers") if isinstance(sampler, str) else sampler
    return made


def _grid(grid: Grid | str) -> Grid:
    made: Grid = catalogue.build(grid, "grids") if isinstance(grid, str) else grid
    return made


def _repeated(condition: dict[str, Condition], n: int) -> dict[str, Condition]:
    return {k: None if v is None else torch.cat([v] * n) for k, v in condition.items()}
