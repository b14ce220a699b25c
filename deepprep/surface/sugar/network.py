"""SUGAR's network: graph attention on nested spheres, Euler angles out.

Keys and shapes are those of the published weights. Two properties of the published code are kept
because the weights were trained with them: each decoder block uses the edges of the sphere one
level coarser than its vertices, and the head those of the 12 corners; vertices beyond that sphere
only see themselves there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepprep.surface.mesh import Mesh

HEADS = 8
"""Attention heads of every block but the output."""
FREQUENCIES = (1.0, 2.0, 4.0, 8.0)
"""Of the positional code of vertices and edges."""
EDGE_FEATURES = 27
"""Length of the code of an edge's midpoint."""
IN_CHANNELS = 20
"""Moving and fixed sulcal depth and 18 of position."""
CHANNELS = (32, 64, 128, 256, 512, 768, 1024, 1024)
"""Width of the encoder blocks; a network of level n has n + 2 of them."""
ATTENTION_SLOPE = 0.2
BLOCK_SLOPE = 0.01


def positional_code(values: Tensor) -> Tensor:
    """(N, C) to (N, 9 C): the values, then sine and cosine at each frequency."""
    parts = [values]
    for frequency in FREQUENCIES:
        parts += [torch.sin(frequency * values), torch.cos(frequency * values)]
    return torch.cat(parts, dim=-1)


def vertex_code(points: Tensor) -> Tensor:
    """(V, 18) code of polar angle (over pi) and longitude (over 2 pi, plus 0.5) of (V, 3) points."""
    x, y, z = F.normalize(points, dim=1).unbind(dim=1)
    polar = torch.atan2(torch.sqrt(x**2 + y**2), z) / torch.pi
    longitude = torch.atan2(y, x) / (2 * torch.pi) + 0.5
    return positional_code(torch.stack([polar, longitude], dim=1))


def rotate_by_euler(angles: Tensor, points: Tensor) -> Tensor:
    """Turn each point by Rz(g) Ry(b) Rx(a), angles (a, b, g) in radians; length 1 afterwards."""
    a, b, g = angles.unbind(dim=-1)
    x, y, z = points.unbind(dim=-1)
    y, z = torch.cos(a) * y - torch.sin(a) * z, torch.sin(a) * y + torch.cos(a) * z
    x, z = torch.cos(b) * x + torch.sin(b) * z, -torch.sin(b) * x + torch.cos(b) * z
    x, y = torch.cos(g) * x - torch.sin(g) * y, torch.sin(g) * x + torch.cos(g) * y
    return F.normalize(torch.stack([x, y, z], dim=-1), dim=-1)


