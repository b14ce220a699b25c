"""Methods text: only what ran, every citation resolved, every format well formed."""

import re

import pytest

from deepprep.reports import boilerplate as b
from deepprep.reports import methods as m

ALL_STEPS = [
    m.conform(1),
    m.conform(3),
    m.bias_correction("2.5.0"),
    m.brain_mask("1.0.2"),
    m.brain_mask("1.0.2", skull_stripped_input=True),
    m.whole_brain_segmentation("deepprep"),
    m.whole_brain_segmentation("fastsurfer-vinn"),
    m.whole_brain_segmentation("fastsurfer-v1"),
    m.tissue_segmentation(),
    m.structure_volumes(),
    m.surfaces(),
    m.given_surfaces(),
    m.spheres(),
    m.spheres("sugar"),
    m.parcels(["aparc", "aparc.a2009s", "Schaefer2018_100Parcels_17Networks_order", "HCP-MMP1"]),
    m.surface_sampling(["fsnative", "fsaverage5"]),
    m.normalisation(["MNI152NLin2009cAsym", "MNI152NLin6Asym", "Other"]),
    m.normalisation(["Other"], "synthmorph"),
    m.normalisation(["Other"], "synthmorph", network="own"),
    m.normalisation(["Other"], "synthmorph+refine", with_labels=True),
    m.lesion(40.0),
    m.lesion_filled("mirror", 0.6),
    m.lesion_filled("mirror", 1.0),
    m.lesion_filled("white", 0.0),
    m.fieldmap_found("phase difference, sub-01_phasediff.nii.gz"),
    m.bold_reference(),
    m.bold_reference(2),
    m.head_motion(),
    m.slice_timing(1.2, 0.0, 2.4),
    m.slice_timing_skipped("the sidecar has no SliceTiming"),
    m.coregistration("bbr"),
    m.coregistration("nmi"),
    m.resampling(["T1w", "boldref"]),
    m.standard_resampling("MNI152NLin2009cAsym"),
    m.confounds(),
]


@pytest.mark.parametrize("step", ALL_STEPS, ids=lambda s: s.name)
def test_citations_of_a_step_are_in_the_bibliography(step):
    assert set(step.citations) <= set(b.bibliography())
    assert step.text.endswith(".")
    assert m.Step.from_dict(step.to_dict()) == step


def test_every_reference_is_cited_by_some_step():
    assert set(b.cited_keys(b.assemble_methods(ALL_STEPS))) == set(b.bibliography())


def test_references_have_what_a_reader_needs():
    for reference in b.bibliography().values():
        assert {"author", "title", "year"} <= set(reference.fields)
        assert "journal" in reference.fields or "booktitle" in reference.fields
        assert not re.search(r"[{}\\]", reference.full + reference.short)
    assert b.bibliography()["bbr"].short == "Greve and Fischl 2009"
    assert b.bibliography()["deepbet"].short == "Fisch et al. 2024"
    assert "Thévenaz" in b.bibliography()["interpolation_revisited"].full
    assert "Ibáñez" in b.bibliography()["simpleitk"].full


def test_only_what_ran_is_described():
    text = b.assemble_methods([m.conform(1), m.brain_mask("1.0.2")])
    assert "deepbet" in text and "## Anatomical" in text
    assert "N4" not in text and "## Functional" not in text
    assert "bbr" not in b.cited_keys(text)


def test_equal_sentences_of_several_runs_appear_once():
    runs = [m.head_motion(), m.slice_timing(1, 0, 2)] * 2
    runs += [m.slice_timing_skipped("the sidecar has no SliceTiming")]
    text = b.assemble_methods(runs)
    assert text.count("Head motion with respect") == 1
    assert "Slice timing was not corrected: the sidecar" in text


def test_field_map_that_was_not_applied_is_not_claimed():
    assert "NOT corrected" in m.fieldmap_found("phase difference").text
    assert "NOT" not in m.fieldmap_found("phase difference", applied=True).text


def test_rejected_boundary_registration_is_not_claimed():
    assert "rejected" in m.coregistration("nmi").text
    assert "rejected" not in m.coregistration("bbr").text


def test_files_are_written_and_agree(tmp_path):
    paths = b.write_citations(tmp_path, ALL_STEPS)
    assert {p.name for p in (tmp_path / "logs").iterdir()} == {
        f"CITATION.{e}" for e in ("md", "html", "tex", "bib")
    }
    keys = set(b.cited_keys(b.assemble_methods(ALL_STEPS)))
    bib = paths["bib"].read_text()
    assert set(re.findall(r"^@\w+\{(\w+),", bib, flags=re.MULTILINE)) == keys
    tex = paths["tex"].read_text()
    cited = {k for g in re.findall(r"\\citep(?:\[[^\]]*\])*\{([^}]*)\}", tex) for k in g.split(",")}
    assert cited == keys
    page = paths["html"].read_text()
    assert set(re.findall(r'id="ref-(\w+)"', page)) == keys
    assert set(re.findall(r'href="#ref-(\w+)"', page)) == keys
    assert "[@" not in page and "[@" not in tex


def test_bib_holds_only_what_is_cited(tmp_path):
    paths = b.write_citations(tmp_path, [m.head_motion()])
    assert "friston_realign" in paths["bib"].read_text()
    assert "acompcor_muschelli" not in paths["bib"].read_text()


def test_strings_are_escaped_in_html_and_tex():
    step = m.slice_timing_skipped("50% & <script>alert(1)</script> a_b $x$ #1")
    text = b.assemble_methods([step])
    assert "&lt;script&gt;" in b.markdown_to_html(text)
    assert "<script>" not in b.markdown_to_html(text)
    assert r"50\% \& <script>alert(1)</script> a\_b \$x\$ \#1" in b.markdown_to_tex(text)


def test_emphasis_becomes_markup():
    html = b.markdown_to_html("# Title\n\nA *b* and **c** and `d`.")
    assert html == (
        "<h1>Title</h1>\n<p>A <em>b</em> and <strong>c</strong> and <code>d</code>.</p>"
    )
    tex = b.markdown_to_tex("A *b* **c** `d` [@n4; note_1].")
    assert r"A \emph{b} \textbf{c} \texttt{d} \citep[][note\_1]{n4}." in tex
