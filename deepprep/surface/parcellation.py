"""Parcels of the cortex, from an atlas on a group sphere to a subject's own folds.

A vertex takes the label that most atlas vertices around its registered place have, each counting
the more, the nearer it is and the more its average folding is like that of the vertex. What is left
of misregistration so costs less: a vertex in the depth of a sulcus asks the atlas' sulcus beside it,
not the crown above. Then each vertex agrees with its neighbours (Potts model, iterated conditional
modes), and islands go to the parcels around them.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from deepprep.image.compiled import compiled
from deepprep.surface.mesh import Mesh

NEIGHBOURS = 24
"""Atlas vertices asked by each vertex: those within about 5 mm on a mesh of 32k."""
REACH_MM = 2.5
"""Standard deviation of the weight by distance on the 100 mm sphere."""
FOLDING_SD = 0.7
"""Standard deviation of the weight by difference of folding, in standard deviations of it."""
AGREEMENT = 0.35
"""How much one neighbour of the same label counts beside the natural logarithm of the votes."""
SWEEPS = 8
"""Sweeps of the Potts model at most."""
ISLAND_SHARE = 0.1
"""Pieces of a label smaller than this share of its largest piece are islands."""


def transfer_labels(
    registered: Mesh,
    folding: np.ndarray,
    atlas_sphere: Mesh,
    atlas_labels: np.ndarray,
    atlas_folding: np.ndarray,
    cortex: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Labels of a subject's vertices from an atlas.

    Parameters
    ----------
    registered : Mesh
        The subject's vertices on the sphere of the atlas.
    folding : (V, C) array
        Features of the subject (sulcal depth, curvature), standardised.
    atlas_sphere : Mesh
    atlas_labels : (W,) int array
        -1 and 0 (the ``unknown`` of every table in the package) are no cortex.
    atlas_folding : (W, C) array
        The same features, average over people, standardised.
    cortex : (V,) bool array, optional
        Vertices that are cortex. Others get 0, and all of these another label. Default: as the
        atlas has it.
    weights : (L,) array, optional
        Natural logarithm of what a vote of each label counts; 0 for all by default. Where an atlas
        draws a parcel smaller than what it stands for, its votes count more.

    Returns
    -------
    (V,) int32 array
        Rows of the atlas' table; 0 where there is no cortex.

    Raises
    ------
    ValueError
        Where the sizes do not fit.
    """
    folding = np.asarray(folding, dtype=np.float64).reshape(len(folding), -1)
    atlas_folding = np.asarray(atlas_folding, dtype=np.float64).reshape(len(atlas_folding), -1)
    if len(folding) != registered.n_vertices or len(atlas_folding) != atlas_sphere.n_vertices:
        raise ValueError("folding features do not fit the spheres")
    labels = np.maximum(np.asarray(atlas_labels, dtype=np.int32), 0)
    if weights is not None and len(weights) <= labels.max():
        raise ValueError(f"{len(weights)} weights for {labels.max() + 1} labels")
    if len(atlas_labels) != atlas_sphere.n_vertices:
        raise ValueError(f"{len(atlas_labels)} labels for {atlas_sphere.n_vertices} vertices")
    tree, keep = atlas_sphere.vertices, labels
    if cortex is not None:
        inside = labels > 0
        tree, keep, atlas_folding = tree[inside], labels[inside], atlas_folding[inside]
    distance, near = cKDTree(tree).query(registered.vertices, k=min(NEIGHBOURS, len(tree)))
    unlike = ((folding[:, None, :] - atlas_folding[near]) ** 2).mean(axis=2)
    # The best one counts 1: a vertex far from everything still has a vote.
    cost = 0.5 * (distance / REACH_MM) ** 2 + 0.5 * unlike / FOLDING_SD**2
    candidates = np.ascontiguousarray(keep[near])
    if weights is not None:
        cost -= np.asarray(weights, dtype=np.float64)[candidates]
    votes = np.exp(cost.min(axis=1, keepdims=True) - cost)
    out = np.empty(registered.n_vertices, dtype=np.int32)
    adjacency = registered.adjacency
    _first_vote(candidates, votes, out)
    allowed = np.ones(len(out), dtype=bool) if cortex is None else np.asarray(cortex, dtype=bool)
    out[~allowed] = 0
    _agree(candidates, votes, adjacency.indptr, adjacency.indices, allowed, out, SWEEPS)
    return without_islands(out, registered, allowed)


