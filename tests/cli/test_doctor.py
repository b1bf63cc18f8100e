"""`undiffuse doctor`."""

from __future__ import annotations

import pytest
import torch

import undiffuse
from undiffuse.cli import main
from undiffuse.training import recipe


@pytest.mark.usefixtures("threads")
def test_it_tells_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--threads", "1", "--precision", "bfloat16"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["undiffuse"].startswith(undiffuse.__version__)
    assert told["torch"].startswith(str(torch.__version__))
    assert told["threads"] == "1"
    assert "bfloat16 on cpu" in told["speed"]
    assert told["recipes"].split(", ") == recipe.shipped()
    assert {"python", "packages", "CUDA", "CPU", "disk", "variables"} <= set(told)
