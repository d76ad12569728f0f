"""The page: it holds the numbers, says what it cannot say, and needs nothing from outside."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest

from ssmrl.config import TrainConfig
from tuning.comparison import compare
from tuning.plan import SweepPlan
from tuning.report.page import write_report
from tuning.spaces.ranges import Choice, Float, Int
from tuning.spaces.space import SearchSpace
from tuning.table.move import Move
from tuning.table.round_log import Round
from tuning.table.trial import Trial, TrialState, TrialTable

RANGES = {"meta.inner_lr": Float(1e-3, 1.0), "meta.clip": Float(1e-3, 1.0)}
SPACE = SearchSpace(RANGES, TrainConfig(algorithm="promp"))
PLAN = SweepPlan("point", algorithm="promp", max_env_steps=5000, num_samples=20, seed=3)


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
        "plan": PLAN,
        "table": table,
        "best": table.best(),
        "space": SPACE,
        "bound": -3.125,
        "comparison": None,
        "command": "python -m tuning.sweep --name 'a<b>'",
    }
    write_report(folder / "report.html", **(arguments | changes))
    return (folder / "report.html").read_text()


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def figures(page: str) -> dict[str, str]:
    """What is drawn, by its description."""
    found = re.findall(
        r'<svg class="(?:plot|parallel|moves)"[^>]*? aria-label="([^"]*)">(.*?)</figure>',
        page,
        re.DOTALL,
    )
    return dict(found)


def section(page: str, name: str) -> str:
    return page[(start := page.index(f'<h2 id="{name}">')) : page.index("</section>", start)]


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
    assert f'difference</span> <span class="value"><data value="{comparison.difference!r}">' in page
    assert 'at most about <data value="-3.125">-3.125</data>' in page
    assert "12 COMPLETE, 1 PRUNED, 1 DIVERGED" in page
    assert "stopped early" in page
    assert page.count('<tr class="best">') == 1
    drawn = figures(page)
    assert len(drawn) == 3, list(drawn)
    assert section(page, "importance").count('class="bar"') == 2
    assert len(page) < 60_000


def test_the_page_says_what_was_asked(tmp_path: Path) -> None:
    asked = re.sub("<[^>]*>", "", make(tmp_path, [ended(0, 1.0)]))
    for words in (
        "which settings of ssm, trained by promp on point, give",
        "The plan: 20 trials of 5,000 env steps and 1 seed each, from seed 3 on, chosen by tpe",
        "; 1 has ended.",
    ):
        assert words in asked


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = make(tmp_path, [ended(0, 1.0), ended(1, None)])
    assert not re.search(r"https?:|//|<script|<link|<img|@import|url\(", page)
    assert "&lt;script&gt;alert(1)" in page
    assert "point &lt;ssm&gt; &amp; co" in page
    assert "--name &#x27;a&lt;b&gt;&#x27;" in page


def check_well_formed(page: str) -> None:
    class Checker(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, _: Any) -> None:
            if tag not in ("meta", "wbr"):
                self.open.append(tag)

        def handle_startendtag(self, tag: str, _: Any) -> None:
            assert tag in ("line", "circle", "path", "polyline", "rect")

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
    assert "bound without adaptation" in figures(make(tmp_path, [ended(0, 1.0)]))[name]
    without = make(tmp_path / "b", [ended(0, 1.0)], bound=None)
    assert "bound" not in figures(without)[name]
    assert "without adaptation is not known" in without


def test_a_line_across_the_knobs_has_the_colour_of_its_score(tmp_path: Path) -> None:
    trials = [ended(i, float(i)) for i in range(7)] + [ended(7, None), ended(8, 6.5)]
    drawn = figures(make(tmp_path, trials))[
        "the knobs and the score of each trial, one line per trial"
    ]
    styles = re.findall(r'<polyline class="line (\w+)"', drawn)
    assert styles == ["lost", "s0", "s0", "s1", "s2", "s3", "s4", "s5", "winner"]


def test_what_made_it_and_how_to_go_on_are_told(tmp_path: Path) -> None:
    made = {"made_with": {"commit": "abc<d>", "packages": {"torch": "2.13.0"}}, "gpu": "a GPU"}
    commands = [("Look <here>", "ssmrl analyze 'a&b'")]
    page = make(tmp_path, [ended(0, 1.0)], made_with=made, going_on=commands)
    assert "commit abc&lt;d&gt;" in page
    assert "torch 2.13.0" in page
    assert "<dt>Look &lt;here&gt;</dt><dd><pre>ssmrl analyze &#x27;a&amp;b&#x27;</pre></dd>" in page
    (tmp_path / "without").mkdir()
    assert "was not written down" in make(tmp_path / "without", [], made_with={"made_with": 3})


def test_costs_are_those_of_the_rows(tmp_path: Path) -> None:
    rows = [
        ended(0, 1.0, peak_bytes=2_000_000),
        ended(1, 2.0, peak_bytes=9_000_000),
        ended(2, None),
    ]
    told = section(make(tmp_path, rows), "cost")
    assert "All trials took 15,000 env steps and, added up, 9 s" in told
    assert "The largest peak memory of a trial was 9 MB (t0001)" in told
    complete = '<th scope="row">COMPLETE</th><td>2</td><td>10,000</td><td>6</td><td>6</td>'
    assert f"{complete}<td>3.0</td><td>9</td>" in told


def test_a_cause_is_told_once_for_all_that_had_it(tmp_path: Path) -> None:
    rows = [ended(i, None, reason="not <finite>" if i < 2 else "other") for i in range(3)]
    told = section(make(tmp_path, rows), "failures")
    assert told.count("<li>") == 2
    assert '2 trials: t0000, t0001</p><p class="note">not &lt;finite&gt;</p>' in told


def test_of_many_failures_some_are_told_and_those_before_what_was_stopped(tmp_path: Path) -> None:
    rows = [ended(0, 1.0, state=TrialState.PRUNED, reason="stopped early")]
    rows += [ended(i, None, reason="same") for i in range(1, 24)]
    rows += [ended(i, None, reason=f"cause {i}") for i in range(24, 44)]
    told = section(make(tmp_path, rows), "failures")
    assert told.count("<li>") == 20
    assert "23 trials: t0001, " in told
    assert ", t0020 and 3 others</p>" in told
    assert "2 more causes are in the table below" in told
    assert "stopped early" not in told


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    page = make(tmp_path, [ended(0, None), ended(1, None)])
    assert "No trial completed" in page
    assert "No trial has a score" in page
    assert "No trial was evaluated" in page
    assert "too few trials: 0 complete configurations, but it takes 10" in page
    assert list(figures(page)) == ["the knobs and the score of each trial, one line per trial"]
    (tmp_path / "flat").mkdir()
    flat = [
        ended(i, 1.0, knobs={"meta.inner_lr": (1 + i) / 12, "meta.clip": 0.3}) for i in range(12)
    ]
    page = make(tmp_path / "flat", flat, unjudged="t<0> is gone")
    assert "all scores are equal" in page
    assert "were not compared on fresh tasks. t&lt;0&gt; is gone." in page
    (tmp_path / "fixed").mkdir()
    fixed = [ended(i, float(i), knobs=dict(trial.knobs)) for i, trial in enumerate(flat)]
    assert "it never varied" in make(tmp_path / "fixed", fixed)
    (tmp_path / "empty").mkdir()
    assert "Trials: none" in make(tmp_path / "empty", [])


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("scores", [(1e308, -1e308), (5e-324, 0.0), (0.0, 0.0), (1e16, 1e16 + 2)])
def test_numbers_of_any_size_are_drawn(scores: tuple[float, float], tmp_path: Path) -> None:
    knobs = {"meta.inner_lr": scores[0], "meta.clip": 0.3, "a": True, "b": "x"}
    rows = [
        ended(i, s, knobs=knobs, curve=((1, s, s), (2, s, s)), interval=(s, s))
        for i, s in enumerate(scores)
    ]
    page = make(tmp_path, rows, bound=scores[1])
    check_well_formed(page)
    assert not re.search(r'"(nan|-?inf)', page)
    assert not re.search(r'points="[^"]*(nan|inf)', page)


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
    moves = section(page, "moves")
    assert list(figures(moves)) == [
        f"range of {knob} in each round" for knob in (LR, STEPS, METHOD)
    ]
    assert "nothing moved" in moves
    assert "agents &amp; co" in moves
    assert '<data value="1.0">1</data></td><td><data value="0.01">0.01</data>' in moves
    assert '<data value="3.7">3.7</data>' in moves
    assert "<td>1 – 3</td><td>1 – 5</td>" in moves
    assert "&lt;b&gt;4 of 5&lt;/b&gt;" in moves
    assert "t&lt;0&gt;, t2" in moves
    assert "too few trials" not in page
    assert section(page, "importance").count('class="bar"') == 3


def test_the_incumbent_is_the_best_up_to_its_round(tmp_path: Path) -> None:
    drawn = {}
    for name, rounds in {"late": [1] * 6 + [2] * 7, "early": [1] * 13}.items():
        (tmp_path / name).mkdir()
        trials = [searched(i, in_round) for i, in_round in enumerate(rounds)]
        drawn[name] = figures(make_with_rounds(tmp_path / name, trials))
    # The dots are trial 5 and then 9, or trial 9 both times; both have the same method.
    for knob, is_same in {LR: False, STEPS: False, METHOD: True}.items():
        name = f"range of {knob} in each round"
        assert (drawn["late"][name] == drawn["early"][name]) == is_same


def test_rounds_without_a_complete_trial_are_shown(tmp_path: Path) -> None:
    page = make_with_rounds(tmp_path, [ended(0, None)])
    check_well_formed(page)
    assert len(figures(section(page, "moves"))) == 3
    assert section(page, "importance").count("<li>") == 3
    assert "too few trials: 0 complete configurations, but it takes 10" in page


def test_a_page_without_rounds_does_not_speak_of_them(tmp_path: Path) -> None:
    assert "How the box moved" not in make(tmp_path, [ended(0, 1.0)])
