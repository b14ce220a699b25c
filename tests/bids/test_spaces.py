"""fMRIPrep's language of output spaces."""

import pytest

from deepprep.bids.spaces import OutputSpace, parse_spaces
from deepprep.errors import InputError, NotAvailableError

MNI = "MNI152NLin2009cAsym"


def test_known_spaces_in_order_without_duplicates():
    assert parse_spaces([f"{MNI}:res-2", "T1w", "anat", "func", f"{MNI}:res-2"]) == (
        OutputSpace(MNI, None, "2"),
        OutputSpace("T1w"),
        OutputSpace("boldref"),
    )


def test_resolutions_are_combined():
    assert [str(s) for s in parse_spaces([f"{MNI}:res-native:res-1"])] == [
        f"{MNI}:res-native",
        f"{MNI}:res-1",
    ]


def test_no_space_gives_none():
    assert parse_spaces([]) == ()


@pytest.mark.parametrize(
    ("space", "entities"),
    [
        (OutputSpace(MNI, None, "2"), {"space": MNI, "res": "2"}),
        (OutputSpace(MNI, None, "native"), {"space": MNI}),
        (OutputSpace(MNI), {"space": MNI}),
        (OutputSpace("P", "1", "2"), {"space": "P", "cohort": "1", "res": "2"}),
        (OutputSpace("T1w"), {"space": "T1w"}),
        (OutputSpace("boldref"), {}),
    ],
)
def test_entities_are_fmripreps(space, entities):
    assert space.entities == entities


def test_native_and_template_id():
    assert OutputSpace(MNI, None, "native").native_res
    assert not OutputSpace(MNI, None, "1").native_res
    assert OutputSpace("MNIPediatricAsym", "1").template_id == "MNIPediatricAsym+1"


@pytest.mark.parametrize("name", ["fsaverage5", "fsnative", "fsaverage:den-10k", "fsLR"])
def test_surfaces_are_refused(name):
    with pytest.raises(NotAvailableError, match="not available yet in this version"):
        parse_spaces([name])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{MNI}:den-10k", "takes no 'den'"),
        (f"{MNI}:resolution-2", "unknown part 'resolution-2'"),
        (f"{MNI}:res", "unknown part 'res'"),
        ("T1w:res-2", "cannot be given a resolution"),
        (f"{MNI}:cohort-1", "has no cohorts"),
    ],
)
def test_wrong_modifiers(text, message):
    with pytest.raises(InputError, match=message):
        parse_spaces([text])


def test_other_templates_are_read_as_niworkflows_reads_them():
    """One test, since niworkflows' first import takes seconds."""
    from niworkflows.utils.spaces import Reference

    for text in (
        f"{MNI}:res-2:res-native",
        "MNI152NLin6Asym:res-1",
        "MNIPediatricAsym:cohort-1:cohort-2:res-2",
        "OASIS30ANTs",
    ):
        theirs = [(r.space, r.spec.get("cohort"), r.spec.get("res")) for r in
                  Reference.from_string(text)]  # fmt: skip
        assert [(s.name, s.cohort, s.res) for s in parse_spaces([text])] == theirs
    with pytest.raises(InputError) as unknown:
        parse_spaces(["MNI152NLin2009Asym"])
    sentence = str(unknown.value)
    assert "is not known. Did you mean 'MNI152NLin2009" in sentence
    assert "MNI152NLin6Asym" in sentence
    assert "OASIS30ANTs" in sentence
    with pytest.raises(InputError, match="Set a valid cohort selector"):
        parse_spaces(["MNIPediatricAsym"])
    with pytest.raises(InputError, match='any cohort named "77"'):
        parse_spaces(["MNIPediatricAsym:cohort-77"])
