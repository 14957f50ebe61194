"""The command line: `polyfed list | run | report | play | check` (the only door to tyro).

What needs JAX is imported inside the commands, so that help and lists answer at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from polyfed.devices import num_devices
from polyfed.errors import EXIT_CODES, MissingExtraError, PolyfedError
from polyfed.experiments import load, load_file, titles
from polyfed.naming import did_you_mean

if TYPE_CHECKING:
    from polyfed.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class List:
    """Name the experiments."""

    json: bool = False  # as JSON, for scripts


@dataclasses.dataclass(frozen=True)
class Run:
    """Run an experiment with everything it is compared with, and write a report.

    `polyfed run EXPERIMENT --help` shows every field of that experiment, with units, and how to change it.
    """

    experiment: Positional[str] = ""  # a name from `polyfed list`, or a Python file that defines EXPERIMENT
    seeds: str = "0-4"  # integers and ranges, e.g. 0-9 or 0,3,7
    recipe: str = ""  # another published method in place of the experiment's own, e.g. fedadam
    transforms: str = ""  # on the way up, in order, e.g. "half-precision clip-norm:max_norm=1.0"
    out: Path = Path("runs")  # where run folders live
    resume: str = ""  # a run folder that was not finished; goes on from its last checkpoint
    force: bool = False  # resume in spite of other versions or another machine
    checkpoint_seconds: float = 10.0  # s, at least this long between checkpoints
    log: Literal["none", "tensorboard"] = "none"  # a second record beside the run folder's own
    report: bool = True  # write report.html into the run folder
    debug: bool = False  # run two rounds of one seed uncompiled (0.1 s a step); names the client and stage that failed
    quiet: bool = False  # no progress
    json: bool = False  # print the outcome as JSON


@dataclasses.dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about one or several runs."""

    runs: Positional[tuple[Path, ...]] = ()  # run folders
    out: Annotated[Path, arg(aliases=["-o"])] = Path("report.html")  # the page; figures go beside it
    json: bool = False  # print where they are as JSON


@dataclasses.dataclass(frozen=True)
class Play:
    """Film a learned policy as a GIF."""

    run: Positional[Path] = Path()  # a run folder
    client: int = 0  # whose world
    arm: str = ""  # whose policy; the experiment's own method if empty
    policy: Literal["global", "own"] = (
        "global"  # the server's, or the client's own (for arms without a global one: own)
    )
    seed: int = -1  # of the training run; the first if negative
    start: int = 0  # seed of the filmed episode
    out: Annotated[Path, arg(aliases=["-o"])] = Path("play.gif")  # the film
    fps: int = 50  # frames per second
    json: bool = False  # print the outcome as JSON


@dataclasses.dataclass(frozen=True)
class Check:
    """Say what polyfed finds here: versions, devices, extras, write access."""

    out: Path = Path("runs")  # where run folders would live
    json: bool = False  # as JSON


COMMANDS: dict[str, type] = {"list": List, "run": Run, "report": Report, "play": Play, "check": Check}


def main(argv: list[str] | None = None) -> None:
    """Run a command and end the process with its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        sys.exit(_dispatch(argv))
    except PolyfedError as error:
        _fail(str(error), error.exit_code)
    except (ValueError, MissingExtraError) as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("Interrupted; go on with `polyfed run --resume` and the run folder.", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _fail(f"{error.filename or 'A file'} could not be read or written: {error.strerror or error}.", 5)


def _fail(sentence: str, code: int) -> None:
    print(f"polyfed: {sentence}", file=sys.stderr)
    sys.exit(code)


def _dispatch(argv: list[str]) -> int:
    num_devices()
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if argv[0] == "--version":
        from polyfed import __version__

        print(__version__)
        return 0
    name, rest = argv[0], argv[1:]
    if name not in COMMANDS:
        raise ValueError(f"There is no command {name!r}: {did_you_mean(name, COMMANDS)}")
    if name == "run":
        return _run(rest)
    options = _parse(COMMANDS[name], args=rest, prog=f"polyfed {name}")
    handlers: dict[str, Callable[[Any], int]] = {"list": _list, "report": _report, "play": _play, "check": _check}
    return handlers[name](options)


def _parse(form: Any, *, prog: str, **how: Any) -> Any:
    """`tyro.cli` whose complaints are one sentence (`ValueError`) rather than a box as wide as the terminal."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(form, prog=prog, **how)
    except SystemExit as end:
        if not complaint.getvalue():
            raise  # help was asked for
        raise ValueError(_sentence(complaint.getvalue(), prog)) from end


