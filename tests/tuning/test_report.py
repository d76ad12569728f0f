"""The page: it holds the numbers, says what it cannot say, and needs nothing from outside."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest

from ssmrl.config import TrainConfig
from tuning.comparison import compare
from tuning.move import Move
from tuning.ranges import Choice, Float, Int
from tuning.report import write_report
from tuning.round_log import Round
from tuning.space import SearchSpace
from tuning.trial import Trial, TrialState, TrialTable

RANGES = {"meta.inner_lr": Float(1e-3, 1.0), "meta.clip": Float(1e-3, 1.0)}
SPACE = SearchSpace(RANGES, TrainConfig(algorithm="promp"))


def ended(number: int, score: float | None, **changes: Any) -> Trial:
    arguments: dict[str, Any] = {
        "trial_id": f"t{number:04d}",
        "number": number,
        "state": TrialState.COMPLETE if score is not None else TrialState.DIVERGED,
        "score": score,
        "knobs": {"meta.inner_lr": (number + 1) / 30, "meta.clip": 0.3},
        "env_steps": 5000,
        "seconds": 3.0,
        "curve": () if score is None else ((2500, -9.0, score - 1.0), (5000, -8.0, score)),
        "interval": None if score is None else (score - 1.0, score + 1.0),
        "reason": "" if score is not None else "<script>alert(1)</script>",
    }
    return Trial(**(arguments | changes))


def make(folder: Path, trials: list[Trial], **changes: Any) -> str:
    table = TrialTable(folder / "trials.jsonl")
    for trial in trials:
        table.append(trial)
    arguments: dict[str, Any] = {
        "title": "point <ssm> & co",
        "table": table,
        "best": table.best(),
        "space": SPACE,
        "max_env_steps": 5000,
        "bound": -3.125,
        "comparison": None,
        "command": "python -m tuning.sweep --name 'a<b>'",
    }
    write_report(folder / "report.html", **(arguments | changes))
    return (folder / "report.html").read_text()


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def images(page: str) -> dict[str, bytes]:
    found = re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]*)">', page)
    return {alt: base64.b64decode(data) for alt, data in found}


def test_the_page_holds_the_numbers(tmp_path: Path) -> None:
    points = [{"meta.inner_lr": (i + 1) / 30, "meta.clip": 0.1 + 0.1 * (i % 4)} for i in range(12)]
    trials = [ended(i, -((i - 3) ** 2) / 7, knobs=point) for i, point in enumerate(points)]
    trials += [ended(12, -0.5, state=TrialState.PRUNED, reason="stopped early"), ended(13, None)]
    comparison = compare([1.0, 2.0, 3.5], [0.0, 0.5, 1.0], num_tasks=100)
    page = make(tmp_path, trials, comparison=comparison)
    assert "Winner, trial <b>t0003</b>" in page
    assert f'<data value="{4 / 30!r}">0.1333</data>' in page
    assert all(f'<data value="{t.score!r}">' in page for t in trials if t.score is not None)
    assert comparison.verdict in page
    assert f'difference <data value="{comparison.difference!r}">' in page
    assert 'at most about <data value="-3.125">-3.125</data>' in page
    assert "12 COMPLETE, 1 PRUNED, 1 DIVERGED" in page
    assert "stopped early" in page
    assert page.count('<tr class="best">') == 1
    drawn = images(page)
    assert len(drawn) == 3, list(drawn)
    assert all(data.startswith(b"\x89PNG") and len(data) > 3000 for data in drawn.values())
    assert len(page) < 400_000


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = make(tmp_path, [ended(0, 1.0), ended(1, None)])
    text = re.sub(r'base64,[^"]*"', '"', page)
    assert not re.search(r"https?:|//|<script|<link|@import|url\(", text)
    assert "&lt;script&gt;alert(1)" in page
    assert "point &lt;ssm&gt; &amp; co" in page
    assert "--name &#x27;a&lt;b&gt;&#x27;" in page


def check_well_formed(page: str) -> None:
    class Checker(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, _: Any) -> None:
            if tag not in ("meta", "img"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(page)
    assert checker.open == []


def test_the_page_is_well_formed(tmp_path: Path) -> None:
    check_well_formed(make(tmp_path, [ended(i, float(i)) for i in range(5)] + [ended(5, None)]))


def test_the_bound_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    name = "return after adaptation against env steps, every trial"
    with_bound = images(make(tmp_path, [ended(0, 1.0)]))[name]
    without = make(tmp_path / "b", [ended(0, 1.0)], bound=None)
    assert images(without)[name] != with_bound
    assert "without adaptation is not known" in without


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    page = make(tmp_path, [ended(0, None), ended(1, None)])
    assert "No trial completed" in page
    assert "No trial has a score" in page
    assert "No trial was evaluated" in page
    assert "too few trials: 0 complete configurations, but it takes 10" in page
    assert "not compared" in page
    assert images(page) == {}
    (tmp_path / "flat").mkdir()
    flat = [
        ended(i, 1.0, knobs={"meta.inner_lr": (1 + i) / 12, "meta.clip": 0.3}) for i in range(12)
    ]
    assert "all scores are equal" in make(tmp_path / "flat", flat)
    (tmp_path / "fixed").mkdir()
    fixed = [ended(i, float(i), knobs=dict(trial.knobs)) for i, trial in enumerate(flat)]
    assert "it never varied" in make(tmp_path / "fixed", fixed)
    (tmp_path / "empty").mkdir()
    assert "Trials: none" in make(tmp_path / "empty", [])


LR, STEPS, METHOD = "meta.inner_lr", "meta.num_epochs", "policy.method"


def two_rounds() -> tuple[Round, Round]:
    ranges = {LR: Float(0.01, 1.0, log=True), STEPS: Int(1, 3), METHOD: Choice(("ssm", "gru"))}
    first = SearchSpace(ranges, TrainConfig(algorithm="promp"))
    moves = (
        Move(LR, ranges[LR], Float(0.01, 3.7, log=True), "expand", "<b>4 of 5</b>", ("t<0>", "t2")),
        Move(STEPS, ranges[STEPS], Int(1, 5), "expand", "median at the edge", ("t0001",)),
    )
    second = first.replace_ranges({move.knob: move.new for move in moves})
    return Round(1, "default", first, (), 6), Round(2, "agents & co", second, moves, 7)


def searched(number: int, in_round: int) -> Trial:
    knobs = {LR: 0.01 * 1.4**number, STEPS: 1 + number % 3, METHOD: ("ssm", "gru")[number % 2]}
    return ended(number, -abs(number - 9.0), knobs=knobs, round=in_round)


def make_with_rounds(folder: Path, trials: list[Trial]) -> str:
    rounds = two_rounds()
    return make(folder, trials, rounds=rounds, space=rounds[-1].space)


def test_the_page_shows_how_the_box_moved(tmp_path: Path) -> None:
    page = make_with_rounds(tmp_path, [searched(i, 1 if i < 6 else 2) for i in range(13)])
    check_well_formed(page)
    section = page[page.index("<h2>How the box moved</h2>") : page.index("<h2>Learning curves")]
    assert list(images(section)) == [
        f"range of {knob} in each round" for knob in (LR, STEPS, METHOD)
    ]
    assert "nothing moved" in section
    assert "agents &amp; co" in section
    assert '<data value="1.0">1</data></td><td><data value="0.01">0.01</data>' in section
    assert '<data value="3.7">3.7</data>' in section
    assert "<td>1 – 3</td><td>1 – 5</td>" in section
    assert "&lt;b&gt;4 of 5&lt;/b&gt;" in section
    assert "t&lt;0&gt;, t2" in section
    assert "too few trials" not in page
    assert images(page)["importance of each knob"].startswith(b"\x89PNG")


def test_the_incumbent_is_the_best_up_to_its_round(tmp_path: Path) -> None:
    drawn = {}
    for name, rounds in {"late": [1] * 6 + [2] * 7, "early": [1] * 13}.items():
        (tmp_path / name).mkdir()
        trials = [searched(i, in_round) for i, in_round in enumerate(rounds)]
        drawn[name] = images(make_with_rounds(tmp_path / name, trials))
    # The dots are trial 5 and then 9, or trial 9 both times; both have the same method.
    for knob, is_same in {LR: False, STEPS: False, METHOD: True}.items():
        name = f"range of {knob} in each round"
        assert (drawn["late"][name] == drawn["early"][name]) == is_same


def test_rounds_without_a_complete_trial_are_shown(tmp_path: Path) -> None:
    page = make_with_rounds(tmp_path, [ended(0, None)])
    check_well_formed(page)
    assert len(images(page)) == 3
    assert page.count("<li>") == 3
    assert "too few trials: 0 complete configurations, but it takes 10" in page


def test_a_page_without_rounds_does_not_speak_of_them(tmp_path: Path) -> None:
    assert "How the box moved" not in make(tmp_path, [ended(0, 1.0)])
