"""The offline brain: answers from statistics alone, in the form of a model's replies.

It sees only what a model sees: the messages and the tools. It reads the board in the task, calls
the tools for the statistics behind the trust box's moves, and words a finding from them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from agents.reply import Message, Reply, ToolCall
from ssmrl.strict_json import json_text, json_value

Changes: TypeAlias = list[dict[str, Any]]

_BOARD = re.compile(r"<board>\n(.*?)\n</board>", re.DOTALL)
_REFUSED = "\n<refused>\n"
_TOOL_NAME = re.compile(r"^Tool Name: (\w+)", re.MULTILINE)
_ACTION = re.compile(
    r"Action: (?P<name>\w+)\s*\nAction Input: (?P<arguments>.*?)\nObservation: (?P<answer>.*)",
    re.DOTALL,
)
_COORDINATOR = "coordinator"
_STATISTICS = {_COORDINATOR: ("table_summary", "cost")}
_SPECIALIST_STATISTICS = ("edge_hits", "importance", "failure_map")
_SIMULATE = "simulate_proposal"
_MAX_TURNS = 8  # after these, CrewAI demands the final answer
_MAX_TEXT_LENGTH = 600
_MAX_EVIDENCE = 24

_EFFECTS = {"expand": "better", "narrow": "worse", "cut": "worse", "drop": "worse"}


@dataclass(frozen=True)
class Asked:
    """A tool that was called in the conversation.

    Attributes:
        name: Name of the tool.
        arguments: Arguments of the call.
        answer: Answer of the tool.
    """

    name: str
    arguments: Mapping[str, Any]
    answer: Mapping[str, Any]


def offline_reply(messages: Sequence[Message], tools: Sequence[Message] = ()) -> Reply:
    """The offline brain's next reply: one tool call, or the finding.

    Args:
        messages: The conversation of one agent so far; the task holds the board as JSON.
        tools: Schemas of its tools. If empty, tools that the messages describe are called in plain
            text.
    """
    texts = [str(message.get("content") or "") for message in messages]
    task = next((text for text in texts if _BOARD.search(text)), "")
    found = _BOARD.search(task)
    if found is None:
        return Reply("There is no board in the task.")
    board = json_value(found.group(1))
    asked = _asked(messages)
    candidates = [[]] if _REFUSED in task else _candidates(board)
    call = _next_call(board, candidates, asked)
    names = [tool["function"]["name"] for tool in tools] or _TOOL_NAME.findall("\n".join(texts))
    num_turns = sum(message.get("role") == "assistant" for message in messages)
    if call is not None and call.name in names and num_turns < _MAX_TURNS:
        words = (
            f"Thought: this takes a number.\nAction: {call.name}\nAction Input: {call.arguments}"
        )
        return Reply(tool_calls=(call,)) if tools else Reply(words)
    changes = next((c for c in candidates if _is_accepted(c, asked)), [])
    answer = json_text(_finding(board, changes, asked))
    return Reply(answer if tools else f"Thought: the numbers suffice.\nFinal Answer: {answer}")


def _candidates(board: Mapping[str, Any]) -> list[Changes]:
    """Possible proposals, best first; the last one changes nothing."""
    moves = [*board["trust_box"]]
    if board["author"] != _COORDINATOR:
        return [_merged([moves]), []]
    proposed = [finding["changes"] for finding in board["findings"]]
    own = [move for move in moves if move["knob"] in board["unclaimed_knobs"]]
    everything = [*proposed, own]
    return [_merged(everything), *(_merged([part]) for part in everything), []]


def _merged(parts: Sequence[Changes]) -> Changes:
    """One change for each knob: the last one wins."""
    fields = ("knob", "low", "high", "options")
    last = {
        change["knob"]: {name: change[name] for name in fields if name in change}
        for part in parts
        for change in part
    }
    return list(last.values())


def _next_call(
    board: Mapping[str, Any], candidates: Sequence[Changes], asked: Sequence[Asked]
) -> ToolCall | None:
    """The next tool call: first for the statistics, then to simulate the proposals."""
    known = {entry.name for entry in asked}
    call_id = f"call_{len(asked)}"
    for name in _STATISTICS.get(board["author"], _SPECIALIST_STATISTICS):
        if name not in known:
            return ToolCall(name, "{}", call_id)
    for changes in candidates:
        if _is_accepted(changes, asked):
            return None
        if not any(_is_about(changes, entry) for entry in asked):
            return ToolCall(_SIMULATE, json_text({"changes": changes}), call_id)
    return None


def _is_about(changes: Changes, entry: Asked) -> bool:
    return entry.name == _SIMULATE and entry.arguments.get("changes") == changes


def _is_accepted(changes: Changes, asked: Sequence[Asked]) -> bool:
    """Whether a simulation accepted the changes; an empty proposal needs no simulation."""
    return not changes or any(
        entry.answer.get("is_accepted") is True for entry in asked if _is_about(changes, entry)
    )


def _finding(board: Mapping[str, Any], changes: Changes, asked: Sequence[Asked]) -> dict[str, Any]:
    answers = {entry.name: entry.answer for entry in asked}
    if board["author"] == _COORDINATOR:
        return _coordinator_finding(board, changes, answers)
    knobs = {change["knob"] for change in changes}
    moves = [move for move in board["trust_box"] if move["knob"] in knobs]
    reasons = [f"{move['knob']}: {move['kind']}, since {move['statistic']}." for move in moves]
    remarks = [_importance_remark(answers), _failure_remark(answers)]
    if moves:
        expectation = {
            "knob": moves[0]["knob"],
            "side": moves[0]["side"],
            "direction": _EFFECTS[moves[0]["kind"]],
        }
    else:
        expectation = _no_expectation(board, answers)
        reasons = [_edge_remark(board, answers)]
    return {
        "hypothesis": _text(*reasons, *remarks),
        "expected_effect": _effect(expectation, bool(moves)),
        "expectation": expectation,
        "changes": changes,
        "trial_ids": _evidence(board, [move["trial_ids"] for move in moves]),
    }


def _coordinator_finding(
    board: Mapping[str, Any], changes: Changes, answers: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    knobs = {change["knob"] for change in changes}
    left = board["budget_trials_left"]
    num_trials = min(left, board["round_trials"])
    own = [move for move in board["trust_box"] if move["knob"] in board["unclaimed_knobs"]]
    held = [f for f in board["findings"] if knobs & {change["knob"] for change in f["changes"]}]
    reasons = [f"{finding['author']}: {finding['hypothesis']}" for finding in held]
    reasons += [
        f"{move['knob']}: {move['kind']}, since {move['statistic']}."
        for move in own
        if move["knob"] in knobs
    ]
    share = (_MAX_TEXT_LENGTH - 60) // max(1, len(reasons))
    opening = "The proposals fit together." if reasons else "No change is proven; make more trials."
    base = (held or board["findings"] or [None])[0]
    expectation = base["expectation"] if base else _no_expectation(board, answers)
    decision = "go on" if num_trials else "stop"
    return {
        "hypothesis": _text(opening, *(reason[:share] for reason in reasons)),
        "expected_effect": _effect(expectation, bool(changes)),
        "expectation": expectation,
        "changes": changes,
        "trial_ids": _evidence(
            board, [finding["trial_ids"] for finding in held or board["findings"]]
        ),
        "decision": decision,
        "num_trials": num_trials,
    }


def _importance_remark(answers: Mapping[str, Mapping[str, Any]]) -> str:
    shares = [k for k in answers.get("importance", {}).get("knobs", []) if k["share"] is not None]
    if not shares:
        return "There are too few trials to rank the knobs."
    first = shares[0]
    low, high = first["interval"]
    return (
        f"The most important knob is {first['knob']}, with {first['share']:.0%} of the importance "
        f"of all knobs ({low:.0%} to {high:.0%})."
    )


def _failure_remark(answers: Mapping[str, Mapping[str, Any]]) -> str:
    parts = answers.get("failure_map", {}).get("parts", [])
    if not parts:
        return "No trial failed."
    worst = parts[0]
    low, high = worst["low"], worst["high"]
    where = f"at {low}" if low == high else f"from {low} to {high}"
    count = f"{worst['num_failed']} of {worst['num_trials']}"
    return f"Trials failed most with {worst['knob']} {where}: {count}."


def _edge_remark(board: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any]]) -> str:
    yours = {knob for knob, fields in board["knobs"].items() if fields["is_yours"]}
    sides = [s for s in answers.get("edge_hits", {}).get("sides", []) if s["knob"] in yours]
    if not sides:
        return "No change is proven."
    most = sides[0]
    return (
        f"No change is proven: of the best {most['num_elite']}, {most['num_hits']} lie at the "
        f"{most['side']} end of {most['knob']}, and fewer at the others."
    )


def _no_expectation(
    board: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The expectation that no side is better, for the agent's own most important knob."""
    yours = [knob for knob, fields in board["knobs"].items() if fields["is_yours"]]
    ranked = [entry["knob"] for entry in answers.get("importance", {}).get("knobs", [])]
    knob = next((k for k in ranked if k in yours), (yours or list(board["knobs"]))[0])
    options = board["knobs"][knob]["range"].get("options")
    side = "high" if options is None else str(options[0])
    return {"knob": knob, "side": side, "direction": "same"}


