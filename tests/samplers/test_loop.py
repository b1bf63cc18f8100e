"""The loop: what it returns, what it refuses, and that a sampler can come from anywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import undiffuse as ud
from undiffuse.broadcast import over
from undiffuse.denoiser import Condition, Denoiser
from undiffuse.errors import UndiffuseError
from undiffuse.noise import Stream
from undiffuse.samplers import DDIM
from undiffuse.samplers.base import Memory, Noise, Sampler
from undiffuse.samplers.loop import start, walk
from undiffuse.schedules.base import Schedule

MEAN = torch.tensor([0.3, -0.2])


def gaussian(schedule: Schedule | None = None) -> ud.exact.Gaussian:
    return ud.exact.Gaussian(MEAN, schedule or ud.schedules.VP(), std=0.5)


class Broken(Denoiser):
    """A denoiser that answers NaN for every second sample."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = ud.schedules.VP()

    def denoise(self, x_t: Tensor, t: Tensor, **condition: Condition) -> Tensor:
        broken = x_t.clone()
        broken[::2] = float("nan")
        return broken


# ------------------------------------------------------------------ what it returns


def test_trajectory() -> None:
    """times [n + 1], x [n + 1, B, ...], x0_hat [n, B, ...], and it ends where `sample` does."""
    path = ud.sample(gaussian(), (5, 2), steps=6, seed=4, trajectory=True)
    assert path.times.shape == (7,)
    assert path.x.shape == (7, 5, 2)
    assert path.x0_hat.shape == (6, 5, 2)
    assert path.evaluations == 6
    assert torch.equal(path.x[-1], ud.sample(gaussian(), (5, 2), steps=6, seed=4))
    first = start(ud.schedules.VP(), path.times[0], Stream(4, tuple(range(5))), (2,))
    assert torch.equal(path.x[0], first.float())
    torch.testing.assert_close(
        path.x0_hat[0], gaussian()(path.x[0], path.times[0]), rtol=1e-5, atol=1e-6
    )


def test_trajectory_in_batches_is_the_same() -> None:
    whole, parts = (
        ud.sample(gaussian(), (7, 2), "ddpm", steps=4, trajectory=True, batch_size=size)
        for size in (None, 3)
    )
    torch.testing.assert_close(whole.x, parts.x, rtol=0, atol=1e-6)
    torch.testing.assert_close(whole.x0_hat, parts.x0_hat, rtol=0, atol=1e-6)
    assert parts.evaluations == 4  # for each sample


def test_a_record_per_step() -> None:
    times = torch.linspace(1, 0, 6, dtype=torch.float64)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).double()
    records = list(walk(gaussian(), x, times, DDIM(), Stream(0, (0, 1, 2))))
    assert [r.number for r in records] == [0, 1, 2, 3, 4, 5]
    assert [r.t for r in records] == times.tolist()
    assert [r.evaluations for r in records] == [0, 1, 2, 3, 4, 5]
    assert records[0].x0_hat is None
    assert torch.equal(records[0].x, x)
    assert records[-1].x0_hat is not None
    assert torch.equal(records[-1].x, records[-1].x0_hat)  # the step to sigma = 0


def test_start_has_the_variance_of_noisy_data(schedule: Schedule) -> None:
    """x_T ~ N(0, (alpha^2 + sigma^2) I), which is N(0, I) for variance-preserving schedules."""
    x = start(schedule, 1.0, Stream(0, tuple(range(64))), (256,))
    var = float(schedule.alpha(1.0) ** 2 + schedule.sigma(1.0) ** 2)
    assert x.dtype == torch.float64
    assert float(x.var()) == pytest.approx(var, rel=4 * (2 / x.numel()) ** 0.5)


def test_given_start() -> None:
    """x_T replaces the noise: no seed matters, and its dtype is that of the samples."""
    x_T = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    single, other_seed = (ud.sample(gaussian(), (3, 2), x_T=x_T, seed=seed) for seed in (0, 1))
    double = ud.sample(gaussian(), (3, 2), x_T=x_T.double())
    assert torch.equal(single, other_seed)
    assert single.dtype == torch.float32
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-6)
    batched = ud.sample(gaussian(), (3, 2), x_T=x_T.double(), batch_size=2)
    torch.testing.assert_close(batched, double, rtol=0, atol=1e-12)


def test_given_times() -> None:
    """They replace steps and grid, as a list or a tensor, and may stop before the data."""
    oracle, moments = gaussian(), [1.0, 0.7, 0.2]
    path = ud.sample(oracle, (4, 2), "ddim", times=moments, trajectory=True)
    assert path.times.tolist() == moments
    assert path.evaluations == 2
    same = ud.sample(oracle, (4, 2), "ddim", times=torch.tensor(moments, dtype=torch.float64))
    assert torch.equal(same, path.x[-1])
    spread = ud.sample(oracle, (4096, 2), times=torch.linspace(1, 0.3, 30)).double().std()
    expected = oracle.draw(4096, 0.3).std()
    assert float(spread) == pytest.approx(float(expected), rel=0.05)


