"""`undiffuse networks`."""

from __future__ import annotations

import pytest

from undiffuse import catalogue
from undiffuse.cli import main
from undiffuse.networks.cost import cost, fitted


def test_it_prints_the_sizes_of_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["networks", "mlp", "--shape", "5"]) == 0
    told = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in told.splitlines() if "mlp." in line}
    assert list(rows) == ["mlp.tiny", "mlp.small", "mlp.base", "mlp.large"]
    counted = cost(fitted("mlp.base", (5,)), (5,))
    assert rows["mlp.base"][1] == f"{counted.parameters:,}"
    assert float(rows["mlp.base"][2]) == pytest.approx(counted.flops / 1e9, rel=0.01)
    assert rows["mlp.base"][3:] == ["width=512", "depth=6"]
    assert catalogue.entries("networks")["mlp"].summary in told


def test_options_and_sizes_go_with_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["networks", "unet.tiny(classes=10, width=16)", "--shape", "3x64"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "unet.tiny" in line]
    counted = cost(fitted("unet.tiny", (3, 64), classes=10, width=16), (3, 64))
    assert f"{counted.parameters:,}" in row
    assert "width=16 blocks=1 patch=2 classes=10" in row


def test_a_shape_chooses_the_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["networks", "--shape", "3"]) == 0
    told = capsys.readouterr().out
    assert "mlp.tiny" in told
    assert "unet" not in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["vae"], "there is no network 'vae'"),
        (["unet.smal"], "did you mean 'small'?"),
        (["unet(widht=3)"], "no option 'widht'"),
        (["mlp", "--shape", "1x28x28"], "mlp is for vectors"),
        (["unet", "--shape", "2y"], "--shape 2y is no shape"),
        (["unet", "--shape", "1x0"], "is no shape"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["networks", *words]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert not told.out
