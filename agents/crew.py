"""Asks three agents for the next search space; CrewAI runs them, code checks their replies."""

import functools
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agents.board import Board
from agents.brain import Brain, Say, say_nothing
from agents.findings import (
    Author,
    Change,
    Decision,
    Direction,
    Expectation,
    Finding,
    RefusedError,
    check_finding,
    parse_finding,
)
from agents.ledger import EventKind
from agents.prompts import EXPECTED_OUTPUT, ROLES, author_knobs, task_text
from agents.strict_json import clean_text
from agents.tools import TOOLS, call_tool
from ssmrl.strict_json import json_text, json_value
from tuning.box.trust_box import Proposal, propose
from tuning.spaces.ranges import Choice
from tuning.spaces.space import SearchSpace

if TYPE_CHECKING:
    from crewai.tools import BaseTool

TRUST_BOX = "trust box"
MAX_RETRIES = 2

_MAX_ITERATIONS = 8
_MAX_TOOL_CALLS = 24
_MAX_QUOTE_LENGTH = 2000
_MAX_FAREWELL_S = 5.0


@dataclass(frozen=True)
class Refusal:
    """A reply that was refused.

    Attributes:
        author: The agent that gave it.
        reason: Why it was refused.
    """

    author: Author
    reason: str


@dataclass(frozen=True)
class Consultation:
    """The outcome of asking the three agents.

    Attributes:
        space: The space of the next round.
        findings: Finding of each agent, in order; from the trust box if ``spoken`` says so.
        decision: Whether another round is made.
        num_trials: Number of trials of that round.
        refusals: The refused replies.
        spoken: Source of each agent's finding: ``offline``, the name of a model, or ``trust box``.
    """

    space: SearchSpace
    findings: tuple[Finding, ...]
    decision: Decision
    num_trials: int
    refusals: tuple[Refusal, ...]
    spoken: Mapping[Author, str]


def consult(
    board: Board,
    *,
    brain: Brain,
    round_trials: int,
    earlier: Sequence[Mapping[str, Any]] = (),
    say: Say = say_nothing,
) -> Consultation:
    """Asks State Modeling and Meta-Learning for a proposal each, and the Coordinator to merge them.

    An agent whose reply is refused gets the reason and is asked again, twice at most. Then the
    proposal of the trust box (``tuning.box``) takes its place. No reply, however bad, is an error.

    Args:
        board: The table, the spaces and the budget.
        brain: The brain that answers for the agents.
        round_trials: Usual number of trials of the next round.
        earlier: Findings of earlier studies of the task, as JSON objects; quoted as foreign text.
        say: Receives progress events.

    Raises:
        ValueError: If ``round_trials`` is below 1, or the spaces do not belong together.
    """
    if round_trials < 1:
        raise ValueError(f"`round_trials` must be at least 1, but got {round_trials}")
    proposal = propose(board.space, first=board.first, limits=board.limits, rows=board.rows)
    round_ = _Round(board, brain, proposal, min(round_trials, board.budget_trials_left), say)
    space = board.space
    for author in Author:
        space = round_.ask(author, tuple(earlier))
    coordinator = round_.findings[-1]
    assert coordinator.decision is not None
    assert coordinator.num_trials is not None
    consultation = Consultation(
        space=space,
        findings=tuple(round_.findings),
        decision=coordinator.decision,
        num_trials=coordinator.num_trials,
        refusals=tuple(round_.refusals),
        spoken=dict(round_.spoken),
    )
    say(
        EventKind.DECIDED,
        f"{consultation.decision} with {consultation.num_trials} trials",
        who=Author.COORDINATOR.value,
        data={"space": json_value(space.to_json()), "num_trials": consultation.num_trials},
    )
    return consultation


