"""Contenders take turns in one process, so that a noisy machine is noisy to all of them."""

import os
import platform
import time

import numpy as np
import scipy
import sklearn

import sklearn_calm


def machine():
    """One line: versions, cores, processor."""
    packages = (sklearn_calm, sklearn, np, scipy)
    versions = ", ".join(f"{package.__name__} {package.__version__}" for package in packages)
    return f"{versions}, {os.cpu_count()} cores, {platform.machine()}"


def seconds_of(function, clock=time.perf_counter):
    started = clock()
    function()
    return clock() - started


# Threads of OpenMP and of ONNX Runtime keep their cores busy for a while after they worked.
REST = 0.2


def compare(contenders, repeat, clock=time.perf_counter):
    """Seconds of each contender by a clock, (repeat,) each, taken in turns."""
    seconds = {name: [] for name in contenders}
    for _ in range(repeat):
        for name, function in contenders.items():
            time.sleep(REST)
            seconds[name].append(seconds_of(function, clock))
    return seconds


def report(title, seconds):
    """A table of medians, spread, and how many times as long as the first each takes."""
    print(f"\n{title:44}{'median s':>9}{'min s':>8}{'max s':>8}{'/ first':>9}")
    first = np.median(next(iter(seconds.values())))
    for name, values in seconds.items():
        median = np.median(values)
        print(
            f"  {name:42}{median:9.3f}{min(values):8.3f}{max(values):8.3f}{median / first:9.2f}",
            flush=True,
        )
