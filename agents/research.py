"""``python -m agents.research``: sweep, let three agents read the table, and sweep again."""

if __name__ == "__main__":  # before the slow imports
    from tuning.folder.quiet_start import quiet_start

    quiet_start()

import math
import os
import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from agents.budget import KINDS, Budget
from agents.dry_run import as_text, description
from agents.kept_study import kept_study
from agents.ledger import EventKind, Ledger
from agents.study_trials import check_trials
from cluster.address import check_address
from ssmrl.command_line import command_app, refuse
from ssmrl.envs.families import get_family
from ssmrl.files import replace_file
from ssmrl.log_option import LogOption, asked_log
from ssmrl.meta.algorithms import DEFAULT_ALGORITHM, get_algorithm
from ssmrl.shared_options import DeviceOption, LastJsonOption, SettingsOption
from ssmrl.strict_json import json_text
from ssmrl.train_log import LogKind
from ssmrl.unknown_name import UnknownNameError
from tuning.ending import Ending, LostError
from tuning.folder.interruption import FolderError, exclusive, interruptible
from tuning.folder.run_folder import contents, default_name, forget_start, run_folder
from tuning.given_flags import ignored_line, plan_of
from tuning.placement import Placement, settled_placement
from tuning.plan import SweepPlan, usable_cpus
from tuning.shared_options import (
    AddressOption,
    AlgorithmOption,
    CpusPerRunnerOption,
    DashboardOption,
    GpusPerTrialOption,
    MaxConcurrentOption,
    MethodOption,
    NumEnvRunnersOption,
    NumLearnersOption,
    RetriesOption,
    SearcherOption,
    SeedOption,
    SeedsPerTrialOption,
    TaskOption,
)

_MODULE = ("python", "-m", "agents.research")
MAX_SHOWN_LENGTH = 300
EPISODES_OF_A_RUN = 3_000
MINUTES_OF_A_DAY = 24.0 * 60.0

BrainFlags: TypeAlias = tuple[str | None, str | None, float, float | None]
"""Model, base URL, patience per call [s], and patience for the whole study [s]."""

app = command_app()


@app.command()
def research(  # noqa: PLR0917  # one parameter a flag
    context: typer.Context,
    task: TaskOption,
    rounds: Annotated[int, typer.Option(help="Rounds; the agents are asked after each.")] = 3,
    budget_trials: Annotated[int, typer.Option(help="Total number of trials.")] = 24,
    budget_minutes: Annotated[
        float | None, typer.Option(help="No new trial after this time [min].")
    ] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Total tokens of the model.")] = None,
    budget_calls: Annotated[int | None, typer.Option(help="Total calls of the model.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Model that answers; by default the offline brain.")
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="OpenAI-compatible endpoint; its key is in SSMRL_API_KEY."),
    ] = None,
    patience: Annotated[
        float, typer.Option(help="Maximum silence of the endpoint within a reply [s].")
    ] = 60.0,
    study_patience: Annotated[
        float | None,
        typer.Option(help="Maximum total time lost on the endpoint; by default --patience [s]."),
    ] = None,
    method: MethodOption = "ssm",
    algorithm: AlgorithmOption = DEFAULT_ALGORITHM,
    max_env_steps: Annotated[
        int | None,
        typer.Option(
            help="Budget of a run [env steps]; by default a sweep's for algorithms that adapt by "
            "memory, else 3,000 times the horizon."
        ),
    ] = None,
    seeds_per_trial: SeedsPerTrialOption = 1,
    retries: RetriesOption = 2,
    num_confirmed: Annotated[
        int | None, typer.Option(help="Best configurations to train again at the end.")
    ] = None,
    num_fresh_seeds: Annotated[
        int | None,
        typer.Option(help="Fresh seeds for winner and default each, which decide the verdict."),
    ] = None,
    searcher: SearcherOption = "tpe",
    scheduler: Annotated[
        str,
        typer.Option(help="none or asha; trials stopped early are no evidence for the agents."),
    ] = "none",
    space: Annotated[Path | None, typer.Option(help="YAML file of knobs and limits.")] = None,
    seed: SeedOption = 0,
    storage: Annotated[Path, typer.Option(help="Folder of all studies.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of this study.")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume NAME with its own settings, except budgets of minutes, tokens and calls "
            "that are given again.",
        ),
    ] = False,
    use_earlier: Annotated[
        bool, typer.Option("--earlier/--no-earlier", help="Show agents findings of other studies.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")
    ] = False,
    address: AddressOption = None,
    max_concurrent: MaxConcurrentOption = None,
    settings: SettingsOption = None,
    device: DeviceOption = None,
    gpus_per_trial: GpusPerTrialOption = None,
    num_env_runners: NumEnvRunnersOption = 0,
    cpus_per_runner: CpusPerRunnerOption = 1.0,
    num_learners: NumLearnersOption = 0,
    log: LogOption = None,
    dashboard: DashboardOption = False,
    as_json: LastJsonOption = False,
) -> None:
    """Let a State Modeling, a Meta-Learning and a Coordinator agent run the search.

    Leaves NAME/research.md, report.html, saved_models/, ledger.jsonl, rounds.jsonl and trials.csv
    in the storage folder. Statistics decide what the agents may change.

    Example: ssmrl research --task point --algorithm promp --rounds 2 --budget-trials 12 --dry-run
    """
    brain_of = (model, base_url, patience, study_patience)
    log_kind = asked_log(log)
    plan, budget, folder, placement, before = _start(context, brain_of)
    if dry_run:
        content = description(plan, budget, folder, model, placement)
        typer.echo(json_text(content) if as_json else as_text(content))
        return
    words = [*_brain_flags(*brain_of), *([] if use_earlier else ["--no-earlier"])]
    place = ["--task", plan.task, "--storage", str(folder.parent), "--name", folder.name]
    place += ["--address", address] if address else []
    place += placement.flags()
    place += ["--log", log_kind] if log_kind else []
    place += ["--dashboard"] if dashboard else []
    place += ["--json"] if as_json else []
    try:
        with (
            exclusive(folder),
            interruptible(shlex.join([*_MODULE, *place, *words, "--resume"]), folder),
        ):
            summary = _run(
                plan,
                budget,
                folder,
                placement,
                brain_of=brain_of,
                use_earlier=use_earlier,
                address=address,
                dashboard=dashboard,
                log=log_kind,
                quiet=as_json,
                command=shlex.join([*_MODULE, *_flags(plan, budget), *words]),
            )
            if as_json:
                print(json_text(summary), flush=True)
    except FolderError as error:
        refuse(str(error))
    except typer.Exit:
        if not resume:
            forget_start(folder, before)
        raise
    raise typer.Exit(summary["exit_code"])


