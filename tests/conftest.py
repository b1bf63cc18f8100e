"""What every test shares: the same examples on every run, and one thread each."""

from __future__ import annotations

import torch
from hypothesis import settings

settings.register_profile("house", derandomize=True, deadline=None)
settings.load_profile("house")
torch.set_num_threads(1)