def without_islands(
    labels: np.ndarray, mesh: Mesh, movable: np.ndarray | None = None
) -> np.ndarray:
    """Give small pieces of each label to the label they border on most.

    Parameters
    ----------
    labels : (V,) int array
    mesh : Mesh
    movable : (V,) bool array, optional
        Vertices whose label may change.
    """
    out = np.array(labels, dtype=np.int32)
    may = np.ones(len(out), dtype=bool) if movable is None else movable
    edges = mesh.edges
    for _ in range(4):
        same = out[edges[:, 0]] == out[edges[:, 1]]
        inner = edges[same]
        graph = sparse.coo_matrix(
            (np.ones(len(inner)), (inner[:, 0], inner[:, 1])), shape=(len(out),) * 2
        )
        n_pieces, piece = connected_components(graph, directed=False)
        sizes = np.bincount(piece, minlength=n_pieces)
        label_of = np.zeros(n_pieces, dtype=np.int64)
        label_of[piece] = out
        largest = np.zeros(int(out.max()) + 1, dtype=np.int64)
        np.maximum.at(largest, label_of, sizes)
        island = sizes < ISLAND_SHARE * largest[label_of]
        fixed = np.zeros(n_pieces, dtype=bool)
        fixed[piece[~may]] = True
        island &= ~fixed
        if not island.any():
            break
        border = edges[~same]
        both = np.concatenate([border, border[:, ::-1]])
        both = both[island[piece[both[:, 0]]] & ~island[piece[both[:, 1]]]]
        # Vertices that may change do not become non-cortex by tidying when others decide that.
        if movable is not None and not movable.all():
            both = both[out[both[:, 1]] > 0]
        if not len(both):
            break
        n_labels = int(out.max()) + 1
        keys, counts = np.unique(
            piece[both[:, 0]].astype(np.int64) * n_labels + out[both[:, 1]], return_counts=True
        )
        order = np.lexsort((keys, -counts))
        owner, label = np.divmod(keys[order], n_labels)
        first = np.unique(owner, return_index=True)[1]
        new = label_of.copy()
        new[owner[first]] = label[first]
        out = new[piece].astype(np.int32)
    return out


@compiled()
def _first_vote(candidates: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    for v in range(len(candidates)):
        best, best_votes = 0, -1.0
        for i in range(candidates.shape[1]):
            votes = 0.0
            for j in range(candidates.shape[1]):
                if candidates[v, j] == candidates[v, i]:
                    votes += weights[v, j]
            if votes > best_votes:
                best, best_votes = candidates[v, i], votes
        out[v] = best


@compiled()
def _agree(
    candidates: np.ndarray,
    weights: np.ndarray,
    start: np.ndarray,
    neighbour: np.ndarray,
    movable: np.ndarray,
    labels: np.ndarray,
    n_sweeps: int,
) -> None:
    for _ in range(n_sweeps):
        changed = 0
        for v in range(len(labels)):
            if not movable[v]:
                continue
            total = weights[v].sum()
            best, best_score = labels[v], -1e300
            for i in range(candidates.shape[1]):
                label = candidates[v, i]
                votes = 0.0
                for j in range(candidates.shape[1]):
                    if candidates[v, j] == label:
                        votes += weights[v, j]
                agree = 0
                for s in range(start[v], start[v + 1]):
                    if labels[neighbour[s]] == label:
                        agree += 1
                score = np.log(votes / total + 1e-6) + AGREEMENT * agree
                if score > best_score:
                    best, best_score = label, score
            if best != labels[v]:
                labels[v] = best
                changed += 1
        if changed == 0:
            break