def _effect(expectation: Mapping[str, Any], is_changed: bool) -> str:
    knob, side, direction = (expectation[name] for name in ("knob", "side", "direction"))
    if direction == "same":
        return f"Trials with high and low {knob} score alike, since the best lies between."
    reason = "the range now reaches there" if direction == "better" else "fewer trials go there now"
    words = f"Trials with {knob} on the side `{side}` score {direction} than the others"
    return f"{words}; {reason}." if is_changed else f"{words}."


def _evidence(board: Mapping[str, Any], trial_ids: Sequence[Sequence[str]]) -> list[str]:
    best = board["incumbent"]
    chosen = [name for names in trial_ids for name in names] or [
        name for entry in board["best"] for name in entry["trial_ids"]
    ]
    first = best["trial_ids"] if best else []
    return list(dict.fromkeys([*first, *chosen] or board["trial_ids"]))[:_MAX_EVIDENCE]


def _text(*sentences: str) -> str:
    text = " ".join(sentence for sentence in sentences if sentence)
    return text if len(text) <= _MAX_TEXT_LENGTH else text[: _MAX_TEXT_LENGTH - 3] + "..."


def _asked(messages: Sequence[Message]) -> list[Asked]:
    """The tool calls so far, native or in plain text, with their answers."""
    calls: dict[str, tuple[str, str]] = {}
    asked = []
    for message in messages:
        if message.get("role") == "assistant":
            for call in message.get("tool_calls") or ():
                function = call["function"]
                calls[call["id"]] = (function["name"], function["arguments"])
            if (spoken := _ACTION.search(str(message.get("content") or ""))) is not None:
                asked.append((spoken["name"], spoken["arguments"], spoken["answer"]))
        elif message.get("role") == "tool" and message.get("tool_call_id") in calls:
            name, arguments = calls[message["tool_call_id"]]
            asked.append((name, arguments, str(message.get("content"))))
    return [Asked(name, _object(arguments), _object(answer)) for name, arguments, answer in asked]


def _object(text: str) -> dict[str, Any]:
    """The JSON object at the start of a text; an empty one if there is none.

    Other text may follow: in plain text, CrewAI repeats its rules after every third tool answer.
    """
    try:
        value, _ = json.JSONDecoder().raw_decode(text.strip())
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