def _start(
    context: typer.Context, brain_of: BrainFlags
) -> tuple[SweepPlan, Budget, Path, Placement, frozenset[str]]:
    """Plan, budget, folder and placement of a valid study, and the folder's earlier contents."""
    params = context.params
    resume, name = params["resume"], params["name"]
    try:
        check_address(params["address"])
        check_trials(
            params["algorithm"],
            params["budget_trials"],
            params["rounds"],
            params["num_confirmed"],
            params["num_fresh_seeds"],
        )
        minutes, max_env_steps = params["budget_minutes"], params["max_env_steps"]
        if max_env_steps is None:
            max_env_steps = _default_env_steps(params["task"], params["algorithm"])
        plan = plan_of(
            params,
            num_samples=params["budget_trials"],
            max_env_steps=max_env_steps,
            time_budget_s=60.0 * (MINUTES_OF_A_DAY if minutes is None else minutes),
        )
        if params["space"] is not None:
            plan = plan.within(params["space"])
        limits = (params[f"budget_{kind}"] for kind in ("trials", "minutes", "tokens", "calls"))
        budget = Budget(*limits)
        if resume and name is None:
            raise ValueError("`--resume` needs `--name`, the study to resume.")
        folder = run_folder(params["storage"], name or default_name("research", plan.task))
        plan, budget = _settle(plan, budget, folder, resume=resume)
        plan, placement = settled_placement(
            plan,
            folder,
            resume=resume,
            device=params["device"],
            gpus_per_trial=params["gpus_per_trial"],
            max_concurrent=params["max_concurrent"],
            num_cpus=usable_cpus() if params["address"] is None else None,
        )
        _make_brain(*brain_of)
        before = contents(folder)
        if not params["dry_run"]:
            folder.mkdir(parents=True, exist_ok=True)
    except (UnknownNameError, ValueError) as error:
        refuse(str(error.args[0]))
    except (OSError, FolderError) as error:
        refuse(str(error))
    if resume and (ignored := ignored_line(context, plan, ("task", "max_concurrent"))):
        typer.echo(ignored, err=True)
    return plan, budget, folder, placement, before


