"""When slice timing is corrected, and in which order the times are given."""

import pytest

from deepprep.bids.slice_timing import decide_slice_timing

SHAPE = (6, 7, 4, 8)
META = {"RepetitionTime": 2.0, "SliceTiming": [0.0, 1.0, 0.5, 1.5]}


def test_applied_with_the_reference_in_the_middle_of_the_acquisition():
    decision = decide_slice_timing(META, SHAPE)
    assert decision.apply
    assert decision.slice_times_s == (0.0, 1.0, 0.5, 1.5)
    assert (decision.axis, decision.tr_s, decision.reference_time_s) == (2, 2.0, 0.75)


@pytest.mark.parametrize(("fraction", "time_s"), [(0.0, 0.1), (1.0, 1.6), (0.25, 0.475)])
def test_reference_is_a_fraction_of_the_acquisition(fraction, time_s):
    meta = {**META, "SliceTiming": [0.1, 1.1, 0.6, 1.6]}
    decision = decide_slice_timing(meta, SHAPE, reference_fraction=fraction)
    assert decision.reference_time_s == time_s


def test_reversed_slice_encoding_turns_the_list_round():
    decision = decide_slice_timing({**META, "SliceEncodingDirection": "k-"}, SHAPE)
    assert decision.slice_times_s == (1.5, 0.5, 1.0, 0.0)


def test_slices_along_another_axis():
    meta = {"RepetitionTime": 2.0, "SliceTiming": [0, 0.1, 0.2, 0.3, 0.4, 0.5]}
    decision = decide_slice_timing({**meta, "SliceEncodingDirection": "i"}, SHAPE)
    assert decision.apply
    assert decision.axis == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"SliceTiming": None}, "the sidecar has no SliceTiming"),
        ({"SliceTiming": [0, 1]}, "SliceTiming has 2 values for 4 slices"),
        ({"SliceTiming": [0, 1, 2, 3]}, "goes from 0 to 3 s, TR is 2 s"),
        ({"SliceTiming": [-1, 1, 0, 1]}, "goes from -1 to 1 s"),
        ({"SliceTiming": [1, 1, 1, 1]}, "all slices were taken at the same time"),
        ({"SliceTiming": ["a", 1, 1, 1]}, "not made of numbers"),
        ({"RepetitionTime": None}, "not made of numbers"),
    ],
)
def test_not_applied_with_the_reason(change, reason):
    decision = decide_slice_timing({**META, **change}, SHAPE)
    assert not decision.apply
    assert reason in decision.reason


def test_switched_off():
    decision = decide_slice_timing(META, SHAPE, ignored=True)
    assert not decision.apply
    assert decision.reason == "switched off with --ignore slicetiming"
