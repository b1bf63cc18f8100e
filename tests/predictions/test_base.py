"""Every prediction is one affine map, and all of them describe the same denoiser."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from undiffuse import catalogue
from undiffuse.broadcast import over
from undiffuse.errors import UndiffuseError
from undiffuse.exact import GaussianMixture
from undiffuse.predictions.base import Prediction
from undiffuse.schedules.base import Schedule

# skip and out of the table in which the predictions are defined, for sigma_data = s.
Row = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
ROWS: dict[str, Row] = {
    "data": lambda a, b, s: (0 * a, 0 * a + 1),
    "noise": lambda a, b, s: (1 / a, -b / a),
    "score": lambda a, b, s: (1 / a, b**2 / a),
    "v": lambda a, b, s: (a / (a**2 + b**2), -b / torch.sqrt(a**2 + b**2)),
    "flow": lambda a, b, s: (1 / (a + b), -b / (a + b)),
    "edm": lambda a, b, s: (
        a * s**2 / (a**2 * s**2 + b**2),
        b * s / torch.sqrt(a**2 * s**2 + b**2),
    ),
}


def every_prediction() -> list[Prediction]:
    return [
        catalogue.build({"name": name, "sigma_data": 0.7}, "predictions")
        for name in catalogue.names("predictions")
    ]


def moments(schedule: Schedule) -> tuple[Tensor, Tensor, Tensor]:
    """t, alpha and sigma at 25 log-SNRs in [-12, 12], as far as the schedule goes; [25]."""
    low, high = float(schedule.log_snr(1.0)), float(schedule.log_snr(0.0))
    spaced = torch.linspace(max(low, -12), min(high, 12), 25, dtype=torch.float64)
    t = schedule.t_from_log_snr(spaced)
    return t, schedule.alpha(t), schedule.sigma(t)


def close(actual: Tensor, expected: Tensor, like: Tensor) -> None:
    """Equal to 1e-10, relative to the size that such a value has in a sample."""
    error = (actual - expected).norm(dim=1) / like.norm(dim=1)
    assert float(error.max()) < 1e-10


def test_all_predictions_of_one_denoiser_convert_into_each_other(
    schedule: Schedule, prediction: Prediction
) -> None:
    generator = torch.Generator().manual_seed(0)
    means, noise, x_0 = torch.randn(3, 25, 2, dtype=torch.float64, generator=generator)
    t, alpha, sigma = moments(schedule)
    oracle = GaussianMixture(means[:4], None, schedule, std=0.3)
    a, b = over(alpha, x_0), over(sigma, x_0)
    x_t = a * x_0 + b * noise
    x0_hat, eps_hat = oracle(x_t, t), oracle.noise(x_t, t)

    def denoised(kind: Prediction, F: Tensor) -> Tensor:
        skip, out = kind.skip(alpha, sigma), kind.out(alpha, sigma)
        return over(skip, x_t) * x_t + over(out, x_t) * F

    F = prediction.target(x0_hat, eps_hat, a, b)
    x0_of_F = denoised(prediction, F)
    close(x0_of_F, x0_hat, x_0)
    for other in every_prediction():  # there, and back again
        G = other.target(x0_of_F, (x_t - a * x0_of_F) / b, a, b)
        close(G, other.target(x0_hat, eps_hat, a, b), other.target(x_0, noise, a, b))
        x0_of_G = denoised(other, G)
        back = prediction.target(x0_of_G, (x_t - a * x0_of_G) / b, a, b)
        close(back, F, prediction.target(x_0, noise, a, b))


@pytest.mark.parametrize("name", list(ROWS))
def test_the_rows_are_those_of_the_table(schedule: Schedule, name: str) -> None:
    prediction: Prediction = catalogue.build({"name": name, "sigma_data": 0.7}, "predictions")
    _, alpha, sigma = moments(schedule)
    skip, out = ROWS[name](alpha, sigma, 0.7)
    torch.testing.assert_close(prediction.skip(alpha, sigma), skip, rtol=1e-12, atol=0)
    torch.testing.assert_close(prediction.out(alpha, sigma), out, rtol=1e-12, atol=0)


def test_the_target_is_what_the_affine_map_asks_for(
    schedule: Schedule, prediction: Prediction
) -> None:
    """target = (x_0 - skip x_t) / out."""
    _, alpha, sigma = moments(schedule)
    x_0, noise = torch.randn(2, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x_t = alpha * x_0 + sigma * noise
    printed = (x_0 - prediction.skip(alpha, sigma) * x_t) / prediction.out(alpha, sigma)
    target = prediction.target(x_0, noise, alpha, sigma)
    torch.testing.assert_close(target, printed, rtol=1e-7, atol=1e-9)


def test_an_error_of_F_is_an_error_of_the_noise_times_the_gain(
    schedule: Schedule, prediction: Prediction
) -> None:
    t, alpha, sigma = moments(schedule)
    gain = prediction.log_gain(schedule.log_snr(t), sigma).exp()
    expected = alpha * prediction.out(alpha, sigma).abs() / sigma
    torch.testing.assert_close(gain, expected, rtol=1e-10, atol=0)
    x_0, noise, wrong = torch.randn(
        3, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    x_t = alpha * x_0 + sigma * noise
    F = prediction.target(x_0, noise, alpha, sigma) + wrong
    x0_hat = prediction.skip(alpha, sigma) * x_t + prediction.out(alpha, sigma) * F
    eps_hat = (x_t - alpha * x0_hat) / sigma
    torch.testing.assert_close((eps_hat - noise).abs(), gain * wrong.abs(), rtol=1e-6, atol=1e-9)


def test_the_input_has_unit_variance(schedule: Schedule, prediction: Prediction) -> None:
    t, alpha, sigma = moments(schedule)
    variance = (alpha * prediction.sigma_data) ** 2 + sigma**2
    scaled = prediction.scale(alpha, sigma) ** 2 * variance
    torch.testing.assert_close(scaled, torch.ones_like(t), rtol=1e-14, atol=0)


def test_the_ends(prediction: Prediction) -> None:
    """At alpha = 0 all but noise and score are finite; so are all at the last bit of noise."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    no_signal = torch.cat([prediction.skip(zero, one), prediction.out(zero, one)])
    assert prediction.needs_signal == (not bool(no_signal.isfinite().all()))
    assert prediction.needs_signal == (prediction.name in {"noise", "score"})
    x_0, eps = 0.3 * one, -2 * one
    assert bool(prediction.target(x_0, eps, zero, one).isfinite())
    if not prediction.needs_signal:  # x_t = eps there, and the map must still give x_0
        F = prediction.target(x_0, eps, zero, one)
        x0_hat = prediction.skip(zero, one) * eps + prediction.out(zero, one) * F
        torch.testing.assert_close(x0_hat, x_0)
    if prediction.name not in {"score"}:
        assert bool(prediction.target(x_0, eps, one, zero).isfinite())


def test_options_and_json(prediction: Prediction) -> None:
    written = json.loads(json.dumps(catalogue.describe(prediction)))
    assert catalogue.build(written) == prediction
    assert hash(catalogue.build(written)) == hash(prediction)
    for bad in (0, -1.0, float("nan"), float("inf"), "a", True):
        with pytest.raises(UndiffuseError, match="sigma_data must be positive"):
            type(prediction)(sigma_data=bad)  # type: ignore[arg-type]
