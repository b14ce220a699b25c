"""fMRIPrep's language of output spaces."""

import pytest

from deepprep.bids.spaces import OutputSpace, known_templates, parse_spaces
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


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("fsnative", ["fsnative"]),
        ("fsaverage5", ["fsaverage5"]),
        ("fsaverage", ["fsaverage"]),
        ("fsaverage:den-10k:den-41k", ["fsaverage5", "fsaverage6"]),
        ("fsLR", ["fsLR:den-32k"]),
        ("fsLR:den-164k", ["fsLR:den-164k"]),
    ],
)
def test_surfaces_have_fmripreps_names(text, names):
    spaces = parse_spaces([text])
    assert [str(s) for s in spaces] == names
    assert all(s.surface and not s.standard for s in spaces)
    assert parse_spaces(names) == spaces
    density = {"den": names[0].split("-")[1]} if "fsLR" in text else {}
    assert spaces[0].entities == {"space": names[0].split(":")[0], **density}


@pytest.mark.parametrize("name", ["fsaverage3", "onavg", "fsLR:den-59k", "fsaverage:den-1k"])
def test_unknown_surfaces_are_refused(name):
    with pytest.raises(NotAvailableError, match="choose among fsnative, fsaverage4"):
        parse_spaces([name])
    with pytest.raises(InputError, match="only a density"):
        parse_spaces(["fsaverage:res-2"])


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


@pytest.fixture
def no_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    return tmp_path


def test_other_templates(no_home):
    assert parse_spaces(["OASIS30ANTs:res-1"]) == (OutputSpace("OASIS30ANTs", None, "1"),)
    assert [str(s) for s in parse_spaces(["MNIPediatricAsym:cohort-1:cohort-2:res-2"])] == [
        "MNIPediatricAsym:cohort-1:res-2",
        "MNIPediatricAsym:cohort-2:res-2",
    ]


def test_unknown_template_lists_the_known_ones(no_home):
    with pytest.raises(InputError) as unknown:
        parse_spaces(["MNI152NLin2009Asym"])
    sentence = str(unknown.value)
    assert "is not known. Did you mean 'MNI152NLin2009" in sentence
    assert "MNI152NLin6Asym" in sentence
    assert "OASIS30ANTs" in sentence
    assert "fsLR" not in sentence


def test_cohorts(no_home):
    with pytest.raises(InputError, match="MNIPediatricAsym needs a cohort; write one of MNIPed"):
        parse_spaces(["MNIPediatricAsym"])
    with pytest.raises(InputError, match="has no cohort '77'; write one of"):
        parse_spaces(["MNIPediatricAsym:cohort-77"])
    with pytest.raises(InputError, match="OASIS30ANTs has no cohorts"):
        parse_spaces(["OASIS30ANTs:cohort-1"])


def test_template_of_ones_own(no_home):
    (no_home / "tpl-Mine").mkdir()
    assert parse_spaces(["Mine:res-1"]) == (OutputSpace("Mine", None, "1"),)


@pytest.mark.slow
def test_language_is_that_of_niworkflows():
    """Slow: niworkflows indexes TemplateFlow when it is imported."""
    from niworkflows.utils.spaces import Reference

    ours = set(known_templates())
    volumes = {t for t in Reference._standard_spaces if t not in Reference._spaces_2d}
    assert volumes <= ours
    for text in (
        f"{MNI}:res-2:res-native",
        "MNI152NLin6Asym:res-1",
        "MNIPediatricAsym:cohort-1:cohort-2:res-2",
        "OASIS30ANTs",
    ):
        theirs = [
            (r.space, r.spec.get("cohort"), r.spec.get("res")) for r in Reference.from_string(text)
        ]
        assert [(s.name, s.cohort, s.res) for s in parse_spaces([text])] == theirs
