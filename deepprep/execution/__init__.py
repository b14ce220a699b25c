"""Pydra workers, resources, retry, stale locks, provenance.

A task is a function of files and plain values, with its needs declared above it::

    @stage(cpus=2, mem_gb=3.0, title="Head motion")
    @python.define(outputs=["motion"])
    def EstimateHeadMotion(bold: File, reference: File, label: str) -> File:
        import nibabel as nb  # slow libraries are imported inside

        ...
        path = Path("motion.tsv").absolute()  # each task has a folder of its own
        ...
        return File(path)

Workflows are functions that call ``workflow.add``; :func:`~deepprep.execution.submit.run_workflows`
runs several at once. ``tests/execution/test_example.py`` shows all of it, running.
"""
