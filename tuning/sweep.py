"""``python -m tuning.sweep``: search hyperparameters of a task, and write a table of trials."""

if __name__ == "__main__":  # before the slow imports
    from tuning.folder.quiet_start import quiet_start

    quiet_start()

import dataclasses
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.address import check_address
from ssmrl.command_line import command_app, refuse
from ssmrl.files import replace_file
from ssmrl.log_option import LogOption, asked_log
from ssmrl.meta.algorithms import DEFAULT_ALGORITHM
from ssmrl.shared_options import DeviceOption, LastJsonOption, ResumeOption, SettingsOption
from ssmrl.strict_json import json_text
from ssmrl.train_log import LogKind
from ssmrl.unknown_name import UnknownNameError
from tuning.ending import Ending, LostError
from tuning.folder.interruption import FolderError, exclusive, interruptible
from tuning.folder.run_folder import contents, default_name, forget_start, run_folder
from tuning.given_flags import ignored_line, plan_of
from tuning.kept_plan import kept_plan
from tuning.placement import Placement, settled_placement
from tuning.plan import SweepPlan, usable_cpus
from tuning.plan_defaults import TIME_BUDGET_S
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
from tuning.warm_start import WarmStart

_COMMAND = ("python", "-m", "tuning.sweep")
_COUNTING = ("task", "time_budget_s", "max_concurrent")  # also with --resume

app = command_app()


