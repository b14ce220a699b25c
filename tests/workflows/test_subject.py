"""What depends on what in the workflow of a subject."""

import numpy as np
import pytest

from deepprep.bids.inputs import collect
from deepprep.workflows.choices import Choices
from deepprep.workflows.subject import Subject
from tests.bids.datasets import T1W_SHAPE, settings_for, write_dataset, write_image

SIX, NINE = "MNI152NLin6Asym", "MNI152NLin2009cAsym"
RUN = "sub_01_task_rest_bold"


@pytest.fixture
def needs(tmp_path):
    """For each node, by name, all nodes that must have run before it."""
    return needs_of(write_dataset(tmp_path / "bids"))


def needs_of(root, **given):
    spaces = ("func", "T1w", f"{SIX}:res-2", f"{NINE}:res-2", f"{NINE}:res-1")
    settings = settings_for(root, output_spaces=spaces, **given)
    choices = Choices.from_settings(settings, "cpu").to_json()
    (subject,) = collect(settings)
    laid_out = Subject(subject=subject.to_json(), choices=choices, problems=[]).construct()
    graph = laid_out.graph()
    found: dict[str, set[str]] = {}
    for node in graph.sorted_nodes:
        before = {other.name for other in graph.predecessors[node.name]}
        found[node.name] = before.union(*(found[name] for name in before))
    return found


def test_outputs_in_the_spaces_of_the_subject_need_no_template(needs):
    for name in ("write_anatomy", f"{RUN}_fit", f"{RUN}_native"):
        assert not [other for other in needs[name] if "MNI" in other], name


def test_outputs_in_a_template_need_that_template_only(needs):
    assert {f"{RUN}_fit", f"normalise_{SIX}"} <= needs[f"{RUN}_{SIX}"]
    assert not [other for other in needs[f"{RUN}_{SIX}"] if NINE in other]
    assert f"{RUN}_native" not in needs[f"{RUN}_{NINE}"]


def test_a_lesion_goes_to_every_normalisation_and_to_the_summary(tmp_path):
    root = write_dataset(tmp_path / "bids")
    mask = np.zeros(T1W_SHAPE, np.int16)
    mask[2:5, 3:6, 4:7] = 1
    write_image(root / "sub-01/anat/sub-01_label-lesion_roi.nii.gz", mask.shape, data=mask)
    needs = needs_of(root)
    for name in ("write_lesion", "write_anatomy", f"normalise_{SIX}", f"normalise_{NINE}"):
        assert "lesion" in needs[name], name
    assert "lesion" not in needs["segmentation"]
    filled = needs_of(root, lesion_fill="mirror")
    for name in ("segmentation", "write_lesion", "write_anatomy", f"normalise_{SIX}"):
        assert "fill_lesion" in filled[name], name


def test_without_a_lesion_there_is_no_such_task(needs):
    assert not [name for name in needs if "lesion" in name]


def test_surfaces_of_a_finished_subject_are_read_and_not_computed(tmp_path):
    root = write_dataset(tmp_path / "bids")
    for name in ("orig.mgz", "lh.white", "lh.pial", "rh.white", "rh.pial"):
        path = tmp_path / "subjects/sub-01" / ("mri" if "mgz" in name else "surf") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    settings = settings_for(root, fs_subjects_dir=tmp_path / "subjects")
    choices = Choices.from_settings(settings, "cpu").to_json()
    (subject,) = collect(settings)
    laid_out = Subject(subject=subject.to_json(), choices=choices, problems=[]).construct()
    names = {node.name for node in laid_out.graph().sorted_nodes}
    assert "read_surfaces" in names and not {"surfaces_L", "surfaces_R"} & names
    assert {"write_surfaces", "surface_volumes"} <= names
