"""The metrics of an evaluation as a table for the screen."""

from __future__ import annotations

from typing import Any

from undiffuse import catalogue


def table(figures: dict[str, Any]) -> list[str]:
    r"""One line for each metric: its value, and what as many real samples get.

    >>> real = {"smallest": 0.41, "median": 0.53, "largest": 0.85}
    >>> figures = {"distribution": {"space": "features", "compared": 500, "draws": 5,
    ...     "frechet": {"generated": 1.306, "real": real}, "recall": None}}
    >>> print("\n".join(table(figures)))
    metric (500 samples)   generated   held-out real, 5 draws      better
    frechet                    1.306   0.41 to 0.85 (0.53)         lower
    """
    found = figures.get("distribution")
    if found is None:
        return []
    many = f"held-out real, {found['draws']} draw" + ("s" if found["draws"] > 1 else "")
    title = f"metric ({found['compared']} samples)"
    lines = [f"{title:<21}  generated   {many:<27} better"]
    for name in catalogue.names("metrics"):
        if (one := found.get(name)) is not None:
            low, middle, high = (f"{one['real'][k]:.4g}" for k in ("smallest", "median", "largest"))
            spread = f"{low} to {high} ({middle})"
            better = catalogue.load("metrics", name).better
            lines.append(f"{name:<21} {one['generated']:>10.4g}   {spread:<27} {better}")
    return lines
