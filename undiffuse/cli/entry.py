r"""From the words of a command line to an exit code.

    0     done
    1     the run or the machine failed
    2     the user's mistake: an option, a path, a name
    129   stopped, its terminal is gone (SIGHUP)
    130   stopped by Ctrl-C          141   nobody reads the output any more
    143   stopped by SIGTERM

A verb is a frozen dataclass in a file of this folder, found by the catalogue; tyro reads its
fields. Help, and every mistake that can be seen in the words alone, come without loading torch.
"""

from __future__ import annotations

import errno
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import undiffuse
from undiffuse import catalogue
from undiffuse.cli import signals, streams, waiting
from undiffuse.cli.numbers import check_numbers
from undiffuse.errors import RunFailed, UndiffuseError, escaped, one_line, unknown

FAMILY = "cli"
EXAMPLES = (
    "undiffuse train digits --out runs/digits",
    "undiffuse sample runs/digits --num 100 --out digits.png",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (default: this process's own) and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    waiting.choose(os.environ)
    streams.prepare()
    try:
        return _guarded(words)
    finally:
        streams.settle()


def _guarded(words: list[str]) -> int:
    try:
        with signals.handling(signals.interrupt, signals.TERM, signals.HUP):
            code = _run(words)
            sys.stdout.flush()
            return code
    except UndiffuseError as error:
        return _failed(error, str(error), 1 if isinstance(error, RunFailed) else 2, words)
    except BrokenPipeError:
        return 141
    except OSError as error:
        where = f"{one_line(os.fsdecode(error.filename))}: " if error.filename else ""
        code = 2 if error.errno == errno.ENAMETOOLONG else 1
        return _failed(error, f"{where}{error.strerror or error}", code, words)
    except KeyboardInterrupt:
        return signals.Interrupted(signals.INT).code
    except signals.Interrupted as stopped:
        return stopped.code
    except Exception as error:
        text = f"{type(error).__name__}: {error}; add --debug to see where"
        return _failed(error, text, 1, words)


def _run(words: list[str]) -> int:
    if words[:1] == ["--version"]:
        print(f"undiffuse {undiffuse.__version__}")
        return 0
    if words[:1] in ([], ["--help"], ["-h"]):
        print(overview(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0].startswith("--tyro-"):
        return _completion(words)
    name, *rest = words
    if name not in catalogue.names(FAMILY):
        raise unknown("command", name, catalogue.names(FAMILY))
    import tyro

    verb = catalogue.load(FAMILY, name)
    summary, _, details = (inspect.getdoc(verb) or "").partition("\n\n")
    check_numbers(verb, rest)
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
    try:
        asked = tyro.cli(
            verb,
            prog=f"undiffuse {name}",
            description=summary,
            args=spread(rest),
            config=config,
        )
    except SystemExit as end:
        if {"-h", "--help"} & set(rest) and not end.code:
            print(*(f"\n{text}" for text in (details, _examples(verb.examples)) if text), sep="\n")
        return int(end.code or 0)
    code: int = asked.run()
    return code


def overview() -> str:
    """What `undiffuse --help` prints."""
    verbs = catalogue.entries(FAMILY).values()
    lines = [f"  {entry.name:<10}{entry.summary}" for entry in verbs]
    return "\n".join(
        [
            "usage: undiffuse VERB ...",
            "",
            "Diffusion models: train one, sample from it, see what it has learned.",
            "",
            *lines,
            "",
            "undiffuse VERB --help    the options of a verb",
            "undiffuse --version      the version; undiffuse doctor tells more",
            "undiffuse --tyro-print-completion bash|zsh|tcsh    completion for a shell",
            "",
            _examples(EXAMPLES),
        ]
    )


def _examples(commands: Sequence[str]) -> str:
    return "\n".join(["Examples:", *(f"  {command}" for command in commands)])


def spread(words: Sequence[str]) -> list[str]:
    """`--set a=1 b=2` as `--set a=1 --set b=2`, the one form that the parser reads.

    >>> spread(["--set", "a=1", "b=2", "digits"])
    ['--set', 'a=1', '--set', 'b=2', 'digits']
    """
    made: list[str] = []
    for word in words:
        follows = made[-2:-1] == ["--set"] and "=" in word and not word.startswith("-")
        made += ["--set", word] if follows else [word]
    return made


def _completion(words: list[str]) -> int:
    """The script by which a shell completes verbs and options."""
    import tyro

    verbs: dict[str, Callable[..., Any]] = {
        name: catalogue.load(FAMILY, name) for name in catalogue.names(FAMILY)
    }
    try:
        tyro.extras.subcommand_cli_from_dict(verbs, prog="undiffuse", args=words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _failed(error: Exception, text: str, code: int, words: Sequence[str]) -> int:
    with suppress(OSError):  # nobody reads it
        if "--debug" in words or os.environ.get("UNDIFFUSE_DEBUG", "0") not in {"", "0"}:
            traceback.print_exception(error)
        print(f"error: {escaped(text)}", file=sys.stderr)
    return code
