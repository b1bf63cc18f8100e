"""The laws of the house that no other tool keeps, read from the syntax trees of its files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import undiffuse
from undiffuse import catalogue

ROOT = Path(undiffuse.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
LONGEST = 330  # lines


def room(file: Path) -> str:
    """The path of a file within the package, "training/loop.py"."""
    return file.relative_to(ROOT).as_posix()


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def dotted(node: ast.expr) -> str:
    """A name with its attributes, "torch.randn"; what stands before the dots may be anything."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(module: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a file, with the name that is called."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def imports(module: ast.Module) -> Iterator[str]:
    """Every imported name of a file, "undiffuse.noise.normal"."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_there_are_files() -> None:
    assert {"model.py", "noise.py", "training/loop.py"} <= {room(file) for file in FILES}


# ------------------------------------------------------------------ nothing runs code from a file

PICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
READERS = re.compile(  # of pickles, though their names do not say so
    r"torch\.(load|save|package|jit\.load|hub|distributed\.checkpoint|serialization)(\..*)?"
    r"|dcp\..*|(pd|pandas)\.read_pickle|numpy\.load|yaml\.((unsafe_|full_)?load)"
)
RUNNING = {"eval", "exec", "compile", "__import__", "execfile"}


def code_from_files(module: ast.Module) -> Iterator[str]:
    """Every place of a module that could run what a file holds, in words."""
    for name in imports(module):
        if name.split(".")[0] in PICKLING or READERS.fullmatch(name):
            yield f"imports {name}"
    for name, node in calls(module):
        if name in RUNNING or READERS.fullmatch(name.replace("numpy.load", "np.load")):
            yield f"line {node.lineno} calls {name}"
        flags = {k.arg: k.value for k in node.keywords}
        refused = [ast.unparse(v) == "False" for k, v in flags.items() if k == "allow_pickle"]
        if not all(refused) or (name in {"np.load", "numpy.load"} and not refused):
            yield f"line {node.lineno} must say allow_pickle=False"
        if ast.unparse(flags.get("trust_remote_code", ast.Constant(False))) != "False":
            yield f"line {node.lineno} trusts remote code"


def test_nothing_unpickles_or_evaluates() -> None:
    found = {room(file): list(code_from_files(tree(file))) for file in FILES}
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "text",
    [
        *("import pickle", "from pickle import loads", "import joblib as j", "yaml.load(f)"),
        *("import torch; torch.load(f)", "from torch import load", "torch.save(x, f)"),
        *("import torch.distributed.checkpoint as dcp", "dcp.load(state)", "torch.hub.load(name)"),
        *("np.load(f)", "numpy.load(f)", "np.load(f, allow_pickle=True)", "from numpy import load"),
        *("np.load(f, allow_pickle=flag)", "archive.read(f, allow_pickle=True)"),
        *("eval(text)", "exec(text)", "compile(text, '', 'exec')", "__import__(name)"),
        *("pd.read_pickle(f)", "AutoModel.from_pretrained(n, trust_remote_code=True)"),
    ],
)
def test_what_counts_as_code_from_a_file(text: str) -> None:
    assert list(code_from_files(ast.parse(text)))


def test_what_does_not_count_as_code_from_a_file() -> None:
    text = "np.load(f, allow_pickle=False); model.eval(); re.compile(text); torch.compile(network)"
    assert list(code_from_files(ast.parse(text))) == []


def test_only_files_of_the_package_are_imported_by_name() -> None:
    """A module's name is made of the package's own, never of a user's words."""
    allowed = {"__init__.py", "catalogue.py", "data/__init__.py"}
    for file in FILES:
        for name, node in calls(tree(file)):
            if name.endswith("import_module"):
                assert room(file) in allowed, f"{room(file)}:{node.lineno}"


# ------------------------------------------------------------------ who may do what

