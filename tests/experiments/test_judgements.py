"""Benchmarks judge after adaptation, on tasks that chose nothing, each time on other ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from experiments.benchmarks import gpu_learning, learning_run, memory_learning, point_training
from experiments.benchmarks import shuffled_rewards as control
from experiments.benchmarks.learning_run import LearningRun
from experiments.benchmarks.memory_learning import MemoryLearningRun
from experiments.benchmarks.point_training import PointTraining
from ssmrl.config import TrainConfig
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.meta.inner import stack_params
from ssmrl.models.actor import GaussianActor
from ssmrl.rollout.assignment import Assignment, held_out_assignment, train_assignment
from ssmrl.rollout.evaluate import Evaluation
from ssmrl.rollout.play import Mode, Play
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.types import Params, Trajectory
from tests.ssmrl.context.small_context import small_context
from tests.ssmrl.two_sides import NAME, only, two_sides

OF_SEARCHES = {0, 1}
"""Draws that chose a configuration, or compared it."""


def small(task: str = "point", **knobs: Any) -> TrainConfig:
    own = {
        "env.horizon": 10,
        "policy.method": "mlp",
        "policy.hidden_dim": 8,
        "meta.num_tasks": 3,
        "meta.num_episodes": 4,
        "evaluation.num_tasks": 3,
        "evaluation.num_episodes": 4,
    }
    return TrainConfig.for_task(task, "promp").with_knobs(own | knobs)


# ------------------------------------------------------------------- the control's own adaptation


class Steps:
    """Remembers with which parameters is played, and from what is adapted."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.played: list[Params] = []
        self.adapted: list[tuple[Params, torch.Tensor, Params]] = []
        self.trajectories: list[Trajectory] = []
        self._play, self._adapt = control.collect_once, control.adapt
        self._rewards: list[torch.Tensor] = []
        make_sample = control.make_sample

        def sampled(trajectory: Trajectory, settings: Any) -> Any:
            self._rewards.append(trajectory.reward)
            return make_sample(trajectory, settings)

        patch.setattr(control, "collect_once", self.collect_once)
        patch.setattr(control, "adapt", self.adapt)
        patch.setattr(control, "make_sample", sampled)

    def collect_once(self, *arguments: Any, **named: Any) -> Trajectory:
        self.played.append(arguments[2])
        self.trajectories.append(self._play(*arguments, **named))
        return self.trajectories[-1]

    def adapt(self, actor: Any, params: Params, *more: Any) -> Params:
        adapted: Params = self._adapt(actor, params, *more)
        self.adapted.append((params, self._rewards[-1], adapted))
        return adapted


def equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def is_shuffled(reward: torch.Tensor, of: torch.Tensor) -> bool:
    """Each task's own rewards in another order."""
    mixed, own = reward.flatten(1), of.flatten(1)
    return torch.equal(mixed.sort(1).values, own.sort(1).values) and not torch.equal(mixed, own)


