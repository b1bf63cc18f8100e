"""The rows over the kernel are the papers' own formulas, in float64 to 1e-12."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.samplers import DEIS, LMS, PLMS, DPMSolver, DPMSolverSinglestep, UniPC
from undiffuse.schedules.base import Schedule

VP = ud.schedules.VP()
ORACLE = ud.exact.GaussianMixture(
    torch.tensor([[-1.0, 0.2], [0.9, 0.4], [0.0, -1.0]]), None, VP, std=0.3
)
X_T = torch.tensor([[1.0, -0.5], [-0.2, 0.8], [0.3, 1.1]], dtype=torch.float64)
TIMES = torch.tensor([0.9, 0.75, 0.66, 0.5, 0.41, 0.25, 0.2, 0.08], dtype=torch.float64)
ALPHA, SIGMA = VP.alpha(TIMES).tolist(), VP.sigma(TIMES).tolist()
LAMBDA = [math.log(a / b) for a, b in zip(ALPHA, SIGMA, strict=True)]  # the papers' half log-SNR
STEPS = len(TIMES) - 1


def ours(rule: object) -> Tensor:
    x = ud.sample(ORACLE, X_T.shape, rule, x_T=X_T, times=TIMES)
    assert isinstance(x, Tensor)
    return x


def same(one: Tensor, two: Tensor) -> None:
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "rule",
    [
        *("deis(order=1)", "deis(order=1, variable=sigma/alpha)", "lms(order=1)", "plms(order=1)"),
        *("dpm-solver++(order=1)", "exponential-adams(order=1)", "euler"),
        "gradient-estimation(gamma=1)",
    ],
)
def test_with_one_value_every_rule_is_ddim(rule: str, schedule: Schedule) -> None:
    oracle = ORACLE.with_schedule(schedule)
    x_T = ud.sample(oracle, (3, 2), steps=1, trajectory=True).x[0].double()
    one, two = (
        ud.sample(oracle, (3, 2), text, steps=12, x_T=x_T, grid="log-snr")
        for text in (rule, "ddim")
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-11)


# ------------------------------------------------------------------ DPM-Solver++


def test_2m() -> None:
    """Lu et al. 2022, algorithm 2."""
    x, values = X_T, []
    for i in range(STEPS):
        values.append(ORACLE(x, TIMES[i]))
        h = LAMBDA[i + 1] - LAMBDA[i]
        D = values[i]
        if i > 0:
            r = (LAMBDA[i] - LAMBDA[i - 1]) / h
            D = (1 + 1 / (2 * r)) * values[i] - 1 / (2 * r) * values[i - 1]
        x = SIGMA[i + 1] / SIGMA[i] * x - ALPHA[i + 1] * (math.exp(-h) - 1) * D
    same(ours(DPMSolver(2)), x)


def test_3m() -> None:
    """The third-order update with D2 = h^2 times the second derivative of the parabola."""
    x, values = X_T, []
    for i in range(STEPS):
        values.append(ORACLE(x, TIMES[i]))
        h = LAMBDA[i + 1] - LAMBDA[i]
        phi_1 = math.expm1(-h)
        phi_2 = phi_1 / h + 1
        phi_3 = phi_2 / h - 0.5
        moved = SIGMA[i + 1] / SIGMA[i] * x - ALPHA[i + 1] * phi_1 * values[i]
        if i > 0:
            r0 = (LAMBDA[i] - LAMBDA[i - 1]) / h
            D1_0 = (values[i] - values[i - 1]) / r0
            D1, D2 = D1_0, torch.zeros_like(x)
        if i > 1:
            r1 = (LAMBDA[i - 1] - LAMBDA[i - 2]) / h
            D1_1 = (values[i - 1] - values[i - 2]) / r1
            D1 = D1_0 + r0 / (r0 + r1) * (D1_0 - D1_1)
            D2 = 2 / (r0 + r1) * (D1_0 - D1_1)
        x = moved + ALPHA[i + 1] * (phi_2 * D1 - phi_3 * D2) if i > 0 else moved
    same(ours(DPMSolver(3)), x)


@pytest.mark.parametrize("r", [0.3, 0.5, 1.0])
def test_2s(r: float) -> None:
    """Lu et al. 2022, algorithm 1."""
    x = X_T
    for i in range(STEPS):
        h = LAMBDA[i + 1] - LAMBDA[i]
        m = VP.t_from_log_snr(2 * (LAMBDA[i] + r * h))
        now = ORACLE(x, TIMES[i])
        u = VP.sigma(m) / SIGMA[i] * x - VP.alpha(m) * math.expm1(-r * h) * now
        D = (1 - 1 / (2 * r)) * now + 1 / (2 * r) * ORACLE(u, m)
        x = SIGMA[i + 1] / SIGMA[i] * x - ALPHA[i + 1] * math.expm1(-h) * D
    same(ours(DPMSolverSinglestep(r)), x)


# ------------------------------------------------------------------ UniPC


def unipc(order: int, variant: str) -> Tensor:
    """Zhao et al. 2023: R_p a_p B(h) = phi_p(h) solved as printed, 1/2 where the paper puts it."""
    x, values, start = X_T, [], X_T
    for i in range(STEPS):
        values.append(ORACLE(x, TIMES[i]))
        if i > 0:
            p = min(order, i)
            start = update(start, values, i - 1, p, variant, values[i])  # corrected, at TIMES[i]
        x = update(start, values, i, min(order, i + 1), variant, None)
    return x


def update(
    x: Tensor, values: list[Tensor], i: int, p: int, variant: str, corrector: Tensor | None
) -> Tensor:
    """UniP-p from TIMES[i], or UniC-p with the value at the end of the step."""
    h = LAMBDA[i + 1] - LAMBDA[i]
    B = {"bh1": -h, "bh2": math.expm1(-h)}[variant]
    r = [(LAMBDA[i - m] - LAMBDA[i]) / h for m in range(1, p)]
    D = [(values[i - m] - values[i]) / r[m - 1] for m in range(1, p)]
    if corrector is not None:
        r, D = [*r, 1.0], [*D, corrector - values[i]]
    phi, factorial, b = math.expm1(-h) / -h - 1, 1, []
    for n in range(1, len(r) + 1):
        b.append(phi * factorial / B)
        factorial *= n + 1
        phi = phi / -h - 1 / factorial
    a = np.linalg.solve(np.vander(r, increasing=True).T, b) if r else []
    if len(r) == 1:
        a = [0.5]
    moved = SIGMA[i + 1] / SIGMA[i] * x - ALPHA[i + 1] * math.expm1(-h) * values[i]
    return moved - ALPHA[i + 1] * B * sum(c * d for c, d in zip(a, D, strict=True))


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc(order: int, variant: str) -> None:
    same(ours(UniPC(order, variant)), unipc(order, variant))


def test_unipc_asks_once_per_step_and_ends_at_zero() -> None:
    for variant in ("bh1", "bh2"):
        path = ud.sample(ORACLE, (4, 2), UniPC(3, variant), steps=9, trajectory=True)
        assert path.evaluations == 9
        assert bool(path.x.isfinite().all())


# ------------------------------------------------------------------ DEIS, LMS, PLMS


def adams(order: int, variable: list[float], integral: object) -> Tensor:
    """y += sum_j eps_j int l_j drho, the Lagrange polynomials in `variable`."""
    y, values = X_T / ALPHA[0], []
    for i in range(STEPS):
        x = ALPHA[i] * y
        values.append(ORACLE.noise(x, TIMES[i]))
        used = range(max(0, i - order + 1), i + 1)
        for j in used:

            def basis(u: float, j: int = j, used: range = used) -> float:
                parts = [(u - variable[k]) / (variable[j] - variable[k]) for k in used if k != j]
                return math.prod(parts)

            y = y + integral(basis, i) * values[j]  # type: ignore[operator]
    return ALPHA[-1] * y


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lms(order: int) -> None:
    """Crowson 2022: the Lagrange polynomials in sigma / alpha, integrated over it."""
    rho = [b / a for a, b in zip(ALPHA, SIGMA, strict=True)]
    expected = adams(
        order, rho, lambda f, i: quad(f, rho[i], rho[i + 1], epsabs=1e-14, epsrel=1e-13)[0]
    )
    same(ours(LMS(order)), expected)
    same(ours(DEIS(order, "sigma/alpha")), expected)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_deis_in_time(order: int) -> None:
    """Zhang & Chen 2023: the polynomials in t, integrated over d(sigma/alpha)."""

    def slope(t: float) -> float:  # d(sigma/alpha)/dt = (1/2) beta e^B / sqrt(e^B - 1)
        B = float(VP.integral(t))
        return float(VP.beta(t)) * math.exp(B) / (2 * math.sqrt(math.expm1(B)))

    t = TIMES.tolist()
    expected = adams(
        order,
        t,
        lambda f, i: quad(lambda u: f(u) * slope(u), t[i], t[i + 1], epsabs=1e-14, epsrel=1e-13)[0],
    )
    torch.testing.assert_close(ours(DEIS(order)), expected, rtol=0, atol=1e-9)


def test_plms() -> None:
    """Liu et al. 2022, equation 12 in DDIM's step, equation 11."""
    x, values = X_T, []
    for i in range(STEPS):
        values.insert(0, ORACLE.noise(x, TIMES[i]))
        row = [(1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55, -59, 37, -9)][min(i, 3)]
        eps = sum(c * e for c, e in zip(row, values, strict=False)) / (24 if i > 2 else 1)
        x = ALPHA[i + 1] * (x - SIGMA[i] * eps) / ALPHA[i] + SIGMA[i + 1] * eps
    same(ours(PLMS()), x)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("deis(order=5)", "order must be 1, 2, 3 or 4"),
        ("deis(variable=log-snr)", 'variable must be "time" or "sigma/alpha"'),
        ("lms(order=0)", "order must be 1, 2, 3 or 4"),
        ("plms(order=[1])", "order must be a whole number"),
        ("dpm-solver++(order=4)", "order must be 1, 2 or 3"),
        ("dpm-solver++2s(r=0)", r"r must be in \(0, 1\]"),
        ("unipc(order=4)", "order must be 1, 2 or 3"),
        ("unipc(variant=bh3)", 'variant must be "bh1" or "bh2"'),
    ],
)
def test_impossible_options_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(UndiffuseError, match=sentence):
        ud.catalogue.parse("samplers", text)