METHODS = ("normal_", "uniform_", "random_", "bernoulli_", "exponential_", "default_rng")
DRAWS = re.compile(
    r"(torch\.(rand|randn|randint|randperm|rand_like|randn_like|randint_like|normal|bernoulli"
    rf"|multinomial|poisson)|(np|numpy)\.random\..*|.*\.({'|'.join(METHODS)}))"
)


def test_random_numbers_come_from_noise_and_data() -> None:
    for file in FILES:
        if room(file) == "noise.py" or room(file).startswith("data/"):
            continue
        assert "random" not in {name.split(".")[0] for name in imports(tree(file))}, room(file)
        for name, node in calls(tree(file)):
            assert not DRAWS.fullmatch(name), f"{room(file)}:{node.lineno} draws with {name}"


@pytest.mark.parametrize(
    ("name", "draws"),
    [
        *(("torch.randn", True), ("np.random.default_rng", True), ("x.normal_", True)),
        *(("torch.random.fork_rng", False), ("noise.normal", False), ("rng.random", False)),
    ],
)
def test_what_counts_as_drawing(name: str, draws: bool) -> None:
    assert bool(DRAWS.fullmatch(name)) == draws


def test_only_the_command_line_prints() -> None:
    for file in FILES:
        if not room(file).startswith("cli/"):
            for name, node in calls(tree(file)):
                assert name not in {"print", "sys.stdout.write", "sys.stderr.write"}, (
                    f"{room(file)}:{node.lineno}"
                )


def test_private_names_stay_in_their_file() -> None:
    for file in FILES:
        for name in imports(tree(file)):
            private = name.startswith("undiffuse.") and re.search(r"\._[^_]", name)
            assert not private, f"{room(file)} imports {name}"


def test_one_loop_goes_through_time_to_sample() -> None:
    for file in FILES:
        if room(file).startswith("samplers/") and room(file) != "samplers/loop.py":
            for name, node in calls(tree(file)):
                stepped = name.endswith(".step") and name != "optimizer.step"
                assert not stepped, f"{room(file)}:{node.lineno}"


# ------------------------------------------------------------------ what every file says


def test_files_are_short() -> None:
    for file in FILES:
        count = len(file.read_text(encoding="utf-8").splitlines())
        assert count <= LONGEST, f"{room(file)} has {count} lines"


def test_every_module_says_what_it_is() -> None:
    for file in FILES:
        text = ast.get_docstring(tree(file))
        assert text, room(file)
        assert re.match(r".{10,}?[.:]", text, re.DOTALL), f"{room(file)}: {text}"


FAMILIES = sorted(
    {room(file.parent).replace("/", ".") for file in FILES if file.parent != ROOT} - {"."}
)
ENTRIES = [entry for family in FAMILIES for entry in catalogue.entries(family).values()]


def test_every_entry_of_the_catalogue_begins_with_a_sentence() -> None:
    assert len(ENTRIES) > 20
    for entry in ENTRIES:
        file = ROOT.parent.joinpath(*entry.module.split(".")).with_suffix(".py")
        cls = next(
            node
            for node in tree(file).body
            if isinstance(node, ast.ClassDef) and node.name == entry.qualname
        )
        first = (ast.get_docstring(cls) or "").split("\n\n")[0]
        assert re.search(r"\w{2}.*[.:]", first, re.DOTALL), f"{entry.module}.{entry.qualname}"
        assert entry.summary, entry.name


def test_every_public_object_has_a_docstring() -> None:
    for file in FILES:
        for node in tree(file).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_":
                assert ast.get_docstring(node), f"{room(file)}: {node.name}"


# ------------------------------------------------------------------ what an import costs


def test_import_undiffuse_is_light() -> None:
    """It loads neither torch nor numpy and takes less than 0.3 s."""
    code = (
        "import sys, time; begun = time.process_time(); import undiffuse;"
        "print(time.process_time() - begun, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, torch, numpy = told.stdout.split()
    assert (torch, numpy) == ("False", "False")
    assert float(seconds) < 0.3
