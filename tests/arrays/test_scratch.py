import pickle
import threading

import numpy as np

from sklearn_calm._arrays.scratch import Scratch

DOUBLE, SINGLE = np.empty(0, np.float64), np.empty(0, np.float32)


def test_memory_is_used_again():
    scratch = Scratch()
    large = scratch.empty("maps", (4, 5), DOUBLE)
    small = scratch.empty("maps", (3, 2), DOUBLE)
    assert small.shape == (3, 2)
    assert small.flags.c_contiguous
    assert np.shares_memory(large, small)


def test_names_kinds_and_sizes_have_their_own():
    scratch = Scratch()
    maps = scratch.empty("maps", (4, 5), DOUBLE)
    assert not np.shares_memory(maps, scratch.empty("stripes", (4, 5), DOUBLE))
    assert scratch.empty("maps", (4, 5), SINGLE).dtype == np.float32
    assert scratch.empty("maps", (40, 5), SINGLE).shape == (40, 5)


def test_each_thread_has_its_own():
    scratch, found = Scratch(), []
    mine = scratch.empty("maps", (8,), DOUBLE)
    thread = threading.Thread(target=lambda: found.append(scratch.empty("maps", (8,), DOUBLE)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, found[0])


def test_a_worker_process_starts_with_none():
    scratch = Scratch()
    scratch.empty("maps", (1000,), DOUBLE)
    copy = pickle.loads(pickle.dumps(scratch))
    assert len(pickle.dumps(scratch)) < 500
    assert copy.empty("maps", (2,), SINGLE).shape == (2,)
