"""Tables: what parquet files and the data sets of a hub hold, made in code."""

from __future__ import annotations

import io
import json
import sys
from decimal import Decimal
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
        assert (found.shape, found.source) == ((3, 6, 6), f"{tmp_path}/x.parquet(size=6)")

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
        assert found.skipped == (("row 1", "it lies outside the folders of this data set"),)

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

    def test_a_column_may_be_called_as_a_number(self, tmp_path: Path) -> None:
        table = {"image": [png(1), png(2)], "7": ["a", "b"], "true": ["c", "d"]}
        path = write(tmp_path / "x.parquet", table)
        assert open_data(f"{path}(label=7)").class_names == ("a", "b")
        assert open_data(f"{path}(label=true)").class_names == ("c", "d")

    @pytest.mark.parametrize(
        "name", ["7", "7.0", "1e3", "-0", "x (m", ":)", "x)(", "a,b", 'say "x"', " x ", "a\nb", "ä"]
    )
    def test_a_column_of_any_name_is_found_again(self, tmp_path: Path, name: str) -> None:
        table = {"image": [png(1), png(2)], "1": ["p", "q"], name: ["a", "b"]}
        path = write(tmp_path / "x (1).parquet", table)
        found = open_data(path, label=name)
        again = open_data(found.source)
        assert found.class_names == again.class_names == ("a", "b")
        assert again.source == found.source

    def test_none_can_be_asked_for(self, tmp_path: Path) -> None:
        table = {"image": [png(1), png(2)], "label": [[1], [2]]}
        found = open_data(write(tmp_path / "x.parquet", table) + "(label=)")
        assert found.labels is None

    def test_a_column_without_anything_is_none(self, tmp_path: Path) -> None:
        table = {"image": pa.nulls(2), "img": [png(1), png(2)], "label": pa.nulls(2)}
        found = open_data(write(tmp_path / "x.parquet", table))
        assert (len(found), found.labels) == (2, None)

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

    @pytest.mark.parametrize(
        "kind", [pa.list_(pa.float64()), pa.large_list(pa.int32()), pa.list_(pa.float16(), 3)]
    )
    def test_a_column_of_lists(self, tmp_path: Path, kind: pa.DataType) -> None:
        lists = pa.array([[1, 2, 3], [4, 5, 6]], kind)
        table = {"vectors": lists, "score": [0.5, 0.25], "id": [b"x", b"y"]}
        found = open_data(write(tmp_path / "x.parquet", table))
        assert found.batch([1]).x.tolist() == [[4.0, 5.0, 6.0]]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ({"a": [b"x"], "b": [b"y"]}, "", r"2 columns that may hold images, 'a', 'b'; say which"),
        ({"text": ["x"]}, "", "neither images nor floats to learn from, only the columns 'text'"),
        ({"image": ["a.png"], "x": [0.5]}, "", "'image' of .* holds string, and for image it must"),
        ({"x": [0.5], "n": [1]}, "", "others of whole numbers or decimals, 'n'"),
        ({"x": [0.5], "label": [1.0]}, "", r"'label'.* holds double.*or none with \(label=\)"),
        ({"image": [png(1)], "labels": [[1, 2]]}, "", "'labels' of .* holds list"),
        ({"image": [png(1)], "label": [Decimal(1)]}, "", "'label' of .* holds decimal"),
        ({"image": [png(1)], "label": [{"bytes": 1}]}, "", "'label' of .* holds struct"),
        ({"vectors": [["1"], ["2"]]}, "", "'vectors' of .* holds list<.*it must hold lists of num"),
        ({"image": [png(1)]}, "(path=y)", "its path is what stands before the brackets"),
        ({"image": [png(1)]}, "(name=y)", "no option 'name'"),
        ({"image": [png(1)]}, "(size=4, size=5)", "the option size twice"),
        ({"image": [png(1)], "a": ["x"]}, f"(label={'a' * 5000})", r"no column 'a+\.\.\. \(5000"),
        ({"image": pa.array([], pa.binary())}, "", "has no rows"),
        ({"image": [png(1)]}, "(label=kind)", "has no column 'kind', only 'image'"),
        ({"image": [png(1)], "y": [0.5]}, "(label=y)", "'y'.*holds double, and for label it must"),
        ({"image": [png(1)], "y": [0.5]}, "(image=y)", "'y'.*holds double, and for image it must"),
        ({"image": [png(1)]}, "(size=0)", "size must be a whole number of pixels"),
        ({"image": [png(1)]}, "(channels=2)", r"channels must be 1 \(grey\) or 3 \(colour\)"),
        ({"image": [png(1), png(2)], "label": ["a", None]}, "", "labels some rows but not row 1"),
        ({"image": [png(1), png(2, (4, 5))]}, "", "2 different sizes.*data.size=N"),
        ({"image": [b"no"]}, "", "none of the 1 images.*row 0: it is not a PNG"),
        ({"x": [1.0]}, "(size=8)", "holds no images, so it has no size"),
        ({"x": [1.0, None]}, "", "not finite"),
        ({"vectors": [[1.0], [1.0, 2.0]]}, "", "must hold equally many numbers in every row"),
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
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def damaged_text(kind: pa.DataType) -> pa.Array:
    """A text that is not UTF-8."""
    return pa.array([b"\xff\xfe"]).cast(pa.binary()).view(kind)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"image": [png(1)], "label": damaged_text(pa.string())}, "is damaged: .*UTF8"),
        ({"vectors": [["a"]]}, "must hold lists of numbers"),
        ({"image": [{"bytes": None, "path": 7}]}, "none of the 1 images"),
        ({"image": [{"bytes": None, "path": "a\0b"}]}, "none of the 1 images"),
        ({"image": [{"bytes": 1.5}]}, "holds struct"),
        (
            {
                "image": pa.StructArray.from_arrays(
                    [pa.array([None], pa.binary()), damaged_text(pa.string())], ["bytes", "path"]
                )
            },
            "none of the 1 images.*row 0: the table does not hold its bytes",
        ),
    ],
)
def test_a_hostile_table(tmp_path: Path, table: dict[str, Any], message: str) -> None:
    with pytest.raises(UndiffuseError, match=message):
        open_data(write(tmp_path / "x.parquet", table))


