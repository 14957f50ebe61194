"""Options and fields of an experiment or a study as they are typed on the command line (the only door to tyro).

What needs JAX is imported inside functions, so that help and lists answer at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro
from tyro.conf import Positional, arg

from polyfed.experiments import studies, titles

if TYPE_CHECKING:
    from polyfed.experiment import Experiment
    from polyfed.study import Study


@dataclasses.dataclass(frozen=True)
class List:
    """Name the experiments and studies."""

    json: bool = False  # as JSON, for scripts


@dataclasses.dataclass(frozen=True)
class Run:
    """Run an experiment with everything it is compared with, and write a report.

    `polyfed run EXPERIMENT --help` shows every field of that experiment, with units, and how to change it.
    """

    experiment: Positional[str] = ""  # a name from `polyfed list`, or a Python file that defines EXPERIMENT
    seeds: str = "0-4"  # integers and ranges, e.g. 0-9 or 0,3,7
    recipe: str = ""  # another published method in place of the experiment's own, e.g. fedadam
    world: str = ""  # an environment of Gymnasium in place of the experiment's own, e.g. LunarLander-v3
    transforms: str = ""  # on the way up, in order, e.g. "half-precision clip-norm:max_norm=1.0"
    split: str = ""  # another split of a data set, e.g. "dirichlet:alpha=0.1" or "label-shards:shards_per_client=1"
    out: Path = Path("runs")  # where run folders live
    resume: str = ""  # a run folder that was not finished; goes on from its last checkpoint
    force: bool = False  # resume in spite of other versions or another machine
    checkpoint_seconds: float = 10.0  # s, at least this long between checkpoints
    log: Literal["none", "tensorboard"] = "none"  # a second record beside the run folder's own
    engine: Literal["process", "ray"] = "process"  # ray: clients in actors, on this machine or on all of a cluster
    actors: int = 0  # of the engine ray, each with a share of the clients; 0: one per machine
    cluster: str = ""  # of the engine ray, HOST:PORT or auto; none: this machine alone
    report: bool = True  # write report.html into the run folder
    debug: bool = False  # run two rounds of one seed uncompiled (0.1 s a step); names the client and stage that failed
    quiet: bool = False  # no progress
    json: bool = False  # print the outcome as JSON


@dataclasses.dataclass(frozen=True)
class RunStudy:
    """Run a study and write a report."""

    study: Positional[str] = ""  # a name from `polyfed list`, or a Python file that defines STUDY
    seeds: str = "0-4"  # integers and ranges, e.g. 0-9 or 0,3,7
    out: Path = Path("runs")  # where run folders live
    report: bool = True  # write report.html into the run folder
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
    """Film a learned policy as a GIF, or one in each client's world."""

    run: Positional[Path] = Path()  # a run folder
    client: int = 0  # whose world
    clients: str = ""  # several worlds, "all" or e.g. 0-3,7: films go into videos/ of the run folder, and into reports
    arm: str = ""  # whose policy; the experiment's own method if empty
    policy: Literal["global", "own"] = (
        "global"  # the server's, or the client's own (for arms without a global one: own)
    )
    seed: int = -1  # of the training run; the first if negative
    start: int = 0  # seed of the filmed episode
    out: Annotated[Path, arg(aliases=["-o"])] = Path("play.gif")  # the film
    every: int = 1  # steps from one frame to the next; more for episodes that are long
    fps: int = 50  # frames per second, at most 50
    json: bool = False  # print the outcome as JSON


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a learned policy as ONNX or safetensors, compared with the original, with a model card."""

    run: Positional[Path] = Path()  # a run folder
    arm: str = ""  # whose policy; the experiment's own method if empty
    client: str = "global"  # global: the server's; client-2: that client's own
    seed: int = -1  # of the training run; the first if negative
    format: str = "onnx"  # onnx or safetensors
    out: Annotated[Path, arg(aliases=["-o"])] = Path("export")  # a folder: policy, MODEL_CARD.md, export.json
    json: bool = False  # print the outcome as JSON


@dataclasses.dataclass(frozen=True)
class Check:
    """Say what polyfed finds here: versions, devices, extras, write access."""

    out: Path = Path("runs")  # where run folders would live
    json: bool = False  # as JSON


@dataclasses.dataclass(frozen=True)
class Env:
    """Say what is good to know of an environment of Gymnasium: `polyfed env check ID`."""

    what: Positional[Literal["check"]]  # check: seeding, spaces, speed, copies, named quantities
    id: Positional[str]  # as registered, e.g. LunarLander-v3
    modules: bool = False  # let an id such as module:Env-v0 import that module, and so run its code
    json: bool = False  # as JSON


@dataclasses.dataclass(frozen=True)
class Keys:
    """Make the certificates and keys of a fleet, a folder for the server and one for each site."""

    folder: Positional[Path]  # where; it must not be there yet
    clients: str = ""  # their names in order, e.g. line-1,line-2,line-3
    host: str = ""  # names and addresses under which sites reach the server, joined by commas
    days: int = 365  # until the server's certificate expires
    sign: bool = False  # sign the app of this version with the keys that are there already, and make none
    json: bool = False  # print the outcome as JSON


@dataclasses.dataclass(frozen=True)
class Serve:
    """Deploy an experiment: the server of a federation whose clients join from their sites.

    `polyfed serve EXPERIMENT --help` shows every field of that experiment, with units, and how to change it.
    """

    experiment: Positional[str] = ""  # a name from `polyfed list`, or a Python file that defines EXPERIMENT
    seed: int = 0  # of the one federation that a deployment is
    keys: Path | None = None  # the server's folder of what `polyfed keys` made
    port: int = 9092  # the only one that is opened
    host: str = "0.0.0.0"  # where to listen
    insecure: bool = False  # without TLS and keys; on this machine alone
    deadline: float = 600.0  # s, for the answers of a round
    quorum: int = 1  # clients that must be let into a round
    tries: int = 3  # of a round that has too few of them
    patience: float = 600.0  # s, until all sites must be connected
    out: Path = Path("runs")  # where run folders live
    resume: str = ""  # the folder of a deployment that was not finished; goes on from its last round
    force: bool = False  # resume in spite of other versions or another machine
    app_only: Path | None = None  # make the app for a plain `flwr run` there, and start nothing
    report: bool = True  # write report.html into the run folder
    quiet: bool = False  # no progress
    json: bool = False  # print the outcome as JSON


@dataclasses.dataclass(frozen=True)
class Join:
    """Take part in a deployment: the agent of one site, which lives here until the run is over."""

    experiment: Positional[str] = ""  # the only one to take part in; none: what the server says, if it is harmless
    server: str = ""  # HOST:PORT of `polyfed serve`
    name: str = ""  # of the client that lives here
    keys: Path | None = None  # the site's folder of what `polyfed keys` made
    insecure: bool = False  # without TLS and keys; on this machine alone
    site: Path = Path("site")  # where the agent keeps what it has learned, so that it goes on when it was killed
    tries: int = 8  # how often the server may not answer in a row
    agent_only: Path | None = None  # live behind that socket, and leave the SuperNode to you
    any_app: bool = False  # let the server run apps of Flower here that the owner of the keys has not signed
    quiet: bool = False  # no progress
    json: bool = False  # print the outcome as JSON


@dataclasses.dataclass(frozen=True)
class Plan:
    """Say what a round of a deployment would take, and when communication outweighs parallel work."""

    experiment: Positional[str] = ""  # a name from `polyfed list`, which says clients, messages and local steps
    clients: int = 0  # 0: the experiment's, or 8
    parameters: int = 17_410  # numbers in a model, where no experiment is named: that of 4-128-128-2
    model_bytes: int = -1  # of a message, each way; negative: the experiment's, or 4 per parameter
    local_steps: int = 0  # per client and round; 0: the experiment's, or 100
    step_seconds: float = 1.1e-4  # s, of a local step at a site: a DQN of 4-128-128-2 on one core, batches of 64
    local_seconds: float = -1.0  # s, of learning per round at a site; negative: local steps times their seconds
    bandwidth_up: float = 20.0  # Mbit/s of a site
    bandwidth_down: float = 100.0  # Mbit/s of a site
    bandwidth_server: float = 1000.0  # Mbit/s of the server, each way
    latency: float = 20.0  # ms, one way
    carrier: Literal["flower", "loopback"] = "flower"  # loopback: what any carrier adds its own cost to
    cores: int = 1  # of the one machine that is compared with
    together: bool = False  # the sites share that machine
    json: bool = False  # print the outcome as JSON


@dataclasses.dataclass(frozen=True)
class AuditLog:
    """Verify the audit log of a deployment."""

    log: Positional[Path]  # audit.jsonl of a run folder
    last: str = ""  # the digest that was printed at the end of the run
    json: bool = False  # print the outcome as JSON


COMMANDS: dict[str, type] = {
    "list": List,
    "run": Run,
    "report": Report,
    "play": Play,
    "export": Export,
    "check": Check,
    "env": Env,
    "keys": Keys,
    "serve": Serve,
    "join": Join,
    "audit": AuditLog,
    "plan": Plan,
}


def parse(form: Any, *, prog: str, **how: Any) -> Any:
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


def overrides(argv: list[str], experiment: Experiment) -> tuple[Run, Experiment]:
    """The options of a run and its experiment with every field that was given on the command line."""
    plain = dataclasses.replace(experiment, transforms=(), variants=())
    title = titles().get(experiment.name, "")
    options, changed = _given(argv, Run(experiment=argv[0]), plain, ("transforms", "variants"), title)
    return options, dataclasses.replace(experiment, **changed)


def serve_overrides(argv: list[str], experiment: Experiment) -> tuple[Serve, Experiment]:
    """The options of a deployment and its experiment with every field that was given on the command line."""
    plain = dataclasses.replace(experiment, transforms=(), variants=(), compare=())
    title = titles().get(experiment.name, "")
    options, changed = _given(argv, Serve(experiment=argv[0]), plain, ("transforms", "variants"), title, "serve")
    return options, dataclasses.replace(experiment, **changed)


def study_overrides(argv: list[str], study: Study) -> tuple[RunStudy, Study]:
    """The options of a study's run and the study with every field that was given on the command line."""
    options, changed = _given(argv, RunStudy(study=argv[0]), study, (), studies().get(study.name, ""))
    return options, dataclasses.replace(study, **changed)


