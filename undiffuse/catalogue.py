"""The catalogue: every schedule, sampler, network ... that the package holds, found by reading it.

A *family* is a folder, such as `undiffuse/samplers`. A class in it that carries
`name: ClassVar[str] = "..."` is an *entry* of the family; nothing has to be registered. Names are
read from the syntax trees of the files, so listing a family imports nothing, and above all not
torch. Objects are described as JSON by their class and their fields:

    {"kind": "schedules.vp", "beta_min": 0.1, "beta_max": 20.0}

and built from it again. Only entries of the catalogue can be built, so a file can name no other
code.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import importlib
import inspect
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from undiffuse import calls
from undiffuse.errors import UndiffuseError, one_line, shown, unknown
from undiffuse.kinds import fits, spoken

ROOT = Path(__file__).parent


class Entry(NamedTuple):
    """One class of a family: its name, where it is, and the first line of its docstring."""

    name: str
    module: str
    qualname: str
    summary: str


@functools.cache
def entries(family: str) -> dict[str, Entry]:
    """All entries of a family ("samplers", "objectives.times") by name, in alphabetical order."""
    folder = ROOT.joinpath(*family.split("."))
    found: dict[str, Entry] = {}
    for file in sorted(folder.glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and (name := _name_of(node)) is not None:
                summary = (ast.get_docstring(node) or "").partition("\n")[0]
                found[name] = Entry(name, f"undiffuse.{family}.{file.stem}", node.name, summary)
    return dict(sorted(found.items()))


def _name_of(node: ast.ClassDef) -> str | None:
    for line in node.body:
        if (
            isinstance(line, ast.AnnAssign)
            and isinstance(line.target, ast.Name)
            and line.target.id == "name"
            and isinstance(line.value, ast.Constant)
            and isinstance(line.value.value, str)
        ):
            return line.value.value
    return None


def names(family: str) -> list[str]:
    """The names of a family.

    >>> "ddim" in names("samplers")
    True
    """
    return list(entries(family))


def load(family: str, name: str) -> type[Any]:
    """The class called `name` in `family`.

    Raises:
        UndiffuseError: there is no such name; the nearest one is suggested.
    """
    entry = entries(family).get(name)
    if entry is None:
        raise unknown(singular(family), name, names(family))
    found: type[Any] = getattr(importlib.import_module(entry.module), entry.qualname)
    return found


def singular(family: str) -> str:
    """The word for one member of a family, as it stands in messages."""
    words = {
        "data": "data set",
        "guidance": "guide",
        "objectives.times": "distribution of times",
    }
    return words.get(family, family.rpartition(".")[2].removesuffix("s"))


# ------------------------------------------------------------------ objects as JSON, and back


def describe(value: Any) -> Any:
    """A JSON value from which `build` makes an equal object: `{"kind": "family.name", fields}`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        family = type(value).__module__.removeprefix("undiffuse.").rpartition(".")[0]
        fields = {
            field.name: describe(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.init
        }
        name = getattr(type(value), "name", None)
        if name is None:
            raise UndiffuseError(f"{type(value).__name__} has no name and cannot be written down")
        return {"kind": f"{family}.{name}", **fields}
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    return value


def build(config: Any, family: str | None = None) -> Any:
    """The object that a description stands for.

    `config` is what `describe` gives. Where the family is known, a bare name ("ddim"), a call
    ("ddim(eta=1)") or a table with `name` instead of `kind` will do; a name may end in a class
    method that makes the object ("discrete.linear"), or in one of its `sizes` ("unet.small").

    Raises:
        UndiffuseError: unknown kind, unknown or missing option, option out of range.
    """
    if isinstance(config, str) and family is not None:
        return parse(family, config)
    if isinstance(config, list):
        return tuple(build(item) for item in config)
    if not isinstance(config, dict):
        return config
    options = dict(config)
    if "kind" in options:
        kind = str(options.pop("kind"))
        wanted, family = family, kind.rpartition(".")[0]
        name = kind.rpartition(".")[2]
        if wanted is not None and family != wanted:
            raise UndiffuseError(
                f"'{one_line(kind)}' is not one of the {wanted}; use one of {names(wanted)}"
            )
    elif "name" in options and family is not None:
        name = str(options.pop("name"))
    else:
        raise UndiffuseError(f"this object has no 'kind' and cannot be read: {shown(config)}")
    name, _, maker = name.partition(".")
    folder = ROOT.joinpath(*family.split("."))
    if not family.replace(".", "").isidentifier() or not os.path.isdir(folder):
        raise UndiffuseError(f"there is no family of objects '{one_line(family)}' in this version")
    cls = load(family, name)
    make: Callable[..., Any] = _maker(cls, maker, f"{singular(family)} '{name}'") if maker else cls
    return made(cls, make, options, f"{singular(family)} '{name}'")


def made(cls: type[Any], make: Callable[..., Any], options: dict[str, Any], what: str) -> Any:
    """An object of `cls` by its options, out of `make`: the class, or something that makes it.

    Raises:
        UndiffuseError: an unknown or missing option of `what`, or one of another kind.
    """
    for key, value in options.items():
        if isinstance(value, dict) and "kind" not in value:
            raise UndiffuseError(f"{cls.__name__}: {key} is no object, as it lacks a 'kind'")
    options = {key: build(value) for key, value in options.items()}
    known = inspect.signature(make).parameters
    for key, value in options.items():
        if key not in known:
            near = difflib.get_close_matches(key[:80], known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise UndiffuseError(
                f"{what} has no option '{one_line(key)}'{hint} (its options:"
                f" {', '.join(known) or 'none'})"
            )
        kind = str(known[key].annotation)
        if not fits(value, kind):
            raise UndiffuseError(
                f"{cls.__name__}: {key} must be {spoken(kind)}, not {shown(value)}"
            )
        if "float" in kind and isinstance(value, int) and abs(value) > 2**53:
            options[key] = real(value)
    try:
        return make(**options)
    except TypeError as error:
        reason = re.sub(r"^.*?\(\) ", "", str(error))
        raise UndiffuseError(
            f"{what}: {reason} (its options: {', '.join(known) or 'none'})"
        ) from error


def _maker(cls: type[Any], maker: str, what: str) -> Callable[..., Any]:
    sizes: dict[str, dict[str, Any]] = getattr(cls, "sizes", {})
    whole: Callable[..., Any] = cls
    if maker in sizes:
        return functools.partial(whole, **sizes[maker])
    makers = [k for k, v in vars(cls).items() if isinstance(v, classmethod) and k[0] != "_"]
    if maker not in makers:
        raise unknown(f"form of {what}", maker, [*sizes, *makers])
    made: Callable[..., Any] = getattr(cls, maker)
    return made


def parse(family: str, text: str) -> Any:
    """The object written as `name` or `name(option=value, ...)`; values are JSON literals.

    >>> parse("samplers", "ddim(eta=0.5)")
    DDIM(eta=0.5)

    Raises:
        UndiffuseError: the text has another form, or the name or an option is unknown.
    """
    name, options = calls.read(text)
    return build({"name": name, **options}, family)


# ------------------------------------------------------------------ checks and lazy packages


def check(holds: bool, owner: object, field: str, rule: str) -> None:
    """Refuse a field of a dataclass that breaks its rule, naming class, field, rule and value."""
    if not holds:
        value = getattr(owner, field)
        raise UndiffuseError(f"{type(owner).__name__}: {field} must be {rule}, not {shown(value)}")


def check_span(owner: object, low: str, high: str) -> None:
    """Refuse two fields of a dataclass unless 0 < low < high, both finite."""
    least, most = getattr(owner, low), getattr(owner, high)
    check(finite(least) and least > 0, owner, low, "positive")
    check(finite(most) and most > least, owner, high, f"larger than {low}")


def finite(*values: object) -> bool:
    """Whether all values are finite real numbers (booleans are not numbers here)."""
    return all(
        isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= sys.float_info.max
        for v in values
    )


def real(value: float) -> float:
    """The value as a float; a whole number beyond their range becomes infinity, to be refused."""
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value > 0 or -1)


def exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` (PEP 562) that open a room's names when asked.

    The names are the public classes and functions of the room's files, found without importing
    them, and the files themselves: `undiffuse.samplers.DDIM`, `undiffuse.samplers.loop`.
    """
    folder = ROOT.joinpath(*package.split(".")[1:])
    modules = sorted(
        {f.stem for f in folder.glob("*.py") if f.stem != "__init__"}
        | {f.name for f in folder.iterdir() if (f / "__init__.py").is_file()}
    )
    public = {
        node.name: f"{package}.{file.stem}"
        for file in sorted(folder.glob("*.py"), reverse=True)
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    }

    def __getattr__(attribute: str) -> Any:
        if attribute in public:
            return getattr(importlib.import_module(public[attribute]), attribute)
        if attribute in modules:
            return importlib.import_module(f"{package}.{attribute}")
        raise AttributeError(f"{package} has no {attribute!r}; it has {', '.join(sorted(public))}")

    return __getattr__, lambda: sorted({*public, *modules}), sorted(public)
