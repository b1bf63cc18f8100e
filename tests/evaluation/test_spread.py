from __future__ import annotations

import torch

from undiffuse.evaluation.spread import spread


def test_spread_is_even_and_keeps_what_is_few():
    assert spread(torch.arange(10), 5).tolist() == [0, 2, 4, 6, 8]
    assert spread(torch.arange(3), 5).tolist() == [0, 1, 2]
    assert spread(torch.arange(0), 5).tolist() == []
