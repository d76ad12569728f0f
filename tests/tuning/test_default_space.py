"""What is searched by default, and what is never searched."""

import pytest

from ssmrl.config import TrainConfig
from tuning.spaces.space import Choice, Float, Int, Range, SearchSpace, default_space

BASE = TrainConfig(algorithm="promp")


@pytest.mark.parametrize(
    ("knob", "a_range", "why"),
    [
        ("algorithm", Choice(("promp", "e-maml")), "make one sweep for each"),
        ("env.task", Choice(("point", "ant-vel")), "cannot be compared"),
        ("env.horizon", Int(10, 20), "a return is a sum over it"),
        ("env.action_scale", Float(1.0, 10.0), "the cost of an action"),
        ("evaluation.num_tasks", Int(10, 20), "how the score is measured"),
        ("evaluation.num_episodes", Int(10, 20), "how the score is measured"),
        ("seed", Int(0, 3), "--seeds-per-trial"),
    ],
)
def test_what_defines_the_score_is_not_searched(knob: str, a_range: Range, why: str) -> None:
    with pytest.raises(ValueError, match=f"`{knob}` must not be searched: .*{why}"):
        SearchSpace({knob: a_range}, BASE)


def test_the_default_space_asks_for_knobs_that_the_algorithm_has() -> None:
    def of(algorithm: str) -> SearchSpace:
        return default_space(TrainConfig(algorithm=algorithm))

    assert of("promp").ranges.keys() - of("maml-trpo").ranges.keys() == {"meta.outer_lr"}
    assert of("maml-trpo").ranges["meta.max_kl"] == Float(1e-3, 1e-1, log=True)
    assert "meta.max_kl" not in of("promp").ranges


def test_where_no_adaptation_step_need_be_made_its_size_hangs_on_there_being_one() -> None:
    space = default_space(TrainConfig(algorithm="context-sac"))
    assert space.ranges["meta.num_inner_steps"] == Int(0, 1)
    assert "meta.inner_lr" not in space.default_point()
    assert space.ranges.keys() == {
        "policy.state_dim",
        "policy.hidden_dim",
        "meta.inner_lr",
        "meta.outer_lr",
        "meta.num_inner_steps",
    }
    point = space.default_point() | {"meta.num_inner_steps": 1}
    assert "meta.inner_lr" in space.active_knobs(point)
