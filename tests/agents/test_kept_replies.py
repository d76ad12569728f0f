"""What a model answered is answered from the ledger by the next process, and by nothing else."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.brain import Brain, make_brain
from agents.budget import Budget
from agents.endpoint import MAX_TEXT_LENGTH, NoToolsError
from agents.findings import Author
from agents.kept_replies import KeptReplies
from agents.ledger import Event, EventKind, Ledger
from agents.offline import offline_reply
from agents.prompts import task_text
from agents.reply import Reply, ToolCall
from tests.agents import scripted_server as server
from tests.agents.round_table import board

TOKENS = 111  # of each answer of the server
KEY = "canary-1234567890"
FIRST = [{"role": "user", "content": "What now?"}]
SECOND = [*FIRST, {"role": "assistant", "content": "a"}, {"role": "user", "content": "And then?"}]
TOOLS = [{"type": "function", "function": {"name": "cost", "parameters": {}}}]
CALL = ToolCall("cost", '{"a": [1, "\\ud83d"]}', "call_7")


@functools.cache
def offline_question() -> list[dict[str, str]]:
    return [{"role": "user", "content": task_text(board(), Author.COORDINATOR, (), round_trials=6)}]


class Folder:
    """The ledger of a study, and a server; each brain is that of a new process."""

    def __init__(self, path: Path, base_url: str, **limits: Any) -> None:
        self.path, self._base_url, self._limits = path / "ledger.jsonl", base_url, limits

    def ledger(self, *secrets: str) -> Ledger:
        return Ledger(self.path, Budget(**self._limits), secrets=secrets)

    def brain(self, *secrets: str, model: str | None = "a-model", key: str = "") -> Brain:
        url = None if model is None else self._base_url
        environ = {"SSMRL_API_KEY": key}
        return make_brain(model, url, environ=environ, meter=self.ledger(*secrets), patience_s=0.3)

    def spent(self) -> tuple[float, float]:
        return self.ledger().spent("calls"), self.ledger().spent("tokens")


def talk(brain: Brain, *questions: Sequence[Any], round: int = 1, who: str = "a") -> list[Reply]:
    brain.begin(round, who)
    return [brain.answer(question, TOOLS) for question in questions]


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    steps = [server.calls("cost", json.loads(CALL.arguments)), server.says("b"), server.says("c")]
    with server.serving(steps) as seen:
        folder = Folder(tmp_path, seen.base_url)
        before = talk(folder.brain(), FIRST, SECOND)
        assert before == [Reply("", (CALL,), TOKENS), Reply("b", (), TOKENS)]
        assert folder.spent() == (2, 2 * TOKENS)
        again = folder.brain()
        assert talk(again, FIRST, SECOND) == before
        assert again.speaker == "a-model"
        assert (len(seen.requests), folder.spent()) == (2, (2, 2 * TOKENS))
        assert again.answer(SECOND, TOOLS).text == "c"
        assert (len(seen.requests), folder.spent()) == (3, (3, 3 * TOKENS))


@pytest.mark.parametrize(
    "change",
    [
        {"round": 2},
        {"who": "b"},
        {"questions": [SECOND]},
        {"questions": [SECOND, FIRST]},
        {"questions": [[FIRST[0] | {"content": "What now"}]]},
    ],
)
def test_another_question_is_asked(change: dict[str, Any], tmp_path: Path) -> None:
    with server.serving([server.says("a"), server.says("b")]) as seen:
        folder = Folder(tmp_path, seen.base_url)
        talk(folder.brain(), FIRST)
        more = {"questions": [FIRST]} | change
        replies = talk(folder.brain(), *more.pop("questions"), **more)
        assert {reply.text for reply in replies} == {"b"}
        assert len(seen.requests) == 1 + len(replies)


def test_tools_are_part_of_the_question(tmp_path: Path) -> None:
    with server.serving([server.says("a"), server.says("b")]) as seen:
        folder = Folder(tmp_path, seen.base_url)
        talk(folder.brain(), FIRST)
        other = json.loads(json.dumps(TOOLS).replace("cost", "coast"))
        for tools in ((), other):
            brain = folder.brain()
            brain.begin(1, "a")
            assert brain.answer(FIRST, tools).text == "b"


def test_what_is_asked_twice_has_two_answers(tmp_path: Path) -> None:
    with server.serving([server.says(text) for text in "abc"]) as seen:
        folder = Folder(tmp_path, seen.base_url)
        talk(folder.brain(), FIRST, FIRST)
        replies = talk(folder.brain(), FIRST, FIRST, FIRST)
    assert [reply.text for reply in replies] == ["a", "b", "c"]


def test_failed_attempts_are_no_answers(tmp_path: Path) -> None:
    with server.serving([server.says("a"), server.status(500)]) as seen:
        folder = Folder(tmp_path, seen.base_url)
        assert talk(folder.brain(), FIRST, offline_question())[1] == offline_reply(
            offline_question(), TOOLS
        )
        num_before = len(seen.requests)
        assert num_before > 1
        assert talk(folder.brain(), FIRST, offline_question())[0].text == "a"
        assert len(seen.requests) > num_before


def test_a_conversation_in_plain_text_goes_on_in_plain_text(tmp_path: Path) -> None:
    """The server is not asked again whether it takes tools while there are kept replies."""
    steps = [server.status(400, "tools are not supported"), server.says("a"), server.says("b")]
    with server.serving([*steps, server.says("c")]) as seen:
        folder = Folder(tmp_path, seen.base_url)
        for number in range(2):
            brain = folder.brain()
            brain.begin(1, "a")
            assert brain.takes_tools
            with pytest.raises(NoToolsError):
                brain.answer(FIRST, TOOLS)
            assert not brain.takes_tools
            assert brain.answer(SECOND).text == "a"
            brain.begin(1, "b")
            assert not brain.takes_tools
            assert brain.answer(FIRST).text == "b"
            assert len(seen.requests) == 3, number
        later = folder.brain()
        later.begin(1, "b")
        assert not later.takes_tools, "as that conversation was begun"
        assert later.answer(FIRST).text == "b"
        assert later.answer(FIRST).text == "c"
    assert folder.spent()[0] == len(seen.requests) == 4


@pytest.mark.parametrize("secret", ["b-7f", KEY])
def test_a_reply_that_holds_a_secret_is_not_kept(secret: str, tmp_path: Path) -> None:
    steps = [server.says("a"), server.says(f"say {secret}"), server.says("c")]
    with server.serving(steps) as seen:
        folder = Folder(tmp_path, seen.base_url)
        talk(folder.brain(secret), FIRST, SECOND)
        assert secret not in folder.path.read_text()
        assert [reply.text for reply in talk(folder.brain(secret), FIRST, SECOND)] == ["a", "c"]
    assert folder.spent() == (3, 3 * TOKENS)


def test_the_key_of_the_endpoint_is_left_out_before_a_reply_is_kept(tmp_path: Path) -> None:
    with server.serving([server.says_key]) as seen:
        folder = Folder(tmp_path, seen.base_url)
        for _ in range(2):
            (reply,) = talk(folder.brain(KEY, key=KEY), FIRST)
            assert reply.text == "your key is Bearer ***"
        assert len(seen.requests) == 1
    assert KEY not in folder.path.read_text()


@pytest.mark.parametrize("text", ["x" * MAX_TEXT_LENGTH, "\ud83d\u0000\u202e\r\n", ""])
def test_a_reply_is_kept_whole(text: str, tmp_path: Path) -> None:
    with server.serving([server.says(text)]) as seen:
        folder = Folder(tmp_path, seen.base_url)
        for _ in range(2):
            assert talk(folder.brain(), FIRST) == [Reply(text, (), TOKENS)]
        assert len(seen.requests) == 1


def test_whoever_goes_on_what_was_said_stands(tmp_path: Path) -> None:
    """Another model, none at all, or a budget that is used up: what was paid is used."""
    with server.serving([server.says("a")]) as seen:
        folder = Folder(tmp_path, seen.base_url, calls=1)
        talk(folder.brain(), FIRST)
        for model in ("a-model", "another", None):
            brain = folder.brain(model=model)
            assert talk(brain, FIRST) == [Reply("a", (), TOKENS)]
            assert brain.speaker == "a-model"
            assert brain.answer(offline_question()) == offline_reply(offline_question())
            assert brain.speaker == "offline"
        assert len(seen.requests) == 1


def test_a_ledger_without_replies_or_with_others_is_read(tmp_path: Path) -> None:
    with server.serving([server.says("a")]) as seen:
        folder = Folder(tmp_path, seen.base_url)
        talk(folder.brain(), FIRST)
        kept = dict(folder.ledger().events[-1].data["reply"])
    question = KeptReplies().question(FIRST, TOOLS) | {"round": 1, "who": "a"}

    def found(reply: object) -> object:
        settled = {"reservation": 1, "actual": TOKENS, "kind": "tokens", "spent": TOKENS}
        data = settled if reply is None else settled | {"reply": reply}
        return KeptReplies([Event(2, EventKind.SETTLED, data=data)]).find(question)

    assert found(kept) == ("a-model", Reply("a", (), TOKENS))
    others = [{name: kept[name] for name in kept if name != lost} for lost in kept]
    others += [kept | {name: [{}]} for name in kept]
    for other in [None, 3, "a", [], {}, kept | {"tool_calls": [{"name": "cost"}]}, *others]:
        assert found(other) is None, other