class _Round:
    """The three conversations of one round, with their findings so far."""

    def __init__(
        self, board: Board, brain: Brain, proposal: Proposal, num_trials: int, say: Say
    ) -> None:
        self._board, self._brain, self._proposal, self._say = board, brain, proposal, say
        self._num_trials = num_trials
        self.findings: list[Finding] = []
        self.refusals: list[Refusal] = []
        self.spoken: dict[Author, str] = {}

    def ask(self, author: Author, earlier: Sequence[Mapping[str, Any]]) -> SearchSpace:
        """Ask one agent for its finding, and return the space that follows from it."""
        refused = ""
        board = self._board_of(author)
        self._brain.begin(board.round, author.value)
        for _ in range(1 + MAX_RETRIES):
            text = task_text(
                board,
                author,
                self._proposal.moves,
                round_trials=max(1, self._num_trials),
                findings=self.findings,
                earlier=earlier,
                refused=refused,
            )
            raw = self._reply(author, text, board)
            finding: Finding | None = None
            try:
                finding = parse_finding(raw, author=author.value, space=board.space)
                space = check_finding(finding, board)
            except RefusedError as error:
                if finding is not None:
                    board = replace(board, refused=board.refused | {finding.fingerprint()})
                refused = self._brain.redact(str(error))
                self.refusals.append(Refusal(author, refused))
                self._say(EventKind.REFUSED, refused, who=author.value)
                continue
            self._accept(finding, self._brain.speaker)
            return space
        return self._fall_back(author)

    def _board_of(self, author: Author) -> Board:
        """The board that an agent's proposal is checked against.

        In it, the other agents' knobs have the ranges that the trust box proposes. Otherwise no
        proposal could pass while the incumbent lies outside the ranges of two agents' knobs.
        """
        if author is Author.COORDINATOR:
            return self._board
        own = author_knobs(author, self._board)
        ranges = self._proposal.space.ranges
        others = {knob: a_range for knob, a_range in ranges.items() if knob not in own}
        return replace(self._board, space=self._board.space.replace_ranges(others))

    def _reply(self, author: Author, text: str, board: Board) -> str:
        """The raw answer of an agent, or ``no answer`` after an error, which is then refused."""
        try:
            raw = _kickoff(author, text, self._brain, self._answer(author, board))
        # CrewAI passes on any error of a provider, a tool or its parser; none may end a study.
        except Exception as error:
            reason = clean_text(self._brain.redact(f"{type(error).__name__}: {error}"), 200)
            self._say(EventKind.NOTED, f"no answer: {reason}", who=author.value)
            return "no answer"
        raw = self._brain.redact(raw)
        self._say(
            EventKind.SAID,
            raw[:_MAX_QUOTE_LENGTH],
            who=author.value,
            data={"brain": self._brain.speaker, "num_characters": len(raw)},
        )
        return raw

    def _answer(self, author: Author, board: Board) -> Callable[[str, str], str]:
        """A function that answers an agent's tool calls, up to ``_MAX_TOOL_CALLS`` of them."""
        num_calls = 0
        one_at_a_time = threading.Lock()  # CrewAI runs several calls of one reply in threads

        def answer(name: str, arguments_json: str) -> str:
            nonlocal num_calls
            with one_at_a_time:
                num_calls += 1
                if num_calls > _MAX_TOOL_CALLS:
                    return json_text({"error": "no more tools: give your answer"})
                arguments = clean_text(self._brain.redact(arguments_json[:_MAX_QUOTE_LENGTH]), 300)
                self._say(EventKind.NOTED, f"asks {name} {arguments}", who=author.value)
                return call_tool(board, name, arguments_json)

        return answer

    def _accept(self, finding: Finding, speaker: str) -> None:
        self.findings.append(finding)
        self.spoken[finding.author] = speaker
        self._say(
            EventKind.FOUND,
            finding.hypothesis,
            who=finding.author.value,
            data={"brain": speaker, "finding": json_value(finding.to_json())},
        )

    def _fall_back(self, author: Author) -> SearchSpace:
        """Use the trust box's proposal for an agent's knobs; for the coordinator, all knobs."""
        knobs = author_knobs(author, self._board)
        moves = [move for move in self._proposal.moves if move.knob in knobs]
        changes = {move.knob: move.new for move in moves}
        self._say(EventKind.FELL_BACK, "on the trust box's own proposal", who=author.value)
        expected = next(iter(self._board.space.ranges))
        is_coordinator = author is Author.COORDINATOR
        decision = Decision.GO_ON if self._num_trials else Decision.STOP
        finding = Finding(
            author=author,
            hypothesis="; ".join(f"{m.knob}: {m.statistic}" for m in moves)[:600]
            or "No change is proven.",
            expected_effect="The effect that the trust box expects of its moves.",
            expectation=Expectation(expected, self._any_side(expected), Direction.SAME),
            changes=tuple(Change(knob, a_range) for knob, a_range in changes.items()),
            trial_ids=tuple(dict.fromkeys(name for m in moves for name in m.trial_ids)),
            decision=decision if is_coordinator else None,
            num_trials=self._num_trials if is_coordinator else None,
        )
        self._accept(finding, TRUST_BOX)
        return self._board.space.replace_ranges(changes)

    def _any_side(self, knob: str) -> str:
        a_range = self._board.space.ranges[knob]
        return str(a_range.options[0]) if isinstance(a_range, Choice) else "high"


