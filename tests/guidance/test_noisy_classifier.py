"""A classifier of noisy samples: its input, its output and what it refuses."""

from __future__ import annotations

import pytest
import torch

import undiffuse as ud
from undiffuse.errors import UndiffuseError
from undiffuse.guidance import NoisyClassifier
from undiffuse.networks import MLP, UNet


def test_pictures_at_a_time_each_with_pure_data_and_pure_noise_among_them() -> None:
    net = UNet(channels=1, width=32, multipliers=(1,), blocks=1, attention=(False,))
    judge = NoisyClassifier(net, (1, 8, 8), 4, ud.schedules.Flow())
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    log_p = judge(x, torch.tensor([0.0, 0.5, 1.0]))
    assert log_p.shape == (3, 4)
    assert log_p.dtype == torch.float64
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(3).double(), rtol=1e-6, atol=1e-6)


def test_it_sees_the_log_snr_and_samples_of_unit_variance() -> None:
    """So one classifier answers alike where two schedules are alike."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MLP(size=2, width=16, depth=1)
        torch.nn.init.normal_(net.head.weight)
        vp, edm = ud.schedules.VP(), ud.schedules.EDM()
        one, two = NoisyClassifier(net, (2,), 3, vp), NoisyClassifier(net, (2,), 3, edm)
    two.head = one.head
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    t = torch.tensor(0.4, dtype=torch.float64)
    there = edm.t_from_log_snr(vp.log_snr(t))
    torch.testing.assert_close(one(x, t), two(x / float(vp.alpha(t)), there))


def test_one_class_is_nothing_to_tell_apart() -> None:
    with pytest.raises(UndiffuseError, match="two classes or more, not 1"):
        NoisyClassifier(MLP(size=2), (2,), 1, ud.schedules.VP())