def test_a_noisy_end_is_denoised_in_a_counted_call() -> None:
    """EDM ends at sigma_min = 0.5 here: without the last call the samples keep that noise."""
    oracle = ud.exact.FiniteSet(MEAN[None], ud.schedules.EDM(sigma_min=0.5))
    path = ud.sample(oracle, (256, 2), "ddpm", steps=10, trajectory=True)
    assert path.evaluations == 10
    torch.testing.assert_close(path.x[-1], MEAN.expand(256, 2))
    noisy = ud.sample(
        oracle, (256, 2), "ddpm", steps=10, grid="uniform", last_denoise=False, trajectory=True
    )
    assert noisy.evaluations == 9
    assert float((noisy.x[-1] - MEAN).std()) == pytest.approx(0.5, rel=0.15)
    times = torch.linspace(1, 0, 10)
    at_zero = ud.sample(oracle, (4, 2), times=times, trajectory=True)
    assert at_zero.evaluations == 10  # given times that end at 0 are denoised too
    before = ud.sample(oracle, (4, 2), times=times[:-1], trajectory=True)
    assert before.evaluations == 8  # times that stop before 0 are left as they are


def test_progress_tells_the_samples_done() -> None:
    told: list[tuple[int, int]] = []
    ud.sample(gaussian(), (7, 2), steps=2, batch_size=3, progress=lambda *done: told.append(done))
    assert told == [(3, 7), (6, 7), (7, 7)]


@pytest.mark.parametrize("shape", [(2, 3), (2, 1, 5), (2, 3, 4, 5), (2, 1, 2, 3, 2)])
def test_any_rank(shape: tuple[int, ...]) -> None:
    oracle = ud.exact.Gaussian(torch.zeros(shape[1:]), ud.schedules.Cosine(), std=0.5)
    assert ud.sample(oracle, shape, steps=3).shape == shape
    assert ud.sample(oracle, shape, "ddpm", steps=3, grid="log-snr").shape == shape


# ------------------------------------------------------------------ a sampler from anywhere


@dataclass(frozen=True)
class Euler(Sampler):
    """The plainest rule: x_s = x + (s - t) dx/dt, with nothing but the denoiser's velocity."""

    name: ClassVar[str] = "euler"
    grid: ClassVar[str] = "uniform"

    def step(
        self, denoiser: Denoiser, x: Tensor, t: Tensor, s: Tensor, memory: Memory, noise: Noise
    ) -> tuple[Tensor, Memory]:
        return x + over(s - t, x) * denoiser.velocity(x, t), None


def test_a_sampler_that_is_in_no_catalogue() -> None:
    """On the straight line of Flow, Euler is DDIM."""
    oracle = gaussian(ud.schedules.Flow())
    path = ud.sample(oracle, (4, 2), Euler(), steps=20, trajectory=True)
    assert path.evaluations == 20
    expected = ud.sample(oracle, (4, 2), "ddim", steps=20, grid="uniform")
    torch.testing.assert_close(path.x[-1], expected, rtol=0, atol=1e-6)


# ------------------------------------------------------------------ what it refuses


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "steps must be a whole number, at least 1, not 0"),
        ({"steps": -5}, "steps must be"),
        ({"sampler": "dimm"}, "there is no sampler 'dimm'; did you mean 'ddim'"),
        ({"sampler": "ddim(eta=2)"}, "eta must be in"),
        ({"sampler": "ddim(seed=2)"}, "its options: eta"),
        ({"sampler": "ddim(eta"}, "cannot read 'ddim"),
        ({"grid": "unifrom"}, "there is no grid 'unifrom'; did you mean 'uniform'"),
        ({"times": [1.0]}, "at least two times"),
        ({"times": [[1.0, 0.0]]}, "at least two times"),
        ({"times": [1.0, 0.2, 0.5, 0.0]}, "times must fall from noise to data"),
        ({"times": [1.0, 0.5, 0.5]}, "times must fall from noise to data"),
        ({"times": [0.2, 0.5], "sampler": "ddpm"}, "ddpm cannot go back to noise"),
        ({"times": [0.0, 0.5]}, "times that rise must start above 0"),
        ({"times": [1.5, 0.0]}, r"times must lie in \[0, 1\]"),
        ({"times": [1.0, -0.1]}, r"times must lie in \[0, 1\]"),
        ({"times": [1.0, float("nan")]}, r"times must lie in \[0, 1\]"),
        ({"x_T": torch.zeros(3, 2)}, r"x_T has shape \[3, 2\] but \[4, 2\]"),
        ({"x_T": torch.zeros(4, 3)}, r"x_T has shape \[4, 3\] but \[4, 2\]"),
        (
            {"label": torch.zeros(3, dtype=torch.int64)},
            "label must be a tensor with one entry for each of the 4",
        ),
        ({"shape": ()}, "N >= 1 samples"),
        ({"shape": (0, 2)}, "N >= 1 samples"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": -1}, "batch_size must be at least 1"),
    ],
    ids=str,
)
def test_mistakes_are_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UndiffuseError, match=sentence) as caught:
        ud.sample(gaussian(), **{"shape": (4, 2), **options})
    assert "\n" not in str(caught.value)


def test_one_step_that_does_nothing_is_refused() -> None:
    with pytest.raises(UndiffuseError, match="one step under edm is the denoising call"):
        ud.sample(gaussian(ud.schedules.EDM()), (4, 2), steps=1, last_denoise=False)


@pytest.mark.parametrize("sampler", ud.catalogue.names("samplers"))
def test_a_denoiser_that_answers_nan_is_named(sampler: str) -> None:
    name = re.escape(sampler)
    with pytest.raises(UndiffuseError, match=f"2 of 4 samples are not finite .* {name}"):
        ud.sample(Broken(), (4, 2), sampler, steps=3)
