"""Evaluation of an RLlib algorithm on held-out tasks, by the runners that train it."""

from typing import TYPE_CHECKING, Any

import torch
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EVALUATION_RESULTS
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from ssmrl.config import TrainConfig
from ssmrl.rollout.assignment import held_out_assignment
from ssmrl.rollout.evaluate import REPORTED_STEPS, Evaluation
from ssmrl.rollout.play import Mode, Play

if TYPE_CHECKING:
    from cluster.meta_algorithm import MetaAlgorithm


def held_out(
    algorithm: "MetaAlgorithm", *, num_episodes: int, mode: Mode = Mode.USED, draw: int = 0
) -> Evaluation:
    """``ssmrl.rollout.evaluate.judge`` on the algorithm's runners; only returns come back.

    Args:
        algorithm: Algorithm whose current parameters are evaluated.
        num_episodes: Successive episodes with each task.
        mode: How the policy acts and adapts.
        draw: Index of the set of held-out tasks.
    """
    config: TrainConfig = algorithm.config.train_config
    lanes = config.evaluation.num_episodes
    played = algorithm.play(Play(held_out_assignment(config, draw), lanes, num_episodes, mode))
    returns = torch.cat([one.returns for one in played], 1)
    return Evaluation.of_returns(returns, sum(one.env_steps for one in played))


def evaluate_held_out(
    algorithm: "MetaAlgorithm", eval_env_runner_group: Any = None
) -> tuple[dict[str, Any], int, int]:
    """RLlib's evaluation, on held-out tasks.

    It reports the returns after 0, 1, 3 and ``learner.num_episodes - 1`` episodes.

    Args:
        algorithm: Algorithm to evaluate on its training runners.
        eval_env_runner_group: RLlib's evaluation runners, not used.

    Returns:
        The results, and the env steps twice: as env steps and as agent steps [env steps].
    """
    learner = algorithm.learner
    scored = learner.num_episodes - 1
    evaluation = held_out(algorithm, num_episodes=learner.num_reported_episodes)
    means = evaluation.mean_returns()
    interval = evaluation.interval(scored)
    results = {
        "returns": {str(k): means[k] for k in (*REPORTED_STEPS, scored) if k in means},
        "return_adapted": means[scored],
    }
    if interval is not None:
        results["return_adapted_low"], results["return_adapted_high"] = interval
    # RLlib reports what is aggregated under these two keys, not what is returned.
    logger = MetricsLogger(stats_cls_lookup=algorithm.config.stats_cls_lookup, root=False)
    logger.log_dict(results, window=1)
    algorithm.metrics.aggregate([logger.reduce()], key=(EVALUATION_RESULTS, ENV_RUNNER_RESULTS))
    return results, evaluation.env_steps, evaluation.env_steps
