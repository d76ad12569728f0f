"""The returns that judge a winner: after adaptation, on tasks that chose nothing, seed by seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.rollout.evaluate import Evaluation
from ssmrl.rollout.play import LocalCollector, Mode
from ssmrl.run import checkpoint_path
from ssmrl.types import Params
from tests.ssmrl.context.small_context import small_context
from tests.ssmrl.two_sides import NAME, only, two_sides
from tuning import fresh_returns as module
from tuning.ending import LostError
from tuning.fresh_returns import blind_return, fresh_returns, saved_run
from tuning.table.trial import Trial, TrialState

SEARCH_DRAW = 0


def config_of(algorithm: str, episodes: int = 1) -> TrainConfig:
    if algorithm == "context-sac":
        knobs = {"meta.episodes_per_task": episodes, "meta.replay_env_steps": 360}
        return small_context(**knobs)
    small = {"policy.method": "mlp", "policy.hidden_dim": 8, "meta.num_inner_steps": episodes - 1}
    return TrainConfig.for_task("point", algorithm).with_knobs(small)


def trained(config: TrainConfig, folder: Path, number: int, seeds: tuple[int, ...]) -> Trial:
    """A trial whose runs' checkpoints are there, with the weights that each seed starts from."""
    for seed in seeds:
        own = config.with_knobs({"seed": seed})
        learner = ALGORITHMS[config.algorithm].learner_type()(own)
        path = checkpoint_path(folder / "checkpoints", own)
        Checkpoint(own, learner.tensors(), {}).save(path)
    first = config.with_knobs({"seed": seeds[0]})
    knobs = {"policy.hidden_dim": config.policy.hidden_dim}
    return Trial(
        f"t{number:04d}", number, TrialState.COMPLETE, 0.0, knobs, first.knobs(), seeds=seeds
    )


class Told:
    """In place of playing: what was asked for, answered with a number for each question."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(
        self,
        config: TrainConfig,
        params: Params,
        collect: LocalCollector,
        *,
        num_episodes: int,
        mode: Mode = Mode.USED,
        draw: int = 0,
    ) -> Evaluation:
        self.asked.append(
            {"config": config, "params": params, "K": num_episodes, "mode": mode, "draw": draw}
        )
        number = float(len(self.asked))
        episodes = number * 10.0 ** np.arange(5)  # more than were asked for, each of its own size
        return Evaluation(np.repeat(episodes[:, None], 3, axis=1), 0)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(module, "judge", told)
    return told


@pytest.mark.parametrize(
    ("algorithm", "episodes"), [("promp", 2), ("promp", 4), ("context-sac", 1), ("context-sac", 3)]
)
def test_each_seed_is_judged_after_adaptation_on_tasks_that_chose_nothing(
    algorithm: str, episodes: int, judge: Told, tmp_path: Path
) -> None:
    config = config_of(algorithm, episodes)
    trials = [trained(config, tmp_path, 0, (3, 4)), trained(config, tmp_path, 1, (7,))]
    found = fresh_returns(tmp_path, trials, with_switched_off=True)
    scale = 10.0 ** (episodes - 1)
    assert found.used == (1.0 * scale, 3.0 * scale, 5.0 * scale)
    assert found.switched_off == (2.0 * scale, 4.0 * scale, 6.0 * scale)
    assert [each["mode"] for each in judge.asked] == [Mode.USED, Mode.OFF] * 3
    assert [each["config"].seed for each in judge.asked] == [3, 3, 4, 4, 7, 7]
    assert {each["K"] for each in judge.asked} == {episodes}
    (draw,) = {each["draw"] for each in judge.asked}
    assert draw != SEARCH_DRAW
    assert {each["config"].evaluation.num_tasks for each in judge.asked} == {100}
    for each in judge.asked:
        own = config.with_knobs({"seed": each["config"].seed})
        wanted = ALGORITHMS[algorithm].learner_type()(own).params()
        assert each["params"].keys() == wanted.keys()
        assert all((each["params"][name] == value).all() for name, value in wanted.items())


def test_without_being_asked_for_nothing_is_switched_off(judge: Told, tmp_path: Path) -> None:
    found = fresh_returns(tmp_path, [trained(config_of("promp", 2), tmp_path, 0, (3,))])
    assert (found.used, found.switched_off) == ((10.0,), ())
    assert len(judge.asked) == 1


def test_a_trial_that_lists_no_seeds_had_that_of_its_configuration(
    judge: Told, tmp_path: Path
) -> None:
    config = config_of("promp", 2)
    trained(config, tmp_path, 0, (5,))
    knobs = {"policy.hidden_dim": 8}
    row = Trial("t0000", 0, TrialState.COMPLETE, 0.0, knobs, config.with_knobs({"seed": 5}).knobs())
    fresh_returns(tmp_path, [row])
    assert judge.asked[0]["config"].seed == 5
    assert saved_run(tmp_path, row).config.seed == 5


def test_what_is_played_are_held_out_tasks_and_the_blind_return_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = two_sides(monkeypatch)
    monkeypatch.setattr(module, "NUM_FRESH_TASKS", 6)
    small = {"policy.method": "mlp", "policy.hidden_dim": 8, "evaluation.num_episodes": 2}
    config = TrainConfig.for_task(NAME, "promp").with_knobs(small)
    trial = trained(config, tmp_path, 0, (3,))
    with only(goals, held_out=True):
        fresh_returns(tmp_path, [trial])
    asked = config.with_knobs({"evaluation.num_tasks": 6})
    searched = {task.parameters for task in held_out_assignment(asked, SEARCH_DRAW).tasks}
    assert len(set(goals)) == 6
    assert not set(goals) & searched
    family = get_family(NAME)
    wanted = family.blind_return(sorted(set(goals)), config.env.horizon)
    assert blind_return(config) == pytest.approx(wanted)


def test_who_names_no_draw_is_not_given_the_tasks_of_the_final_comparison() -> None:
    """A search names none: it would choose by what it is judged by."""
    config = config_of("promp", episodes=2)
    chosen_by = held_out_assignment(config).tasks
    assert chosen_by == held_out_assignment(config, SEARCH_DRAW).tasks
    assert not set(chosen_by) & set(held_out_assignment(config, module.FRESH_DRAW).tasks)


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_checkpoint_that_is_gone_or_damaged_is_named_with_its_trial_and_what_to_do(
    is_gone: bool, tmp_path: Path
) -> None:
    config = config_of("promp", 2)
    trial = trained(config, tmp_path, 3, (5,))
    path = checkpoint_path(tmp_path / "checkpoints", config.with_knobs({"seed": 5}))
    if is_gone:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(LostError, match=rf"t0003 cannot be .*`ssmrl doctor {tmp_path}`"):
        fresh_returns(tmp_path, [trial])
