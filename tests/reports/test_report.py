from __future__ import annotations

import base64
import io
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import undiffuse
from undiffuse.data.dataset import InMemory
from undiffuse.errors import UndiffuseError
from undiffuse.evaluation.evaluate import evaluate
from undiffuse.reports.report import write_report

SECTIONS = {
    *("samples", "figures", "neighbours", "loss", "growth", "forward", "reverse"),
    *("settings", "repeat"),
}
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """What a page holds; it fails where tags do not close in order."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.sections: set[str | None] = set()
        self.tags: set[str] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(known)
        if tag == "section":
            self.sections.add(known["id"])
        for name, value in attrs:
            if name in {"src", "href", "srcset", "action", "data"}:
                assert value is not None
                assert value.startswith("data:image/png;base64,")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(file: Path) -> Page:
    """The page, checked for what every page must be."""
    page = Page(file)
    assert page.sections == SECTIONS
    assert "script" not in page.tags
    assert "link" not in page.tags
    source = file.read_text(encoding="utf-8")
    assert "url(" not in source
    assert "@import" not in source
    for image in page.images:
        assert image["alt"]
        png = base64.b64decode(image["src"].partition(",")[2])
        with Image.open(io.BytesIO(png), formats=["PNG"]) as opened:
            opened.load()
    return page


def train(data, out, **settings) -> Path:
    options = {"sampling.steps": 4, "network.width": 16, **settings}
    return undiffuse.train(data, out, "digits", steps=3, batch_size=16, settings=options).path


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory) -> Path:
    return train("digits", tmp_path_factory.mktemp("runs") / "digits")


def test_the_page_is_whole_and_asks_for_nothing(digits_run):
    file = write_report(digits_run)
    assert file == digits_run / "report.html"
    page = read(file)
    assert len(page.images) >= 10 + 20 + 2 + 9 + 9
    assert "svg" in page.tags
    assert f"undiffuse train digits --recipe digits --out {digits_run}" in page.text
    assert "have not been evaluated" in page.text
    assert "held-out real samples" in page.text
    assert list(digits_run.glob(".*tmp")) == []


def test_the_figures_of_an_evaluation_are_shown_as_long_as_they_belong_to_the_model(digits_run):
    figures = evaluate(digits_run, num=20)
    page = read(write_report(digits_run))
    assert f"{100 * figures['recognised']:.1f} %" in page.text
    assert f"{figures['neighbours']['generated']['median']:.3g}" in page.text
    text = (digits_run / "evaluation.json").read_text()
    (digits_run / "evaluation.json").write_text(text.replace(figures["model"], "0" * 64))
    page = read(write_report(digits_run))
    assert "belongs to other weights" in page.text
    (digits_run / "evaluation.json").unlink()


def test_the_same_run_gives_the_same_page(digits_run):
    first = write_report(digits_run).read_bytes()
    assert write_report(digits_run).read_bytes() == first


def test_points_are_shown_as_clouds(tmp_path):
    page = read(write_report(train("moons", tmp_path / "run", network={"name": "mlp"})))
    assert "Samples are orange" in page.text
    assert "upper" in page.text
    assert len(page.images) == 2 + 2 + 9 + (2 * 4 + 1)


def test_names_of_the_user_are_escaped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = "<script>alert(1)</script>"
    images = np.random.default_rng(0).integers(0, 255, (24, 8, 8), dtype=np.uint8)
    names = np.array([evil, "\"'><img src=http://x>"])
    np.savez("a<b>.npz", images=images, labels=np.arange(24) % 2, class_names=names)
    file = write_report(train("a<b>.npz", tmp_path / "<i>run", description=evil))
    page = read(file)
    assert evil in page.text
    assert evil not in file.read_text(encoding="utf-8")
    assert "i" not in page.tags
    assert "training samples to each other" in page.text


def test_unlabelled_data_from_python_and_colour(tmp_path):
    x = torch.randint(256, (20, 6, 9, 3), dtype=torch.uint8)
    data = InMemory(x)
    run = train(data, tmp_path / "run")
    page = read(write_report(run, data=data))
    assert "has no labels" in page.text
    assert "--label" not in page.text
    assert "DATA stands for" in page.text
    page = read(write_report(run))  # without the data the rest is still shown
    assert "Real data is missing" in page.text
    assert page.text.count("not at hand") == 2


def test_an_interrupted_run_with_bare_records_is_shown(digits_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(digits_run, run)
    (run / "metrics.jsonl").unlink()
    shutil.rmtree(run / "samples")
    shutil.rmtree(run / "model")
    page = read(write_report(run))
    assert "No steps are recorded" in page.text
    assert "No pictures were stored" in page.text


def test_a_run_without_a_checkpoint_is_one_sentence(digits_run, tmp_path):
    shutil.copy(digits_run / "config.toml", tmp_path / "config.toml")
    with pytest.raises(UndiffuseError, match="no usable checkpoint yet"):
        write_report(tmp_path)
    with pytest.raises(UndiffuseError, match="no run"):
        write_report(tmp_path / "elsewhere")


def test_a_picture_that_is_damaged_is_left_out(digits_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(digits_run, run)
    for file in (run / "samples").glob("*.png"):
        file.write_bytes(file.read_bytes()[:100])
    read(write_report(run))
