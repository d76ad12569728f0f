"""What is trained on, what is judged on, and on which side of adaptation a score lies."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssmrl.config import TrainConfig
from ssmrl.context.learner import ContextLearner
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.models.actor import GaussianActor
from ssmrl.rollout.assignment import held_out_assignment, train_assignment
from ssmrl.rollout.evaluate import Evaluation, judge
from ssmrl.rollout.play import LocalCollector, Mode, Play
from ssmrl.rollout.report import PolicyReport
from ssmrl.run import LocalEngine, TrainingRun
from ssmrl.train import evaluate, train
from ssmrl.types import Params, Trajectory
from tests.ssmrl.context.small_context import random_trajectories, small_context
from tests.ssmrl.two_sides import NAME, only, two_sides

EVERY = pytest.mark.parametrize("algorithm", ["context-sac", "promp"])
Goals = list[tuple[float, ...]]


@pytest.fixture
def goals(monkeypatch: pytest.MonkeyPatch) -> Goals:
    return two_sides(monkeypatch)


def small(algorithm: str, **knobs: Any) -> TrainConfig:
    if algorithm == "context-sac":
        return small_context(NAME, **knobs)
    own = {
        "env.horizon": 10,
        "policy.hidden_dim": 8,
        "policy.method": "mlp",
        "meta.num_tasks": 4,
        "meta.num_episodes": 3,
        "evaluation.num_tasks": 4,
        "evaluation.num_episodes": 2,
    }
    return TrainConfig.for_task(NAME, algorithm).with_knobs(own | knobs)


def actor_of(config: TrainConfig) -> GaussianActor:
    return initial_actor(config)


# ---------------------------------------------------------------------------- which tasks


def test_each_assignment_is_drawn_from_its_own_law(goals: Goals) -> None:
    config = small("promp")
    trained = [task for i in range(5) for task in train_assignment(config, i).tasks]
    tested = [task for draw in range(5) for task in held_out_assignment(config, draw).tasks]
    assert all(task.parameters[0] > 0.0 for task in trained)
    assert all(task.parameters[0] < 0.0 for task in tested)
    assert len(set(trained)) == len(set(tested)) == 20
    both = [train_assignment(config, i) for i in range(5)]
    both += [held_out_assignment(config, draw) for draw in range(5)]
    words = {int(stream.generate_state(1)[0]) for each in both for stream in each.streams}
    assert len(words) == 40, "nor is any of their randomness the same"


@EVERY
def test_what_learns_plays_no_held_out_task(algorithm: str, goals: Goals) -> None:
    config = small(algorithm)
    engine = LocalEngine(config, 1)
    with only(goals, held_out=False):
        for _ in range(2):
            engine.iterate()


def test_the_plain_loop_plays_no_held_out_task(goals: Goals) -> None:
    with only(goals, held_out=False):
        list(itertools.islice(train(small("promp"), num_threads=1), 2))


JUDGES: dict[str, Callable[[LocalEngine, TrainConfig], object]] = {
    "engine": lambda engine, _: engine.judge(num_episodes=2, mode=Mode.USED, draw=3),
    "report": lambda engine, config: PolicyReport.of(
        config, engine.learner.params(), draw=3, num_threads=1
    ),
}


@EVERY
@pytest.mark.parametrize("judge", JUDGES)
def test_what_judges_plays_held_out_tasks_alone(judge: str, algorithm: str, goals: Goals) -> None:
    config = small(algorithm)
    engine = LocalEngine(config, 1)
    with only(goals, held_out=True):
        JUDGES[judge](engine, config)
    known = {task.parameters for task in held_out_assignment(config, 3).tasks}
    assert set(goals) == known, "those of this draw"


def test_the_evaluation_of_an_actor_plays_held_out_tasks_alone(goals: Goals) -> None:
    config = small("promp")
    with only(goals, held_out=True):
        evaluate(config, actor_of(config), num_steps=1, draw=3, num_threads=1)
    assert set(goals) == {task.parameters for task in held_out_assignment(config, 3).tasks}


def test_neither_the_replay_nor_what_is_paid_anew_knows_a_held_out_task(goals: Goals) -> None:
    """The code of a goal is the goal, so the side of every task that is learnt from shows."""
    config = small_context(NAME, **{"meta.updates_per_env_step": 1.0})
    learner = ContextLearner(config)
    collect = LocalCollector(config, 1)
    for _ in range(2):
        learner.iterate(collect)
    kept = learner.replay.take(torch.arange(learner.replay.num_env_steps)).code
    assert (kept[:, 0] > 0.0).all()
    learner.keep(learner.play(collect, 0, learner.params()))
    chance = learner.chance(0)
    _, codes = learner.newest_lanes(chance.rng)
    assert len(codes) == 2 * 3 * config.meta.num_lanes, "each lane, and again paid by another task"
    assert (codes[:, 0] > 0.0).all()
    drawn = learner.drawn(chance)
    assert drawn.codes.numel()
    assert (drawn.codes[..., 0] > 0.0).all()
    assert (drawn.parameters[..., 0] > 0.0).all()


# -------------------------------------------------------------- what a play is asked for


def test_a_judgement_asks_for_the_draw_the_lanes_and_the_mode_that_it_is_told(
    goals: Goals,
) -> None:
    config = small("context-sac", **{"evaluation.num_episodes": 5})
    params: Params = {"weight": torch.ones(1)}
    asked: list[Play] = []

    def collect(given: Params, play: Play) -> list[Trajectory]:
        assert given is params
        asked.append(play)
        return random_trajectories(2, 3, 4, 2, 2, 0)

    default = judge(config, params, collect, num_episodes=2)
    judge(config, params, collect, num_episodes=7, mode=Mode.OFF, draw=6)
    assert [play.mode for play in asked] == [Mode.USED, Mode.OFF]
    assert [play.num_episodes for play in asked] == [2, 7]
    assert [play.num_lanes for play in asked] == [5, 5]
    for play, draw in zip(asked, (0, 6), strict=True):
        wanted = held_out_assignment(config, draw)
        assert play.assignment.tasks == wanted.tasks
        words = [
            [int(stream.generate_state(1)[0]) for stream in each.streams]
            for each in (play.assignment, wanted)
        ]
        assert words[0] == words[1]
    assert default.env_steps == 2 * 3 * 1 * 4


# ------------------------------------------------------------- which side of adaptation


class ToldEngine(LocalEngine):
    """Judges by a table: the return of each episode, in each mode."""

    def __init__(self, config: TrainConfig, returns: dict[Mode, list[float]]) -> None:
        super().__init__(config, 1)
        self._returns = returns
        self.asked: list[tuple[int, Mode, int]] = []

    def judge(self, *, num_episodes: int, mode: Mode, draw: int) -> Evaluation:
        self.asked.append((num_episodes, mode, draw))
        means = np.array(self._returns[mode][:num_episodes])
        return Evaluation(means[:, None] + np.array([[-1.0, 0.0, 1.0]]), 0)


def told(config: TrainConfig, folder: Path) -> tuple[TrainingRun, ToldEngine]:
    """A run of one iteration with one evaluation."""
    returns = {
        Mode.USED: [1.0, 20.0, 300.0, 4000.0, 50000.0],
        Mode.OFF: [-1.0, -20.0, -300.0, -4000.0, -50000.0],
        Mode.GIVEN: [7.0] * 5,
        Mode.OTHER_REWARDS: [8.0] * 5,
    }
    engine = ToldEngine(config, returns)
    run = TrainingRun(config, max_env_steps=1, folder=folder, engine=engine, num_evaluations=1)
    run.advance()
    return run, engine


@pytest.mark.parametrize(("num_steps", "score"), [(1, 20.0), (2, 300.0)])
def test_by_gradient_the_score_is_the_return_after_the_steps_that_were_trained_for(
    num_steps: int, score: float, goals: Goals, tmp_path: Path
) -> None:
    run, engine = told(small("promp", **{"meta.num_inner_steps": num_steps}), tmp_path)
    assert run.row.score == score
    assert run.row.curve == ((run.row.env_steps, 1.0, score),)
    assert run.row.interval is not None
    assert sum(run.row.interval) / 2.0 == pytest.approx(score)
    assert run.row.returns == {"0": 1.0, "1": 20.0, "2": 300.0, "3": 4000.0}
    assert engine.asked == [(4, Mode.USED, 0)], "reported with all steps, on the tasks of searches"


@pytest.mark.parametrize(("num_episodes", "place"), [(1, 0), (3, 2)])
def test_by_memory_the_score_is_that_of_the_last_episode_with_the_memory_used(
    num_episodes: int, place: int, goals: Goals, tmp_path: Path
) -> None:
    knobs = {"meta.episodes_per_task": num_episodes, "meta.replay_env_steps": 360}
    run, engine = told(small("context-sac", **knobs), tmp_path)
    used, off = [1.0, 20.0, 300.0][place], [-1.0, -20.0, -300.0][place]
    assert run.row.score == used
    assert run.row.curve == ((run.row.env_steps, off, used),)
    assert run.row.interval is not None
    assert sum(run.row.interval) / 2.0 == pytest.approx(used)
    assert engine.asked == [(num_episodes, Mode.USED, 0), (num_episodes, Mode.OFF, 0)]


@pytest.mark.parametrize("algorithm", [n for n, a in ALGORITHMS.items() if a.kind == "gradient"])
def test_by_gradient_every_algorithm_is_judged_after_at_least_one_step(
    algorithm: str, goals: Goals
) -> None:
    learner = LocalEngine(small(algorithm), 1).learner
    assert learner.num_episodes == 2
    assert learner.knows_nothing_at_first
