"""PromptIQA in PyTorch: image -> image feature V(I) -> score under a cached prompt.

The graph is the official one, step by step, without any of the rewrites that promptiqa applies: this is what the other
libraries are given. Module names are those of the weights file, so that loading is strict. Inference only.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import torch
from safetensors import safe_open
from torch import Tensor, nn

# The official model; an option that a weights file leaves out has the value here.
OFFICIAL = {
    "image_size": 224,
    "patch_size": 8,
    "in_chans": 3,
    "vit_dim": 768,
    "vit_depth": 12,
    "vit_heads": 12,
    "mlp_ratio": 4,
    "taps": [2, 5, 8, 11],
    "num_mals": 3,
    "sa_reduction": 8,
    "block_heads": 12,
    "cnn_channels": [256, 128, 128],
    "cnn_kernels": [5, 3, 3],
    "cnn_pools": [2, 2, 3],
    "prompt_dim": 128,
    "prompt_heads": 4,
    "ip_depth": 3,
    "pf_depth": 3,
    "fuse_depth": 8,
    "drop": 0.1,
    "stem": "patch",
    "stem_channels": [],
    "class_token": True,
    "score_token": "constant",
}


class ConfigError(ValueError):
    """A weights file without a usable configuration."""


def read_config(path: str) -> SimpleNamespace:
    """The model's sizes and options, from the metadata of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if "config" not in metadata:
        raise ConfigError(f"{path}: no config in the file's metadata")
    stored = json.loads(metadata["config"])
    unknown = sorted(set(stored) - set(OFFICIAL))
    if unknown:
        raise ConfigError(f"{path}: unknown fields in the config: {', '.join(unknown)}")
    return SimpleNamespace(**{**OFFICIAL, **stored})