@app.command()
def sweep(  # noqa: PLR0917  # one parameter a flag; most are read from the context
    context: typer.Context,
    task: TaskOption,
    method: MethodOption = "ssm",
    algorithm: AlgorithmOption = DEFAULT_ALGORITHM,
    num_samples: Annotated[
        int | None, typer.Option(help="Trials; by default 8 for a memory algorithm, else 10.")
    ] = None,
    max_env_steps: Annotated[
        int | None,
        typer.Option(
            help="Budget of a trial [env steps]; by default 52,000 for a memory algorithm, else "
            "300,000."
        ),
    ] = None,
    trial_seconds: Annotated[
        float | None,
        typer.Option(
            help="Time of a trial on this machine [s]; its budget is computed from that once, and "
            "then kept."
        ),
    ] = None,
    time_budget_s: Annotated[
        float, typer.Option(help="Train no longer than this [s].")
    ] = TIME_BUDGET_S,
    max_concurrent: MaxConcurrentOption = None,
    settings: SettingsOption = None,
    device: DeviceOption = None,
    gpus_per_trial: GpusPerTrialOption = None,
    num_env_runners: NumEnvRunnersOption = 0,
    cpus_per_runner: CpusPerRunnerOption = 1.0,
    num_learners: NumLearnersOption = 0,
    searcher: SearcherOption = "tpe",
    scheduler: Annotated[
        str | None,
        typer.Option(help="asha or none; by default none for a memory algorithm, else asha."),
    ] = None,
    seed: SeedOption = 0,
    rounds: Annotated[
        int, typer.Option(help="Number of rounds; the search space moves between two rounds.")
    ] = 1,
    seeds_per_trial: SeedsPerTrialOption = 1,
    num_confirmed: Annotated[
        int | None,
        typer.Option(
            help="Best configurations to train again with a fresh seed before the winner is named; "
            "by default none for a memory algorithm, else 3, but at most a third of the trials."
        ),
    ] = None,
    num_fresh_seeds: Annotated[
        int | None,
        typer.Option(
            help="Fresh seeds with which the winner and the default are each trained at the end; "
            "only these are compared; by default none, but for a memory algorithm 3, or three "
            "tenths of the trials if there are fewer than 8."
        ),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(help="YAML file of knobs, ranges and limits, like docs/spaces/ant-vel.yaml."),
    ] = None,
    warm_start: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Folder or trials.jsonl of an earlier sweep of the same task, evaluation and "
            "budget; the searcher learns from its rows.",
        ),
    ] = None,
    storage: Annotated[Path, typer.Option(help="Folder of all sweeps.")] = Path("runs"),
    name: Annotated[
        str | None, typer.Option(help="Name of this sweep; by default task, method and time.")
    ] = None,
    resume: ResumeOption = False,
    retries: RetriesOption = 2,
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm",
            help="Double the fresh seeds while no difference of winner and default is shown, until "
            "the time budget ends; with --resume for a sweep that has ended.",
        ),
    ] = False,
    address: AddressOption = None,
    log: LogOption = None,
    dashboard: DashboardOption = False,
    as_json: LastJsonOption = False,
) -> None:
    """Search SSM sizes and learning rates with Ray Tune and Optuna, and judge the winner.

    Writes NAME/trials.csv, trials.jsonl, report.html, the Optuna journal and best/ in the storage
    folder. The score is the return after adaptation on held-out tasks.

    Example: ssmrl sweep --task point --algorithm promp --num-samples 2 --max-env-steps 4000
    --name swept
    """
    log_kind = asked_log(log)
    plan, placement, folder, before, warm = _start(context)
    place = ["--storage", str(folder.parent), "--name", folder.name]
    place += ["--address", address] if address else []
    place += placement.flags()
    place += ["--confirm"] if confirm else []
    place += ["--log", log_kind] if log_kind else []
    place += ["--dashboard"] if dashboard else []
    place += ["--json"] if as_json else []
    going_on = shlex.join([*_COMMAND, "--task", plan.task, *place, "--resume"])
    try:
        with exclusive(folder), interruptible(going_on, folder):
            if not resume:
                plan = _forecast(plan, placement, quiet=as_json)
            summary = _carry_out(
                plan,
                folder,
                placement,
                warm,
                address=address,
                dashboard=dashboard,
                confirm=confirm,
                log=log_kind,
                quiet=as_json,
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
    context: typer.Context,
) -> tuple[SweepPlan, Placement, Path, frozenset[str], WarmStart | None]:
    """Check the flags; return plan, placement, folder, what that held before, and warm rows.

    The warm rows are None unless a new sweep begins with rows of an earlier one.
    """
    params = context.params
    resume, name = params["resume"], params["name"]
    try:
        check_address(params["address"])
        if params["max_env_steps"] is not None and params["trial_seconds"] is not None:
            raise ValueError(
                "`--max-env-steps` and `--trial-seconds` both set the budget; give one"
            )
        plan = plan_of(params, warm_start=str(params["warm_start"] or ""))
        if params["space"] is not None:
            plan = plan.within(params["space"])
        if resume and name is None:
            raise ValueError("`--resume` needs `--name`: which sweep is to be resumed?")
        label = name or default_name(plan.task, plan.method)
        folder = run_folder(params["storage"], label)
        plan = _settle(plan, folder, resume=resume)
        warm = None if resume else _warm_start(plan)
        if warm is not None:
            plan = dataclasses.replace(plan, num_warm_rows=len(warm.rows))
        plan, placement = settled_placement(
            plan,
            folder,
            resume=resume,
            device=params["device"],
            gpus_per_trial=params["gpus_per_trial"],
            max_concurrent=params["max_concurrent"],
            num_cpus=usable_cpus() if params["address"] is None else None,
        )
        if placement.gpus is None and plan.trial_seconds is not None and not resume:
            raise ValueError(
                "`--trial-seconds` is measured on this machine, but the cluster's GPUs will train; "
                "give `--max-env-steps`"
            )
        before = contents(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except (UnknownNameError, ValueError) as error:
        refuse(str(error.args[0]))
    except OSError as error:
        refuse(str(error))
    if resume and (ignored := ignored_line(context, plan, _COUNTING)):
        typer.echo(ignored, err=True)
    return plan, placement, folder, before, warm


def _warm_start(plan: SweepPlan) -> WarmStart | None:
    if not plan.warm_start:
        return None
    if plan.trial_seconds is not None:
        raise ValueError(
            "`--trial-seconds` must be left out with `--warm-start`: scores compare only if "
            "budgets are equal; give the `--max-env-steps` of that sweep"
        )
    if plan.searcher in ("random", "qmc"):
        raise ValueError(
            f"`--searcher` must be one that learns with `--warm-start`, but {plan.searcher!r} "
            "learns from no row; use tpe, gp or cmaes"
        )
    return WarmStart.of(Path(plan.warm_start), plan)


def _forecast(plan: SweepPlan, placement: Placement, *, quiet: bool) -> SweepPlan:
    """Measure this machine, compute the budget from that if asked to, and print the plan."""
    from ssmrl.device_memory import DeviceMemoryError
    from tuning.forecast import costliest, forecast
    from tuning.probe import Rate, probe

    rates: list[Rate] = []
    if placement.gpus is not None:  # GPUs of a cluster cannot be measured here
        configs = list(dict.fromkeys([plan.base(), costliest(plan)]))
        # For a cluster, no more processes measure here than there are CPUs.
        at_once = min(plan.max_concurrent, plan.num_samples, usable_cpus())
        devices = [placement.device_of_process(number) for number in range(at_once)]
        try:
            rates = probe(configs, at_once=at_once, devices=devices)
        except DeviceMemoryError as error:
            refuse(f"{error}: {at_once} trials at once need it; lower `--max-concurrent`")
    rate = rates[0] if rates else None
    if plan.trial_seconds is not None and rate is not None:
        seconds = plan.trial_seconds / plan.seeds_per_trial
        try:
            plan = dataclasses.replace(plan, max_env_steps=rate.env_steps(seconds))
        except ValueError as error:
            refuse(f"`--trial-seconds {plan.trial_seconds:g}` is too short: {error}")
    for line in forecast(plan, rate, rates[-1] if rates else None, placement):
        print(line, file=sys.stderr if quiet else sys.stdout, flush=True)
    return plan


def _carry_out(
    plan: SweepPlan,
    folder: Path,
    placement: Placement,
    warm: WarmStart | None,
    *,
    address: str | None,
    dashboard: bool,
    confirm: bool,
    log: LogKind | None,
    quiet: bool,
) -> dict[str, Any]:
    """Record the plan and run it; errors that only Ray can find are refused here."""
    # The slow imports begin here.
    from ssmrl.device_record import record_device
    from tuning.engine import START_ERRORS, run_sweep

    say = partial(print, file=sys.stderr if quiet else sys.stdout, flush=True)
    if warm is not None:
        say(warm.line())
        warm.keep(folder, plan.sweep_id)
    replace_file(folder / "config.json", plan.to_json())
    record_device(folder, placement.device)
    command = shlex.join([*_COMMAND, *plan.flags()])
    try:
        return run_sweep(
            plan,
            folder,
            address=address,
            num_cpus=usable_cpus(),
            dashboard=dashboard,
            quiet=quiet,
            command=command,
            placement=placement,
            confirm=confirm,
            log=log,
            say=say,
        )
    except START_ERRORS as error:
        refuse(str(error))
    except LostError as error:
        refuse(str(error), Ending.LOST)


def _settle(plan: SweepPlan, folder: Path, *, resume: bool) -> SweepPlan:
    """The plan of a new sweep, or of the one to resume."""
    try:
        kept = kept_plan(plan, folder, resume=resume, say=partial(typer.echo, err=True))
    except LostError as error:
        refuse(str(error), Ending.LOST)
    if kept is None:
        return plan.begun()
    # The time budget may change between two starts; what decides the trials may not.
    return dataclasses.replace(kept, time_budget_s=plan.time_budget_s)


if __name__ == "__main__":
    app()