def _sentence(box: str, prog: str) -> str:
    """What a box of tyro says, as one sentence; it is drawn with lines or without, in colours or without."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip(" │") for line in plain.splitlines()[1:]]  # the first is the title
    rules = [i for i, line in enumerate(lines) if re.fullmatch("[─╰╯-]+", line)]
    first = 1 if 0 in rules else 0
    end = next((i for i in rules if i > 0), len(lines))
    said = " ".join(lines[first:end]).rstrip(". ")
    guess = next((line.split()[0].rstrip(",") for line in lines[end:] if re.match("--[a-z]", line)), "")
    if guess and said.startswith("Unrecognized"):
        return f"{said}; did you mean {guess}? `{prog} --help` shows all options."
    return f"{said}: see `{prog} --help`."


def _need(extra: str, module: str, purpose: str, otherwise: str) -> None:
    """Raise `MissingExtraError` if an extra is missing, before hours are spent."""
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(
            f'{purpose} needs a package that is not installed: pip install "polyfed[{extra}]", or {otherwise}.'
        )


def _usage() -> str:
    lines = ["polyfed: federated reinforcement learning for agents that differ", "", "commands:"]
    lines += [f"  polyfed {name:<8} {(cls.__doc__ or '').partition(chr(10))[0]}" for name, cls in COMMANDS.items()]
    lines += ["", "`polyfed COMMAND --help` tells more.", "", "exit codes:"]
    lines += [f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items()]
    return "\n".join(lines)


def _list(options: List) -> int:
    found = titles()
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        width = max(map(len, found))
        print("\n".join(f"{name:<{width}}  {title}" for name, title in found.items()))
    return 0


def _run(argv: list[str]) -> int:
    named = bool(argv) and not argv[0].startswith("-")
    if not named:
        for word in argv:
            if word in titles() or word.endswith(".py"):
                raise ValueError(f"The experiment comes before its options: type `polyfed run {word}`, then the rest.")
        options = _parse(Run, args=argv, prog="polyfed run")
        if not options.resume:
            raise ValueError("No experiment was named: `polyfed list` shows them, `polyfed run NAME` runs one.")
        return _go(options, None, argv)
    from polyfed import recipes, typed
    from polyfed.checks import one_of

    experiment = load_file(Path(argv[0])) if argv[0].endswith(".py") else load(argv[0])
    wish = _peek(argv[1:], "--recipe")
    if wish:
        one_of("recipe", wish, recipes.RECIPES)
        experiment = recipes.RECIPES[wish](experiment)
    options, experiment = _overrides(argv, experiment)
    if options.resume:
        raise ValueError(
            f"--resume {options.resume} goes on with the experiment recorded there, but {argv[0]} was named too: "
            f"type `polyfed run --resume {options.resume}`, or leave --resume out."
        )
    if options.transforms:
        parts = tuple(typed.transform(text) for text in options.transforms.split())
        experiment = dataclasses.replace(experiment, transforms=parts)
    if options.debug:
        return _debug(options, experiment)
    return _go(options, experiment, argv)


def _peek(argv: list[str], flag: str) -> str:
    for i, word in enumerate(argv):
        if word == flag and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


def _overrides(argv: list[str], experiment: Experiment) -> tuple[Run, Experiment]:
    """The options of a run and its experiment with every field that was given on the command line."""
    from polyfed.experiment import Experiment

    both = dataclasses.make_dataclass(
        "RunExperiment",
        [
            ("options", Annotated[Run, arg(name="")]),
            ("fields", Annotated[Experiment, arg(name="")]),
        ],
    )
    both.__doc__ = f"Run {experiment.name}: {titles().get(experiment.name, '')}"
    plain = dataclasses.replace(experiment, transforms=(), variants=())
    with _short_docstrings(), _registry():
        given = _parse(
            both,
            args=argv[1:],
            default=both(Run(experiment=argv[0]), plain),
            prog=f"polyfed run {argv[0]}",
            config=(tyro.conf.AvoidSubcommands,),
        )
    if given.options.experiment != argv[0]:
        raise ValueError(
            f"{given.options.experiment!r} is one word too many after {argv[0]!r}: options start with --, "
            "and one experiment runs at a time."
        )
    fields = dataclasses.replace(given.fields, transforms=experiment.transforms, variants=experiment.variants)
    return given.options, fields


class _short_docstrings:
    """Help shows the first paragraph of a part's docstring, not its examples."""

    def __enter__(self) -> None:
        import equinox as eqx

        def parts(cls: Any) -> list[Any]:
            return [cls, *(p for sub in cls.__subclasses__() for p in parts(sub))]

        self._docs = {cls: cls.__doc__ for cls in parts(eqx.Module) if cls.__module__.startswith("polyfed.")}
        for cls, doc in self._docs.items():
            cls.__doc__ = (doc or "").partition("\n\n")[0]

    def __exit__(self, *_: object) -> None:
        for cls, doc in self._docs.items():
            cls.__doc__ = doc


