"""Parameters and operations, against counts by hand and against the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from undiffuse import catalogue
from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.networks import UNet
from undiffuse.networks.cost import cost, counting, fitted
from undiffuse.training.assemble import make_denoiser, measured
from undiffuse.training.recipe import read

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"
ROW = re.compile(r"^\| `([\w.-]+)` \| .* \| ([\d,]+) \| ([\d.]+) \| ([\dx]+) \|$", re.MULTILINE)
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))


def test_every_size_of_every_network_is_documented() -> None:
    sizes = {
        f"{name}.{size}"
        for name in catalogue.names("networks")
        for size in catalogue.load("networks", name).sizes
    }
    assert {row[0] for row in ROWS} == sizes
    assert all(name.partition(".")[2] in {"tiny", "small", "base", "large"} for name in sizes)


@pytest.mark.parametrize(("name", "parameters", "gflop", "shape"), ROWS)
def test_sizes_cost_what_is_documented(name: str, parameters: str, gflop: str, shape: str) -> None:
    edges = tuple(map(int, shape.split("x")))
    counted = cost(fitted(name, edges), edges)
    assert counted.parameters == int(parameters.replace(",", ""))
    assert f"{counted.flops / 1e9:.3g}" == gflop


def test_operations_are_as_counted_by_hand() -> None:
    # One convolution of 1x1, attention and perceptron over 7 x 7 patches, and the embedding.
    w, n, values = 16, 49, 16
    block = 2 * n * w * 3 * w + 2 * (2 * n * n * w) + 2 * n * w * w + 2 * (2 * n * w * 4 * w)
    block += 2 * w * 6 * w
    ends = 2 * n * values * w * 2 + 2 * w * 2 * w
    embedding = 2 * 64 * w + 2 * w * w
    description = fitted("dit", (1, 28, 28), width=w, depth=2, patch=4, head_channels=8)
    assert cost(description, (1, 28, 28)).flops == 2 * block + ends + embedding


def test_attention_counts_on_a_cpu_too() -> None:
    q = torch.randn(1, 2, 9, 4)
    with counting() as counter:
        torch.nn.functional.scaled_dot_product_attention(q, q, q)
    assert counter.get_total_flops() == 2 * (2 * 2 * 9 * 9 * 4)


def test_a_size_is_its_options_and_yields_to_others() -> None:
    made = catalogue.build({"name": "unet.small", "channels": 1, "width": 32}, "networks")
    assert repr(made) == repr(UNet.sized("small", channels=1, width=32))
    assert (made.width, made.patch) == (32, UNet.sizes["small"]["patch"])
    with torch.device("meta"):
        assert catalogue.parse("networks", "dit.base(channels=3)").width == 384


def test_a_recipe_may_name_a_size_and_overrule_it() -> None:
    data = InMemory(torch.randn(8, 1, 6, 6))
    recipe = read("images").changed({"network.name": "unet.tiny", "network.blocks": 2})
    network = make_denoiser(measured(recipe, data), data, seed=0).network
    assert repr(network) == repr(UNet.sized("tiny", channels=1, blocks=2))


def test_mistakes() -> None:
    with pytest.raises(UndiffuseError, match="there is no form of network 'unet' 'smal'"):
        catalogue.parse("networks", "unet.smal(channels=1)")
    with pytest.raises(UndiffuseError, match="there is no size of UNet 'smal'; did you mean"):
        UNet.sized("smal", channels=1)
    with pytest.raises(UndiffuseError, match="mlp is for vectors, such as 2, not 1x8x8"):
        fitted("mlp.tiny", (1, 8, 8))
    with pytest.raises(UndiffuseError, match="unet is for channels and up to three axes"):
        fitted("unet", (3,))
