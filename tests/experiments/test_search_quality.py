"""Ways to search are compared on equal terms, and the table says what the searches came to."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.benchmarks import search_quality
from experiments.benchmarks.search_quality import (
    Quality,
    Regrets,
    Search,
    app,
    draw,
    estimate,
    finished_regrets,
    qualities,
    quality_csv,
    quality_table,
    regret_of,
)
from experiments.benchmarks.search_ways import WAYS, final_regret, search
from experiments.benchmarks.synthetic_problems import Problem, make_problems
from experiments.plots import Band
from tuning.table.trial import Trial, TrialState

COMMAND_LINE = CliRunner()
SUITE = [problem.name for problem in make_problems(0)]
ROUNDS, TRIALS = 3, 18
SEED = 2  # of a search in which trials diverge and the space moves


def problem_named(name: str, seed: int = 0) -> Problem:
    return {problem.name: problem for problem in make_problems(seed)}[name]


def rows_of(way: str, problem: Problem) -> tuple[Trial, ...]:
    noise = np.random.default_rng(SEED)
    return search(problem, WAYS[way], noise, seed=SEED, rounds=ROUNDS, trials=TRIALS)


def made_up(**levels: float) -> Regrets:
    """Of each way four seeds on every problem, all of the way's level; of the crew, two."""
    return {
        Search(problem, way, seed, ROUNDS, TRIALS): level
        for seed in range(4)
        for problem in SUITE
        for way, level in levels.items()
        if way != "crew" or seed < 2
    }


def summaries(regrets: Regrets) -> dict[tuple[str, str], Quality]:
    return {(row.problem, row.way): row for row in qualities(regrets)}


@pytest.fixture(scope="module")
def searches() -> dict[str, tuple[Trial, ...]]:
    problem = problem_named("cliff-outside")
    return {way: rows_of(way, problem) for way in WAYS}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_spends_the_same_trials_on_the_same_default_first(
    way: str, searches: dict[str, tuple[Trial, ...]]
) -> None:
    rows = searches[way]
    assert [row.number for row in rows] == list(range(TRIALS))
    assert rows[0] == searches["random"][0]
    assert rows[0].knobs == problem_named("cliff-outside").space.default_point()


def test_what_a_trial_scores_is_what_the_problem_says_of_its_knobs(
    searches: dict[str, tuple[Trial, ...]],
) -> None:
    problem = problem_named("cliff-outside")
    noise = np.random.default_rng(SEED)
    assert any(row.score is None for row in searches["trust-box"])
    for row in searches["trust-box"]:
        assert row.score == problem.evaluate(row.knobs, noise)
        assert (row.state is TrialState.DIVERGED) == (row.score is None)


def test_only_the_ways_that_move_the_space_leave_the_first_box(
    searches: dict[str, tuple[Trial, ...]],
) -> None:
    space = problem_named("cliff-outside").space
    left = {
        way: any(not space.contains(row.knobs) for row in rows) for way, rows in searches.items()
    }
    assert left == {
        "random": False,
        "qmc": False,
        "tpe": False,
        "trust-box": True,
        "crew": True,
    }
    assert {row.round for row in searches["tpe"]} == {0}
    assert [row.round for row in searches["trust-box"]] == sorted([0, 1, 2] * 6)


def test_the_trust_box_searches_its_first_round_as_tpe_does_then_repeats_the_best(
    searches: dict[str, tuple[Trial, ...]],
) -> None:
    tpe, box = searches["tpe"], searches["trust-box"]
    assert box[:6] == tpe[:6]
    best = max((row for row in box[:6] if row.score is not None), key=lambda row: row.score or 0.0)
    assert box[6].knobs == best.knobs
    assert box[6].score != best.score, "the noise is fresh"


def test_the_crew_without_a_model_makes_the_trust_box_s_trials(
    searches: dict[str, tuple[Trial, ...]],
) -> None:
    assert searches["crew"] == searches["trust-box"]


def test_the_final_regret_is_of_the_configuration_that_the_noisy_scores_prefer() -> None:
    problem = problem_named("quadratic-inside")
    default = problem.space.default_point()
    rows = [
        Trial("t0000", 0, TrialState.COMPLETE, -0.3, default),
        Trial("t0001", 1, TrialState.COMPLETE, -0.4, problem.optimum),
    ]
    assert final_regret(problem, rows) == problem.regret(default) > 0.0
    again = Trial("t0002", 2, TrialState.COMPLETE, -0.7, default)  # whose mean is now -0.5
    assert final_regret(problem, [*rows, again]) == 0.0
    diverged = Trial("t0000", 0, TrialState.DIVERGED, None, default, reason="beyond the cliff")
    with pytest.raises(ValueError, match="none of 1 trials"):
        final_regret(problem, [diverged])


def test_a_search_is_the_same_again_and_another_under_another_seed() -> None:
    one = Search("mixed-outside", "trust-box", 1, 2, 12)
    assert regret_of(one) == regret_of(one)
    assert regret_of(one) != regret_of(dataclasses.replace(one, seed=2))


def test_targets_are_judged_on_the_pooled_problems() -> None:
    rows = summaries(made_up(tpe=0.09, **{"trust-box": 0.03}, crew=0.06))
    outside = rows["outside", "trust-box"]
    assert (outside.target, outside.verdict) == ("<= 0.333 x tpe", "met")
    assert rows["outside", "crew"].got == pytest.approx(2.0)
    assert rows["outside", "crew"].verdict == "missed", "twice the trust box's"
    assert rows["inside", "crew"].verdict == "met", "less than TPE's"
    assert rows["outside", "crew"].num_seeds == 2
    assert rows["outside", "crew"].note.endswith("in 0 of 8 searches")
    assert rows["cliff-outside", "trust-box"].target == "", "one problem alone decides nothing"
    worse = summaries(made_up(tpe=0.01, **{"trust-box": 0.0111}))
    assert worse["inside", "trust-box"].verdict == "missed"


