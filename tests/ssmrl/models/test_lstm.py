"""The long short-term memory beyond the contract: it is the one that everybody means."""

import torch
from torch import nn

from ssmrl.config import SequenceConfig
from ssmrl.models.lstm import LSTM
from ssmrl.testing.sequences import INPUT_DIM, random_model, random_sequences


def test_equals_the_librarys_with_the_same_weights() -> None:
    """``nn.LSTM`` orders its rows input, forget, candidate, output."""
    policy = random_model(SequenceConfig("lstm", hidden_dim=6))
    x, hidden, first = random_sequences(policy, seed=0)
    units = policy.state_dim // 2
    library = nn.LSTM(INPUT_DIM, units, batch_first=True).double()
    names = {"weight_ih_l0": "input_layer.weight", "bias_ih_l0": "input_layer.bias"}
    names |= {"weight_hh_l0": "hidden_layer.weight", "bias_hh_l0": "hidden_layer.bias"}
    weights = policy.state_dict()
    with torch.no_grad():
        for theirs, ours in names.items():
            write, keep, read, candidate = weights[ours].chunk(4)
            getattr(library, theirs).copy_(torch.cat([write, keep, candidate, read]))
    memory = tuple(part.unsqueeze(0).contiguous() for part in hidden.chunk(2, dim=-1))
    outputs, (output, cell) = library(x, memory)
    ours, last = policy.scan(x, hidden, torch.zeros_like(first))
    torch.testing.assert_close(ours, policy.head(outputs), rtol=1e-12, atol=1e-12)
    wanted = torch.cat([output[0], cell[0]], dim=-1)
    torch.testing.assert_close(last, wanted, rtol=1e-12, atol=1e-12)


def test_starts_with_open_forget_gates() -> None:
    """Shut half-way, as biases of 0 leave them, they forget all within ten steps."""
    policy = LSTM(INPUT_DIM, 2, hidden_dim=6)
    bias = policy.input_layer.bias + policy.hidden_layer.bias
    assert torch.equal(bias.detach(), torch.tensor([0.0, 1.0, 0.0, 0.0]).repeat_interleave(6))
