"""What must hold for every network of the catalogue, in one, two and three dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import undiffuse
from undiffuse import catalogue
from undiffuse.broadcast import over
from undiffuse.denoiser import Denoiser, Learned
from undiffuse.errors import UndiffuseError
from undiffuse.exact import FiniteSet
from undiffuse.model import Model
from undiffuse.networks.base import Network
from undiffuse.networks.conditioning import without
from undiffuse.objectives.objective import Objective
from undiffuse.predictions.base import Prediction
from undiffuse.schedules import EDM

CONDITIONS = {"classes": 2, "vector": 3, "tokens": 4, "image": 2}

# A new network gets a line here; one for pictures is tried in one, two and three dimensions.
EXAMPLES: dict[str, dict[str, Any]] = {
    "dit": {"width": 24, "depth": 2, "head_channels": 8},
    "edm2": {"width": 8, "blocks": 1, "patch": 2, "head_channels": 8},
    "mlp": {"width": 16, "depth": 2},
    "unet": {"width": 16, "blocks": 1, "patch": 2},
}
SHAPES = {1: (2, 13), 2: (1, 7, 10), 3: (1, 9, 4, 3)}


@dataclass(frozen=True)
class Case:
    """One kind of network and the shape of one sample for it."""

    name: str
    shape: tuple[int, ...]

    def make(self, **options: Any) -> Network:
        """A small network, with the options given."""
        known = catalogue.load("networks", self.name).__dataclass_fields__
        facts = {"channels": self.shape[0], "size": self.shape[0], "dims": len(self.shape) - 1}
        fields = {k: v for k, v in facts.items() if k in known} | EXAMPLES[self.name] | options
        made: Network = catalogue.build({"name": self.name, **fields}, "networks")
        return made

    def whole(self) -> Network:
        """One that takes every condition it can take."""
        return self.make(**self.taken())

    def taken(self) -> dict[str, int]:
        """The options of the conditions that this kind of network can take."""
        known = catalogue.load("networks", self.name).__dataclass_fields__
        return {name: size for name, size in CONDITIONS.items() if name in known}

    def batch(self, n: int = 6) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Inputs, noise levels and conditions; some samples go without some of them."""
        x, c_noise = torch.randn(n, *self.shape), torch.linspace(-1, 1, n)
        condition = {
            "label": torch.arange(n) % 3 - 1,
            "vector": torch.randn(n, 3),
            "tokens": torch.randn(n, 5, 4),
            "token_mask": torch.arange(5) < torch.arange(n)[:, None],
            "image": torch.randn(n, 2, *self.shape[1:]),
        }
        condition["vector"][1] = condition["image"][2] = float("nan")
        options = {"label": "classes", "token_mask": "tokens"}
        taken = self.taken()
        return x, c_noise, {k: v for k, v in condition.items() if options.get(k, k) in taken}


