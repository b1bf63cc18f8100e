"""`undiffuse sample`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tyro.conf import Positional, arg

import undiffuse
from undiffuse import catalogue
from undiffuse.cli.crew import shared
from undiffuse.cli.guiding import Guiding
from undiffuse.cli.outputs import Drawn, Plan, choose
from undiffuse.cli.progress import Pace, clock_time, progress
from undiffuse.cli.shares import Batch, Share, spread
from undiffuse.cli.verb import Machine, Text, Verb, Whole, check_range, check_seed
from undiffuse.errors import RunFailed, UndiffuseError, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from undiffuse.model import Model

SAMPLERS = sorted([*catalogue.names("samplers"), "adaptive"])  # the pair with a tolerance
COMPARED = 8  # samples drawn in plain float32 too, where another way was asked for


@dataclass(frozen=True)
class Sample(Verb):
    """Draw samples from a trained model.

    Sample number i is a function of --seed and i. Where the model knows labels and none is asked
    for, sample i has label i mod K, so that a picture shows every class. A directory of pictures
    can be stopped and continued: pictures that are there are kept, and those missing are drawn.
    Memory does not grow with --num, and several processes draw the same samples as one; under
    torchrun each of its processes draws a share of a directory.
    """

    name: ClassVar[str] = "sample"
    examples: ClassVar[tuple[str, str]] = (
        "undiffuse sample runs/digits --num 100 --out digits.png",
        "undiffuse sample runs/digits --label 7 --guidance 2 --steps 50 --out sevens.npz",
    )

    source: Annotated[Positional[str], arg(name="run", metavar="RUN", help="a run or a model")]
    out: Annotated[
        str,
        arg(
            metavar="FILE.png|FILE.npz|DIR",
            help="one picture of all samples, an array, or a directory with a picture of each",
        ),
    ]
    num: Annotated[int, arg(metavar="N", help="how many samples")] = 16
    steps: Annotated[
        Whole,
        arg(
            metavar="N", help="steps from noise to data", help_behavior_hint="(default: the run's)"
        ),
    ] = None
    sampler: Annotated[
        Text,
        arg(
            metavar="NAME",
            help="the rule of a step: " + ", ".join(SAMPLERS),
            help_behavior_hint="(default: the run's)",
        ),
    ] = None
    grid: Annotated[
        Text,
        arg(
            metavar="NAME",
            help="where the steps are: " + ", ".join(catalogue.names("grids")),
            help_behavior_hint="(default: the sampler's)",
        ),
    ] = None
    guiding: Annotated[Guiding, arg(name="")] = field(default_factory=Guiding)
    seed: Annotated[int, arg(metavar="S", help="of the noise")] = 0
    batch_size: Annotated[int, arg(metavar="B", help="samples at a time")] = 256
    processes: Annotated[
        int, arg(metavar="P", help="processes that share the batches, and the threads")
    ] = 1
    compile: Annotated[
        bool, arg(help="compile the network first: minutes, then quicker; the difference is told")
    ] = False
    machine: Annotated[Machine, arg(name="")] = field(default_factory=Machine)

    def __post_init__(self) -> None:
        check_range("--num", self.num, most=10**7)
        check_range("--steps", self.steps, most=10**6)
        check_range("--batch-size", self.batch_size, most=65536)
        check_range("--processes", self.processes, most=1024)
        check_seed(self.seed)
        for what, text, known in (
            ("sampler", self.sampler, SAMPLERS),
            ("grid", self.grid, catalogue.names("grids")),
        ):
            name = (text or "").partition("(")[0].strip()
            if text is not None and name not in known:
                raise unknown(what, name, known)

    def run(self) -> int:
        out, share = choose(self.out), Share.here()
        if share.count > 1 and (self.processes > 1 or not out.parts):
            raise UndiffuseError(
                "under torchrun each process draws its share of a directory: give one as --out, and"
                " leave --processes out"
            )
        device = self._machine(share.local_rank if share.count > 1 else 0).ready()
        from undiffuse.model import load

        model = load(self.source).to(device)
        for damaged in model.skipped:
            print(f"warning: a damaged checkpoint is passed over, {damaged}", file=sys.stderr)
        out.check(model.shape)
        plan = self._plan(model)
        wanted = out.wanted(plan)
        batches = list(share.batches(wanted, self.batch_size))
        own, told = sum(batch.length for batch in batches), list[str]()
        with closing(self._drawn(model, plan, batches)) as drawn:
            out.write(self._shown(self._compared(drawn, model, plan, told), own, share), plan)
        if share.rank == 0:
            kept = f", {self.num - len(wanted)} were there" if len(wanted) < self.num else ""
            part = f", {own} of them drawn here" if share.count > 1 else ""
            print(
                f"{self.out}: {self.num} samples{kept}{part}, seed {self.seed},"
                f" {_way(plan.settings)}{''.join(told)}"
            )
        return 0

    def _plan(self, model: Model) -> Plan:
        from undiffuse.samplers.asked import rule_of, times_of

        sampler = self.sampler or model.sampling["sampler"]
        rule = rule_of(sampler)
        own = None if rule.adaptive else model.sampling["steps"]
        steps = own if self.steps is None else self.steps
        times_of(model.denoiser.schedule, rule, steps, self.grid)  # what cannot be is told now
        chosen = {"steps": steps, "sampler": sampler, "grid": self.grid}
        followed = self.guiding.read(model)
        if self.sampler is None and self.grid is None and followed.plain:
            way = followed.settings
            tuned = model.tuned_for(steps, way.get("guidance"), way.get("guide", ""))
            chosen["sampler"] = sampler if tuned is None else tuned.title
        settings: dict[str, Any] = {
            "undiffuse": undiffuse.__version__,
            "model": model.digest,
            "seed": self.seed,
            **{key: value for key, value in chosen.items() if value is not None},
            "precision": self.machine.precision or "float32",
            **followed.settings,
        }
        return Plan(self.num, settings, followed.classes, followed.label)

    def _machine(self, number: int) -> Machine:
        """The machine of process `number`: `cuda` is one card after the other."""
        return replace(self.machine, device=spread(self.machine.device, number))

    def _drawn(
        self, model: Model, plan: Plan, batches: Sequence[Batch]
    ) -> Generator[Drawn, None, None]:
        """The samples of the batches, in order."""
        processes = min(self.processes, len(batches))
        if processes <= 1:
            draw = self._drawer(model, plan)
            yield from (Drawn(batch.numbers, draw(batch)) for batch in batches)
            return
        import torch

        threads = self.machine.threads or max(1, torch.get_num_threads() // processes)
        make = functools.partial(self._worker, model.digest, threads)
        for batch, x in shared(make, batches, processes):
            yield Drawn(batch.numbers, torch.from_numpy(x))

    def _worker(
        self, digest: str, threads: int, number: int
    ) -> Callable[[Batch], NDArray[np.float32]]:
        """What draws a batch in worker process `number`, with a model of its own."""
        device = replace(self._machine(number), threads=threads).ready()
        from undiffuse.model import load

        model = load(self.source).to(device)
        if model.digest != digest:
            raise RunFailed(f"{self.source} got newer weights meanwhile; start again")
        draw = self._drawer(model, self._plan(model))
        return lambda batch: draw(batch).numpy()

    def _drawer(self, model: Model, plan: Plan) -> Callable[[Batch], Tensor]:
        """What draws a batch: samples [B, ...] on the CPU."""
        quick = model.compiled() if self.compile else model
        followed = self.guiding.read(model)

        def draw(batch: Batch) -> Tensor:
            asked = [plan.label_of(i) for i in batch.numbers] if plan.classes else None
            with self.machine.autocast():
                x: Tensor = quick.sample(
                    batch.length,
                    asked,
                    self.guiding.guidance,
                    self.seed,
                    sampler=self.sampler,
                    steps=plan.settings.get("steps"),
                    grid=self.grid,
                    guide=followed.guides,
                    negative_label=followed.negative,
                    batch_size=None,
                    first_index=batch.first,
                )
            return x.cpu()

        return draw

    def _compared(
        self, drawn: Iterator[Drawn], model: Model, plan: Plan, told: list[str]
    ) -> Iterator[Drawn]:
        """The batches; of a quicker way to draw, `told` what it changes in the first of them."""
        precision = self.machine.precision or "float32"
        ways = [precision] * (precision != "float32") + ["compiled"] * self.compile
        plain = replace(self, compile=False, machine=replace(self.machine, precision=None))
        for batch in drawn:
            if ways and not told:
                from undiffuse.evaluation.agreement import Agreement

                count = min(len(batch.x), COMPARED)
                reference = plain._drawer(model, plan)(Batch(batch.numbers[0], count))
                found = Agreement.of(batch.x[:count], reference)
                told.append(f"; {', '.join(ways)}: {found} (plain float32, {count} samples)")
            yield batch

    def _shown(self, drawn: Iterator[Drawn], total: int, share: Share) -> Iterator[Drawn]:
        """The batches; how far they are is shown, of several processes by the first."""
        pace, done = Pace(), 0
        with progress("sample") as shown:
            for batch in drawn:
                yield batch
                done += len(batch.numbers)
                rate = pace.update(done)
                left = clock_time((total - done) / rate)
                if share.rank == 0:
                    shown.show(done, total, f"{rate:.1f} samples/s  {left} left")


def _way(settings: Mapping[str, Any]) -> str:
    """How samples were drawn, in words.

    >>> _way({"steps": 20, "sampler": "ddim", "guide": "rescaled(weight=3)"})
    '20 steps of ddim, guided by rescaled(weight=3)'
    """
    count = settings.get("steps")
    steps = f"{count} step{'s' if count != 1 else ''} of " if count is not None else ""
    grid = f" on the grid {settings['grid']}" if "grid" in settings else ""
    guide = f", guided by {settings['guide']}" if "guide" in settings else ""
    return f"{steps}{settings['sampler']}{grid}{guide}"
