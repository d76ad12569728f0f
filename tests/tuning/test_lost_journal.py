"""A journal that is lost while trials are at work: their numbers are not."""

from pathlib import Path

import pytest

from ssmrl.config import TrainConfig
from tuning.search.planned_point import PlannedPoint
from tuning.search.searcher import StudySearcher
from tuning.spaces.ranges import Float
from tuning.spaces.space import SearchSpace
from tuning.table.trial import Trial, TrialState

SPACE = SearchSpace(
    {"meta.inner_lr": Float(0.01, 1.0, log=True)}, TrainConfig.for_task("point", "promp")
)


def row(number: int, lr: float = 0.1) -> Trial:
    return Trial(f"t{number:04d}", number, TrialState.COMPLETE, -1.0, {"meta.inner_lr": lr})


def resumed(
    folder: Path, rows: list[Trial], *planned: PlannedPoint, first: int = 0
) -> StudySearcher:
    return StudySearcher(
        SPACE,
        storage_path=folder / "optuna.journal",
        study_name="s",
        resume=True,
        recorded=rows,
        initial_points=planned,
        first_number=first,
    )


def made(search: StudySearcher, num_trials: int) -> list[tuple[int, float]]:
    """Numbers and learning rates of the next trials."""
    found = []
    for index in range(num_trials):
        point = search.suggest(f"tune{index}")
        found.append((search.number(f"tune{index}"), float(point["meta.inner_lr"])))
    return found


@pytest.mark.parametrize("lost", [[0], [1], [0, 2], [1, 2]])
def test_the_numbers_of_trials_that_were_at_work_are_given_to_others(
    tmp_path: Path, lost: list[int]
) -> None:
    rows = [row(number) for number in range(4) if number not in lost]
    resumed(tmp_path, rows)  # and the driver died once more before it asked for a point
    trials = made(resumed(tmp_path, rows), len(lost) + 2)
    assert [number for number, _ in trials] == [*lost, 4, 5]
    assert all(SPACE.contains({"meta.inner_lr": lr}) for _, lr in trials)
    assert len({lr for _, lr in trials}) == len(trials)


def test_what_was_planned_takes_them_first_and_no_draw_comes_between(tmp_path: Path) -> None:
    """A round that judges makes nothing but what was planned."""
    planned = [PlannedPoint({"meta.inner_lr": lr}) for lr in (0.1, 0.2, 0.3, 0.4)]
    rows = [row(4, 0.1), row(6, 0.3)]
    trials = made(resumed(tmp_path, rows, *planned, first=4), 2)
    assert trials == [(5, 0.2), (7, 0.4)]


def test_a_study_still_begins_with_the_number_that_it_began_with(tmp_path: Path) -> None:
    resumed(tmp_path, [row(1)])
    with pytest.raises(ValueError, match=r"`first_number` must stay .* with row t0000, but got 1"):
        resumed(tmp_path, [row(1)], first=1)
