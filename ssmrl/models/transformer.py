"""A causal transformer with a sliding window as a sequence policy.

Not ``scaled_dot_product_attention``, whose kernels have no second derivative under ``vmap``.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ssmrl.models.activations import gelu
from ssmrl.models.policy import SequencePolicy

NOTHING, PADDING = -1, -2
"""Episode numbers of empty slots in the hidden state, and of padding in the last block."""


class Norm(nn.Module):
    """Layer normalisation with learnt scale and shift.

    Not ``nn.LayerNorm``: in torch 2.13 the second derivative of its kernel is silently wrong under
    ``vmap`` with a scale per task, which the meta-gradient needs.

    Args:
        feature_dim: Number of features.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(feature_dim))
        self.bias = nn.Parameter(torch.zeros(feature_dim))

    def forward(self, features: Float[Tensor, "*batch H"]) -> Float[Tensor, "*batch H"]:
        """Mean 0 and variance 1 over the features of each step, then scale and shift."""
        scaled: Tensor = torch.addcmul(self.bias, normalise(features), self.weight)
        return scaled


class TransformerLayer(nn.Module):
    """Attention and a two-layer feed-forward block, each with pre-norm and a residual connection.

    Args:
        hidden_dim: Width between the layers, ``H``.
        num_heads: Attention heads, each ``ceil(hidden_dim / num_heads)`` wide.

    Attributes:
        attention_dim: Width of the keys of all heads together, ``K``.

    References:
        Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture", figure 1b.
    """

    def __init__(self, hidden_dim: int, num_heads: int) -> None:
        super().__init__()
        head_dim = -(-hidden_dim // num_heads)
        self.num_heads, self.attention_dim = num_heads, num_heads * head_dim
        self.attention_norm = Norm(hidden_dim)
        self.query_key_value = nn.Linear(hidden_dim, 3 * self.attention_dim)
        self.merge = nn.Linear(self.attention_dim, hidden_dim)
        self.feedforward_norm = Norm(hidden_dim)
        self.expand = nn.Linear(hidden_dim, 4 * hidden_dim)
        self.contract = nn.Linear(4 * hidden_dim, hidden_dim)
        for layer in (self.query_key_value, self.merge, self.expand, self.contract):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def project(
        self, features: Float[Tensor, "B T H"]
    ) -> tuple[Float[Tensor, "B T K"], Float[Tensor, "B T two_K"]]:
        """Queries, and concatenated keys and values; the hidden state stores the latter."""
        projected = self.query_key_value(self.attention_norm(features))
        query, key_value = projected.split([self.attention_dim, 2 * self.attention_dim], dim=-1)
        return query, key_value

    def attend(
        self,
        query: Float[Tensor, "B blocks C K"],
        key_value: Float[Tensor, "B blocks J two_K"],
        bias: Float[Tensor, "B blocks heads C J"],
    ) -> Float[Tensor, "B blocks C K"]:
        """Attention within each block: averages of the values, weighted by the scores."""
        heads = (self.num_heads, -1)
        query = query.unflatten(-1, heads).transpose(-2, -3)
        key, value = (
            part.unflatten(-1, heads).transpose(-2, -3) for part in key_value.chunk(2, dim=-1)
        )
        scores = (query * query.shape[-1] ** -0.5) @ key.mT + bias
        # The last bits of the gradient of torch's softmax depend on the number of threads.
        # The subtracted maximum cancels out, so it needs no gradient.
        weights = torch.exp(scores - scores.detach().amax(-1, keepdim=True))
        attended: Tensor = (weights @ value) / weights.sum(-1, keepdim=True)
        return attended.transpose(-2, -3).flatten(-2)

    def finish(
        self, features: Float[Tensor, "B T H"], attended: Float[Tensor, "B T K"]
    ) -> Float[Tensor, "B T H"]:
        """The layer's output, from its input and the attention's output."""
        features = features + self.merge(attended)
        expanded = gelu(self.expand(self.feedforward_norm(features)))
        result: Tensor = features + self.contract(expanded)
        return result


class Transformer(SequencePolicy):
    """Input layer, transformer layers over the last ``window`` steps, norm, output layer.

    Positions have no parameters: scores fall linearly with the distance in time, at a different
    rate in each head (ALiBi). For each of the last ``window - 1`` steps, the hidden state holds a
    flag (whether the step exists) and each layer's keys and values; zeros mean empty. Through its
    layers the policy sees ``num_layers * (window - 1)`` steps back, and never across a reset.

    Args:
        input_dim: Number of inputs, ``I``.
        output_dim: Number of outputs, ``O``.
        hidden_dim: Width between the layers; the feed-forward layers are four times as wide.
        num_layers: Number of layers.
        num_heads: Attention heads.
        window: Steps a layer attends to, the present one included.

    Raises:
        ValueError: If ``num_layers``, ``num_heads`` or ``window`` is less than 1.

    References:
        Press et al. 2022, "Train Short, Test Long: Attention with Linear Biases Enables Input
        Length Extrapolation", section 3; Beltagy et al. 2020, "Longformer: The Long-Document
        Transformer", section 3.1 (the window).
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hidden_dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        window: int = 32,
    ) -> None:
        if min(num_layers, num_heads, window) < 1:
            raise ValueError(
                "`num_layers`, `num_heads` and `window` must be at least 1, but got "
                f"{num_layers=}, {num_heads=}, {window=}"
            )
        super().__init__()
        self.window, self.num_heads = window, num_heads
        self.encoder = nn.Linear(input_dim, hidden_dim)
        self.layers = nn.ModuleList(
            TransformerLayer(hidden_dim, num_heads) for _ in range(num_layers)
        )
        self.head = nn.Linear(hidden_dim, output_dim)
        nn.init.xavier_uniform_(self.encoder.weight)
        # For an input of 0 the norms divide by the standard deviation of this bias. Without it they
        # would amplify tiny differences between inputs, and scale small inputs up to full size.
        nn.init.normal_(self.encoder.bias)
        # Normalised features are never small. With the usual gain the initial policy would have a
        # strong, arbitrary preference, which the outer loop would first have to unlearn.
        nn.init.xavier_uniform_(self.head.weight, gain=0.1)
        nn.init.zeros_(self.head.bias)
        attention_dim = num_heads * -(-hidden_dim // num_heads)
        self._slot_dims = [1] + num_layers * [2 * attention_dim]
        self.input_dim, self.output_dim = input_dim, output_dim
        self.state_dim = (window - 1) * sum(self._slot_dims)
        self.num_scores = num_layers * num_heads * 2 * window  # keys of two windows per query

    def step(
        self, x: Float[Tensor, "B I"], hidden: Float[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B O"], Float[Tensor, "B S"]]:
        """Process one time step, which attends to the hidden state and to itself."""
        slots = hidden.unflatten(-1, (self.window - 1, sum(self._slot_dims)))
        valid, *caches = slots.split(self._slot_dims, dim=-1)
        seen = torch.cat([valid, torch.ones_like(x[:, None, :1])], dim=1)
        distance = torch.arange(self.window - 1, -1, -1, device=x.device)
        bias = self._bias(distance, (seen > 0).mT.unsqueeze(1), x.dtype)
        features = self.encoder(x).unsqueeze(1)
        present = [seen[:, -1:]]
        for layer, cache in zip(self._layers(), caches, strict=True):
            query, key_value = layer.project(features)
            present.append(key_value)
            key_value = torch.cat([cache, key_value], dim=1)
            attended = layer.attend(query.unsqueeze(1), key_value.unsqueeze(1), bias)
            features = layer.finish(features, attended.squeeze(1))
        slots = torch.cat([slots, torch.cat(present, dim=-1)], dim=1)[:, 1:]
        return self._decode(features).squeeze(1), slots.flatten(1)

    def scan(
        self,
        x: Float[Tensor, "B T I"],
        hidden: Float[Tensor, "B S"],
        first: Bool[Tensor, "B T"],
    ) -> tuple[Float[Tensor, "B T O"], Float[Tensor, "B S"]]:
        """Process whole sequences in linear time: a block attends to itself and the one before."""
        num_steps, past = x.shape[1], self.window - 1
        slots = hidden.unflatten(-1, (past, sum(self._slot_dims)))
        valid, *caches = slots.split(self._slot_dims, dim=-1)
        episode = first.cumsum(1)
        remembered = torch.where(valid.squeeze(-1) > 0, 0, NOTHING)
        episodes = torch.cat([remembered, episode], dim=1)
        bias = self._block_bias(episode, episodes, x.dtype)
        features = self.encoder(x)
        kept = (episodes[:, num_steps:] == episode[:, -1:]).unsqueeze(-1)
        next_slots = [kept.to(x.dtype)]
        for layer, cache in zip(self._layers(), caches, strict=True):
            query, key_value = layer.project(features)
            key_value = torch.cat([cache, key_value], dim=1)
            attended = layer.attend(self._blocks(query), self._contexts(key_value), bias)
            features = layer.finish(features, attended.flatten(1, 2)[:, :num_steps])
            next_slots.append(key_value[:, num_steps:].masked_fill(~kept, 0.0))
        return self._decode(features), torch.cat(next_slots, dim=-1).flatten(1)

    def _layers(self) -> list[TransformerLayer]:
        return [layer for layer in self.layers if isinstance(layer, TransformerLayer)]

    def _decode(self, features: Float[Tensor, "B T H"]) -> Float[Tensor, "B T O"]:
        """The output, from features scaled to Euclidean norm 1.

        With standard deviation 1, their norm would grow with the width, and an inner step on the
        output layer with its square; at the usual learning rate it would overshoot. The norm has
        no parameters, because the output layer has its own.
        """
        output: Tensor = self.head(normalise(features) * features.shape[-1] ** -0.5)
        return output

    def _bias(
        self, distance: Int[Tensor, "*C J"], seen: Bool[Tensor, "B blocks C J"], dtype: torch.dtype
    ) -> Float[Tensor, "B blocks heads C J"]:
        """Bias of the scores: lower for older steps, minus infinity for steps that are masked."""
        head = torch.arange(1, self.num_heads + 1, device=seen.device)
        slope = torch.exp2(-8.0 * head.to(dtype) / self.num_heads)
        falling = -slope[:, None, None] * distance.to(dtype)
        return falling.masked_fill(~seen.unsqueeze(-3), float("-inf"))

    def _block_bias(
        self,
        episode: Int[Tensor, "B T"],
        episodes: Int[Tensor, "B past_and_T"],
        dtype: torch.dtype,
    ) -> Float[Tensor, "B blocks heads C J"]:
        """The same for a scan: a step sees the last steps of its own episode only."""
        query_episode = self._blocks(episode.unsqueeze(-1), PADDING)
        key_episode = self._contexts(episodes.unsqueeze(-1), PADDING)
        query_time = torch.arange(query_episode.shape[2], device=episode.device) + self.window
        key_time = torch.arange(key_episode.shape[2], device=episode.device)
        distance = query_time[:, None] - key_time
        near = (distance >= 0) & (distance < self.window)
        return self._bias(distance, near & (query_episode == key_episode.mT), dtype)

    def _blocks(self, x: Tensor, padding: int = 0) -> Tensor:
        """Split ``(B, T, F)`` into blocks of a window's length, or one if it is shorter."""
        size = min(x.shape[1], self.window)
        x = functional.pad(x, (0, 0, 0, -x.shape[1] % size), value=padding)
        blocks: Tensor = x.unflatten(1, (-1, size))
        return blocks

    def _contexts(self, x: Tensor, padding: int = 0) -> Tensor:
        """The part of ``(B, past + T, F)`` each block may see: the window before it, and itself."""
        num_steps = x.shape[1] - self.window + 1
        size = min(num_steps, self.window)
        x = functional.pad(x, (0, 0, 1, -num_steps % size), value=padding)
        if num_steps <= self.window:
            return x.unsqueeze(1)
        blocks = x.unflatten(1, (-1, self.window))
        return torch.cat([blocks[:, :-1], blocks[:, 1:]], dim=2)


def normalise(features: Float[Tensor, "*batch H"]) -> Float[Tensor, "*batch H"]:
    """Shift and scale the features of each step to mean 0 and variance 1."""
    centred = features - features.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
