"""The forecast of a sweep: lines for the user about its plan and cost, before it starts."""

from ssmrl.config import TrainConfig
from tuning.comparison import MIN_SEEDS
from tuning.experience_memory import replay_need
from tuning.placement import Placement
from tuning.plan import SweepPlan
from tuning.power import findable_spreads
from tuning.probe import Rate
from tuning.spaces.iteration_length import iteration_lengths
from tuning.spaces.space import Int

_LITTLE = 0.1  # share of a budget
_MANY = 1000


def costliest(plan: SweepPlan) -> TrainConfig:
    """The default; if it makes no gradient steps, with the most that the search may try."""
    base = plan.base()
    steps = plan.space().ranges.get("meta.num_inner_steps")
    if not isinstance(steps, Int) or plan.base().meta.num_inner_steps:
        return base
    return base.with_knobs({"meta.num_inner_steps": steps.high})


def forecast(
    plan: SweepPlan,
    rate: Rate | None,
    slowest: Rate | None,
    placement: Placement = Placement(),  # noqa: B008  # a frozen value
) -> list[str]:
    """The plan with its trials, env steps, expected seconds and shares.

    Args:
        plan: Plan of the sweep.
        rate: Speed of this machine for the default; None if other machines train.
        slowest: Speed of this machine for the costliest point; None likewise.
        placement: Devices on which trials learn.

    Returns:
        Lines to print.
    """
    num_searched = sum(plan.trials_of_rounds())
    share = num_searched / plan.num_samples
    others = (num_searched - 1) / num_searched
    lines = [
        f"plan: {plan.num_samples} trials of {plan.max_env_steps:,} env steps each"
        + (f" x {plan.seeds_per_trial} seeds" if plan.seeds_per_trial > 1 else "")
        + f", {plan.max_concurrent} at once",
        f"  searching: {num_searched} trials, {share:.0%} of the env steps, of which {others:.0%} "
        "go to other points than the default",
        f"  confirming: {plan.num_confirmed} of the best trained once more; then "
        f"{plan.num_fresh_seeds} fresh seeds of the winner and, if that is another point, "
        f"{plan.num_fresh_seeds} of the default",
        _verdict(plan),
        *_overrun(plan),
        *placement.lines(plan),
    ]
    if rate is None or slowest is None:
        lines.append("  expected: not measured, since other machines will train")
    else:
        lines.append(_expectation(plan, rate, slowest))
    if (kept := replay_need(plan.base())) > 0:
        runs = plan.max_concurrent * plan.seeds_per_trial
        lines.append(
            f"  replay: at most {kept / 1e9:.2f} GB a run, {runs * kept / 1e9:.2f} GB in all"
            + (", of the GPUs' memory" if placement.on_gpu else "")
        )
    lines.append(_disk(plan))
    if rate is None or slowest is None:
        return lines + _notes(plan)
    total, most = (expected_seconds(plan, each) for each in (rate, slowest))
    if most > plan.time_budget_s:
        may = "will" if total > plan.time_budget_s else "may"
        lines.append(
            f"  `--time-budget-s {plan.time_budget_s:g}` {may} end it before: `--resume` then runs "
            "the missing trials; or lower `--max-env-steps`, or give `--trial-seconds`"
        )
    return lines + _notes(plan)


def _expectation(plan: SweepPlan, rate: Rate, slowest: Rate) -> str:
    one, costly = (
        each.seconds(plan.max_env_steps) * plan.seeds_per_trial for each in (rate, slowest)
    )
    return (
        f"  expected: {one:,.0f} s a trial by this machine's measured "
        f"{rate.env_steps_per_second:,.0f} env steps/s and {rate.judge_seconds:,.0f} s of "
        f"evaluations, {expected_seconds(plan, rate):,.0f} s in all"
        + (f"; {costly:,.0f} s with the most gradient steps" if slowest is not rate else "")
    )


def _disk(plan: SweepPlan) -> str:
    """The line on the disk space of the checkpoints; each trial keeps its last one."""
    from ssmrl.memory_need import disk_need  # torch, which --help need not wait for

    one = disk_need(plan.base(), plan.max_env_steps) * plan.seeds_per_trial
    return (
        f"  disk: about {one / 1e6:,.1f} MB a trial of the default's size, "
        f"{plan.num_samples * one / 1e6:,.0f} MB in all; {_MANY:,} such trials take "
        f"{_MANY * one / 1e9:,.1f} GB"
    )


def _verdict(plan: SweepPlan) -> str:
    """The line on what the fresh seeds can show."""
    num_seeds = plan.num_verdict_trials * plan.seeds_per_trial
    if num_seeds < MIN_SEEDS:
        return (
            f"  verdict: none with fewer than {MIN_SEEDS} fresh seeds; raise `--num-fresh-seeds`, "
            "or `--confirm`"
        )
    return (
        f"  verdict: {num_seeds} seeds each find a difference of {findable_spreads(num_seeds):.1f} "
        "standard deviations between seeds in 8 of 10 cases; `--confirm` trains more if needed"
    )


def expected_seconds(plan: SweepPlan, rate: Rate) -> float:
    """Upper bound of the time of all trials [s].

    ``max_concurrent`` trials run at once; each round waits for the last trial of the one before.
    Remote runners and learners are not counted as a gain.

    Args:
        plan: Plan of the sweep.
        rate: Speed of this machine.
    """
    one = rate.seconds(plan.max_env_steps) * plan.seeds_per_trial
    parts = [*plan.trials_of_rounds(), plan.num_confirmed, 2 * plan.num_verdict_trials]
    return one * sum(-(-part // plan.max_concurrent) for part in parts)


def _overrun(plan: SweepPlan) -> list[str]:
    """The line on how much more experience than others a point may have; none if it is little."""
    shortest, longest = iteration_lengths(plan.space())
    if shortest == longest or longest <= _LITTLE * plan.max_env_steps:
        return []
    return [
        f"  experience: a run ends with a whole iteration, here of up to {longest:,} env steps, so "
        f"a point may have {longest / plan.max_env_steps:.0%} more than another; a larger "
        "`--max-env-steps` evens that out"
    ]


def _notes(plan: SweepPlan) -> list[str]:
    """Notes that a reader of the result needs about the training."""
    if not plan.adapts_by_memory:
        return []
    notes = ["  training sees the hidden variable of its tasks; the evaluations do not"]
    if plan.base().policy.method == "mlp":
        notes.append("  method mlp is the control: it sees one transition and remembers nothing")
    return notes