def test_an_odd_path_beside_the_bytes_does_no_harm(tmp_path: Path) -> None:
    parts = [pa.array([png(3)]), damaged_text(pa.string())]
    table = {"image": pa.StructArray.from_arrays(parts, ["bytes", "path"])}
    assert values(open_data(write(tmp_path / "x.parquet", table))) == [3]


def test_a_label_of_thousands_of_digits_is_a_text(tmp_path: Path) -> None:
    table = {"image": [png(1), png(2)], "label": ["9" * 5000, "1"]}
    assert open_data(write(tmp_path / "x.parquet", table)).class_names == ("1", "9" * 5000)


@pytest.mark.parametrize("seed", range(60))
def test_any_damage_is_one_sentence(tmp_path: Path, seed: int) -> None:
    """Eight random bytes anywhere: still the data, fewer of them, or a sentence."""
    rng = np.random.default_rng(seed)
    table = {"image": pairs(*[png(k) for k in range(20)]), "label": ["ab", "cd"] * 10}
    path = Path(write(tmp_path / "x.parquet", table))
    content = bytearray(path.read_bytes())
    for at in rng.integers(len(content), size=8):
        content[at] ^= int(rng.integers(1, 256))
    path.write_bytes(content)
    told = ""
    try:
        found = open_data(path)
        found.batch(range(len(found)))
        found.facts()
    except UndiffuseError as error:
        told = str(error)
    assert told.isprintable()


def test_only_the_columns_in_use_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    read = parquet.ParquetFile.read

    def watch(self: Any, columns: list[str]) -> Any:
        asked.append(columns)
        return read(self, columns)

    monkeypatch.setattr(parquet.ParquetFile, "read", watch)
    table = {"text": ["a long caption"], "image": [png(1)], "label": ["a"]}
    open_data(write(tmp_path / "x.parquet", table))
    assert asked == [["image", "label"]]


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
