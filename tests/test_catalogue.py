"""The catalogue reads, describes and builds; it runs nothing that it was not asked for."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

import undiffuse
from undiffuse import catalogue
from undiffuse.errors import UndiffuseError

FAMILIES = ["schedules", "predictions", "samplers", "grids"]
EVERY = [(family, name) for family in FAMILIES for name in catalogue.names(family)]


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_every_entry_opens_under_its_name_and_says_what_it_is(family: str, name: str) -> None:
    cls = catalogue.load(family, name)
    entry = catalogue.entries(family)[name]
    assert cls.name == name
    assert cls.__qualname__ == entry.qualname
    assert cls.__module__ == entry.module
    assert len(entry.summary) > 10
    assert getattr(getattr(undiffuse, family), entry.qualname) is cls


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_every_entry_with_defaults_survives_json(family: str, name: str) -> None:
    cls = catalogue.load(family, name)
    needed = [
        f for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING
    ]
    if needed:
        with pytest.raises(UndiffuseError, match=f"'{name}'.*{needed[0].name}"):
            catalogue.build(name, family)
        return
    made = cls()
    written = json.loads(json.dumps(catalogue.describe(made)))
    assert written["kind"] == f"{family}.{name}"
    assert catalogue.build(written) == made
    assert catalogue.build(written, family) == made
    assert catalogue.parse(family, name) == made


def test_names_are_in_order_and_those_of_the_first_slice() -> None:
    assert {"vp", "cosine", "flow", "edm", "discrete"} <= set(catalogue.names("schedules"))
    assert {"data", "noise", "v", "flow", "score", "edm"} <= set(catalogue.names("predictions"))
    for family in FAMILIES:
        assert catalogue.names(family) == sorted(catalogue.names(family))


def test_listing_does_not_import_torch() -> None:
    code = (
        "import sys; from undiffuse import catalogue as c;"
        f"assert all(c.entries(f) for f in {FAMILIES});"
        "import undiffuse; undiffuse.schedules; undiffuse.__dir__();"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("vp", {}),
        ("vp()", {}),
        (" vp ( beta_min = 0.5 , beta_max=3 ) ", {"beta_min": 0.5, "beta_max": 3}),
        ("vp(beta_max=1e1)", {"beta_max": 10.0}),
    ],
)
def test_text_becomes_an_object(text: str, options: dict[str, float]) -> None:
    assert catalogue.parse("schedules", text) == catalogue.load("schedules", "vp")(**options)
    named = {"name": "vp", **options}
    assert catalogue.build(named, "schedules") == catalogue.build(text, "schedules")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vpp", "there is no schedule 'vpp'; did you mean 'vp'"),
        ("xyz", "there is no schedule 'xyz'; choose one of: cosine, "),
        ("vp(beta_mix=1)", "schedule 'vp'.*beta_mix.*its options: beta_min, beta_max"),
        ("vp(0.1)", r"cannot read '0\.1' in 'vp\(0\.1\)'; write option=value"),
        ("vp(beta_min=", "cannot read"),
        ("vp; import os", "cannot read"),
        ("", "cannot read"),
        ("vp(beta_min=-1)", "VP: beta_min must be at least 0, not -1"),
        ("vp(beta_min=abc)", "VP: beta_min must be a number, not 'abc'"),
        ("vp(beta_min=true)", "VP: beta_min must be a number, not True"),
        ("vp(beta_max=NaN)", "VP: beta_max"),
        ("vp.linear", "there is no form of schedule 'vp' 'linear'"),
        ("discrete.liner", "did you mean 'linear'"),
        ("discrete.__init__", "there is no form of schedule 'discrete'"),
        ("discrete", "schedule 'discrete'.*betas"),
        ("discrete(betas=3)", "Discrete: betas must be a list, each of it a number, not 3"),
        ("flow(speed=2)", "its options: none"),
    ],
)
def test_mistakes_are_one_sentence(text: str, message: str) -> None:
    with pytest.raises(UndiffuseError, match=message) as caught:
        catalogue.parse("schedules", text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"kind": "os.system", "command": "true"},
        {"kind": "system"},
        {"kind": "..vp"},
        {"kind": "schedules/../schedules.vp"},
        {"kind": "nowhere.vp"},
        {"kind": "schedules.base"},
        {"kind": ""},
        {"beta_min": 1},
        {"kind": 7},
    ],
)
def test_a_file_can_name_no_other_code(config: dict[str, object]) -> None:
    with pytest.raises(UndiffuseError):
        catalogue.build(config)


def test_a_kind_of_another_family_is_refused() -> None:
    with pytest.raises(UndiffuseError, match=r"'samplers\.ddim' is not one of the schedules"):
        catalogue.build({"kind": "samplers.ddim"}, "schedules")


def test_objects_inside_objects_and_plain_values() -> None:
    vp = catalogue.parse("schedules", "vp")
    written = catalogue.describe([vp, (1, "a", None)])
    assert json.loads(json.dumps(written)) == written
    assert catalogue.build(written) == (vp, (1, "a", None))


def test_what_has_no_name_cannot_be_written_down() -> None:
    @dataclasses.dataclass
    class Nameless:
        x: int = 0

    with pytest.raises(UndiffuseError, match="Nameless has no name"):
        catalogue.describe(Nameless())


def test_rooms_list_what_they_hold() -> None:
    assert "VP" in dir(undiffuse.schedules)
    assert "vp" in dir(undiffuse.schedules)
    assert "VP" in undiffuse.schedules.__all__
    with pytest.raises(AttributeError, match="VQ"):
        _ = undiffuse.schedules.VQ
    with pytest.raises(AttributeError, match="nothing"):
        _ = undiffuse.nothing
