"""What changes over time: task, haemodynamics, drift, breathing and heartbeat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import gamma

CARDIAC_HZ, RESPIRATORY_HZ = 1.07, 0.27
"""Frequencies of heartbeat and breathing."""


@dataclass(frozen=True)
class Event:
    """One block of the task: seconds and condition."""

    onset_s: float
    duration_s: float
    condition: str


def block_design(duration_s: float, conditions: tuple[str, ...], block_s: float) -> list[Event]:
    """Rest, first condition, rest, second condition, ... in blocks of equal length."""
    events, onset, turn = [], block_s / 2, 0
    while onset + block_s <= duration_s:
        events.append(Event(onset, block_s, conditions[turn % len(conditions)]))
        onset += 1.6 * block_s
        turn += 1
    return events


def haemodynamic_response(times_s: np.ndarray) -> np.ndarray:
    """Double-gamma response (Friston 1998; peaks at 5 s, dips at 15 s), unit sum per second."""
    h = gamma.pdf(times_s, 6.0) - gamma.pdf(times_s, 16.0) / 6.0
    return h / (5.0 / 6.0)


def response(events: list[Event], condition: str, times_s: np.ndarray) -> np.ndarray:
    """Expected BOLD response at arbitrary times: boxcars convolved with the response.

    A long block plateaus at one.
    """
    times_s = np.asarray(times_s, dtype=np.float64)
    fine = 0.1
    clock = np.arange(0.0, times_s.max() + 1.0, fine)
    box = np.zeros_like(clock)
    for event in events:
        if event.condition == condition:
            box[(clock >= event.onset_s) & (clock < event.onset_s + event.duration_s)] = 1.0
    kernel = haemodynamic_response(np.arange(0.0, 32.0, fine)) * fine
    return np.interp(times_s, clock, np.convolve(box, kernel)[: len(clock)])


def drift(times_s: np.ndarray, duration_s: float, phase: float) -> np.ndarray:
    """Slow scanner drift between -1 and 1: a trend and half a wave."""
    u = np.asarray(times_s) / duration_s
    return 0.6 * (2 * u - 1) + 0.4 * np.cos(2 * np.pi * u + phase)


def pulsation(times_s: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Heartbeat and breathing between about -1 and 1, sampled (and so aliased) at ``times_s``."""
    t = 2 * np.pi * np.asarray(times_s)
    return 0.6 * np.sin(CARDIAC_HZ * t + phases[0]) + 0.4 * np.sin(RESPIRATORY_HZ * t + phases[1])
