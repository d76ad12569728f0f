"""A custom sequence model: a leaky integrator with one rate per unit.

ssmrl train --task point --method examples.own_policy:LeakyIntegrator
ssmrl sweep --task point --method examples.own_policy:LeakyIntegrator
"""

import torch
from torch import nn


class LeakyIntegrator(nn.Module):
    """Each unit forgets at its own rate; features are computed from memory and input."""

    def __init__(self, input_dim, config):
        super().__init__()
        self.state_dim = config.state_dim
        self.rate = nn.Parameter(torch.linspace(-2.0, 4.0, config.state_dim))
        self.into = nn.Linear(input_dim, config.state_dim)
        self.features = nn.Linear(config.state_dim + input_dim, config.hidden_dim)

    def init_hidden(self, batch_size):
        """An empty memory."""
        return torch.zeros(batch_size, self.state_dim)

    def step(self, x, hidden):
        """One env step."""
        keep = torch.sigmoid(self.rate)
        hidden = keep * hidden + (1.0 - keep) * self.into(x)
        return torch.tanh(self.features(torch.cat([hidden, x], dim=-1))), hidden
