"""The commands of a deployment: `polyfed keys | serve | join | audit | plan`."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyfed.experiments import load, load_file, studies
from polyfed.options import COMMANDS, AuditLog, Join, Keys, Plan, Serve, parse, serve_overrides

if TYPE_CHECKING:
    from polyfed.experiment import Experiment


def dispatch(name: str, argv: list[str]) -> int:
    """Run one of the commands."""
    if name == "serve":
        return _serve(argv)
    options = parse(COMMANDS[name], args=argv, prog=f"polyfed {name}")
    handlers: dict[str, Callable[[Any], int]] = {"keys": _keys, "join": _join, "audit": _audit, "plan": _plan}
    return handlers[name](options)


def _show(outcome: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(outcome) if as_json else "\n".join(f"{name}: {value}" for name, value in outcome.items()))


def _say(quiet: bool) -> Callable[[str], None]:
    return lambda sentence: None if quiet else print(sentence, file=sys.stderr, flush=True)


def _keys(options: Keys) -> int:
    from polyfed.deployment.keys import make, sign_again

    if options.sign:
        sign_again(options.folder)
        _show({"signed": str(options.folder / "server" / "app.json")}, options.json)
        return 0
    if not options.clients or not options.host:
        raise ValueError("Keys need --clients, their names in order, and --host, the server's names: give both.")
    end = make(options.folder, options.clients.split(","), options.host.split(","), options.days)
    _show({"server": str(options.folder / "server"), "expires": f"{end:%d %B %Y}"}, options.json)
    return 0


def _audit(options: AuditLog) -> int:
    from polyfed.deployment.audit import verify

    lines, last = verify(options.log, options.last)
    _show({"lines": lines, "last": last}, options.json)
    return 0


def _plan(options: Plan) -> int:
    from polyfed.deployment.what_if import show

    return show(options)


def _named(word: str) -> Experiment:
    from polyfed.study import Study

    given = None if word in studies() else load_file(Path(word)) if word.endswith(".py") else load(word)
    if given is None or isinstance(given, Study):
        raise ValueError(f"{word} is a study, which is no federation of sites: name an experiment.")
    return given


def _serve(argv: list[str]) -> int:
    if argv and not argv[0].startswith("-"):
        options, experiment = serve_overrides(argv, _named(argv[0]))
        if options.resume:
            raise ValueError(
                f"--resume goes on with the experiment recorded there, but {argv[0]} was named: leave one."
            )
    else:
        options = parse(Serve, args=argv, prog="polyfed serve")
        if not options.resume:
            raise ValueError("No experiment was named: type `polyfed serve EXPERIMENT`, then the rest.")
        experiment = None
    from polyfed.deployment import deploy, serve
    from polyfed.deployment.app_folder import Settings
    from polyfed.deployment.terms import Terms

    names, keys = _names(options)
    if experiment is None:
        folder = Path(options.resume)
        count = _recorded(folder).num_clients
    else:
        count = experiment.num_clients
    names = names or tuple(f"client-{i}" for i in range(count))
    if len(names) != count:
        raise ValueError(f"The experiment has {count} clients, but there are keys of {len(names)}: make as many.")
    terms = Terms(options.deadline, options.quorum, options.tries)
    terms.check(count)
    if experiment is not None:
        folder = deploy.create(options.out, experiment, options.seed, shlex.join(["polyfed", "serve", *argv]))
    print(f"run folder: {folder}", file=sys.stderr)
    public = "" if keys is None else str(keys / "clients")
    settings = Settings(str(folder.absolute()), names, public, terms, options.patience, options.force)
    if options.app_only is not None:
        serve.write_app_only(options.app_only, settings)
        _show({"app": str(options.app_only), "run": str(folder)}, options.json)
        return 0
    last = serve.serve(serve.Address(_host(options), options.port, keys), settings, _say(options.quiet))
    return _outcome(options, folder, last)


def _host(options: Serve) -> str:
    """Where to listen: on this machine alone where there are no keys, unless something else was said."""
    return "127.0.0.1" if options.insecure and options.host == "0.0.0.0" else options.host


def _recorded(folder: Path) -> Experiment:
    from polyfed.runs import store

    return store.read_experiment(store.read_record(folder))[0]


def _names(options: Serve) -> tuple[tuple[str, ...], Path | None]:
    """The names of the clients, and the server's keys."""
    from polyfed.deployment import serve

    if options.keys is None and not options.insecure:
        raise ValueError("A server needs keys: make them with `polyfed keys`, or give --insecure on one machine alone.")
    if options.keys is None:
        serve.check_loopback(_host(options))
        return (), None
    if options.insecure:
        raise ValueError("--insecure and --keys contradict each other: leave one out.")
    keys = serve.server_folder(options.keys)
    return serve.client_names(keys), keys.absolute()


def _outcome(options: Serve, folder: Path, last: str) -> int:
    outcome: dict[str, Any] = {"run": str(folder), "audit": last}
    if options.report:
        from polyfed.report import write_report
        from polyfed.runs.store import load_run

        write_report([load_run(folder)], folder / "report.html", folder / "figures")
        outcome["report"] = str(folder / "report.html")
    _show(outcome, options.json)
    return 0


def _join(options: Join) -> int:
    from polyfed.deployment.identities import read_identity
    from polyfed.deployment.join import join, live, site_keys
    from polyfed.deployment.resident import Resident

    if not options.name or not (options.server or options.agent_only):
        raise ValueError("A site needs --server HOST:PORT and --name: the address of the server, and who lives here.")
    if options.keys is None and not options.insecure and not options.agent_only:
        raise ValueError(
            "A site needs its --keys: carry over what `polyfed keys` made, or give --insecure on one machine."
        )
    experiment = None
    if options.experiment:
        experiment = dataclasses.replace(_named(options.experiment), compare=())
    folder = options.site / options.name
    signs = None if options.keys is None else read_identity(site_keys(options.keys, options.name))
    resident, say = Resident(options.name, folder, experiment, signs), _say(options.quiet)
    if options.agent_only is not None:
        live(resident, options.agent_only, say)
    else:
        join(options.server, resident, folder, options.keys, options.tries, say, any_app=options.any_app)
    _show({"client": options.name, "site": str(folder)}, options.json)
    return 0