def _given(
    argv: list[str], options: Any, thing: Any, untyped: tuple[str, ...], title: str, verb: str = "run"
) -> tuple[Any, dict]:
    """Options, and the fields of an experiment or a study that may be typed, as they were."""
    fields = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    form = _form_of(thing)
    both = dataclasses.make_dataclass(
        "RunExperiment",
        [
            ("options", Annotated[type(options), arg(name="")]),
            ("fields", Annotated[form, arg(name="")]),
        ],
    )
    both.__doc__ = f"{verb.capitalize()} {thing.name}: {title}"
    with _short_docstrings(), _registry(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="tyro")  # of numbers given per client
        given = parse(
            both,
            args=argv[1:],
            default=both(options, form(**fields)),
            prog=f"polyfed {verb} {argv[0]}",
            config=(tyro.conf.AvoidSubcommands,),
        )
    first = next(getattr(given.options, field.name) for field in dataclasses.fields(options))
    if first != argv[0]:
        raise ValueError(
            f"{first!r} is one word too many after {argv[0]!r}: options start with --, "
            "and one experiment runs at a time."
        )
    return given.options, {name: getattr(given.fields, name) for name in fields if name not in untyped}


def _form_of(thing: Any) -> type:
    """The fields of an experiment or a study as a form in which every part is of the class that it is, and no other."""
    cls, parts = type(thing), {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}
    hints = get_type_hints(cls)
    own = [one for one in reversed(cls.__mro__) if {*vars(one).get("__annotations__", {})} & {*parts}]
    sources = "".join(map(inspect.getsource, own))
    helps = dict(re.findall(r"^    (\w+): .*?  # (.+)$", sources, re.MULTILINE))
    types = {name: type(part) if dataclasses.is_dataclass(part) else hints[name] for name, part in parts.items()}
    return dataclasses.make_dataclass(
        cls.__name__, [(name, Annotated[kind, arg(help=helps.get(name, ""))]) for name, kind in types.items()]
    )


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
        kinds = {float: float, int: int, float | None: float, int | None: int}
        if info.type not in kinds:
            return None
        kind, optional = kinds[info.type], info.type not in (float, int)
        none = "{None}|" if optional else ""
        return spec(
            nargs=1,
            metavar=none + ("FLOAT[,...]" if kind is float else "INT[,...]" if optional else "INT"),
            instance_from_str=lambda words: None if optional and words[0] == "None" else typed.numbers(words[0], kind),
            is_instance=lambda x: optional if x is None else isinstance(x, (int, float, tuple)) and x is not True,
            str_from_instance=lambda x: [",".join(map(str, x)) if isinstance(x, tuple) else str(x)],
        )

    @registry.primitive_rule
    def values(info: Any) -> Any:
        if (get_origin(info.type), get_args(info.type)) != (tuple, get_args(Values)):  # or typing.Tuple, by default
            return None
        return spec(
            nargs="*",
            metavar="QUANTITY=VALUE,VALUE,...",
            instance_from_str=typed.world_values,
            is_instance=lambda x: isinstance(x, tuple),
            str_from_instance=lambda x: [f"{name}={','.join(map(str, v))}" for name, v in x],
        )

    return registry
