"""The transformer beyond the contract: the library's layers, and how far it sees."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssmrl.meta.inner import inner_adapt
from ssmrl.models.transformer import Norm, Transformer
from ssmrl.testing.sequences import INPUT_DIM, OUTPUT_DIM
from ssmrl.types import Params

HIDDEN_DIM, NUM_LAYERS, NUM_HEADS = 8, 2, 2


def random_transformer(window: int) -> Transformer:
    generator = torch.Generator().manual_seed(window)
    policy = Transformer(INPUT_DIM, OUTPUT_DIM, HIDDEN_DIM, NUM_LAYERS, NUM_HEADS, window).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator).double())
    return policy


def inputs(num_steps: int, batch_size: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(num_steps)
    return torch.randn(batch_size, num_steps, INPUT_DIM, generator=generator).double()


def library_layer(layer: nn.Module) -> nn.TransformerEncoderLayer:
    """The library's own layer with the same weights."""
    library = nn.TransformerEncoderLayer(
        HIDDEN_DIM, NUM_HEADS, 4 * HIDDEN_DIM, 0.0, "gelu", batch_first=True, norm_first=True
    ).double()
    names = {
        "self_attn.in_proj_weight": "query_key_value.weight",
        "self_attn.in_proj_bias": "query_key_value.bias",
        "self_attn.out_proj.weight": "merge.weight",
        "self_attn.out_proj.bias": "merge.bias",
    }
    pairs = {
        "linear1": "expand",
        "linear2": "contract",
        "norm1": "attention_norm",
        "norm2": "feedforward_norm",
    }
    for theirs, ours in pairs.items():
        names |= {f"{theirs}.{part}": f"{ours}.{part}" for part in ("weight", "bias")}
    weights = layer.state_dict()
    library.load_state_dict({theirs: weights[ours] for theirs, ours in names.items()})
    return library


@pytest.mark.parametrize("window", [1, 4, 7, 20])
def test_equals_the_librarys_layers_with_a_written_mask(window: int) -> None:
    """Biases by distance and episode boundaries are filled in one by one; nothing is in blocks."""
    policy = random_transformer(window)
    x = inputs(num_steps=17)
    first = torch.zeros(2, 17, dtype=torch.bool)
    first[0, 5] = first[0, 6] = first[1, 12] = True
    mask = torch.full((2, NUM_HEADS, 17, 17), float("-inf")).double()
    for lane in range(2):
        for now in range(17):
            for then in range(max(0, now - window + 1), now + 1):
                if not first[lane, then + 1 : now + 1].any():
                    for head, slope in enumerate((1 / 16, 1 / 256)):
                        mask[lane, head, now, then] = -slope * (now - then)
    features = policy.encoder(x)
    for layer in policy.layers:
        features = library_layer(layer)(features, src_mask=mask.flatten(0, 1))
    wanted = policy.head(functional.layer_norm(features, (HIDDEN_DIM,)) / HIDDEN_DIM**0.5)
    output, _ = policy.scan(x, policy.init_hidden(2), first)
    torch.testing.assert_close(output, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("window", [1, 3, 4])
def test_sees_a_window_less_one_back_in_each_layer_and_no_further(window: int) -> None:
    policy = random_transformer(window)
    x = inputs(num_steps=12, batch_size=1).requires_grad_()
    (slope,) = torch.autograd.grad(policy(x)[0][0, -1].sum(), x)
    reach = NUM_LAYERS * (window - 1)
    seen = slope[0].abs().amax(-1) > 0.0
    assert seen.tolist() == [False] * (11 - reach) + [True] * (reach + 1)


def test_without_resets_it_knows_the_order_of_the_past() -> None:
    """Without a sense of position, attention is blind to a permutation of what came before."""
    policy = random_transformer(window=6)
    x = inputs(num_steps=4)
    swapped = x[:, [1, 0, 2, 3]]
    assert (policy(x)[0][:, -1] - policy(swapped)[0][:, -1]).abs().min() > 1e-4


def test_a_memory_of_zeros_is_an_empty_one_and_not_steps_of_zeros() -> None:
    policy = random_transformer(window=4)
    x = inputs(num_steps=3)
    _, after_zeros = policy(torch.zeros_like(x))
    from_empty, _ = policy(x, policy.init_hidden(2))
    from_zeros, _ = policy(x, after_zeros)
    assert (from_empty - from_zeros).abs().max() > 1e-4
    torch.testing.assert_close(from_empty, policy(x)[0], rtol=0.0, atol=0.0)


def test_under_vmap_the_normalisation_equals_the_librarys_in_a_loop() -> None:
    """Each task has adapted its scale; there the library's second derivative is wrong in vmap."""
    norm, x = Norm(INPUT_DIM).double(), inputs(num_steps=5, batch_size=3)
    params = {
        "weight": torch.linspace(0.5, 2.0, INPUT_DIM).double(),
        "bias": torch.zeros(INPUT_DIM).double(),
        "map": torch.linspace(-1.0, 2.0, INPUT_DIM**2).double().view(INPUT_DIM, INPUT_DIM),
    }

    def ours(p: Params, features: Tensor) -> Tensor:
        affine = {"weight": p["weight"], "bias": p["bias"]}
        result: Tensor = torch.func.functional_call(norm, affine, (features,))
        return result

    def library(p: Params, features: Tensor) -> Tensor:
        return functional.layer_norm(features, (INPUT_DIM,), p["weight"], p["bias"])

    def adapted_loss(p: Params, x: Tensor, norm: Callable[[Params, Tensor], Tensor]) -> Tensor:
        def loss(p: Params) -> Tensor:
            return (norm(p, x @ p["map"]) * x.cos()).sin().square().mean()

        return loss(inner_adapt(loss, p, lr=0.5))

    def vmapped(p: Params) -> Tensor:
        losses: Tensor = torch.func.vmap(lambda x: adapted_loss(p, x, ours))(x)
        return losses.sum()

    def looped(p: Params) -> Tensor:
        return torch.stack([adapted_loss(p, task, library) for task in x]).sum()

    got, wanted = torch.func.grad(vmapped)(params), torch.func.grad(looped)(params)
    for name, value in got.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("wrong", [{"num_layers": 0}, {"num_heads": 0}, {"window": 0}])
def test_impossible_sizes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1, but got") as caught:
        Transformer(3, 2, 4, **wrong)
    assert all(f"{name}={value}" in str(caught.value) for name, value in wrong.items())


def test_small_differences_between_inputs_stay_small() -> None:
    """A norm that divides by almost nothing would make a shout of a whisper, and noise of bits."""
    policy = Transformer(3, 2, hidden_dim=32).double()
    still = torch.zeros(1, 4, 3).double()
    shift = inputs(num_steps=4, batch_size=1)
    whisper, shout = (
        (policy(still + size * shift)[0] - policy(still)[0]).norm() for size in (1e-3, 1.0)
    )
    assert 1e-4 < whisper / shout < 1e-2


def test_heads_need_not_divide_the_width() -> None:
    policy = Transformer(3, 2, hidden_dim=5, num_layers=1, num_heads=4, window=3)
    output, hidden = policy(torch.ones(2, 4, 3))
    assert output.shape == (2, 4, 2)
    assert hidden.shape == (2, 2 * (1 + 2 * 8)), "keys and values of 4 heads, 2 wide each"
