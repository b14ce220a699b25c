"""What depends on what in the workflow of a subject."""

import pytest

from deepprep.bids.inputs import collect
from deepprep.workflows.choices import Choices
from deepprep.workflows.subject import Subject
from tests.bids.datasets import settings_for, write_dataset

SIX, NINE = "MNI152NLin6Asym", "MNI152NLin2009cAsym"
RUN = "sub_01_task_rest_bold"


@pytest.fixture
def needs(tmp_path):
    """For each node, by name, all nodes that must have run before it."""
    root = write_dataset(tmp_path / "bids")
    settings = settings_for(
        root, output_spaces=("func", "T1w", f"{SIX}:res-2", f"{NINE}:res-2", f"{NINE}:res-1")
    )
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
