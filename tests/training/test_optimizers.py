"""Who moves which parameter, and that nothing of it is lost in a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import undiffuse
from undiffuse import storage
from undiffuse.errors import UndiffuseError
from undiffuse.networks.mlp import MLP
from undiffuse.networks.unet import UNet
from undiffuse.training import optimizers
from undiffuse.training.muon import Muon
from undiffuse.training.recipe import TrainingOptions

MUON = TrainingOptions(optimizer="muon", betas=(0.8, 0.9), weight_decay=0.3)


def owned(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


@pytest.mark.parametrize("network", [UNet(channels=1, width=16), MLP(size=2)])
def test_every_parameter_has_one_optimizer(network: nn.Module) -> None:
    muon, adamw = optimizers.make(network, MUON)
    assert isinstance(muon, Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    both = owned(muon) + owned(adamw)
    assert len(both) == len({id(p) for p in both}) == len(list(network.parameters()))
    assert all(p.ndim >= 2 for p in owned(muon))
    assert all(p.ndim < 2 for p in owned(adamw))
    assert (muon.defaults["momentum"], adamw.defaults["betas"]) == (0.8, (0.8, 0.9))
    assert muon.defaults["weight_decay"] == adamw.defaults["weight_decay"] == 0.3
    (alone,) = optimizers.make(network, TrainingOptions())
    assert len(owned(alone)) == len(both)


def test_a_network_of_matrices_or_of_none() -> None:
    (muon,) = optimizers.make(nn.Linear(2, 2, bias=False), MUON)
    (adamw,) = optimizers.make(nn.LayerNorm(2), MUON)
    assert (type(muon), type(adamw)) == (Muon, torch.optim.AdamW)


def test_an_unknown_optimizer_is_told() -> None:
    with pytest.raises(UndiffuseError, match="optimizer must be adamw or muon"):
        TrainingOptions(optimizer="sgd")


def test_what_is_kept_is_what_comes_back() -> None:
    network = UNet(channels=1, width=16).to(memory_format=torch.channels_last)
    first, second = optimizers.make(network, MUON), optimizers.make(network, MUON)
    for p in network.parameters():
        p.grad = torch.randn_like(p)
    for optimizer in first:
        optimizer.step()
    kept = optimizers.moments(first, network)
    assert len(kept) == sum(3 if p.ndim < 2 else 1 for p in network.parameters())
    optimizers.restore(second, network, kept)
    again = optimizers.moments(second, network)
    assert kept.keys() == again.keys()
    assert all(
        torch.equal(kept[k], again[k]) and kept[k].stride() == again[k].stride() for k in kept
    )
    missing = {k: v for k, v in kept.items() if not k.startswith("exp_avg_sq/")}
    with pytest.raises(KeyError):
        optimizers.restore(second, network, missing)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_run_is_the_same_run(tmp_path: Path, precision: str) -> None:
    settings = {"training.optimizer": "muon", "training.precision": precision, "network.width": 16}
    settings |= {"training.checkpoint_every": 3, "training.warmup": 2, "training.batch_size": 8}

    class Enough(Exception):
        pass

    def leave(record: undiffuse.training.loop.Record) -> None:
        if record.step == 4:
            raise Enough

    runs = [tmp_path / "whole", tmp_path / "parts"]
    undiffuse.train("digits", runs[0], "digits", steps=6, settings=settings)
    with pytest.raises(Enough):
        undiffuse.train("digits", runs[1], "digits", steps=6, settings=settings, watch=leave)
    undiffuse.train("digits", runs[1], "digits", steps=6, settings=settings, resume=True)
    for stem in ("weights", "ema", "optimizer"):
        one, two = (storage.tensors(run / "checkpoints/step-00000006", stem) for run in runs)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[k], two[k]) for k in one)
