"""Tables: what parquet files and the data sets of a hub hold, made in code."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

from undiffuse.data import Folder, images, open_data
from undiffuse.data.decode import Undecodable
from undiffuse.errors import UndiffuseError


def png(value: int, size: tuple[int, int] = (4, 4), mode: str = "L") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, value).save(out, "PNG")
    return out.getvalue()


def pairs(*contents: bytes | None) -> list[dict[str, Any]]:
    """Images as the library `datasets` writes them."""
    return [{"bytes": content, "path": None} for content in contents]


def named(table: pa.Table, **classes: list[str]) -> pa.Table:
    """The table with class names in its description, as the library `datasets` writes them."""
    features = {k: {"_type": "ClassLabel", "names": names} for k, names in classes.items()}
    info = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": info})


def write(path: Path, table: pa.Table | dict[str, Any]) -> str:
    parquet.write_table(pa.table(table) if isinstance(table, dict) else table, path)
    return str(path)


def values(dataset: Any) -> list[int]:
    x = dataset.batch(range(len(dataset))).x
    return ((x[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


class TestImages:
    @pytest.mark.parametrize("form", [pairs, lambda *contents: list(contents)])
    def test_are_those_of_a_folder(self, tmp_path: Path, form: Any) -> None:
        """The same files give the same samples and labels, whichever way they are kept."""
        rng = np.random.default_rng(0)
        contents = []
        for number in range(12):
            shape = (5 + number, 9, 3)
            out = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(out, "PNG")
            contents.append(out.getvalue())
            file = tmp_path / "folder" / str(number % 3) / f"{number:02d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(contents[-1])
        table = {"img": form(*contents), "label": [number % 3 for number in range(12)]}
        found = open_data(write(tmp_path / "x.parquet", table), size=6)
        folder = Folder(str(tmp_path / "folder"), size=6).open()
        order = torch.arange(12).reshape(4, 3).T.flatten()  # a folder goes class by class
        assert found.labels is not None
        assert folder.labels is not None
        assert torch.equal(found.batch(order).x, folder.batch(range(12)).x)
        assert torch.equal(found.labels[order], folder.labels)
        assert found.class_names == folder.class_names == ("0", "1", "2")
        assert (found.shape, found.source) == ((3, 6, 6), str(tmp_path / "x.parquet"))

    def test_that_cannot_be_used_are_left_out(self, tmp_path: Path) -> None:
        contents = [png(1), b"no", png(2), None, png(3)]
        table = {"image": pairs(*contents), "label": ["a", "b", "c", "d", "a"]}
        found = open_data(write(tmp_path / "x.parquet", table))
        assert values(found) == [1, 2, 3]
        assert found.class_names == ("a", "c")
        assert [name for name, _ in found.skipped] == ["row 1", "row 3"]
        assert found.skipped[1].reason == "the table does not hold its bytes"

    def test_are_read_again_when_they_are_not_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(images, "VERIFY_UP_TO", 2)
        monkeypatch.setattr(images, "KEEP_UP_TO", 0)
        contents = [png(7), png(8)[:45], png(9)]  # the header of the second is whole
        found = open_data(write(tmp_path / "x.parquet", {"image": contents}))
        assert found.batch([2, 0, 2]).x[:, 0, 0, 0].tolist() == pytest.approx(
            [9 / 127.5 - 1, 7 / 127.5 - 1, 9 / 127.5 - 1]
        )
        with pytest.raises(Undecodable, match=r"x\.parquet/row 1"):
            found.batch([1])

    def test_a_path_in_a_table_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "secret.png").write_bytes(png(9))
        rows = [*pairs(png(1)), {"bytes": None, "path": str(tmp_path / "secret.png")}]
        found = open_data(write(tmp_path / "x.parquet", {"image": rows}))
        assert values(found) == [1]
        assert found.skipped == (("row 1", "the table does not hold its bytes"),)

    def test_the_fingerprint_sees_every_byte(self, tmp_path: Path) -> None:
        """Two grey squares are equally long as PNG, and other data."""
        one, two = png(100), png(101)
        assert len(one) == len(two)
        prints = {
            open_data(write(tmp_path / f"{k}.parquet", {"image": content})).fingerprint()
            for k, content in enumerate([[one, one], [one, two], [two, one], [one, one]])
        }
        assert len(prints) == 3


class TestLabels:
    def test_names_in_the_description(self, tmp_path: Path) -> None:
        table = pa.table({"image": [png(1), png(2), png(3)], "label": [2, 0, 2]})
        found = open_data(write(tmp_path / "x.parquet", named(table, label=["z", "y", "x"])))
        assert found.class_names == ("z", "y", "x")  # in their order, one of them without samples
        assert found.labels is not None
        assert found.labels.tolist() == [2, 0, 2]

    def test_minus_one_is_unlabelled(self, tmp_path: Path) -> None:
        table = pa.table({"image": [png(1), png(2)], "label": [-1, -1]})
        found = open_data(write(tmp_path / "x.parquet", named(table, label=["a", "b"])))
        assert (found.labels, found.class_names) == (None, ())

    @pytest.mark.parametrize(
        ("label", "names"),
        [
            ([10, 9, 9], ("9", "10")),
            ([True, False, True], ("False", "True")),
            (pa.array(["b", "a", "b"]).dictionary_encode(), ("a", "b")),
            (pa.array([1, 2, 1], pa.uint8()), ("1", "2")),
            ([None, None, None], ()),
        ],
    )
    def test_kinds(self, tmp_path: Path, label: Any, names: tuple[str, ...]) -> None:
        table = {"image": [png(1), png(2), png(3)], "labels": label}
        assert open_data(write(tmp_path / "x.parquet", table)).class_names == names

    def test_the_column_can_be_chosen(self, tmp_path: Path) -> None:
        table = {"image": [png(1), png(2)], "fine": ["a", "b"], "coarse": ["c", "c"]}
        path = write(tmp_path / "x.parquet", table)
        assert open_data(path).class_names == ()
        assert open_data(f"{path}(label=coarse)").class_names == ("c",)
        assert open_data(f"{path}(label=coarse)", label="fine").class_names == ("a", "b")
        assert open_data(f"{path}(label=coarse)").source == f"{path}(label=coarse)"


class TestVectors:
    def test_columns_of_floats(self, tmp_path: Path) -> None:
        table = {"x": [1.0, 2.0], "name": ["p", "q"], "y": [3.0, 4.0], "label": [1, 0]}
        found = open_data(write(tmp_path / "x.parquet", table))
        assert found.batch([0, 1]).x.tolist() == [[1.0, 3.0], [2.0, 4.0]]
        assert found.labels is not None
        assert found.labels.tolist() == [1, 0]

    def test_a_column_of_lists(self, tmp_path: Path) -> None:
        table = {"vectors": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "score": [0.5, 0.25]}
        found = open_data(write(tmp_path / "x.parquet", table))
        assert found.batch([1]).x.tolist() == [[4.0, 5.0, 6.0]]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ({"a": [b"x"], "b": [b"y"]}, "", r"2 columns that may hold images, 'a', 'b'; say which"),
        ({"text": ["x"]}, "", "neither images nor numbers to learn from, only the columns 'text'"),
        ({"image": pa.array([], pa.binary())}, "", "has no rows"),
        ({"image": [png(1)]}, "(label=kind)", "has no column 'kind', only 'image'"),
        ({"image": [png(1)], "y": [0.5]}, "(label=y)", "'y'.*holds double.*for labels must hold"),
        ({"image": [png(1)], "y": [0.5]}, "(image=y)", "'y'.*holds double.*for images must hold"),
        ({"image": [png(1)]}, "(size=0)", "size must be a whole number of pixels"),
        ({"image": [png(1)]}, "(channels=2)", r"channels must be 1 \(grey\) or 3 \(colour\)"),
        ({"image": [png(1), png(2)], "label": ["a", None]}, "", "labels some rows but not row 1"),
        ({"image": [png(1), png(2, (4, 5))]}, "", "2 different sizes.*data.size=N"),
        ({"image": [b"no"]}, "", "none of the 1 images.*row 0: it is not a PNG"),
        ({"x": [1.0]}, "(size=8)", "holds no images, so it has no size"),
        ({"x": [1.0, None]}, "", "not finite"),
        ({"vectors": [[1.0], [1.0, 2.0]]}, "", "lists of numbers, equally many in every row"),
        (
            named(pa.table({"image": [png(1)], "label": [5]}), label=["a", "b"]), "",
            "has the label 5, but names the classes 0 to 1",
        ),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, table: Any, options: str, message: str) -> None:
    path = write(tmp_path / "x.parquet", table)
    with pytest.raises(UndiffuseError, match=message) as caught:
        open_data(path + options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 4, 100, -4, -40])
def test_a_damaged_file(tmp_path: Path, cut: int) -> None:
    path = Path(write(tmp_path / "x.parquet", {"image": [png(1)]}))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UndiffuseError, match=r"cannot read '.*x\.parquet' as parquet"):
        open_data(path)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.parquet", {"image": [png(1)]})
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UndiffuseError, match=r"pip install undiffuse\[parquet\]"):
        open_data(path)
