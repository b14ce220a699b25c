"""SUGAR's network, losses and checkpoints."""

import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from deepprep.errors import DeepPrepError
from deepprep.surface.sugar import losses
from deepprep.surface.sugar.checkpoint import load_into, read_checkpoint
from deepprep.surface.sugar.network import (
    EDGE_FEATURES,
    GraphAttention,
    SugarNet,
    parameter_count,
    positional_code,
    rotate_by_euler,
    vertex_code,
)
from tests.surface.shapes import ball


def _net(level: int, **options) -> SugarNet:
    torch.manual_seed(0)
    return SugarNet(level, [ball(k) for k in range(level + 1)], **options)


@pytest.mark.parametrize(("level", "count"), [(3, 1520285), (4, 4168349)])
def test_parameters_are_as_many_as_published(level, count):
    assert parameter_count(_net(level)) == count


@pytest.mark.shared
def test_keys_and_shapes_are_the_published_ones(shared_data):
    file = shared_data.parent / "reference/sugar_keys.txt"
    if not file.exists():
        pytest.skip(f"no {file}")
    published, level = {}, None
    for line in file.read_text().splitlines():
        if line.startswith("# fsaverage"):
            level = int(line[len("# fsaverage")])
            published[level] = {}
        elif "\t" in line:
            key, shape = line.split("\t")
            published[level][key] = tuple(int(n) for n in shape.strip("()").split(",") if n.strip())
    for level in (3, 4):
        ours = {k: tuple(v.shape) for k, v in _net(level).state_dict().items()}
        assert ours == published[level]


def test_output_is_one_rotation_a_vertex_or_one_in_all():
    x = torch.randn(642)
    assert _net(3)(x, -x).shape == (642, 3)
    assert _net(3, rigid=True)(x, -x).shape == (1, 3)
    moved = _net(3).move(x, -x)
    assert torch.allclose(moved.norm(dim=1), torch.ones(642), atol=1e-5)


def test_gradients_reach_every_parameter():
    network = _net(3)
    network(torch.randn(642), torch.randn(642)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_attention_equals_the_formula():
    torch.manual_seed(1)
    layer = GraphAttention(5, 2, 3).double()
    x = torch.randn(4, 5).double()
    source, target = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 0, 1, 0])
    edge = torch.randn(4, EDGE_FEATURES).double()
    out = layer(x, source, target, edge)
    for v in range(4):
        into = [e for e in range(4) if target[e] == v]
        own = edge[into].mean(dim=0) if into else torch.zeros(EDGE_FEATURES).double()
        neighbours = [*(source[e].item() for e in into), v]
        codes = torch.stack([*(edge[e] for e in into), own])
        value = layer.lin_l(x).view(4, 3, 2)
        code = layer.lin_edge(codes).view(-1, 3, 2)
        score = nn.functional.leaky_relu(value[neighbours] + value[v] + code, 0.2)
        weight = torch.softmax((score * layer.att).sum(-1), dim=0)
        expected = (weight[..., None] * value[neighbours]).sum(0).reshape(-1) + layer.bias
        assert torch.allclose(out[v], expected)


def test_vertices_beyond_the_coarse_sphere_see_only_themselves_in_the_head():
    network = _net(3)
    x = torch.randn(642, 32)
    before = network.output_encoding(x, network._edges(0))
    x[600] += 1
    changed = (network.output_encoding(x, network._edges(0)) != before).any(dim=1)
    assert torch.nonzero(changed).ravel().tolist() == [600]


def test_rotation_turns_x_then_y_then_z():
    quarter = torch.tensor(torch.pi / 2)
    zero = torch.tensor(0.0)
    turn = lambda a, b, g, p: rotate_by_euler(torch.stack([a, b, g]), torch.tensor(p))  # noqa: E731
    assert torch.allclose(
        turn(quarter, zero, zero, [0.0, 1, 0]), torch.tensor([0.0, 0, 1]), atol=1e-6
    )
    assert torch.allclose(
        turn(zero, quarter, zero, [0.0, 0, 1]), torch.tensor([1.0, 0, 0]), atol=1e-6
    )
    assert torch.allclose(
        turn(zero, zero, quarter, [1.0, 0, 0]), torch.tensor([0.0, 1, 0]), atol=1e-6
    )
    assert torch.allclose(
        turn(quarter, quarter, zero, [0.0, 1, 0]), torch.tensor([1.0, 0, 0]), atol=1e-6
    )