class GraphAttention(nn.Module):
    """GATv2 (Brody et al., ICLR 2022) with features of edges, one map for both ends of an edge.

    Parameters
    ----------
    channels_in, channels_out : int
        Per head out.
    heads : int
    """

    def __init__(self, channels_in: int, channels_out: int, heads: int) -> None:
        super().__init__()
        self.heads, self.channels = heads, channels_out
        self.lin_l = nn.Linear(channels_in, heads * channels_out)
        self.lin_r = self.lin_l
        self.lin_edge = nn.Linear(EDGE_FEATURES, heads * channels_out, bias=False)
        self.att = nn.Parameter(torch.empty(1, heads, channels_out))
        self.bias = nn.Parameter(torch.zeros(heads * channels_out))
        nn.init.xavier_uniform_(self.att)
        nn.init.xavier_uniform_(self.lin_l.weight)
        nn.init.zeros_(self.lin_l.bias)
        nn.init.xavier_uniform_(self.lin_edge.weight)

    def forward(self, x: Tensor, source: Tensor, target: Tensor, edge: Tensor) -> Tensor:
        """One convolution.

        Parameters
        ----------
        x : (V, channels_in) tensor
        source, target : (E,) int64 tensors
            Ends of each edge, both directions, no self edges.
        edge : (E, EDGE_FEATURES) tensor

        Returns
        -------
        (V, heads * channels_out) tensor
        """
        n = len(x)
        count = torch.zeros(n, device=x.device, dtype=x.dtype)
        count.index_add_(0, target, torch.ones_like(target, dtype=x.dtype))
        own = torch.zeros(n, edge.shape[1], device=x.device, dtype=x.dtype)
        own.index_add_(0, target, edge)
        # A vertex sees itself over an edge with the mean features of its edges, 0 without any.
        own = own / count.clamp(min=1.0)[:, None]
        every = torch.arange(n, device=x.device)
        source, target = torch.cat([source, every]), torch.cat([target, every])
        code = self.lin_edge(torch.cat([edge, own])).view(-1, self.heads, self.channels)
        value = self.lin_l(x).view(n, self.heads, self.channels)
        from_source = value[source]
        score = F.leaky_relu(from_source + value[target] + code, ATTENTION_SLOPE)
        score = (score * self.att).sum(dim=-1)
        most = torch.full((n, self.heads), -torch.inf, device=x.device, dtype=x.dtype)
        most = most.scatter_reduce(0, target[:, None].expand_as(score), score, "amax")
        weight = torch.exp(score - most[target].detach())
        total = torch.zeros_like(most).index_add(0, target, weight)
        weight = weight / (total[target] + 1e-16)
        out = torch.zeros(n, self.heads, self.channels, device=x.device, dtype=x.dtype)
        out = out.index_add(0, target, from_source * weight[..., None])
        return out.reshape(n, -1) + self.bias