CASES = {
    f"{name}-{dims}d" if dims else name: Case(name, shape)
    for name in catalogue.names("networks")
    for dims, shape in ({0: (3,)} if name == "mlp" else SHAPES).items()
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    """Every kind of network in turn."""
    torch.manual_seed(0)
    return CASES[request.param]


def train(network: Network, case: Case, steps: int) -> Network:
    """A few steps towards a target that depends on the input and all that is told."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    x, c_noise, condition = case.batch()
    told = {k: v for k, v in condition.items() if k != "token_mask"}
    sums = [
        v.nan_to_num().reshape(len(v), -1).float().mean(1)
        for v in (*told.values(), c_noise[:, None])
    ]
    target = x.flip(0) + torch.stack(sums).sum(0).reshape(-1, *[1] * len(case.shape))
    for _ in range(steps):
        optimizer.zero_grad()
        (network(x, c_noise, **condition) - target).square().mean().backward()
        optimizer.step()
    return network


def opened(network: Network) -> Network:
    """The network with random values in place of the zeros, so that every branch counts."""
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


def largest(x: Tensor) -> float:
    return float(x.detach().abs().max())


# ------------------------------------------------------------------ before training


def test_a_fresh_network_returns_zeros_of_the_shape_of_x(case: Case) -> None:
    x, c_noise, condition = case.batch()
    assert torch.equal(case.whole()(x, c_noise, **condition), torch.zeros_like(x))


def test_a_fresh_denoiser_is_the_identity_of_its_preconditioner(
    case: Case, prediction: Prediction
) -> None:
    x, _, condition = case.batch()
    denoiser = Learned(case.whole(), prediction, EDM())
    t = torch.linspace(0.1, 0.9, len(x), dtype=torch.float64)
    skip = prediction.skip(denoiser.schedule.alpha(t), denoiser.schedule.sigma(t))
    assert torch.equal(denoiser(x, t, **condition), over(skip, x) * x)


def test_with_variance_there_is_twice_as_much_of_it(case: Case) -> None:
    x, c_noise, condition = case.batch()
    out = case.make(variance=True, **case.taken())(x, c_noise, **condition)
    assert torch.equal(out, torch.zeros_like(torch.cat((x, x), dim=1)))


# ------------------------------------------------------------------ conditions


def test_everything_that_is_told_matters(case: Case) -> None:
    network = train(case.whole(), case, steps=3).eval()
    x, c_noise, condition = case.batch()
    reference = network(x, c_noise, **condition)
    assert largest(network(-x, c_noise, **condition) - reference) > 1e-4
    assert largest(network(x, c_noise + 0.5, **condition) - reference) > 1e-4
    others = {"label": 1 - condition["label"].clamp(0), "token_mask": ~condition["token_mask"]}
    for name, value in condition.items():
        other = others.get(name, 1 - 2 * value)
        assert largest(network(x, c_noise, **{**condition, name: other}) - reference) > 1e-5, name


def test_none_is_the_same_however_it_is_said(case: Case) -> None:
    network = opened(case.whole())
    x, c_noise, condition = case.batch()
    none = network(x, c_noise)
    assert torch.equal(none, network(x, c_noise, **dict.fromkeys(condition)))
    torch.testing.assert_close(none, network(x, c_noise, **without(condition)))
    only_masked = {**without(condition), "tokens": condition["tokens"]}
    torch.testing.assert_close(none, network(x, c_noise, **only_masked))
    assert largest(none - network(x, c_noise, **condition)) > 1e-3


def test_each_sample_may_go_without(case: Case) -> None:
    network = opened(case.whole())
    x, c_noise, condition = case.batch()
    some = torch.arange(len(x)) % 2 == 0
    mixed = network(x, c_noise, **without(condition, some))
    torch.testing.assert_close(mixed[some], network(x, c_noise)[some])
    torch.testing.assert_close(mixed[~some], network(x, c_noise, **condition)[~some])


def test_encoding_first_changes_no_bit(case: Case) -> None:
    network = opened(case.whole())
    x, c_noise, condition = case.batch()
    encoded = network.encode(len(x), **condition)
    assert all(len(value) == len(x) for value in encoded.values())
    assert torch.equal(network(x, c_noise, encoded=encoded), network(x, c_noise, **condition))
    part = {name: value[2:4] for name, value in encoded.items()}
    torch.testing.assert_close(
        network(x[2:4], c_noise[2:4], encoded=part), network(x, c_noise, **condition)[2:4]
    )


def test_what_a_network_does_not_take_is_refused(case: Case) -> None:
    x, c_noise, condition = case.batch()
    for name, value in condition.items():
        what = "classes" if name == "label" else name.removesuffix("_mask")
        with pytest.raises(UndiffuseError, match=rf"no {what} \(.*=0\): leave the {name} away"):
            case.make()(x, c_noise, **{name: value})
    with pytest.raises(UndiffuseError, match=r"no condition of a network 'lable'.*'label'"):
        case.whole()(x, c_noise, lable=condition["label"])
    with pytest.raises(UndiffuseError, match="not both"):
        case.whole()(x, c_noise, encoded={}, **condition)


def test_conditions_of_another_shape_are_refused_in_words(case: Case) -> None:
    network, (x, c_noise, condition) = case.whole(), case.batch()
    for name, value in condition.items():
        other = torch.float32 if name in {"label", "token_mask"} else torch.int64
        for wrong in (value[:2], value[:, None], value.nan_to_num().to(other)):
            with pytest.raises(UndiffuseError, match=r"must be .*\[6.*\], not "):
                network(x, c_noise, **{**condition, name: wrong})


def test_another_shape_is_refused_in_words(case: Case) -> None:
    network = case.make()
    x, c_noise, _ = case.batch()
    with pytest.raises(UndiffuseError, match=r"takes x of shape \[B, .*not \[6, 1"):
        network(x[:, None], c_noise)  # a rank too many
    with pytest.raises(UndiffuseError, match=rf"not \[6, {2 * case.shape[0]}"):
        network(torch.cat((x, x), dim=1), c_noise)  # twice the channels
    with pytest.raises(UndiffuseError, match=r"c_noise .*\[6\], not \[2\]"):
        network(x, c_noise[:2])
    with pytest.raises(UndiffuseError, match="takes x of floats, not of int64"):
        network(x.long(), c_noise)


def test_no_samples_give_no_samples(case: Case) -> None:
    x, c_noise, condition = case.batch()
    none = {name: value[:0] for name, value in condition.items()}
    assert case.whole()(x[:0], c_noise[:0], **none).shape == x[:0].shape


# ------------------------------------------------------------------ learning


def test_samples_of_a_batch_do_not_see_each_other(case: Case) -> None:
    network = opened(case.whole())
    x, c_noise, condition = case.batch()
    together = network(x, c_noise, **condition)
    for i in range(len(x)):
        alone = {name: value[i : i + 1] for name, value in condition.items()}
        out = network(x[i : i + 1], c_noise[i : i + 1], **alone)
        torch.testing.assert_close(together[i : i + 1], out, atol=1e-4, rtol=1e-4)


def test_gradients_reach_every_parameter_and_the_input(case: Case) -> None:
    # The zeros at the ends of the branches open one after the other: the head first, then the
    # branches, and only then what stands before them.
    network = train(case.whole(), case, steps=4)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    x, c_noise, condition = case.batch()
    (slope,) = torch.autograd.grad(network(x.requires_grad_(), c_noise, **condition).sum(), x)
    assert slope.isfinite().all()
    assert slope.flatten(1).any(1).all()


SIZES = [(13,), (64,), (7, 7), (28, 28), (33, 20), (1, 1), (5, 2, 9)]
PICTURES = [name for name in catalogue.names("networks") if name != "mlp"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PICTURES)
def test_any_size_can_be_learned(name: str, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    case = Case(name, (1, *size))
    network = case.make()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    x, c_noise = torch.randn(2, 1, *size), torch.zeros(2)
    losses = []
    for _ in range(5):
        out = network(x, c_noise)
        assert out.shape == x.shape
        loss = (out - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[1:]) < losses[0]


def test_gradients_are_finite_in_bfloat16(case: Case) -> None:
    network = opened(case.whole()).train()
    x, c_noise, condition = case.batch()
    reference = network(x, c_noise, **condition)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(x, c_noise, **condition)
    assert largest(out - reference) < 0.1 * largest(reference)
    out.float().square().mean().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


# ------------------------------------------------------------------ the machine, and files


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", PICTURES)
def test_memory_order_does_not_change_the_result(name: str, training: bool) -> None:
    torch.manual_seed(0)
    case = Case(name, (1, 15, 12))
    network = opened(case.whole()).train(training)
    x, c_noise, condition = case.batch()
    reference = network(x, c_noise, **condition)
    network = network.to(memory_format=torch.channels_last)
    for memory in (torch.contiguous_format, torch.channels_last):
        out = network(x.contiguous(memory_format=memory), c_noise, **condition)
        torch.testing.assert_close(out, reference, atol=1e-4, rtol=1e-3)


ONE_LEVEL: dict[str, Any] = {"multipliers": (1,), "attention": (True,)}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"depth": 1}),
        ("unet-2d", ONE_LEVEL),
        ("edm2-2d", ONE_LEVEL),
        ("dit-2d", {"depth": 1}),
    ],
)
def test_compiled_it_gives_the_same(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    case = CASES[name]
    network = opened(case.make(**case.taken(), **options))
    x, c_noise, condition = case.batch()
    reference = network(x, c_noise, **condition)
    slope = torch.autograd.grad(reference.square().mean(), network.stem.weight)[0]
    quick = torch.compile(network, backend="aot_eager", fullgraph=True)
    out = quick(x, c_noise, **condition)
    torch.testing.assert_close(out, reference, atol=1e-5, rtol=1e-4)
    out.square().mean().backward()
    torch.testing.assert_close(network.stem.weight.grad, slope, atol=1e-5, rtol=1e-3)


def test_saved_and_loaded_it_answers_the_same(case: Case, tmp_path: Path) -> None:
    network = train(case.whole(), case, steps=2)
    if len(case.shape) == 3:
        network.to(memory_format=torch.channels_last)  # as `load` lays out pictures
    data = {"shape": case.shape, "classes": 2, "class_names": []}
    prediction = catalogue.build({"name": "edm", "sigma_data": 0.5}, "predictions")
    model = Model(Learned(network.eval(), prediction, EDM()), data, {})
    model.save(tmp_path / "model")
    x, _, condition = case.batch()
    t = torch.linspace(0, 1, len(x), dtype=torch.float64)
    twin = undiffuse.load(tmp_path / "model").denoiser
    torch.testing.assert_close(
        twin(x, t, **condition), model.denoiser(x, t, **condition), atol=0, rtol=0
    )


def test_describe_and_build_are_inverse(case: Case) -> None:
    network = case.whole()
    description = catalogue.describe(network)
    assert description["kind"] == f"networks.{case.name}"
    twin = catalogue.build(description, "networks")
    assert repr(twin) == repr(network)
    shapes = {k: v.shape for k, v in network.state_dict().items()}
    assert {k: v.shape for k, v in twin.state_dict().items()} == shapes


# ------------------------------------------------------------------ the analytic optimum


TWO_LEVELS: dict[str, Any] = {"multipliers": (1, 2), "attention": (False, True)}


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("unet", (1, 4, 4), {"width": 24, "patch": 1, **TWO_LEVELS}),
        ("dit", (1, 8), {"width": 64, "patch": 4}),
    ],
)
def test_it_learns_the_ideal_denoiser_of_a_finite_set(
    name: str, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    """Of eight points, the loss comes within a quarter of the best that is possible."""
    torch.manual_seed(0)
    points = torch.randn(8, *shape).sign() / 2
    schedule = EDM()
    edm = {"name": "edm", "sigma_data": 0.5}
    times = catalogue.build("log-normal", "objectives.times")
    objective = Objective(times, catalogue.build(edm, "objectives.weights"))
    network = Case(name, shape).make(**options)
    denoiser = Learned(network, catalogue.build(edm, "predictions"), schedule)

    def draw(n: int) -> tuple[Tensor, Tensor, Tensor]:
        u = (torch.arange(n) + torch.rand(n)) / n
        return points[torch.randint(0, 8, (n,))], u, torch.randn(n, *shape)

    steps, rate = 250, 0.01
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1, step / 20) * (1 - step / steps)
        optimizer.zero_grad()
        objective.loss(denoiser, *draw(256)).mean().backward()
        optimizer.step()
    network.eval()
    x_0, u, eps = draw(4096)
    t = times.times(u, schedule)
    sigma = schedule.sigma(t)
    x_t = x_0 + over(sigma, x_0) * eps

    def loss(of: Denoiser) -> float:
        error = (of(x_t, t) - x_0).square().flatten(1).mean(1)
        return float(((sigma**2 + 0.25) / (sigma * 0.5) ** 2 * error).mean())

    best = loss(FiniteSet(points, schedule))
    assert best < 0.3  # of the 1 that it has before training
    with torch.no_grad():
        assert loss(denoiser) < 1.25 * best
