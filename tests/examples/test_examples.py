"""Every example runs, at a small size, and draws its picture; the gallery shows them all."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
FILES = sorted(f for f in (ROOT / "examples").glob("*.py") if not f.stem.startswith("_"))
PICTURES = ROOT / "docs" / "images" / "examples"
GALLERY = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
SMALL = {"encoder_1d": 25, "decoder_1d": 12, "langevin": 20, "reverse_sde": 12, "vae_blur": 3}

each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


@each
def test_it_runs_and_draws(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)  # as `python examples/NAME.py` does
    spec = importlib.util.spec_from_file_location(f"example_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = module.main(steps=SMALL.get(file.stem, 4), out=tmp_path)
    assert written == tmp_path / f"{file.stem}.png"
    assert_is_picture(written)


def assert_is_picture(path: Path) -> None:
    """A PNG of some size that is not of one colour."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
        assert np.asarray(image.convert("L")).std() > 5


@each
def test_it_is_short_and_says_what_it_shows(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 70
    tree = ast.parse(text)
    told = ast.get_docstring(tree)
    assert told is not None
    assert "\n\nLecture: " in told
    (main,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
    assert [a.arg for a in main.args.args] == ["steps", "out"]
    assert ast.get_docstring(main)


@each
def test_the_gallery_shows_it(file: Path) -> None:
    assert f"](images/examples/{file.stem}.png)" in GALLERY
    assert f"python examples/{file.stem}.py" in GALLERY
    picture = PICTURES / f"{file.stem}.png"
    assert_is_picture(picture)
    assert picture.stat().st_size <= 150_000


def test_the_gallery_shows_nothing_else() -> None:
    assert sorted(f.stem for f in PICTURES.glob("*")) == [f.stem for f in FILES]
    assert GALLERY.count("](images/examples/") == len(FILES)
