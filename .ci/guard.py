"""Fails when a package that must never come along stands in the environment of this interpreter.

torchvision, torchaudio, triton and NVIDIA's libraries are gigabytes that nothing here needs; they
arrive when a dependency pulls them in or replaces the chosen build of torch.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from importlib.metadata import distributions

UNWANTED = re.compile(r"(torchvision|torchaudio|triton|pytorch-triton|nvidia-.*)", re.IGNORECASE)


def main() -> int:
    folders = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    names = {found.name.replace("_", "-") for found in distributions(path=folders)}
    unwanted = sorted(name for name in names if UNWANTED.fullmatch(name))
    if unwanted:
        print(f"guard: {', '.join(unwanted)} must not be in {folders[0]}", file=sys.stderr)
        return 1
    print(f"guard: {len(names)} packages, none unwanted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
