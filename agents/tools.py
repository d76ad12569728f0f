"""The tools that an agent may call: they answer in a few numbers, and change nothing.

A model's arguments are foreign text, and so is every name and error message in a table. Arguments
are checked before anything is computed. Answers hold only texts from this code, and the names of
knobs and their options.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from agents.board import Board
from agents.findings import next_space, parse_changes
from agents.strict_json import RefusedError, clean_text, quote, read_object
from ssmrl.model_size import SIZES, model_size
from ssmrl.strict_json import json_text
from ssmrl.unknown_name import UnknownNameError
from tuning.analysis import cost, edge_hits, failure_map, importance
from tuning.spaces.ranges import range_fields
from tuning.table.ranking import ranking
from tuning.table.trial import FAILURES, Trial, TrialState

MAX_ANSWER_LENGTH = 4000
_NUM_BEST = 5
_NUM_RESAMPLES = 50  # for the importance: few, since a tool should answer at once


@dataclass(frozen=True)
class Tool:
    """A function that an agent may call.

    Attributes:
        name: Name of the function.
        description: One line about its answer.
        parameters: JSON schema of its arguments.
        answer: Computes the answer; raises ``RefusedError`` if it cannot.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    answer: Callable[[Board, Mapping[str, Any]], dict[str, Any]]


def call_tool(board: Board, name: object, arguments_json: object) -> str:
    """The answer of a tool as JSON; ``{"error": ...}`` if the call is invalid in any way.

    Args:
        board: The board that the answer is about.
        name: The tool, as the model wrote it.
        arguments_json: The arguments, as the model wrote them; empty for none.

    Returns:
        A JSON object of less than ``MAX_ANSWER_LENGTH`` ASCII characters. Lists that are too long
        for that are truncated, and ``left_out`` is the number of missing entries.
    """
    try:
        if not isinstance(name, str) or name not in TOOLS:
            raise RefusedError(f"unknown tool {quote(name)}; the tools are: {', '.join(TOOLS)}")
        tool = TOOLS[name]
        is_empty = isinstance(arguments_json, str) and not arguments_json.strip()
        arguments = {} if is_empty else read_object(arguments_json)
        known = tool.parameters["properties"]
        if unknown := [key for key in arguments if key not in known]:
            raise RefusedError(f"`{name}` takes only {list(known)}, not {quote(unknown[0])}")
        for key in tool.parameters["required"]:
            if key not in arguments:
                raise RefusedError(f"`{name}` needs the argument `{key}`")
        return _fitted(tool.answer(board, arguments))
    except RefusedError as error:
        return json_text({"error": str(error)})


def _table_summary(board: Board, arguments: Mapping[str, Any]) -> dict[str, Any]:
    rows = _rows(board)
    ranked = ranking(rows)
    scores = [configuration.mean for configuration in ranked]
    return {
        "round": board.round,
        "budget_trials_left": board.budget_trials_left,
        "num_trials": len(rows),
        "states": {state.value: sum(row.state is state for row in rows) for state in TrialState},
        "median_score": _rounded(statistics.median(scores)) if scores else None,
        "best": [
            {
                "score": _rounded(configuration.mean),
                "spread": _rounded(configuration.spread),
                "trial_ids": list(configuration.trial_ids[:8]),
                "knobs": _shown(configuration.knobs),
            }
            for configuration in ranked[:_NUM_BEST]
        ],
        "space": {k: _shown(range_fields(a_range)) for k, a_range in board.space.ranges.items()},
    }


def _importance(board: Board, arguments: Mapping[str, Any]) -> dict[str, Any]:
    results = importance(_rows(board), board.space, seed=board.seed, num_resamples=_NUM_RESAMPLES)
    return {
        "knobs": [
            {
                "knob": result.knob,
                "share": _rounded(result.share),
                "interval": result.interval and [_rounded(end) for end in result.interval],
                **({"reason": result.reason} if result.reason else {}),
            }
            for result in results
        ]
    }