def _registry() -> Any:
    """How numbers that may differ per client, and the values of worlds, are typed."""
    from polyfed import typed
    from polyfed.environments.variation import Values

    registry = tyro.constructors.ConstructorRegistry()
    spec = tyro.constructors.PrimitiveConstructorSpec

    @registry.primitive_rule
    def per_client(info: Any) -> Any:
        if info.type not in (float, int):
            return None
        kind = info.type
        return spec(
            nargs=1,
            metavar=f"{kind.__name__.upper()}[,...]" if kind is float else "INT",
            instance_from_str=lambda words: typed.numbers(words[0], kind),
            is_instance=lambda x: isinstance(x, (int, float, tuple)) and not isinstance(x, bool),
            str_from_instance=lambda x: [",".join(map(str, x)) if isinstance(x, tuple) else str(x)],
        )

    @registry.primitive_rule
    def values(info: Any) -> Any:
        if info.type != Values:
            return None
        return spec(
            nargs="*",
            metavar="QUANTITY=VALUE,VALUE,...",
            instance_from_str=typed.world_values,
            is_instance=lambda x: isinstance(x, tuple),
            str_from_instance=lambda x: [f"{name}={','.join(map(str, v))}" for name, v in x],
        )

    return registry


def _go(options: Run, experiment: Experiment | None, argv: list[str]) -> int:
    if options.report:
        _need("report", "matplotlib", "A report", "run with --no-report")
    if options.log == "tensorboard":
        _need("tensorboard", "tensorboard", "--log tensorboard", "leave it out")
    from polyfed import typed
    from polyfed.console import Monitor
    from polyfed.runs import run

    with Monitor(quiet=options.quiet) as monitor:
        watches: list[Any] = [monitor]

        def watch(progress: Any) -> None:
            for each in watches:
                each(progress)

        if experiment is None:
            folder = Path(options.resume)
            _add_log(options, folder, watches)
            run.go_on(folder, watch, options.checkpoint_seconds, options.force)
        else:
            seeds = typed.seeds(options.seeds)
            command = shlex.join(["polyfed", "run", *argv])
            folder = run.create(options.out, experiment, seeds, command)
            print(f"run folder: {folder}", file=sys.stderr)
            _add_log(options, folder, watches)
            run.go_on(folder, watch, options.checkpoint_seconds)
        for each in watches[1:]:
            each.close()
    return _outcome(options, folder)


def _add_log(options: Run, folder: Path, watches: list[Any]) -> None:
    if options.log == "tensorboard":
        from polyfed.runs.tensorboard import TensorBoardLog

        watches.append(TensorBoardLog(folder))


def _outcome(options: Run, folder: Path) -> int:
    outcome: dict[str, Any] = {"run": str(folder)}
    if options.report:
        from polyfed.report import write_report
        from polyfed.runs.store import load_run

        result = load_run(folder)
        write_report([result], folder / "report.html", folder / "figures")
        outcome["report"] = str(folder / "report.html")
        if not options.json:
            from polyfed.report import summary

            print(summary([result]))
    print(json.dumps(outcome) if options.json else "\n".join(f"{name}: {value}" for name, value in outcome.items()))
    return 0


def _debug(options: Run, experiment: Experiment) -> int:
    from polyfed import typed
    from polyfed.simulation.debug import debug_rounds
    from polyfed.simulation.simulate import Simulation

    seeds = typed.seeds(options.seeds)
    rounds = min(experiment.num_rounds, 2)
    print(f"Running {rounds} rounds of seed {seeds[0]} uncompiled, one client after another.", file=sys.stderr)
    for line in debug_rounds(Simulation(experiment, seeds[:1]), rounds):
        print(line)
    return 0


def _report(options: Report) -> int:
    if not options.runs:
        raise ValueError("No run was given: name one or more run folders, e.g. runs/cartpole-poles/*.")
    from polyfed.report import write_report
    from polyfed.runs.store import load_run

    write_report([load_run(folder) for folder in options.runs], options.out)
    figures = options.out.with_name(f"{options.out.stem}-figures")
    outcome = {"report": str(options.out), "figures": str(figures)}
    print(json.dumps(outcome) if options.json else "\n".join(f"{name}: {value}" for name, value in outcome.items()))
    return 0


def _play(options: Play) -> int:
    from polyfed.report.film import film

    outcome = film(
        options.run,
        options.out,
        arm=options.arm,
        client=options.client,
        policy=options.policy,
        seed=options.seed,
        start=options.start,
        fps=options.fps,
    )
    print(json.dumps(outcome) if options.json else "\n".join(f"{name}: {value}" for name, value in outcome.items()))
    return 0


def _check(options: Check) -> int:
    from polyfed.runs.versions import survey

    found = survey(options.out)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(f"{name}: {value}" for name, value in found.items()))
    return 0 if found["write access"] == "yes" else 5