class Block(nn.Module):
    """Two attentions with a leaky ReLU between."""

    def __init__(self, channels_in: int, channels_out: int, heads: int = HEADS) -> None:
        super().__init__()
        self.conv1 = GraphAttention(channels_in, channels_out // heads, heads)
        self.conv2 = GraphAttention(channels_out, channels_out // heads, heads)

    def forward(self, x: Tensor, edges: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x = F.leaky_relu(self.conv1(x, *edges), BLOCK_SLOPE)
        return self.conv2(x, *edges)


class SugarNet(nn.Module):
    """The graph-attention U-Net of one level.

    Parameters
    ----------
    level : int
        3 to 6: fsaverage3 to fsaverage6.
    spheres : sequence of Mesh
        Regular spheres of level 0 to ``level`` in fsaverage's numbering, mm, radius 100.
    rigid : bool
        One rotation for the whole sphere.
    """

    points: Tensor

    def __init__(self, level: int, spheres: list[Mesh], *, rigid: bool = False) -> None:
        super().__init__()
        if not 3 <= level <= 6:
            raise ValueError(f"SUGAR has networks of level 3 to 6, not {level}")
        self.level, self.rigid = level, rigid
        self.down_levels = [level, *range(level, -1, -1)]
        widths = [IN_CHANNELS, *CHANNELS[: len(self.down_levels)]]
        self.encoding_layers = nn.ModuleList(
            Block(widths[i], widths[i + 1]) for i in range(len(self.down_levels))
        )
        self.bottom_layer = Block(widths[-1], widths[-1])
        # The last decoder block is one wider than its skip: the input has no width of its own.
        out_widths = [*widths[-2:0:-1], widths[1]]
        skips = widths[-2::-1]
        previous = widths[-1]
        decoders = []
        for skip, out in zip(skips, out_widths):
            decoders.append(Block(previous + skip, out))
            previous = out
        self.decoding_layers = nn.ModuleList(decoders)
        self.output_encoding = Block(widths[1], 3, heads=1)
        for at in range(level + 1):
            self._keep_sphere(at, spheres[at])
        for at in range(level):
            self._keep_pooling(at, spheres[at + 1], spheres[at].n_vertices)
        self.register_buffer(
            "points", torch.from_numpy(spheres[level].vertices / 100.0).float(), persistent=False
        )

    def _keep_sphere(self, level: int, sphere: Mesh) -> None:
        first, second = torch.from_numpy(sphere.edges.astype("int64")).T
        source, target = torch.cat([first, second]), torch.cat([second, first])
        points = torch.from_numpy(sphere.vertices).float()
        code = positional_code((points[source] + points[target]) / 2)
        for name, value in (("source", source), ("target", target), ("code", code)):
            self.register_buffer(f"{name}{level}", value, persistent=False)

    def _keep_pooling(self, level: int, finer: Mesh, n: int) -> None:
        edges = torch.from_numpy(finer.edges.astype("int64"))
        both = torch.cat([edges, edges.flip(1)])
        near = both[both[:, 0] < n]
        every = torch.arange(n)
        self.register_buffer(f"pool_to{level}", torch.cat([near[:, 0], every]), persistent=False)
        self.register_buffer(f"pool_from{level}", torch.cat([near[:, 1], every]), persistent=False)
        up = both[(both[:, 0] >= n) & (both[:, 1] < n)]
        order = torch.argsort(up[:, 0], stable=True)
        self.register_buffer(f"parents{level}", up[order, 1].view(-1, 2), persistent=False)

    def _edges(self, level: int) -> tuple[Tensor, Tensor, Tensor]:
        return (
            getattr(self, f"source{level}"),
            getattr(self, f"target{level}"),
            getattr(self, f"code{level}"),
        )

    def _pool(self, x: Tensor, level: int) -> Tensor:
        to, start = getattr(self, f"pool_to{level}"), getattr(self, f"pool_from{level}")
        n = int(to.max()) + 1
        count = torch.zeros(n, 1, device=x.device, dtype=x.dtype)
        count.index_add_(0, to, torch.ones(len(to), 1, device=x.device, dtype=x.dtype))
        return (
            torch.zeros(n, x.shape[1], device=x.device, dtype=x.dtype).index_add(0, to, x[start])
            / count
        )

    def _unpool(self, x: Tensor, level: int) -> Tensor:
        return torch.cat([x, x[getattr(self, f"parents{level}")].mean(dim=1)])

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        """Euler angles that bring the moving sphere's folding onto the fixed one's.

        Parameters
        ----------
        moving, fixed : (V,) tensors
            Sulcal depth on the sphere of the level, standardised.

        Returns
        -------
        (V, 3) or, rigid, (1, 3) tensor
            Radians, for :func:`rotate_by_euler`.
        """
        x = torch.cat([torch.stack([moving, fixed], dim=1), vertex_code(self.points)], dim=1)
        skips = [x]
        for i, block in enumerate(self.encoding_layers):
            x = F.leaky_relu(block(x, self._edges(self.down_levels[i])), BLOCK_SLOPE)
            skips.append(x)
            if i + 1 < len(self.down_levels) and self.down_levels[i + 1] < self.down_levels[i]:
                x = self._pool(x, self.down_levels[i + 1])
        x = F.leaky_relu(self.bottom_layer(x, self._edges(0)), BLOCK_SLOPE)
        up_levels = self.down_levels[::-1]
        for i, block in enumerate(self.decoding_layers):
            here = up_levels[i]
            if i + 1 < len(up_levels) and up_levels[i + 1] > here:
                x = self._unpool(x, here)
            x = torch.cat([x, skips[-(i + 2)]], dim=1)
            x = F.leaky_relu(block(x, self._edges(here)), BLOCK_SLOPE)
        angles = self.output_encoding(x, self._edges(0))
        return angles.mean(dim=0, keepdim=True) if self.rigid else angles

    def move(self, moving: Tensor, fixed: Tensor, points: Tensor | None = None) -> Tensor:
        """(V, 3) unit vectors: the sphere's vertices after the predicted rotations."""
        start = self.points if points is None else points
        return rotate_by_euler(self(moving, fixed), start)


def parameter_count(network: nn.Module) -> int:
    """Number of trainable numbers, shared ones once."""
    return sum(p.numel() for p in network.parameters())