def test_a_way_of_few_seeds_is_compared_on_these_seeds() -> None:
    regrets = made_up(tpe=0.02, crew=0.02, **{"trust-box": 0.02})
    regrets = {one: 9.0 if one.seed >= 2 else regret for one, regret in regrets.items()}
    row = summaries(regrets)["valley-inside", "crew"]
    assert row.ratio is not None
    assert (row.ratio.value, row.ratio.low, row.ratio.high) == (1.0, 1.0, 1.0)
    assert row.note.endswith("in 2 of 2 searches")


def test_nothing_is_said_of_a_way_that_was_not_run() -> None:
    rows = qualities(made_up(random=0.1, crew=0.1))
    assert all(row.ratio is None and row.got is None and not row.verdict for row in rows)


def test_an_interval_of_a_ratio_keeps_the_pairs_together() -> None:
    rng = np.random.default_rng(0)
    reference = rng.uniform(0.01, 1.0, (12, 2))
    paired = estimate(0.5 * reference, reference)
    assert (paired.value, paired.low, paired.high) == pytest.approx((0.5, 0.5, 0.5))
    unpaired = estimate(0.5 * reference[::-1], reference)
    assert unpaired.value == pytest.approx(0.5)
    assert unpaired.high - unpaired.low > 0.2
    alone = estimate(reference, None)
    assert alone.low < alone.value == np.median(reference) < alone.high


def test_finished_searches_are_kept_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Search] = []

    def pretend(wanted: Search) -> float:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(wanted)
        return 0.125 * len(made)

    monkeypatch.setattr(search_quality, "regret_of", pretend)
    wanted = [Search("cliff-inside", "tpe", seed, ROUNDS, TRIALS) for seed in range(3)]
    with pytest.raises(KeyboardInterrupt):
        finished_regrets(wanted, tmp_path, jobs=1)
    kept = (tmp_path / "searches.jsonl").read_text().splitlines()
    assert [json.loads(line)["regret"] for line in kept] == [0.125, 0.25]
    made.clear()
    regrets = finished_regrets(wanted, tmp_path, jobs=1)
    assert made == wanted[2:]
    assert regrets == dict(zip(wanted, (0.125, 0.25, 0.125), strict=True))
    assert "3 searches, 2 of them finished before" in capsys.readouterr().out
    made.clear()
    other = dataclasses.replace(wanted[0], trials=TRIALS + 1)
    assert finished_regrets([other], tmp_path, jobs=1) == {other: 0.125}, "other settings"


@pytest.mark.slow
def test_processes_come_to_the_same_regrets(tmp_path: Path) -> None:
    wanted = [Search("valley-outside", "tpe", seed, 1, 6) for seed in range(2)]
    alone = finished_regrets(wanted, tmp_path / "alone", jobs=1)
    assert finished_regrets(wanted, tmp_path / "together", jobs=2) == alone


def test_the_command_writes_table_and_figure(tmp_path: Path) -> None:
    flags = ["--seeds", "1", "--rounds", "2", "--trials", "4", "--ways", "random,tpe,trust-box"]
    flags += ["--output", str(tmp_path), "--storage", str(tmp_path / "kept")]
    result = COMMAND_LINE.invoke(app, flags)
    assert result.exit_code == 0, result.output
    with (tmp_path / "search-quality.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [(row["problem"], row["way"]) for row in cells] == [
        (problem, way)
        for problem in (*SUITE, "outside", "inside")
        for way in ("random", "tpe", "trust-box")
    ]
    lines = (tmp_path / "kept/searches.jsonl").read_text().splitlines()
    kept = [json.loads(line) for line in lines]
    regret = {(one["problem"], one["way"]): one["regret"] for one in kept}
    for row in cells[: -2 * 3]:
        assert float(row["regret"]) == pytest.approx(regret[row["problem"], row["way"]], rel=1e-5)
        assert (row["ratio_to_tpe"] == "") == (row["way"] == "tpe")
    assert (tmp_path / "search-quality.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--ways", "tpe,luck"], "random, qmc, tpe, trust-box, crew"),
        (["--rounds", "5", "--trials", "4"], "trials=4, rounds=5"),
    ],
)
def test_what_cannot_be_run_is_refused(flags: list[str], told: str, tmp_path: Path) -> None:
    result = COMMAND_LINE.invoke(app, [*flags, "--storage", str(tmp_path)])
    assert result.exit_code == 2
    assert told in " ".join(result.output.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_table_and_csv_have_a_line_for_every_row_and_no_figure_without_a_reference(
    tmp_path: Path,
) -> None:
    rows = qualities(made_up(random=0.1))
    assert len(quality_table(rows).splitlines()) == len(quality_csv(rows).splitlines()) == 11
    assert draw(tmp_path / "none.png", rows) is None
    assert not list(tmp_path.iterdir())


def test_the_figure_shows_the_ways_of_most_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, tuple[float, ...]] = {}

    def look(path: Path, bands: list[Band], **_: object) -> Path:
        shown.update({band.name: tuple(band.middle) for band in bands})
        return path

    monkeypatch.setattr(search_quality, "interval_bars", look)
    draw(tmp_path, qualities(made_up(random=0.4, tpe=0.1, crew=0.1, **{"trust-box": 0.05})))
    assert shown == {"random": (4.0,) * 8, "trust-box": (0.5,) * 8}
