from __future__ import annotations

import torch

from undiffuse.metrics import balls


def test_radii_reach_to_the_kth_other_point(normal):
    points = normal(300, 5, 0)
    apart = (points[:, None] - points[None]).square().sum(-1).sqrt().sort(1).values
    for k in (1, 3):
        torch.testing.assert_close(balls.radii(points, k), apart[:, k], atol=1e-7, rtol=0)


def test_a_twin_makes_a_ball_of_no_size():
    points = torch.tensor([[0.0], [0.0], [5.0]]).double()
    assert balls.radii(points, 1).tolist() == [0, 0, 5]


def test_the_parts_that_are_read_at_once_do_not_matter(normal, monkeypatch):
    x, y = normal(40, 3, 0), normal(30, 3, 1)
    whole = torch.cat(list(balls.inside(x, y, balls.radii(y, 2))))
    assert whole.shape == (40, 30)
    monkeypatch.setattr(balls, "ROWS", 7)
    parts = torch.cat(list(balls.inside(x, y, balls.radii(y, 2))))
    assert torch.equal(parts, whole)