def test_codes_have_the_published_lengths():
    points = torch.from_numpy(ball(1).vertices).float()
    assert vertex_code(points).shape == (42, 18)
    assert positional_code(points).shape == (42, 27)
    north = vertex_code(torch.tensor([[0.0, 0.0, 5.0]]))
    assert torch.allclose(north[0, :2], torch.tensor([0.0, 0.5]))


def test_pooling_averages_a_vertex_and_its_ring_and_unpooling_the_parents():
    network = _net(3)
    points = torch.from_numpy(ball(3).vertices).float()
    up = network._unpool(points[:162], 2)
    direction = up / up.norm(dim=1, keepdim=True)
    assert torch.allclose(direction, points / 100, atol=1e-4)
    assert torch.allclose(network._pool(torch.ones(642, 2), 2), torch.ones(162, 2))


def test_losses_vanish_without_movement():
    sphere = ball(3)
    points = torch.from_numpy(sphere.vertices / 100)
    faces = torch.from_numpy(sphere.faces.astype(np.int64))
    edges = torch.from_numpy(sphere.edges.astype(np.int64)).T
    edges = torch.cat([edges, edges.flip(0)], dim=1)
    assert losses.negative_area(points, faces) == 0
    assert losses.area_distortion(points, points, faces) == 0
    assert losses.angle_distortion(points, points, faces) == 0
    assert losses.laplacian(points, points, edges) == 0
    values = torch.randn(642)
    assert losses.similarity(values, values, torch.rand(642) + 0.5) == 0
    members = nn.functional.one_hot(torch.arange(642) % 4).double()
    assert torch.isclose(losses.dice(members, members), torch.tensor(0.0).double())


def test_losses_see_a_turned_over_triangle_and_a_doubled_area():
    sphere = ball(3)
    points = torch.from_numpy(sphere.vertices / 100)
    faces = torch.from_numpy(sphere.faces.astype(np.int64))
    folded = points.clone()
    folded[0] = -points[0]
    assert losses.negative_area(folded, faces[:, [0, 2, 1]]) > 0
    assert torch.isclose(
        losses.area_distortion(np.sqrt(2) * points, points, faces), torch.tensor(1.0).double()
    )


def test_similarity_counts_variable_places_less():
    fixed = torch.zeros(4)
    here, there = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.0, 0, 0, 1.0])
    spread = torch.tensor([1.0, 1.0, 1.0, 4.0])
    both = here + there
    share = (both - fixed) ** 2 / spread
    assert share[0] > share[3]
    assert torch.isclose(losses.similarity(both, fixed, spread), torch.tensor(0.5))
    assert torch.isclose(losses.similarity(here, fixed), losses.similarity(there, fixed))


def test_a_pickled_module_is_read_without_running_code(tmp_path, monkeypatch):
    network = _net(3)
    path = tmp_path / "lh_NoRigid_904_fsaverage3.model"
    torch.save({"model": network}, path)
    other = SugarNet(3, [ball(k) for k in range(4)])
    load_into(other, path)
    for key, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"model": network, "extra": Evil()}, path)
    assert len(read_checkpoint(path)) >= len(network.state_dict())
    assert not (tmp_path / "ran").exists()


def test_other_files_are_refused_with_a_sentence(tmp_path):
    path = tmp_path / "weights.model"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DeepPrepError, match="not a SUGAR checkpoint"):
        read_checkpoint(path)
    torch.save({"model": _net(3)}, path)
    with pytest.raises(DeepPrepError, match="same fsaverage level"):
        load_into(_net(4), path)
