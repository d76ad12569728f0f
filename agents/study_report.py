"""The results of a study: the page, the text, the findings for later studies, and the model."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agents.earlier import FILE_NAME
from agents.ledger import EventKind, Ledger
from agents.study import Said, Study
from ssmrl.checkpoint import Checkpoint
from ssmrl.files import replace_file
from ssmrl.strict_json import json_text, json_value
from tuning.conclusion import conclude
from tuning.plan import SweepPlan
from tuning.spaces.ranges import range_text
from tuning.table.round_log import Round


def conclude_study(
    plan: SweepPlan,
    folder: Path,
    study: Study,
    ledger: Ledger,
    *,
    num_earlier: int,
    command: str,
    say: Callable[..., None],
) -> dict[str, Any]:
    """Name the best model, and write all result files.

    Args:
        plan: The plan of the study.
        folder: Folder of the study.
        study: The study, with its rounds and findings.
        ledger: The ledger, with refusals and spending.
        num_earlier: Number of findings of earlier studies that the agents were shown.
        command: The command line of the study.
        say: Prints a line.

    Returns:
        The summary of ``tuning.conclusion.conclude``, and rounds, findings, refusals and spending.
    """
    sweep = study.sweep
    summary = conclude(
        plan,
        folder,
        sweep.table,
        rounds=sweep.rounds,
        command=command,
        say=lambda text: say(EventKind.NOTED, text),
    )
    said = study.said()
    summary |= {
        "brains": sorted({entry.brain for entry in said}),
        "rounds": len([this for this in sweep.rounds if this.number < plan.rounds]),
        "findings": [_finding_fields(entry) for entry in said],
        "num_refused": sum(event.kind is EventKind.REFUSED for event in ledger.events),
        "num_earlier": num_earlier,
        "spent": {kind: ledger.spent(kind) for kind in ("trials", "minutes", "tokens", "calls")},
        "first_space": json_value(plan.space().to_json()),
        "last_space": json_value(study.next_space().to_json()),
    }
    findings = {"task": plan.task, "findings": summary["findings"]}
    replace_file(folder / FILE_NAME, json_text(findings, indent=1) + "\n")
    if summary["best_trial"] is not None:
        _save_model(folder, summary)
    text = research_text(plan, sweep.rounds, said, study, summary, command=command)
    replace_file(folder / "research.md", text)
    say(EventKind.NOTED, f"study {folder / 'research.md'}, model {folder / 'saved_models'}")
    return summary


def research_text(
    plan: SweepPlan,
    rounds: Sequence[Round],
    said: Sequence[Said],
    study: Study,
    summary: dict[str, Any],
    *,
    command: str,
) -> str:
    """The study as text: question, best model, rounds, findings, moves, open questions."""
    lines = [
        f"# {plan.task}: how to size and meta-train {plan.method}",
        "",
        f"Question: which values of {', '.join(f'`{knob}`' for knob in plan.space().ranges)} give "
        "the highest return after adaptation on held-out tasks?",
        "",
        f"Answered by: {', '.join(summary['brains']) or 'nobody yet'}. Spent: "
        + ", ".join(f"{amount:.4g} {kind}" for kind, amount in summary["spent"].items() if amount)
        + f". Replies refused: {summary['num_refused']}. Findings of earlier studies shown: "
        f"{summary['num_earlier']}.",
        "",
        "## Best model",
        "",
        *_best_lines(summary),
        "",
        "## Rounds",
        "",
    ]
    last = max((this.number for this in rounds if this.number < plan.rounds), default=0)
    for this in rounds:
        own = [entry for entry in said if entry.round == this.number <= last]
        lines += _round_lines(this, own)
    concluding = [entry for entry in said if entry.round > last]
    lines += ["## Open questions", "", *_open_lines(said, concluding, study)]
    lines += ["", "## Command", "", f"    {command}", ""]
    return "\n".join(lines)


def _best_lines(summary: dict[str, Any]) -> list[str]:
    if summary["best_trial"] is None:
        return ["No trial completed."]
    knobs = ", ".join(
        f"`{knob}` {value:.4g}" if isinstance(value, float) else f"`{knob}` {value}"
        for knob, value in summary["knobs"].items()
    )
    lines = [f"Trial {summary['best_trial']}: {knobs}; score {summary['score']:.4g}."]
    if summary["comparison"] is not None:
        lines.append(_comparison_line(summary["comparison"]))
    if summary["no_adaptation_bound"] is not None:
        lines.append(
            f"No policy without adaptation exceeds {summary['no_adaptation_bound']:.4g} on average."
        )
    return lines


def _comparison_line(found: dict[str, Any]) -> str:
    """The returns of winner, winner without adaptation and default, if known, and the verdict."""
    own = _bracket(found["best_low"], found["best_high"])
    words = [f"On {found['num_tasks']} fresh held-out tasks: {found['best_mean']:.4g}{own}"]
    if found["switched_off_mean"] is not None:
        words.append(f"without adaptation {found['switched_off_mean']:.4g}")
    if found["blind_return"] is not None:
        words.append(f"best blind return {found['blind_return']:.4g}")
    if found["difference"] is not None:
        words.append(f"the default {found['default_mean']:.4g}")
        between = _bracket(found["low"], found["high"], "+")
        words.append(f"difference {found['difference']:+.4g}{between}")
    return f"{', '.join(words)}. {found['verdict']}"


def _bracket(low: float | None, high: float | None, sign: str = "") -> str:
    """An interval over seeds; empty if it is not known."""
    return "" if low is None or high is None else f" [{low:{sign}.4g}, {high:{sign}.4g}]"


def _round_lines(this: Round, said: Sequence[Said]) -> list[str]:
    lines = [f"### Round {this.number}: {this.num_trials} trials, space by {this.author}", ""]
    lines += [_said_line(entry) for entry in said]
    lines += [
        f"- box: `{move.knob}` {range_text(move.old)} to {range_text(move.new)} "
        f"({', '.join(move.trial_ids) or 'no trial'})"
        for move in this.moves
    ]
    return [*lines, ""]


def _open_lines(said: Sequence[Said], concluding: Sequence[Said], study: Study) -> list[str]:
    undecided = dict.fromkeys(
        entry.finding.hypothesis
        for entry in said
        if entry.verdict == "undecided" and entry.finding.changes
    )
    lines = [f"- not decided by the trials: {hypothesis}" for hypothesis in undecided]
    lines += [_said_line(entry) for entry in concluding]
    ranges = study.next_space().ranges
    where = "; ".join(f"`{knob}` {range_text(a_range)}" for knob, a_range in ranges.items())
    return [*lines, f"- where the next round would search: {where}"]


def _said_line(entry: Said) -> str:
    finding = entry.finding
    evidence = ", ".join(finding.trial_ids) or "no trial"
    verdict = f" Afterwards: {entry.verdict} ({entry.statistic})." if entry.verdict else ""
    return (
        f"- {finding.author} ({entry.brain}): {finding.hypothesis} Expected: "
        f"{finding.expected_effect} Evidence: {evidence}.{verdict}"
    )


def _finding_fields(entry: Said) -> dict[str, Any]:
    return {
        "round": entry.round,
        "brain": entry.brain,
        "verdict": entry.verdict,
        "statistic": entry.statistic,
        **json_value(entry.finding.to_json()),
    }


def _save_model(folder: Path, summary: dict[str, Any]) -> None:
    """Save the best model, with its configuration and a manifest that identifies it."""
    target = folder / "saved_models"
    saved = Checkpoint.load(folder / "best" / "checkpoint.safetensors")
    saved.save(target / "checkpoint.safetensors")
    replace_file(target / "config.json", saved.config.to_json() + "\n")
    names = ("best_trial", "score", "held_out_score", "knobs", "no_adaptation_bound", "brains")
    manifest = {name: summary[name] for name in names} | {"ssmrl": version("ssmrl")}
    replace_file(target / "manifest.json", json_text(manifest, indent=1) + "\n")
