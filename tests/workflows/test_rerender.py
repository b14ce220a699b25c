"""Reports and methods text written again from the records of an earlier run."""

import json

import pytest

from deepprep.bids.inputs import collect
from deepprep.errors import InputError
from deepprep.interfaces.delivery import Delivery
from deepprep.reports.methods import bias_correction
from deepprep.workflows.participant import rerender
from tests.bids.datasets import settings_for, write_dataset


@pytest.fixture
def earlier(tmp_path):
    """Data set and output folder after a run in which a step failed."""
    root = write_dataset(tmp_path / "bids")
    out = tmp_path / "out"
    Delivery(out, "sub-01", "anat", "run-2").close(steps=[bias_correction("2.5")])
    logs = out / "logs"
    (logs / "provenance.json").write_text(json.dumps({"settings": {"run_uuid": "run-2"}}))
    for run, text in (("run-1", "an older failure"), ("run-2", "no brain was found")):
        (logs / run).mkdir()
        crash = f"Task:  sub-01/brain_mask\nError: {text}\n"
        (logs / run / "crash-1-sub-01_brain_mask.txt").write_text(crash)
    figures = out / "sub-01" / "figures"
    figures.mkdir(parents=True)
    (figures / "sub-01_desc-about_T1w.html").write_text("<p>the command of that run</p>")
    return root, out


def test_reports_keep_the_errors_and_the_command_of_the_run(earlier, capsys):
    root, out = earlier
    settings = settings_for(root, reports_only=True)
    assert rerender(settings, collect(settings)) == 0
    page = (out / "sub-01.html").read_text()
    assert "no brain was found" in page
    assert "an older failure" not in page
    assert "the command of that run" in page
    assert f"Report: {out / 'sub-01.html'}" in capsys.readouterr().err


def test_boilerplate_is_written_without_reports(earlier):
    root, out = earlier
    settings = settings_for(root, boilerplate_only=True)
    assert rerender(settings, collect(settings)) == 0
    assert "N4" in (out / "logs" / "CITATION.md").read_text()
    assert not (out / "sub-01.html").exists()


def test_without_an_earlier_run_there_is_nothing_to_write(tmp_path):
    settings = settings_for(write_dataset(tmp_path / "bids"))
    with pytest.raises(InputError, match="holds no records of an earlier run"):
        rerender(settings, [])
