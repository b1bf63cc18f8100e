r"""Layers that keep magnitudes: what comes in with a mean square of 1 goes out with one.

Activations and weights of ordinary networks grow as they are trained, each at its own pace, and the
learning rate means something else in every layer. Here nothing can grow. Weights are normalised
whenever they are used, and in training the stored ones too, so that the optimizer cannot make them
longer; activation, sums and concatenations divide by the growth that independent inputs would
cause:

    silu(x) / 0.596,    ((1 - t) a + t b) / sqrt((1 - t)^2 + t^2)

There are no biases and no normalisation over positions. Normalising stored weights is part of the
forward pass in training mode and depends on the weights alone, so a resumed run does it as the
uninterrupted one would.

Source: Karras et al. 2024 (arXiv 2312.02696), equations 47 to 103.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.networks.conditioning import Conditions, Embedder, Encoded, fourier_features
from undiffuse.networks.layers import equal_parts, from_rows, join_heads, rows, split_heads

EPS = 1e-4
SILU = 0.596  # root mean square of silu of a standard normal variable


def normalised(x: Tensor, dims: Sequence[int]) -> Tensor:
    """x divided by its root mean square over the given axes; float32 inside."""
    wide = x.float() if x.dtype in {torch.float16, torch.bfloat16} else x
    norm = torch.linalg.vector_norm(wide, dim=tuple(dims), keepdim=True)
    length: Tensor = EPS + norm * math.sqrt(norm.numel() / max(1, x.numel()))
    return x / length.to(x.dtype)


def pixel_norm(x: Tensor) -> Tensor:
    """x [B, C, *S] divided by its root mean square over the channels, at every position."""
    return normalised(x, (1,))


def mp_silu(x: Tensor) -> Tensor:
    """silu(x) / 0.596."""
    return F.silu(x) / SILU


def mp_sum(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """((1 - t) a + t b) / sqrt((1 - t)^2 + t^2).

    >>> mp_sum(torch.ones(1), torch.ones(1), 0.5)
    tensor([1.4142])
    """
    length = math.hypot(1 - t, t)
    return a * ((1 - t) / length) + b * (t / length)


def mp_cat(a: Tensor, b: Tensor) -> Tensor:
    """a and b behind each other, [B, A + C, *S], scaled so that both weigh the same."""
    sizes = a.shape[1], b.shape[1]
    scales = [math.sqrt(sum(sizes) / 2 / n) for n in sizes]
    return torch.cat((a * scales[0], b * scales[1]), dim=1)


class MPConv(nn.Module):
    """A convolution (dims 1 to 3) or a linear layer (dims 0) with weights of magnitude 1, no bias.

        y = gain w * x / sqrt(n),    w = weight / rms(weight), per output, over its n inputs

    x is [B, inputs, *S], or [..., inputs] for dims 0.
    """

    def __init__(self, dims: int, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.dims = dims
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *[kernel] * dims))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        each = tuple(range(1, self.weight.ndim))
        if self.training:
            # Through .data, so that a second forward does not spoil the backward of the first.
            self.weight.data.copy_(normalised(self.weight.detach(), each))
        inputs = self.weight[0].numel()
        weight = normalised(self.weight, each) * (gain / math.sqrt(inputs))
        if self.dims == 0:
            return F.linear(x, weight)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.dims - 1]
        y: Tensor = convolve(x, weight, padding=self.weight.shape[-1] // 2)
        return y


class MPConditioning(Embedder):
    """mp_silu(mp_sum(noise level, mp_sum(label, vector))), each of magnitude 1; [B, width].

    Tokens are brought to the same width and magnitude.
    """

    def __init__(self, width: int, conditions: Conditions, frequencies: int = 32) -> None:
        super().__init__()
        self.conditions, self.frequencies = conditions, frequencies
        self.noise = MPConv(0, 2 * frequencies, width)
        classes, vector, tokens = conditions.classes, conditions.vector, conditions.tokens
        self.rows = MPConv(0, classes + 1, width) if classes else None
        self.vector = MPConv(0, vector + 1, width) if vector else None
        self.tokens = MPConv(0, tokens + 1, width) if tokens else None

    def project(self, complete: dict[str, Tensor]) -> dict[str, Tensor]:
        """embedding [B, width]; tokens [B, 1 + L, width] with their mask; the image as it is."""
        made = {k: v for k, v in complete.items() if k == "token_mask"}
        parts: list[Tensor] = []
        if self.rows is not None:
            count = self.conditions.classes + 1
            label = torch.arange(-1, count - 1, device=complete["label"].device)
            one_hot = (complete["label"][:, None] == label).to(self.noise.weight)
            parts.append(self.rows(one_hot * math.sqrt(count)))
        if self.vector is not None:
            parts.append(self.vector(with_unit_flag(complete["vector"])))
        if parts:
            made["embedding"] = mp_sum(parts[0], parts[1]) if parts[1:] else parts[0]
        if self.tokens is not None:
            made["tokens"] = self.tokens(with_unit_flag(complete["tokens"]))
        if "image" in complete:
            made["image"] = complete["image"]
        return made

    def forward(self, c_noise: Tensor, encoded: Encoded) -> Tensor:
        features = math.sqrt(2) * fourier_features(c_noise, self.frequencies)
        embedding: Tensor = self.noise(features.to(self.noise.weight.dtype))
        if "embedding" in encoded:
            embedding = mp_sum(embedding, encoded["embedding"])
        return mp_silu(embedding)


def with_unit_flag(flagged: Tensor) -> Tensor:
    """Values and flag [..., n + 1] scaled so that either, alone, has magnitude 1 over all n + 1."""
    n = flagged.shape[-1] - 1
    values, flag = flagged[..., :n], flagged[..., n:]
    return torch.cat((values * math.sqrt((n + 1) / n), flag * math.sqrt(n + 1)), dim=-1)


class MPBlock(nn.Module):
    """Two convolutions beside an identity, the first modulated: mp_sum(x, conv(...), 0.3).

        y = conv(dropout(mp_silu(conv(mp_silu(x)) (1 + gain linear(e)))))

    In the encoder x is brought to `outputs` channels and pixel-normalised before all else, in the
    decoder to `outputs` channels after y has been formed. x is [B, inputs, *S], e is [B, E].
    """

    def __init__(
        self, dims: int, inputs: int, outputs: int, embedding: int, dropout: float, encoder: bool
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.skip = MPConv(dims, inputs, outputs, 1) if inputs != outputs else None
        self.conv_1 = MPConv(dims, outputs if encoder else inputs, outputs)
        self.modulation = MPConv(0, embedding, outputs)
        self.gain = nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = MPConv(dims, outputs, outputs)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        if self.encoder:
            x = pixel_norm(x if self.skip is None else self.skip(x))
        h = self.conv_1(mp_silu(x))
        scale = 1 + self.modulation(embedding, self.gain)  # [B, C]
        h = mp_silu(h * scale.reshape(*scale.shape, *[1] * (x.ndim - 2)).to(h.dtype))
        h = self.conv_2(self.dropout(h))
        if not self.encoder and self.skip is not None:
            x = self.skip(x)
        return mp_sum(x, h, 0.3)


class MPAttention(nn.Module):
    """mp_sum(x, project(softmax(q k^T / sqrt(d)) v), 0.3), with q, k, v of magnitude 1 each.

    x is [B, C, *S]. Without a `context`, k and v are of x itself; with one, of tokens
    [B, L, context], of which mask [B, L] tells those that are there. The softmax averages, so its
    result is of magnitude 1 where the values agree and smaller where they do not.
    """

    def __init__(
        self, dims: int, channels: int, head_channels: int, context: int | None = None
    ) -> None:
        super().__init__()
        self.heads = equal_parts(channels, head_channels)
        self.query = MPConv(dims, channels, channels, 1)
        self.key_value = MPConv(0, context or channels, 2 * channels)
        self.project = MPConv(dims, channels, channels, 1)

    def forward(
        self, x: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        looked_at = rows(x) if tokens is None else tokens
        q, k, v = (
            normalised(split_heads(part, self.heads), (3,))  # [B, heads, N, d]
            for part in (rows(self.query(x)), *self.key_value(looked_at).chunk(2, dim=2))
        )
        shown = None if mask is None else mask[:, None, None]
        h = join_heads(F.scaled_dot_product_attention(q, k, v, shown))
        return mp_sum(x, self.project(from_rows(h, x.shape[2:])), 0.3)