def _kickoff(author: Author, text: str, brain: Brain, answer: Callable[[str, str], str]) -> str:
    """The raw reply of one CrewAI agent to one task.

    It runs on its own thread: on the main thread, CrewAI's event loop would hold back SIGINT until
    the model has answered.
    """
    brain.to_llm()  # imports CrewAI here, since its telemetry expects the main thread
    outcome: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put(_crew_reply(author, text, brain, answer))
        # The waiting thread below raises it again.
        except Exception as error:
            outcome.put(error)

    thread = threading.Thread(target=work, name=f"crew-{author}", daemon=True)
    thread.start()
    try:
        raw = outcome.get()
    except BaseException:
        brain.interrupt()
        thread.join(_MAX_FAREWELL_S)
        raise
    if isinstance(raw, Exception):
        raise raw
    return raw


def _crew_reply(author: Author, text: str, brain: Brain, answer: Callable[[str, str], str]) -> str:
    llm = brain.to_llm()
    from crewai import Agent, Crew, Process, Task

    role, goal, backstory = ROLES[author]
    agent = Agent(
        role=role,
        goal=goal,
        backstory=backstory,
        llm=llm,
        tools=_crew_tools(answer),
        verbose=False,
        cache=False,
        allow_delegation=False,
        respect_context_window=False,
        max_iter=_MAX_ITERATIONS,
        max_retry_limit=0,
    )
    task = Task(description=text, expected_output=EXPECTED_OUTPUT, agent=agent)
    crew = Crew(
        agents=[agent],
        tasks=[task],
        process=Process.sequential,
        verbose=False,
        memory=False,
        cache=False,
        tracing=False,
    )
    output: Any = crew.kickoff()  # its declared type includes a stream, which is not used
    return str(output.raw)


def _crew_tools(answer: Callable[[str, str], str]) -> "list[BaseTool]":
    """The project's tools as CrewAI tools."""
    from pydantic import Field, create_model

    tools = []
    for tool in TOOLS.values():
        required = tool.parameters["required"]
        fields: dict[str, Any] = {
            # Any type is accepted here: the tool checks the arguments, and nothing coerces them.
            name: (Any, Field(... if name in required else None, json_schema_extra=dict(schema)))
            for name, schema in tool.parameters["properties"].items()
        }
        arguments = create_model(f"{tool.name}_arguments", **fields)
        wrapped = _tool_class()(name=tool.name, description=tool.description, args_schema=arguments)
        wrapped.bind(answer)
        tools.append(wrapped)
    return tools


@functools.cache
def _tool_class() -> Any:
    """Defines the class only on use: importing its base class takes seconds."""
    from crewai.tools import BaseTool
    from pydantic import PrivateAttr

    class BoardTool(BaseTool):
        """A tool behind CrewAI's interface."""

        _answer: Callable[[str, str], str] = PrivateAttr()

        def bind(self, answer: Callable[[str, str], str]) -> None:
            self._answer = answer

        def _run(self, **arguments: Any) -> str:
            given = {name: value for name, value in arguments.items() if value is not None}
            return self._answer(self.name, json_text(given))

    return BoardTool