def _edge_hits(board: Board, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sides": [
            {
                "knob": hit.knob,
                "side": hit.side,
                "num_hits": hit.num_hits,
                "num_elite": hit.num_elite,
                "chance": _rounded(hit.chance),
                "trial_ids": list(hit.trial_ids[:8]),
            }
            for hit in sorted(edge_hits(_rows(board), board.space), key=lambda hit: -hit.num_hits)
        ]
    }


def _failure_map(board: Board, arguments: Mapping[str, Any]) -> dict[str, Any]:
    cells = [cell for cell in failure_map(_rows(board), board.space) if cell.num_failed]
    return {
        "num_failed": sum(row.state in FAILURES for row in _rows(board)),
        "parts": [
            {
                "knob": cell.knob,
                "low": _shown_value(cell.low),
                "high": _shown_value(cell.high),
                "num_trials": cell.num_trials,
                "num_failed": cell.num_failed,
                "trial_ids": list(cell.trial_ids[:8]),
            }
            for cell in sorted(cells, key=lambda cell: -cell.num_failed / cell.num_trials)
        ],
    }


def _cost(board: Board, arguments: Mapping[str, Any]) -> dict[str, Any]:
    total = cost(_rows(board))
    return {
        "seconds": _rounded(total.seconds),
        "env_steps": total.env_steps,
        "seconds_per_complete_trial": _rounded(total.complete_seconds),
        "states": [
            {
                "state": part.state.value,
                "num_trials": part.num_trials,
                "env_steps": part.env_steps,
                "seconds": _rounded(part.seconds),
            }
            for part in total.states
        ],
    }


def _compare_trials(board: Board, arguments: Mapping[str, Any]) -> dict[str, Any]:
    a, b = (_trial(board, arguments[name]) for name in ("a", "b"))
    differ = [k for k in {**a.knobs, **b.knobs} if a.knobs.get(k) != b.knobs.get(k)]
    return {
        **{name: _trial_numbers(row) for name, row in (("a", a), ("b", b))},
        "score_difference": None
        if a.score is None or b.score is None
        else _rounded(a.score - b.score),
        "differing_knobs": {
            knob: [_shown_value(row.knobs.get(knob)) for row in (a, b)] for knob in differ
        },
    }


def _simulate_proposal(board: Board, arguments: Mapping[str, Any]) -> dict[str, Any]:
    changes = parse_changes(arguments["changes"], board.space)
    num_trials = _num_trials(arguments, board)
    complete = [row for row in _rows(board) if row.state is TrialState.COMPLETE]
    try:
        space = next_space(changes, board)
        kept = [row for row in complete if space.contains(row.knobs)]
        reason = ""
    except RefusedError as error:
        kept, reason = [], str(error)
    like = kept or complete  # the trials that the cost is estimated from
    return {
        "is_accepted": not reason,
        "reason": reason,
        "num_known_trials": len(complete),
        "num_known_trials_kept": len(kept),
        "num_trials": num_trials,
        "estimated_seconds": _estimate([row.seconds for row in like], num_trials),
        "estimated_env_steps": _estimate([row.env_steps for row in like], num_trials),
        "num_trials_estimated_from": len(like),
    }


def _num_parameters(board: Board, arguments: Mapping[str, Any]) -> dict[str, Any]:
    knobs = arguments["knobs"]
    if not isinstance(knobs, dict) or len(knobs) > 16:
        raise RefusedError(f"`knobs` must be an object of at most 16 knobs, but is {quote(knobs)}")
    base = board.space.base
    known = [knob for knob in base.knobs() if knob.startswith("policy.") or knob in SIZES]
    for knob, value in knobs.items():
        if knob not in known:
            raise RefusedError(f"unknown knob {quote(knob)}; the knobs are: {', '.join(known)}")
        if not isinstance(value, int | float | str):
            raise RefusedError(f"`{knob}` must be a number or a text, but is {quote(value)}")
    try:
        num_parameters = model_size(base.with_knobs(knobs))
    except (ValueError, UnknownNameError, TypeError) as error:
        raise RefusedError(str(error.args[0])) from None
    return {"num_parameters": num_parameters, "num_parameters_of_base": model_size(base)}


