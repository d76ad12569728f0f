"""Searchers of other packages: told of all that ended, asked for points, held to the space."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from ssmrl.config import KnobValue, TrainConfig
from ssmrl.import_path import ImportPathError, imported
from tuning.search.searcher import StudySearcher
from tuning.search.searchers import check_searcher
from tuning.spaces.space import Float, Int, SearchSpace

SPACE = SearchSpace(
    {"policy.hidden_dim": Int(16, 128, step=16), "meta.inner_lr": Float(0.01, 1.0, log=True)},
    TrainConfig.for_task("point", "promp"),
)


class Recorder:
    """Says what it was told; asks for the same point always."""

    told: ClassVar[list[list[float | None]]] = []
    answer: ClassVar[dict[str, Any]] = {}

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.scores: list[float | None] = []
        type(self).told.append(self.scores)

    def tell(self, point: Mapping[str, KnobValue], score: float | None) -> None:
        SPACE.configure(point)
        self.scores.append(score)

    def ask(self) -> Mapping[str, KnobValue]:
        return dict(type(self).answer)


class OnlyAsks:
    """No searcher."""

    def ask(self) -> dict[str, KnobValue]:
        return {}


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> str:
    """A path that leads to the class above in every module that looks."""
    monkeypatch.setattr(Recorder, "told", [])
    good = {"policy.hidden_dim": 32, "meta.inner_lr": 0.5}
    monkeypatch.setattr(Recorder, "answer", good)
    return "own:Recorder"


@pytest.fixture(autouse=True)
def _imports(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"own:Recorder": Recorder, "own:OnlyAsks": OnlyAsks}

    def found(path: str) -> Any:
        return own[path] if path in own else imported(path)

    monkeypatch.setattr("tuning.search.own_searcher.imported", found)
    monkeypatch.setattr("tuning.search.searchers.imported", found)


def searcher(name: str) -> StudySearcher:
    return StudySearcher(SPACE, name=name, storage_path=None, study_name="own")


def test_it_is_told_of_all_that_ended_and_its_answer_is_tried(path: str) -> None:
    search = searcher(path)
    for number, score in enumerate([1.0, None, 3.0]):
        trial_id = f"trial{number}"
        assert search.suggest(trial_id) == Recorder.answer
        result = None if score is None else {"score": score, "finished": True, "judged_at": 1}
        search.on_trial_complete(trial_id, result, error=score is None)
    search.suggest("last")
    assert Recorder.told[-1] == [1.0, None, 3.0]


@pytest.mark.parametrize(
    "answer",
    [
        {"policy.hidden_dim": 32},
        {"policy.hidden_dim": 33, "meta.inner_lr": 0.5},
        {"policy.hidden_dim": 32, "meta.inner_lr": 2.0},
        {"policy.hidden_dim": 32, "meta.inner_lr": 0.5, "seed": 1},
    ],
)
def test_an_answer_that_is_no_point_is_its_fault(
    path: str, answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "answer", answer)
    with pytest.raises(ImportPathError, match="`ask` of 'own:Recorder' gave no point: "):
        searcher(path).suggest("trial0")


def test_a_sampler_of_optunas_is_taken_by_its_path() -> None:
    points = [searcher("optuna.samplers:RandomSampler").suggest("a") for _ in range(2)]
    assert points[0] == points[1], "the same seed"
    assert points[0] is not None
    SPACE.configure(points[0])


def test_what_chooses_no_points_is_refused_before_anything_starts() -> None:
    with pytest.raises(ImportPathError, match=r"must have `ask` and `tell`, .* lacks `tell`"):
        check_searcher("own:OnlyAsks")
    with pytest.raises(KeyError, match="the searchers are: tpe, gp, cmaes, qmc, random; give one"):
        check_searcher("tpo")
    with pytest.raises(ImportPathError, match=r"made by \(seed=\.\.\.\), but"):
        searcher("optuna.samplers:PartialFixedSampler").suggest("a")
