from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.data import Folder, images
from undiffuse.data.decode import Undecodable, shown
from undiffuse.errors import UndiffuseError


def put(root: Path, name: str, value: int = 0, size: tuple[int, int] = (4, 4), **more: Any) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(more.pop("mode", "L"), size, value).save(path, **more)


def values(dataset: Any) -> list[int]:
    """The 8-bit value of the first pixel of every image, in the data set's order."""
    x = dataset.batch(range(len(dataset))).x
    return ((x[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


class TestLabels:
    def test_a_flat_folder_has_none(self, tmp_path: Path) -> None:
        for name, value in {"b.png": 2, "a.png": 1, "C.PNG": 3}.items():
            put(tmp_path, name, value)
        found = Folder(str(tmp_path)).open()
        assert (found.labels, found.class_names, found.shape) == (None, (), (1, 4, 4))
        assert values(found) == [3, 1, 2]  # in the order of the names

    def test_sub_folders_are_labels(self, tmp_path: Path) -> None:
        put(tmp_path, "dog/1.png", 1)
        put(tmp_path, "cat/deep/er/2.png", 2)
        put(tmp_path, "cat/3.png", 3)
        (tmp_path / "empty").mkdir()
        found = Folder(str(tmp_path)).open()
        assert found.class_names == ("cat", "dog")
        assert found.labels is not None
        assert found.labels.dtype == torch.int64
        assert dict(zip(values(found), found.labels.tolist(), strict=True)) == {1: 1, 2: 0, 3: 0}

    def test_a_folder_of_tables_is_told_how_to_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "part-0.parquet").write_bytes(b"PAR1")
        with pytest.raises(UndiffuseError, match=f"holds no images .*; hf:{tmp_path} reads its"):
            Folder(str(tmp_path)).open()

    def test_numbers_are_in_the_order_of_numbers(self, tmp_path: Path) -> None:
        for number in range(11):
            put(tmp_path, f"{number}/x.png", number)
        found = Folder(str(tmp_path)).open()
        assert found.labels is not None
        assert values(found)[2:4] == [10, 2]  # files are in the order of their paths
        assert found.labels.tolist() == values(found)

    def test_images_beside_labels_are_refused(self, tmp_path: Path) -> None:
        put(tmp_path, "cat/1.png")
        put(tmp_path, "2.png")
        with pytest.raises(UndiffuseError, match="holds both images"):
            Folder(str(tmp_path)).open()

    def test_a_class_of_broken_files_disappears(self, tmp_path: Path) -> None:
        put(tmp_path, "b/1.png", 1)
        put(tmp_path, "b/2.png", 2)
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x.png").write_text("no")
        found = Folder(str(tmp_path)).open()
        assert found.class_names == ("b",)
        assert [file for file, _ in found.skipped] == ["a/x.png"]

    def test_train_and_test(self, tmp_path: Path) -> None:
        put(tmp_path, "train/cat/1.png", 1)
        put(tmp_path, "train/dog/2.png", 2)
        put(tmp_path, "test/dog/3.png", 3)
        found = Folder(str(tmp_path)).open()
        assert values(found) == [1, 2]
        assert found.held_out is not None
        assert values(found.held_out) == [3]
        assert found.held_out.labels is not None
        assert found.held_out.labels.tolist() == [1]
        put(tmp_path, "test/emu/4.png", 4)
        with pytest.raises(UndiffuseError, match="'emu', a class that the training data"):
            Folder(str(tmp_path)).open()

    def test_links_in_circles_end(self, tmp_path: Path) -> None:
        put(tmp_path, "a/1.png", 1)
        (tmp_path / "a" / "again").symlink_to(tmp_path)
        assert len(Folder(str(tmp_path)).open()) == 1


class TestMetadata:
    @pytest.fixture
    def three(self, tmp_path: Path) -> Path:
        for number in (1, 2, 3):
            put(tmp_path, f"in/{number}.png", number)
        return tmp_path

    def test_csv(self, three: Path) -> None:
        (three / "metadata.csv").write_text(
            'file_name,label,text\nin/3.png,dog,"a dog, sitting"\n./in/1.png,cat,\n'
        )
        found = Folder(str(three)).open()
        assert found.class_names == ("cat", "dog")
        assert found.labels is not None
        assert (values(found), found.labels.tolist()) == ([3, 1], [1, 0])

    def test_jsonl(self, three: Path) -> None:
        rows = [{"file_name": f"in/{k}.png", "label": 10 * k} for k in (3, 1, 2)]
        (three / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
        found = Folder(str(three)).open()
        assert found.class_names == ("10", "20", "30")
        assert found.labels is not None
        assert (values(found), found.labels.tolist()) == ([3, 1, 2], [2, 0, 1])

    def test_without_a_label(self, three: Path) -> None:
        (three / "metadata.csv").write_text("file_name,text\nin/1.png,one\nin/2.png,two\n")
        found = Folder(str(three)).open()
        assert (found.labels, found.class_names, values(found)) == (None, (), [1, 2])

    def test_a_listed_file_that_is_not_there(self, three: Path) -> None:
        (three / "metadata.csv").write_text("file_name\nin/1.png\nin/2.png\nin/9.png\n")
        found = Folder(str(three)).open()
        assert found.skipped == (("in/9.png", "No such file or directory"),)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("metadata.csv", "", "lists no files"),
            ("metadata.csv", "file,label\nin/1.png,0\n", "line 2: 'file_name' is missing"),
            ("metadata.csv", "file_name\nin/1.png\nin/1.png\n", "comes twice"),
            ("metadata.csv", "file_name\n../secret.png\n", "not a path inside the folder"),
            ("metadata.csv", "file_name\n/etc/secret.png\n", "not a path inside the folder"),
            ("metadata.csv", "file_name,label\nin/1.png,a\nin/2.png,\n", "not 'in/2.png'"),
            ("metadata.csv", "file_name\n\xff\0", "UTF-8 text, CSV"),
            ("metadata.jsonl", "[1]\n", "line 1 is not a JSON object"),
            ("metadata.jsonl", '{"file_name": "in/1.png"\n', "one JSON object a line"),
            ("metadata.jsonl", '{"file_name": "in/1.png", "label": [1]}\n', "text or a number"),
            ("metadata.jsonl", "[" * 100_000, "one JSON object a line"),
        ],
    )
    def test_mistakes(self, three: Path, name: str, content: str, message: str) -> None:
        (three / name).write_bytes(content.encode("latin-1"))
        with pytest.raises(UndiffuseError, match=message):
            Folder(str(three)).open()

    def test_two_kinds(self, three: Path) -> None:
        for name in ("metadata.csv", "metadata.jsonl"):
            (three / name).write_text("")
        with pytest.raises(UndiffuseError, match="both"):
            Folder(str(three)).open()


class TestPixels:
    def test_batches_hold_the_files_pixels(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        stored = rng.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
        for number, pixels in enumerate(stored):
            Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        found = Folder(str(tmp_path)).open()
        x = found.batch([4, 0, 4]).x
        assert x.shape == (3, 3, 5, 7)
        expected = torch.from_numpy(stored[[4, 0, 4]]).permute(0, 3, 1, 2).float() / 127.5 - 1
        assert torch.equal(x, expected)

    def test_grey_among_colour_becomes_colour(self, tmp_path: Path) -> None:
        put(tmp_path, "a.png", 9)
        assert Folder(str(tmp_path)).open().shape == (1, 4, 4)
        put(tmp_path, "b.png", 0, mode="RGB")
        found = Folder(str(tmp_path)).open()
        assert found.shape == (3, 4, 4)
        assert torch.equal(found.batch([0]).x, torch.full((1, 3, 4, 4), 9 / 127.5 - 1))
        assert Folder(str(tmp_path), channels=1).open().shape == (1, 4, 4)

    def test_different_sizes_need_one(self, tmp_path: Path) -> None:
        put(tmp_path, "a.png", size=(4, 6))
        put(tmp_path, "b.png", size=(10, 8))
        with pytest.raises(UndiffuseError, match=r"4x6 and 10x8; .*--set data.size=N"):
            Folder(str(tmp_path)).open()
        assert Folder(str(tmp_path), size=5).open().shape == (1, 5, 5)

    def test_size_and_channels_are_checked(self) -> None:
        for options in ({"size": 0}, {"size": 9000}, {"size": 2.5}, {"channels": 2}):
            with pytest.raises(UndiffuseError):
                Folder("anywhere", **options)  # type: ignore[arg-type]


class TestTrouble:
    def test_every_bad_file_is_named_and_every_good_one_is_there_once(
        self, kit: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("an image started a program")

        monkeypatch.setattr(subprocess, "Popen", refuse)
        monkeypatch.setattr(os, "system", refuse)
        found = Folder(str(kit.root), size=16).open()
        assert {file for file, _ in found.skipped} == kit.bad
        assert all(reason for _, reason in found.skipped)
        assert sorted(found.names) == sorted(kit.good)
        x = found.batch(range(len(found))).x
        assert x.shape == (len(kit.good), 3, 16, 16)
        plain = x[found.names.index("plain.png")]
        for name in ("png_called.jpg", "same_as_plain.png", "UPPER.PNG", "broken_profile.png"):
            assert torch.equal(x[found.names.index(name)], plain)
        json.dumps(found.facts())
        assert found.facts()["skipped"] == len(kit.bad)

    def test_a_text_file_called_png(self, tmp_path: Path) -> None:
        (tmp_path / "note.png").write_text("hello")
        with pytest.raises(UndiffuseError, match=r"none of the 1 .*note.png: it is not a PNG"):
            Folder(str(tmp_path)).open()

    def test_more_bad_than_good(self, tmp_path: Path) -> None:
        put(tmp_path, "1.png", 1)
        (tmp_path / "2.png").write_text("no")
        assert len(Folder(str(tmp_path)).open()) == 1
        (tmp_path / "3.svg").write_text("<svg/>")
        with pytest.raises(UndiffuseError, match=r"only 1 of the 3 images .*convert it to PNG"):
            Folder(str(tmp_path)).open()

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "readme.txt").write_text("nothing here")
        with pytest.raises(UndiffuseError, match="holds no images"):
            Folder(str(tmp_path)).open()


class TestLaziness:
    """A large set is not decoded when it is opened; here three files are already large."""

    @pytest.fixture
    def large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(images, "VERIFY_UP_TO", 2)
        for number in range(3):
            put(tmp_path, f"{number}.png", number)
        return tmp_path

    def test_pixels_are_kept_as_bytes_once_seen(self, large: Path) -> None:
        found = Folder(str(large)).open()
        assert found.kept.tolist() == [False] * 3
        assert values(found)[1] == 1
        assert found.kept.all()
        assert found.pixels.nbytes == 3 * 4 * 4
        (large / "1.png").unlink()
        assert values(found) == [0, 1, 2]

    def test_without_room_nothing_is_kept(
        self, large: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(images, "KEEP_UP_TO", 40)
        found = Folder(str(large)).open()
        assert values(found) == values(found) == [0, 1, 2]
        assert (found.pixels.nbytes, found.kept.any()) == (0, False)
        (large / "1.png").unlink()
        with pytest.raises(Undecodable, match=r"1\.png.*No such file"):
            found.batch([0, 1])
        put(large, "1.png", size=(2, 2))
        with pytest.raises(Undecodable, match=r"1\.png.*size has changed"):
            found.batch([1])

    def test_a_small_set_without_room(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(images, "KEEP_UP_TO", 40)
        for number in range(3):
            put(tmp_path, f"{number}.png", number)
        found = Folder(str(tmp_path)).open()
        assert values(found) == [0, 1, 2]
        assert found.pixels.nbytes == 0

    def test_a_broken_file_is_found_when_it_is_read(self, large: Path) -> None:
        whole = (large / "1.png").read_bytes()
        (large / "1.png").write_bytes(whole[:-20])  # the header is intact
        found = Folder(str(large)).open()
        with pytest.raises(Undecodable, match=r"1\.png"):
            found.batch([1])


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", 1)
    put(tmp_path, "b/2.png", 2)
    first = Folder(str(tmp_path)).open().fingerprint()
    assert Folder(str(tmp_path)).open().fingerprint() == first
    os.rename(tmp_path / "b", tmp_path / "c")
    second = Folder(str(tmp_path)).open().fingerprint()
    put(tmp_path, "c/2.png", 2, size=(4, 4), compress_level=0)
    third = Folder(str(tmp_path)).open().fingerprint()
    assert len({first, second, third}) == 3


def test_names_in_messages_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xe9\n.png")).write_bytes(b"")
    with pytest.raises(UndiffuseError) as caught:
        Folder(str(tmp_path)).open()
    assert str(caught.value).isprintable()
    assert shown("plain.png") == "plain.png"
