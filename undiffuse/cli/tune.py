"""`undiffuse tune`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from undiffuse.cli.progress import Pace, clock_time, progress
from undiffuse.cli.verb import Machine, Number, Verb, Whole, check_range, check_seed
from undiffuse.errors import UndiffuseError


@dataclass(frozen=True)
class Tune(Verb):
    """Tune a sampler for one model, number of steps and guidance.

    Noise levels and weights of a multistep rule are optimised together through the model, against
    200 steps on the same noise, and kept where noise that it never saw confirms the gain. `sample`
    uses the rule, and names it, when weights, steps and guidance are all those of the tuning.
    """

    name: ClassVar[str] = "tune"
    examples: ClassVar[tuple[str, str]] = (
        "undiffuse tune runs/digits --steps 8",
        "undiffuse tune runs/mnist --steps 5 --guidance 1 --iterations 200",
    )

    source: Annotated[Positional[str], arg(name="run", metavar="RUN", help="the run to tune for")]
    steps: Annotated[
        Whole,
        arg(metavar="N", help="evaluations of the rule", help_behavior_hint="(default: the run's)"),
    ] = None
    guidance: Annotated[
        Number,
        arg(
            metavar="W",
            help="of the labels: 1 as learned, 0 not at all",
            help_behavior_hint="(default: the run's, with the run's guides around it)",
        ),
    ] = None
    iterations: Annotated[int, arg(metavar="N", help="steps of gradient descent")] = 300
    num: Annotated[int, arg(metavar="N", help="samples of noise to fit, and as many to judge")] = 64
    batch_size: Annotated[int, arg(metavar="B", help="samples in a step of gradient descent")] = 8
    seed: Annotated[int, arg(metavar="S", help="of the noise")] = 0
    machine: Annotated[Machine, arg(name="")] = field(default_factory=Machine)

    def __post_init__(self) -> None:
        check_range("--steps", self.steps, most=100)
        check_range("--guidance", self.guidance, least=0, most=1000)
        check_range("--iterations", self.iterations, most=10**6)
        check_range("--num", self.num, most=10**6)
        check_range("--batch-size", self.batch_size, most=65536)
        check_seed(self.seed)

    def run(self) -> int:
        device = self.machine.ready()
        from undiffuse.model import load

        run = Path(self.source)
        model = load(run).to(device)
        if not (run / "config.toml").is_file():
            raise UndiffuseError(f"{run} is no run; name the run's folder, to keep the result in")
        pace, phase = Pace(), ""
        with progress("tune") as shown, self.machine.autocast():

            def watch(what: str, done: int, whole: int) -> None:
                nonlocal pace, phase
                if what != phase:
                    pace, phase = Pace(), what
                rate = pace.update(done)
                shown.show(done, whole, f"{what}  {clock_time((whole - done) / rate)} left")

            found = model.tune(
                self.steps,
                self.guidance,
                iterations=self.iterations,
                calibration=self.num,
                fresh=self.num,
                batch_size=self.batch_size,
                seed=self.seed,
                progress=watch,
            )
        told = f"median error on fresh noise {found.before:.4f} of {found.start},"
        if found.after < found.before:
            where = found.write(run)
            print(f"{where}: {found.title}: {told} {found.after:.4f} tuned")
        else:
            print(f"{self.source}: {told} {found.after:.4f} tuned, which is no gain: not kept")
        return 0
