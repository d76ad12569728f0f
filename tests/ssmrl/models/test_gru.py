"""The gated recurrent unit beyond the contract: it is the one that everybody means."""

import torch
from torch import nn

from ssmrl.config import SequenceConfig
from ssmrl.testing.sequences import INPUT_DIM, random_model, random_sequences


def test_equals_the_librarys_with_the_same_weights() -> None:
    policy = random_model(SequenceConfig("gru", hidden_dim=6))
    x, hidden, first = random_sequences(policy, seed=0)
    library = nn.GRU(INPUT_DIM, policy.state_dim, batch_first=True).double()
    names = {"weight_ih_l0": "input_layer.weight", "bias_ih_l0": "input_layer.bias"}
    names |= {"weight_hh_l0": "hidden_layer.weight", "bias_hh_l0": "hidden_layer.bias"}
    weights = policy.state_dict()
    with torch.no_grad():
        for theirs, ours in names.items():
            getattr(library, theirs).copy_(weights[ours])
    outputs, last = library(x, hidden.unsqueeze(0))
    ours, our_last = policy.scan(x, hidden, torch.zeros_like(first))
    torch.testing.assert_close(ours, policy.head(outputs), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(our_last, last[0], rtol=1e-12, atol=1e-12)
