"""A custom algorithm: MAML with the plain policy gradient after the adaptation.

ssmrl train --task point --algorithm examples.own_algorithm:ALGORITHM
"""

from dataclasses import replace

import torch

from ssmrl import ALGORITHMS, ProMP


def policy_gradient(log_prob, query):
    """Policy gradient; the ratio corrects for the policy that collected the actions."""
    ratio = torch.exp(log_prob - query.log_prob)
    return -(ratio * query.advantage).mean()


def outer_step(actor, settings):
    """The outer update, which improves the meta-parameters."""
    return ProMP(actor, settings, policy_gradient)


ALGORITHM = replace(ALGORITHMS["promp"], outer="examples.own_algorithm:outer_step")
