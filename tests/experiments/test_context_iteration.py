"""The floor of an iteration of context-sac: its products, counted and by hand."""

from experiments.benchmarks import context_iteration
from ssmrl.config import TrainConfig
from ssmrl.context.networks import ContextNetworks
from ssmrl.rollout.worker import env_shape


def test_the_products_of_an_iteration_are_counted_as_by_hand() -> None:
    config = TrainConfig.for_task("point").with_knobs(
        {
            "meta.num_lanes": 4,
            "meta.batch_size": 32,
            "meta.critic_hidden_dim": 16,
            "meta.actor_hidden_dim": 8,
            "meta.actor_every": 2,
        }
    )
    shape = env_shape(config.env)
    networks = ContextNetworks(config, shape.observation_dim, shape.action_dim)
    seen, action = shape.observation_dim + networks.code_dim, shape.action_dim
    actor_pass = seen * 8 + 8 * 8 + 8 * 2 * action
    critics_pass = 2 * ((seen + action) * 16 + 16 * 16)  # the last layer is no product
    critics_back = 2 * (2 * 16 * 16 + (seen + action) * 16)
    to_action = 2 * (16 * 16 + action * 16)
    actor_back = 2 * 8 * 2 * action + 2 * 8 * 8 + seen * 8
    still = actor_pass + 2 * critics_pass + critics_back
    moving = still + actor_pass + critics_pass + to_action + actor_back
    num_updates = round(config.meta.updates_per_env_step * 4 * config.env.horizon)
    by_hand = 2 * 32 * (still + moving) * num_updates / 2
    found = context_iteration.count_flops(config, networks)
    assert found["products of actor and critics"] == by_hand
    assert found["products of the inference"] > 0.0
