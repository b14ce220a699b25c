"""Write the averaged weights of a checkpoint as the file the package ships.

``python -m training.segmentation.export RUN/checkpoint.pt deepprep/data/weights/segmentation.safetensors``
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file


def export(checkpoint: Path, target: Path) -> None:
    """Half-precision weights (11 MB become 6) with the architecture and the step as metadata."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    tensors = {
        name: value.half().contiguous()
        for name, value in state["average"].items()
        if value.is_floating_point()
    }
    metadata = {
        "architecture": json.dumps(state["architecture"]),
        "classes": json.dumps(list(state["classes"])),
        "step": str(state["step"]),
        "seed": str(state["arguments"]["seed"]),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    save_file(tensors, part, metadata)
    os.replace(part, target)
    print(f"{target.name}: step {state['step']}, {target.stat().st_size / 1e6:.1f} MB")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args(argv)
    export(given.checkpoint, given.target)


if __name__ == "__main__":
    main()
