"""Labels for real heads that have none, as the engine gives them.

``python -m training.segmentation.engine_labels SHARED_DATA OUT --heads NAME ...``

The engine knows more than its network: the mirror image, the atlas of structures and the borders that the
image has. What it says of heads that nobody has labelled (names as in
:mod:`training.segmentation.atlas_fusion`) the network may learn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from deepprep.image.volume import Volume
from deepprep.segmentation.compact.engine import CompactEngine
from deepprep.segmentation.compact.network import CLASSES
from training.segmentation.atlas_fusion import head_path, prepared_head
from training.segmentation.labels import enlarge_pallidum
from training.segmentation.real_heads import save_head


def labelled(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The image that the network sees and the class of each of its voxels."""
    prepared = prepared_head(path).around_brain()
    image = prepared.image[0, 0].numpy()
    engine = CompactEngine()
    files = engine.weight_files()
    assert files is not None
    brain = Volume(image, prepared.grid.affine)
    labels = engine.segment(brain, prepared.inside, files).labels.astype(np.int16)
    labels[~prepared.inside] = 0
    enlarge_pallidum(labels)
    index = np.zeros(max(CLASSES) + 1, np.uint8)
    index[list(CLASSES)] = np.arange(len(CLASSES))
    return image * prepared.inside, index[labels]


def main() -> None:
    """Write OUT/NAME.npz with ``image`` float16 and ``classes`` uint8."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--heads", nargs="+", required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.heads:
        if name.startswith("silver"):
            raise SystemExit("freesurfer-silver is for evaluation only")
        save_head(given.out, name, *labelled(head_path(name, given.shared_data)))
        print(name, flush=True)


if __name__ == "__main__":
    main()