def _run(
    plan: SweepPlan,
    budget: Budget,
    folder: Path,
    placement: Placement,
    *,
    brain_of: BrainFlags,
    use_earlier: bool,
    address: str | None,
    dashboard: bool,
    log: LogKind | None,
    quiet: bool,
    command: str,
) -> dict[str, Any]:
    """Runs the study and concludes it; all slow imports happen here."""
    from agents.brain import KEY_VARIABLES
    from agents.earlier import earlier_findings
    from agents.study import Study
    from agents.study_report import conclude_study
    from cluster.session import session
    from ssmrl.device_record import record_device
    from tuning.engine import START_ERRORS, DamagedError, on_cluster, ready

    replace_file(folder / "config.json", plan.to_json())
    record_device(folder, placement.device)
    stream = sys.stderr if quiet else sys.stdout

    def show(
        kind: EventKind, text: str = "", *, who: str = "", data: Mapping[str, Any] | None = None
    ) -> None:
        if kind is not EventKind.SAID:  # a reply is shown as a finding once it is accepted
            words = f"{who}: {kind}: {text}" if who else text
            shown = words if len(words) <= MAX_SHOWN_LENGTH else f"{words[:MAX_SHOWN_LENGTH]}..."
            print(shown, file=stream, flush=True)

    secrets = tuple(os.environ.get(variable, "") for variable in KEY_VARIABLES)
    ledger = Ledger(folder / "ledger.jsonl", budget, secrets=secrets, sweep=plan.sweep_id)
    earlier = earlier_findings(folder, plan.task) if use_earlier else ()
    try:
        study = Study(
            plan,
            folder,
            ledger=ledger,
            brain=_make_brain(*brain_of, say=_recorder(ledger, show), meter=ledger),
            earlier=earlier,
            log=log,
            say=show,
        )
    except DamagedError as error:
        refuse(str(error), Ending.LOST)
    note = partial(show, EventKind.NOTED)
    try:
        if study.is_finished():
            study.close()
        else:
            for line in placement.lines(plan):
                note(line.strip())
            with session(
                address,
                num_cpus=usable_cpus(),
                dashboard=dashboard,
                gpus=placement.gpus,
                say=note,
            ) as found:
                cpus = ready(plan, folder, address=address, found_cpus=found, say=note)
                placement = on_cluster(plan, placement, say=note)
                study.run(num_cpus=cpus, placement=placement, quiet=quiet)
        return conclude_study(
            plan, folder, study, ledger, num_earlier=len(earlier), command=command, say=show
        )
    except START_ERRORS as error:
        refuse(str(error))
    except LostError as error:
        refuse(str(error), Ending.LOST)


def _recorder(ledger: Any, show: Any) -> Any:
    """A ``Say`` that records an event of the endpoint in the ledger, then shows it."""

    def say(
        kind: EventKind, text: str = "", *, who: str = "", data: Mapping[str, Any] | None = None
    ) -> None:
        event = ledger.record(kind, text, who=who, data=data)
        show(kind, event.text, who=event.who, data=event.data)

    return say


def _brain_flags(
    model: str | None, base_url: str | None, patience: float, study_patience: float | None
) -> list[str]:
    if model is None:
        return []
    in_all = None if study_patience is None else f"{study_patience:g}"
    flags = (
        ("--model", model),
        ("--base-url", base_url),
        ("--patience", f"{patience:g}"),
        ("--study-patience", in_all),
    )
    return [word for flag, value in flags if value for word in (flag, value)]


def _make_brain(
    model: str | None,
    base_url: str | None,
    patience_s: float,
    study_patience_s: float | None,
    **more: Any,
) -> Any:
    from agents.brain import make_brain

    return make_brain(
        model, base_url, patience_s=patience_s, study_patience_s=study_patience_s, **more
    )


def _settle(
    plan: SweepPlan, budget: Budget, folder: Path, *, resume: bool
) -> tuple[SweepPlan, Budget]:
    """The plan and the budget of a new study, or those of the study to resume."""
    try:
        return kept_study(plan, budget, folder, resume=resume, say=partial(typer.echo, err=True))
    except LostError as error:
        refuse(str(error), Ending.LOST)


def _default_env_steps(task: str, algorithm: str) -> int | None:
    """The default budget of a run [env steps]; None for a sweep's default."""
    if get_algorithm(algorithm).kind == "memory":
        return None
    return EPISODES_OF_A_RUN * get_family(task).horizon


def _flags(plan: SweepPlan, budget: Budget) -> list[str]:
    """The command-line flags that repeat this study."""
    of_sweeps = ("--num-samples", "--time-budget-s", "--max-concurrent")
    words = plan.flags()
    pairs = zip(words[::2], words[1::2], strict=True)
    flags = [word for pair in pairs if pair[0] not in of_sweeps for word in pair]
    limits = {kind: budget.limit(kind) for kind in KINDS}
    for kind, limit in limits.items():
        flags += [f"--budget-{kind}", f"{limit:.10g}"] if math.isfinite(limit) else []
    return flags


if __name__ == "__main__":
    app()