def _rows(board: Board) -> list[Trial]:
    return list(board.trials().values())


def _trial(board: Board, name: object) -> Trial:
    known = board.trials()
    if not isinstance(name, str) or name not in known:
        raise RefusedError(f"unknown trial {quote(name)}; `table_summary` names the best")
    return known[name]


def _trial_numbers(row: Trial) -> dict[str, Any]:
    """The numbers of a trial, without its reason, which may be foreign text."""
    return {
        "trial_id": row.trial_id,
        "state": row.state.value,
        "score": _rounded(row.score),
        "interval": row.interval and [_rounded(end) for end in row.interval],
        "env_steps": row.env_steps,
        "seconds": _rounded(row.seconds),
    }


def _num_trials(arguments: Mapping[str, Any], board: Board) -> int:
    value = arguments.get("num_trials", board.budget_trials_left)
    if type(value) is not int or not 0 <= value <= board.budget_trials_left:
        raise RefusedError(
            f"`num_trials` must be an integer from 0 to the {board.budget_trials_left} trials that "
            f"are left, but is {quote(value)}"
        )
    return value


def _estimate(values: Sequence[float], num_trials: int) -> float | None:
    return _rounded(statistics.fmean(values) * num_trials) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _shown_value(value) for name, value in values.items()}


def _shown_value(value: Any) -> Any:
    """A knob's value, or a list of values, in few characters."""
    if isinstance(value, list | tuple):
        return [_shown_value(entry) for entry in value]
    if isinstance(value, str):
        return clean_text(value, 40)
    return _rounded(value) if isinstance(value, float) else value


def _fitted(answer: dict[str, Any]) -> str:
    """The answer as JSON, with its longest lists truncated if it is too long."""
    left_out = 0
    while len(text := json_text(answer)) >= MAX_ANSWER_LENGTH:
        lists = [value for value in answer.values() if isinstance(value, list) and value]
        if not lists:
            raise RefusedError("the answer is too long; ask for less")
        max(lists, key=lambda entries: len(json_text(entries))).pop()
        answer["left_out"] = left_out = left_out + 1
    return text


def _schema(required: Sequence[str], **properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


_NAME = {"type": "string", "description": "a trial, such as t0003"}
_CHANGES = {
    "type": "array",
    "description": "as in a finding: a knob with low and high, or with options",
    "items": {"type": "object"},
}
_KNOBS = {"type": "object", "description": "values of policy.* knobs that differ from the base"}

TOOLS: Mapping[str, Tool] = MappingProxyType(
    {
        tool.name: tool
        for tool in (
            Tool(
                "table_summary",
                "The trials so far: how they ended, the best with their knobs, the present space.",
                _schema(()),
                _table_summary,
            ),
            Tool(
                "importance",
                "Importance of each knob for being among the best, as a share of all knobs, with "
                "the range of 95 % of resampled shares.",
                _schema(()),
                _importance,
            ),
            Tool(
                "edge_hits",
                "How many of the best trials lie at each side of each numeric range.",
                _schema(()),
                _edge_hits,
            ),
            Tool(
                "failure_map",
                "In which parts of the ranges trials diverged or failed.",
                _schema(()),
                _failure_map,
            ),
            Tool("cost", "Time [s] and env steps that the trials took.", _schema(()), _cost),
            Tool(
                "compare_trials",
                "Two trials side by side: scores, cost, and the knobs in which they differ.",
                _schema(("a", "b"), a=_NAME, b=_NAME),
                _compare_trials,
            ),
            Tool(
                "simulate_proposal",
                "Whether changes would be accepted, how many known trials stay inside, and the "
                "estimated cost.",
                _schema(("changes",), changes=_CHANGES, num_trials={"type": "integer"}),
                _simulate_proposal,
            ),
            Tool(
                "num_parameters",
                "How many parameters the policy of a configuration has.",
                _schema(("knobs",), knobs=_KNOBS),
                _num_parameters,
            ),
        )
    }
)
"""All tools, by name."""