def test_the_control_makes_the_same_step_from_shuffled_rewards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were it not adapted, it would be no control of adaptation; were it not shuffled, none."""
    steps, goals = Steps(monkeypatch), two_sides(monkeypatch)
    config = small(NAME)
    actor = initial_actor(config)
    with only(goals, held_out=True):
        returns = control.held_out_returns(config, actor, RolloutWorker(config.env, 1), draw=7)
    assert set(goals) == {task.parameters for task in held_out_assignment(config, 7).tasks}
    start = stack_params({n: v.detach() for n, v in actor.named_parameters()}, 3)
    (from_own, own, after), (from_mixed, mixed, after_mixed) = steps.adapted
    assert equal(from_own, start)
    assert equal(from_mixed, start)
    support, query, query_of_control = steps.trajectories
    assert torch.equal(own, support.reward)
    assert is_shuffled(mixed, support.reward)
    assert equal(steps.played[0], start)
    assert equal(steps.played[1], after)
    assert equal(steps.played[2], after_mixed)
    assert not equal(after, start)
    assert not equal(after_mixed, start)
    assert not equal(after_mixed, after)
    wanted = [float(each.reward.sum(-1).mean()) for each in (support, query, query_of_control)]
    names = ("held_out_before", "held_out_after", "held_out_shuffled")
    assert [returns[name] for name in names] == pytest.approx(wanted)


def test_the_control_trains_on_shuffled_support_and_true_queries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps, goals = Steps(monkeypatch), two_sides(monkeypatch)
    config = small(NAME, **{"meta.num_inner_steps": 2})
    with only(goals, held_out=False):
        trajectories, returns = control.collect_adapting_on_shuffled(
            config, initial_actor(config), RolloutWorker(config.env, 1), train_assignment(config, 0)
        )
    played = steps.trajectories
    assert len(trajectories) == len(played) == 3
    for given, true in zip(trajectories[:2], played[:2], strict=True):
        assert is_shuffled(given.reward, true.reward)
    assert torch.equal(trajectories[2].reward, played[2].reward)
    assert [
        torch.equal(reward, given.reward)
        for (_, reward, _), given in zip(steps.adapted, trajectories[:2], strict=True)
    ] == [True, True]
    assert equal(steps.played[1], steps.adapted[0][2])
    assert equal(steps.played[2], steps.adapted[1][2])
    true = torch.stack([each.reward.sum(-1).mean() for each in played])
    torch.testing.assert_close(returns, true)


# --------------------------------------------------------------------------- which draw


def test_each_evaluation_of_a_learning_curve_has_tasks_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[int] = []

    def judged(config: TrainConfig, actor: Any, worker: Any, draw: int) -> dict[str, float]:
        draws.append(draw)
        return {"held_out_before": 0.0, "held_out_after": 0.0, "held_out_shuffled": 0.0}

    monkeypatch.setattr(learning_run, "EVALUATE_EVERY", 1)
    monkeypatch.setattr(learning_run, "held_out_returns", judged)
    run = LearningRun(
        small(),
        curve=tmp_path / "curve.csv",
        checkpoints=tmp_path / "checkpoints",
        shuffled_rewards=False,
        num_threads=1,
        device=torch.device("cpu:0"),  # by another name, and so without RLlib
    )
    with run.started():
        for _ in range(3):
            run.advance(env_steps=10**9)
    assert len(draws) == len(set(draws)) == 3
    assert 0 not in draws, "searches have that one"


def test_each_evaluation_of_a_memory_has_tasks_of_its_own_in_every_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = two_sides(monkeypatch)
    knobs = {"meta.episodes_per_task": 2, "meta.replay_env_steps": 160}
    config = small_context(NAME, **knobs)
    run = MemoryLearningRun(
        config, tmp_path / "curve.csv", tmp_path / "returns.csv", tmp_path / "checkpoints"
    )
    draws: list[int] = []
    plays: list[Play] = []

    def drawn(config: TrainConfig, draw: int = 0) -> Assignment:
        draws.append(draw)
        return held_out_assignment(config, draw)

    collect = run._collect

    def listened(params: Params, play: Play) -> list[Trajectory]:
        plays.append(play)
        return collect(params, play)

    monkeypatch.setattr(memory_learning, "held_out_assignment", drawn)
    monkeypatch.setattr(run, "_collect", listened)
    with only(goals, held_out=True):
        rows = [run.judge() for _ in range(2)]
    assert len(set(draws)) == 2
    assert not set(draws) & OF_SEARCHES
    wanted = [Mode.USED, Mode.OFF, Mode.OTHER_REWARDS, Mode.GIVEN]
    assert [play.mode for play in plays] == wanted * 2
    assert {play.num_episodes for play in plays} == {2}
    tasks = [play.assignment.tasks for play in plays]
    assert len(set(tasks[:4])) == len(set(tasks[4:])) == 1, "all ways on the same tasks"
    names = dict(zip(("used", "off", "other_rewards", "given"), plays, strict=False))
    for name, play in names.items():
        own = collect(run._engine.learner.params(), play)
        mean = np.mean([float(each.reward.sum(-1).mean()) for each in own])
        assert rows[0][name] == pytest.approx(mean, rel=1e-5), name
    assert len({rows[0][name] for name in names}) == 4


def test_each_evaluation_of_stacked_seeds_has_tasks_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draws: list[int] = []

    class Training:
        going: Sequence[int] = (0,)
        env_steps = 0
        learners = SimpleNamespace(stack=SimpleNamespace(captured={}))

        def __init__(self, job: Any) -> None:
            pass

        def iterate(self) -> list[Any]:
            return []

        def returns(self, draw: int) -> list[float]:
            draws.append(draw)
            return [-1000.0]

    clock = iter(1.3**n for n in range(1000))
    job: Any = SimpleNamespace(part="ant-vel", quick=True, left=1e9, has_goals=False)
    monkeypatch.setattr(gpu_learning, "_Training", Training)
    monkeypatch.setattr(gpu_learning, "_most", lambda _: 3)
    kind = type("Job", (SimpleNamespace,), {"elapsed": property(lambda _: next(clock))})
    gpu_learning.measure(kind(**vars(job)), lambda row: None)
    assert len(draws) == len(set(draws)) == 3
    assert not set(draws) & OF_SEARCHES


def test_stacked_seeds_are_judged_each_by_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Params, int, Mode, int]] = []

    def judge(
        config: str, params: Params, collect: None, *, num_episodes: int, mode: Mode, draw: int
    ) -> Evaluation:
        asked.append((config, params, num_episodes, mode, draw))
        return Evaluation(np.array([[float(len(asked))]]), 0)

    monkeypatch.setattr(gpu_learning, "judge", judge)
    params = [{"weight": torch.full((1,), float(seed))} for seed in range(3)]
    own = [SimpleNamespace(params=lambda each=each: each) for each in params]
    training: Any = object.__new__(gpu_learning._Training)
    training.learners, training.going = SimpleNamespace(own=own), [0, 2]
    training._configs, training._collect = ["first", "second", "third"], None
    assert training.returns(104) == [1.0, 2.0]
    assert asked == [
        ("first", params[0], 1, Mode.USED, 104),
        ("third", params[2], 1, Mode.USED, 104),
    ]


# ------------------------------------------------------------------------------- regret


def test_regret_is_of_new_seeds_after_adaptation_on_tasks_that_were_not_searched_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds: list[int] = []
    asked: list[tuple[int, int]] = []

    def train(config: TrainConfig, actor: GaussianActor, num_threads: int) -> list[None]:
        seeds.append(config.seed)
        return []

    def evaluate(
        config: TrainConfig, actor: GaussianActor, *, num_steps: int, draw: int, num_threads: int
    ) -> Evaluation:
        asked.append((num_steps, draw))
        return Evaluation(np.array([[-20.0], [-5.0], [-4.0]]), 0)

    monkeypatch.setattr(point_training, "train", train)
    monkeypatch.setattr(point_training, "evaluate", evaluate)
    problem = PointTraining(3)
    point = {**problem.space.default_point(), "meta.num_inner_steps": 2}
    score = problem.evaluate(point, np.random.default_rng(0))
    assert score == -4.0
    searched_seeds, searched = set(seeds), list(asked)
    assert problem.regret(point) == pytest.approx(-0.5), "of the -4.5 that is the best return"
    judged = asked[len(searched) :]
    assert len(judged) == point_training.NUM_CHECKS
    assert {steps for steps, _ in asked} == {2}
    assert not {draw for _, draw in judged} & {draw for _, draw in searched}
    assert not set(seeds[1:]) & searched_seeds
    assert len(set(seeds[1:])) == point_training.NUM_CHECKS
