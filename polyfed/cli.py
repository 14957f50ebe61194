"""The command line: `polyfed list | run | report | play | export | check | env | keys | serve | join | audit |
plan`.

What needs JAX is imported inside the commands, so that help and lists answer at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyfed.devices import num_devices
from polyfed.errors import EXIT_CODES, MissingExtraError, PolyfedError
from polyfed.experiments import load, load_file, load_study, studies, titles
from polyfed.naming import did_you_mean
from polyfed.options import COMMANDS, Check, Env, Export, List, Play, Report, Run, overrides, parse, study_overrides

if TYPE_CHECKING:
    from polyfed.experiment import Experiment
    from polyfed.study import Study


GO_ON = {
    "run": "go on with `polyfed run --resume` and the run folder",
    "serve": "go on with `polyfed serve --resume` and the run folder",
    "join": "go on with the same command",
}


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
        _fail(f"Interrupted; {GO_ON.get(argv[0] if argv else '', GO_ON['run'])}.", 130)
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
    if name in ("keys", "serve", "join", "audit", "plan"):
        from polyfed.deployment import commands

        return commands.dispatch(name, rest)
    options = parse(COMMANDS[name], args=rest, prog=f"polyfed {name}")
    handlers: dict[str, Callable[[Any], int]] = {
        "list": _list,
        "report": _report,
        "play": _play,
        "export": _export,
        "check": _check,
        "env": _env,
    }
    return handlers[name](options)


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
    found = dict(sorted({**titles(), **studies()}.items()))
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
            if word in titles() or word in studies() or word.endswith(".py"):
                raise ValueError(f"The experiment comes before its options: type `polyfed run {word}`, then the rest.")
        options = parse(Run, args=argv, prog="polyfed run")
        if not options.resume:
            raise ValueError("No experiment was named: `polyfed list` shows them, `polyfed run NAME` runs one.")
        return _go(options, None, argv)
    from polyfed import recipes, typed
    from polyfed.checks import one_of
    from polyfed.study import Study

    named_value: Experiment | Study
    if argv[0].endswith(".py"):
        named_value = load_file(Path(argv[0]))
    else:
        named_value = load_study(argv[0]) if argv[0] in studies() else load(argv[0])
    if isinstance(named_value, Study):
        return _run_study(argv, named_value)
    experiment = named_value
    wish = _peek(argv[1:], "--recipe")
    if wish:
        one_of("recipe", wish, recipes.RECIPES)
        experiment = recipes.RECIPES[wish](experiment)
    world = _peek(argv[1:], "--world")
    if world:
        from polyfed.environments.gymnasium_world import Gymnasium

        experiment = dataclasses.replace(experiment, environment=Gymnasium(world))
    options, experiment = overrides(argv, experiment)
    if options.resume:
        raise ValueError(
            f"--resume {options.resume} goes on with the experiment recorded there, but {argv[0]} was named too: "
            f"type `polyfed run --resume {options.resume}`, or leave --resume out."
        )
    if options.transforms:
        parts = tuple(typed.transform(text) for text in options.transforms.split())
        experiment = dataclasses.replace(experiment, transforms=parts)
    if options.split:
        experiment = dataclasses.replace(experiment, variation=typed.split(options.split))
    if options.debug:
        return _debug(options, experiment)
    return _go(options, experiment, argv)


def _run_study(argv: list[str], study: Study) -> int:
    options, study = study_overrides(argv, study)
    if options.report:
        _need("report", "matplotlib", "A report", "run with --no-report")
    from polyfed import typed
    from polyfed.runs import study_folder

    seeds, title = typed.seeds(options.seeds), studies().get(study.name, study.name)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {options.seeds} names one seed twice, which adds no repetition: name each once.")
    folder = study_folder.create(options.out, study, seeds, shlex.join(["polyfed", "run", *argv]), title)
    print(f"run folder: {folder}", file=sys.stderr)

    def watch(done: str, share: float) -> None:
        if not options.quiet:
            print(f"{100 * share:3.0f} %  {done}", file=sys.stderr)

    try:
        findings = study_folder.go(folder, study, seeds, watch)
    except KeyboardInterrupt:
        _fail("Interrupted; a study is not resumed, so run it again.", 130)
    outcome = {"run": str(folder)}
    if options.report:
        from polyfed.report.study_page import write_study_report

        write_study_report(study_folder.load_study(folder), folder / "report.html", folder / "figures")
        outcome["report"] = str(folder / "report.html")
    if not options.json:
        print("\n".join(findings.verdict))
    _say(outcome, options.json)
    return 0


def _say(outcome: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(outcome) if as_json else "\n".join(f"{name}: {value}" for name, value in outcome.items()))


def _peek(argv: list[str], flag: str) -> str:
    for i, word in enumerate(argv):
        if word == flag and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


def _go(options: Run, experiment: Experiment | None, argv: list[str]) -> int:
    if options.report:
        _need("report", "matplotlib", "A report", "run with --no-report")
    if options.log == "tensorboard":
        _need("tensorboard", "tensorboard", "--log tensorboard", "leave it out")
    from polyfed import typed
    from polyfed.console import Monitor
    from polyfed.runs import run
    from polyfed.runs.study_folder import refuse_study

    with _engine(options, experiment) as (engine, make), Monitor(quiet=options.quiet) as monitor:
        watches: list[Any] = [monitor]

        def watch(progress: Any) -> None:
            for each in watches:
                each(progress)

        if experiment is None:
            folder = Path(options.resume)
            refuse_study(folder, "resumed")
            _add_log(options, folder, watches)
            run.go_on(folder, watch, options.checkpoint_seconds, options.force, monitor.say, make)
        else:
            seeds = typed.seeds(options.seeds)
            command = shlex.join(["polyfed", "run", *argv])
            folder = run.create(options.out, experiment, seeds, command, engine)
            print(f"run folder: {folder}", file=sys.stderr)
            _add_log(options, folder, watches)
            run.go_on(folder, watch, options.checkpoint_seconds, say=monitor.say, make=make)
        for each in watches[1:]:
            each.close()
    return _outcome(options, folder)


@contextlib.contextmanager
def _engine(options: Run, experiment: Experiment | None) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """Where clients live, and what puts an arm together; a run that is gone on with keeps the engine it began with."""
    from polyfed.checks import whole_in_range
    from polyfed.recipes import arms
    from polyfed.runs.store import read_record
    from polyfed.simulation.engines import PROCESS, engine_of, ray_engine
    from polyfed.simulation.sharded import check_sharded
    from polyfed.simulation.simulate import Simulation

    name = options.engine if experiment is not None else engine_of(read_record(Path(options.resume)))
    if name != "ray":
        if options.engine == "ray":
            raise ValueError(
                f"{options.resume} was started in one process, and its checkpoints are of that: leave --engine out."
            )
        if options.actors or options.cluster:
            raise ValueError(
                "--actors and --cluster say how the engine ray works, which was not asked for: add --engine ray."
            )
        yield PROCESS, Simulation
        return
    whole_in_range("actors", options.actors, 0, 10**5)
    for arm in () if experiment is None else arms(experiment).values():
        check_sharded(arm)
    with ray_engine(options.actors, options.cluster) as found:
        yield found


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
    _say(outcome, options.json)
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
    from polyfed.runs.study_folder import is_study, load_study

    if any(map(is_study, options.runs)):
        if len(options.runs) > 1:
            raise ValueError(
                "A study has a page of its own, but several folders were given: give one folder at a time."
            )
        from polyfed.report.study_page import write_study_report

        write_study_report(load_study(options.runs[0]), options.out)
    else:
        write_report([load_run(folder) for folder in options.runs], options.out)
    figures = options.out.with_name(f"{options.out.stem}-figures")
    outcome = {"report": str(options.out), "figures": str(figures)}
    _say(outcome, options.json)
    return 0


def _play(options: Play) -> int:
    from polyfed.report.film import film, film_clients
    from polyfed.runs.study_folder import refuse_study

    refuse_study(options.run, "filmed")
    how: dict[str, Any] = {name: getattr(options, name) for name in ("arm", "policy", "seed", "start", "every", "fps")}
    if options.clients:
        outcome = film_clients(options.run, options.clients, **how)
    else:
        outcome = film(options.run, options.out, client=options.client, **how)
    _say(outcome, options.json)
    return 0


def _export(options: Export) -> int:
    from polyfed.export import export
    from polyfed.runs.study_folder import refuse_study

    refuse_study(options.run, "exported")
    how = {name: getattr(options, name) for name in ("format", "arm", "client", "seed")}
    _say(export(options.run, options.out, **how), options.json)
    return 0


def _check(options: Check) -> int:
    from polyfed.runs.versions import survey

    found = survey(options.out)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(f"{name}: {value}" for name, value in found.items()))
    return 0 if found["write access"] == "yes" else 5


def _env(options: Env) -> int:
    from polyfed.environments.host_check import check_host

    findings = check_host(options.id, modules=options.modules)
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
    else:
        marks = {True: "yes", False: "NO"}
        print("\n".join(f"{marks[f.good]:<4} {f.question}: {f.answer}" for f in findings))
    return 0 if all(f.good or not f.needed for f in findings) else 2