class SelfAttention(nn.Module):
    """Multi-head attention; the outputs of `qkv` are ordered (q, k, v), head, channel."""

    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, rows, width = x.shape
        heads = self.qkv(x).reshape(batch, rows, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = heads[0], heads[1], heads[2]
        attention = (query @ key.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.proj((attention @ value).transpose(1, 2).reshape(batch, rows, width))


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block. The ViT's kind has a qkv bias and eps 1e-6, the plain kind neither (eps 1e-5)."""

    def __init__(self, width: int, heads: int, ratio: int = 4, *, plain: bool) -> None:
        super().__init__()
        eps = 1e-5 if plain else 1e-6
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = SelfAttention(width, heads, qkv_bias=not plain)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = FeedForward(width, ratio * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ResidualUnit(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x))))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class StemStage(nn.Module):
    """One halving of the residual stem; every stage but the first ends in a residual unit."""

    def __init__(self, inputs: int, channels: int, has_unit: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        if has_unit:
            self.unit = ResidualUnit(channels)
        self.has_unit = has_unit

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        return self.unit(x) if self.has_unit else x


class Vit(nn.Module):
    """Vision transformer without its final norm: the patch tokens after each tapped block."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        tokens = (config.image_size // config.patch_size) ** 2
        self.taps = set(config.taps)
        self.class_token = config.class_token
        if self.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.vit_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens + int(self.class_token), config.vit_dim))
        self.patch_embed = nn.Module()
        if config.stem == "patch":
            self.patch_embed.proj = nn.Conv2d(
                config.in_chans, config.vit_dim, config.patch_size, stride=config.patch_size
            )
        else:
            inputs = [config.in_chans, *config.stem_channels[:-1]]
            self.patch_embed.proj = nn.Sequential(
                *(StemStage(a, b, i > 0) for i, (a, b) in enumerate(zip(inputs, config.stem_channels, strict=True)))
            )
        self.blocks = nn.ModuleList(
            Block(config.vit_dim, config.vit_heads, config.mlp_ratio, plain=False) for _ in range(config.vit_depth)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.patch_embed.proj(image).flatten(2).transpose(1, 2)
        if self.class_token:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.pos_embed
        tapped = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                tapped.append(x[:, 1:] if self.class_token else x)
        return tapped


class MapAttention(nn.Module):
    """Self-attention over the positions of one map (B, D, g, g), not scaled."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.qConv = nn.Conv2d(channels, channels // reduction, 1)
        self.kConv = nn.Conv2d(channels, channels // reduction, 1)
        self.vConv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qConv(x).flatten(2), self.kConv(x).flatten(2), self.vConv(x).flatten(2)
        attention = torch.bmm(query.transpose(1, 2), key).softmax(dim=-1)
        mixed = torch.bmm(value, attention.transpose(1, 2)).reshape(x.shape)
        return self.gamma * mixed + x


class RowAttention(nn.Module):
    """Attention between rows; its result is stored transposed and that memory read as if it had not been."""

    def __init__(self, width: int, drop: float) -> None:
        super().__init__()
        self.scale = width**-0.5
        self.c_q = nn.Linear(width, width)
        self.c_k = nn.Linear(width, width)
        self.c_v = nn.Linear(width, width)
        self.dropout = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        attention = (self.c_q(x) @ self.c_k(x).transpose(-2, -1) * self.scale).softmax(dim=-1)
        mixed = (attention @ self.c_v(x)).transpose(1, 2).reshape(x.shape)
        return x + self.dropout(mixed)


class Mal(nn.Module):
    """Multi-view attention learning: K maps (B, D, g, g) -> one."""

    def __init__(self, channels: int, views: int, tokens: int, reduction: int, drop: float) -> None:
        super().__init__()
        self.channel_attention = RowAttention(views * channels, drop)
        self.feature_attention = RowAttention(views * tokens, drop)
        self.attention_module = nn.ModuleList(MapAttention(channels, reduction) for _ in range(views))

    def forward(self, maps: list[Tensor]) -> Tensor:
        batch, channels, height, width = maps[0].shape
        views, tokens = len(maps), height * width
        attended = [attend(one).flatten(2) for attend, one in zip(self.attention_module, maps, strict=True)]
        stacked = torch.cat(attended, dim=1)
        pixel = self.feature_attention(stacked.reshape(batch, channels, views * tokens))
        channel = self.channel_attention(stacked.transpose(1, 2))
        mean = (pixel.reshape(batch, views * channels, tokens) + channel.transpose(1, 2)) / 2
        return mean.reshape(batch, views, channels, height, width).mean(dim=1)


class PromptIQA(nn.Module):
    """image (B, 3, S, S) in [-1, 1], prompt features (n, M) -> scores (B) in (0, 1)."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        grid, feature = config.image_size // config.patch_size, config.prompt_dim
        self.grid, self.score_token_kind = grid, config.score_token

        def mal(views: int) -> Mal:
            return Mal(config.vit_dim, views, grid * grid, config.sa_reduction, config.drop)

        def blocks(depth: int, *, plain: bool) -> nn.Sequential:
            return nn.Sequential(*(Block(feature, config.prompt_heads, plain=plain) for _ in range(depth)))

        self.vit = Vit(config)
        self.MALs = nn.ModuleList(mal(len(config.taps)) for _ in range(config.num_mals))
        self.fusion_mal = mal(config.num_mals)
        self.block = Block(config.vit_dim, config.block_heads, plain=True)
        stages: list[nn.Module] = []
        inputs = [config.vit_dim, *config.cnn_channels[:-1]]
        sizes = zip(inputs, config.cnn_channels, config.cnn_kernels, config.cnn_pools, strict=True)
        for before, after, kernel, pool in sizes:
            stages += [nn.Conv2d(before, after, kernel), nn.BatchNorm2d(after), nn.ReLU(), nn.AvgPool2d(pool)]
        self.cnn = nn.Sequential(*stages)

        if config.score_token == "learned":
            self.score_token = nn.Linear(1, feature)
        self.i_p_fusion = blocks(config.ip_depth, plain=True)
        self.mlp = nn.Sequential(nn.Linear(feature, feature // 2), nn.GELU(), nn.Linear(feature // 2, feature))
        self.prompt_fusion = blocks(config.pf_depth, plain=True)
        self.blocks = blocks(config.fuse_depth, plain=False)
        self.norm = nn.LayerNorm(feature)
        self.score_block = nn.Sequential(
            nn.Linear(feature, feature // 2),
            nn.ReLU(),
            nn.Dropout(config.drop),
            nn.Linear(feature // 2, 1),
            nn.Sigmoid(),
        )

    def image_feature(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, M)."""
        maps = [tap.transpose(1, 2).unflatten(2, (self.grid, self.grid)) for tap in self.vit(image)]
        fused = self.fusion_mal([mal(maps) for mal in self.MALs])
        tokens = self.block(fused.flatten(2).transpose(1, 2))
        return self.cnn(tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))).flatten(1)

    def prompt_feature(self, image_feature: Tensor, score: Tensor) -> Tensor:
        """Image features (n, M) and scores (n, 1) of a prompt's pairs -> (n, M). Once per prompt: not timed."""
        learned = self.score_token_kind == "learned"
        token = self.score_token(score) if learned else score.expand(-1, image_feature.shape[1])
        return self.mlp(self.i_p_fusion(torch.stack([image_feature, token], dim=1)).mean(dim=1))

    def scores(self, feature: Tensor, prompt_features: Tensor) -> Tensor:
        """Image features (B, M), each with prompt features of its own (B, n, M) -> (B)."""
        fused = self.prompt_fusion(prompt_features)
        tokens = self.norm(self.blocks(torch.cat([feature.unsqueeze(1), fused], dim=1)))
        return self.score_block(tokens[:, 0]).squeeze(1)

    def forward(self, image: Tensor, prompt_features: Tensor) -> Tensor:
        feature = self.image_feature(image)
        return self.scores(feature, prompt_features.unsqueeze(0).expand(feature.shape[0], -1, -1))


def load(path: str) -> PromptIQA:
    """The model of a weights file, in float32, ready for inference. Names must be exactly the file's."""
    from safetensors.torch import load_file

    with torch.device("meta"):
        model = PromptIQA(read_config(path))
    # Copied into PyTorch's own aligned memory: matrix products straight from the file's pages would be slower.
    model.to_empty(device="cpu").load_state_dict(load_file(path), strict=True)
    return model.eval().requires_grad_(False)
