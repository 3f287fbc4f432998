import gc
import multiprocessing
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import threadpoolctl
from threadpoolctl import ThreadpoolController, threadpool_limits

from sklearn_calm import ConvGMMFeatures
from sklearn_calm._arrays import execution
from sklearn_calm._arrays.execution import Workers, count_workers, single_threaded_blas

jobs = pytest.mark.parametrize("n_jobs", [1, 2, 3])


def blas_threads():
    return [lib["num_threads"] for lib in ThreadpoolController().select(user_api="blas").info()]


def give_up_control():
    """Let any thread set limits: a new threadpoolctl heeds the first that did, and no other."""
    controller = getattr(threadpoolctl, "OpenBLASController", None)
    if hasattr(controller, "clear_controlling_thread"):
        controller.clear_controlling_thread(force=True)


@pytest.fixture(autouse=True)
def two_blas_threads():
    """A limit that every test has to find again, also on a machine of one core."""
    give_up_control()
    limiter = threadpool_limits(2, user_api="blas")
    give_up_control()
    before = blas_threads()
    assert before
    assert set(before) == {2}
    yield
    after = blas_threads()
    give_up_control()
    limiter.restore_original_limits()
    give_up_control()
    assert after == before


@jobs
def test_results_come_in_the_order_of_the_batches(n_jobs):
    def late_first(batch):
        time.sleep(0.03 / (1 + batch))
        return batch * batch

    assert list(Workers(n_jobs).map(late_first, list(range(6)))) == [i * i for i in range(6)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sums_are_the_same_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    batches = list(rng.normal(size=(23, 40)) * 10.0 ** rng.integers(-8, 8, size=(23, 1)))

    def add(batch):
        time.sleep(0.001 * (len(batch) % 3))
        return batch.sum()

    sums = [
        Workers(n_jobs).map_reduce(add, batches, lambda a, b: a + b).hex() for n_jobs in (1, 2, 3)
    ]
    expected = batches[0].sum()
    for batch in batches[1:]:
        expected += batch.sum()
    assert sums == [expected.hex()] * 3


@jobs
@pytest.mark.parametrize("n_batches", [1, 4])
def test_blas_is_held_to_one_thread_while_working(n_jobs, n_batches):
    seen = list(Workers(n_jobs).map(lambda batch: blas_threads(), list(range(n_batches))))
    assert {n for threads in seen for n in threads} == {1}


@jobs
def test_workers_run_side_by_side(n_jobs):
    meeting = threading.Barrier(n_jobs)
    assert list(Workers(n_jobs).map(lambda _: meeting.wait(timeout=20) >= 0, range(n_jobs)))


@jobs
@pytest.mark.parametrize("n_batches", [1, 5])
def test_limits_are_restored_after_an_exception(n_jobs, n_batches):
    def fail(batch):
        raise ValueError(f"batch {batch}")

    with pytest.raises(ValueError, match="batch"):
        list(Workers(n_jobs).map(fail, list(range(n_batches))))
    assert set(blas_threads()) == {2}


def test_limits_are_restored_after_an_exception_in_the_reduction():
    def fail(a, b):
        raise ValueError("cannot merge")

    with pytest.raises(ValueError, match="cannot merge"):
        Workers(1).map_reduce(abs, [1, 2, 3], fail)
    gc.collect()
    assert set(blas_threads()) == {2}


@jobs
# joblib warns of work that nobody fetched.
@pytest.mark.filterwarnings("ignore:.*tasks:UserWarning")
def test_limits_are_restored_after_an_abandoned_generator(n_jobs):
    results = Workers(n_jobs).map(abs, [-1, -2, -3, -4])
    assert next(results) == 1
    assert set(blas_threads()) == {1}
    del results
    gc.collect()
    assert set(blas_threads()) == {2}


def test_a_generator_never_started_holds_nothing():
    results = Workers(2).map(abs, [-1, -2])
    assert set(blas_threads()) == {2}
    del results


@pytest.mark.parametrize("first_out", [0, 1])
@pytest.mark.parametrize("lives_on", [True, False])
def test_overlapping_contexts_restore_the_limit_when_the_last_is_left(first_out, lives_on):
    events = {
        name: [threading.Event(), threading.Event()] for name in ("in", "leave", "out", "end")
    }

    def hold(i):
        with single_threaded_blas():
            events["in"][i].set()
            events["leave"][i].wait(timeout=20)
        events["out"][i].set()
        if lives_on:
            events["end"][i].wait(timeout=20)

    threads = [threading.Thread(target=hold, args=(i,)) for i in (0, 1)]
    seen = []
    for i in (0, 1):
        threads[i].start()
        events["in"][i].wait(timeout=20)
        seen.append(blas_threads())
    for i in (first_out, 1 - first_out):
        events["leave"][i].set()
        events["out"][i].wait(timeout=20)
        if not lives_on:
            threads[i].join()
        seen.append(blas_threads())
    for i in (0, 1):
        events["end"][i].set()
        threads[i].join()
    assert [set(threads) for threads in seen] == [{1}, {1}, {1}, {2}]


@jobs
def test_any_thread_can_work_after_another(n_jobs):
    def work(batch):
        return blas_threads()

    seen = list(Workers(n_jobs).map(work, [0, 1]))
    with ThreadPoolExecutor(1) as pool:
        seen += pool.submit(lambda: list(Workers(n_jobs).map(work, [0, 1]))).result()
        assert set(blas_threads()) == {2}
        seen += list(Workers(n_jobs).map(work, [0, 1]))
    assert {n for threads in seen for n in threads} == {1}


def test_limits_of_others_are_found_again():
    with threadpool_limits(3, user_api="blas"):
        list(Workers(2).map(abs, [1, 2, 3]))
        assert set(blas_threads()) == {3}
    assert set(blas_threads()) == {2}


def test_contexts_nest_and_survive_exceptions():
    def fail_inside():
        with single_threaded_blas():
            raise ValueError

    with single_threaded_blas():
        with pytest.raises(ValueError):  # noqa: PT011 - its own
            fail_inside()
        assert set(blas_threads()) == {1}
    assert set(blas_threads()) == {2}


def test_count_of_workers():
    assert count_workers(1) == 1
    assert count_workers(3) == 3
    assert count_workers(-1) == joblib.cpu_count()
    # None: as many as BLAS is set to.
    assert count_workers(None) == 2
    with threadpool_limits(1, user_api="blas"):
        assert count_workers(None) == 1


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_count_of_workers_follows_the_configuration(backend):
    with joblib.parallel_config(backend=backend, n_jobs=3):
        assert count_workers(None) == 3
        assert count_workers(1) == 1
        assert Workers().n_jobs == 3
    assert count_workers(None) == 2


def test_zero_workers_are_refused():
    with pytest.raises(ValueError, match="n_jobs"):
        count_workers(0)


# Looking for libraries takes milliseconds, more than the features of a small image.


def test_libraries_are_looked_for_once(monkeypatch):
    looked = []

    class Counted(ThreadpoolController):
        def __init__(self):
            looked.append(1)
            super().__init__()

    monkeypatch.setattr(execution, "_blas", execution._Blas())
    monkeypatch.setattr(execution, "ThreadpoolController", Counted)
    for _ in range(3):
        assert list(Workers().map(abs, [-1])) == [1]
    assert len(looked) == 1
    monkeypatch.setitem(sys.modules, "a_module_that_may_bring_its_own_blas", None)
    assert list(Workers().map(abs, [-1])) == [1]
    assert len(looked) == 2


def in_forked_child(function):
    """What a function returns in a forked child; fails where the child does not end."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(function()), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads in the parent
        child.start()
    try:
        assert receiver.poll(60), "the child hangs"
        return receiver.recv()
    finally:
        child.kill()
        child.join()


def test_a_child_forked_in_the_midst_of_work_has_limits_and_locks_of_its_own():
    def work():
        before = blas_threads()
        return before, list(Workers(1).map(lambda _: blas_threads(), [0])), blas_threads()

    list(Workers(1).map(abs, [1]))  # from here on forks are seen to
    with single_threaded_blas(), execution._blas.lock:
        before, within, after = in_forked_child(work)
    assert set(before) == set(after) == {2}
    assert set(within[0]) == {1}
    assert set(blas_threads()) == {2}


@pytest.mark.parametrize("whiten", [False, True])
def test_a_fit_in_a_forked_child_ends_with_the_same_kernels(whiten):
    X = np.random.default_rng(0).random((60, 8, 8))
    model = ConvGMMFeatures(4, whiten=whiten, patch_size=3, max_iter=2, tol=0, random_state=0)
    means = model.fit(X).means_
    assert np.array_equal(in_forked_child(lambda: model.fit(X).means_), means)
    features = model.transform(X)
    assert np.array_equal(in_forked_child(lambda: model.transform(X)), features)


def test_workers_of_a_fit_are_counted_before_blas_is_limited(monkeypatch):
    """Of one thread that BLAS may use, one worker would follow."""
    limited = []

    class Spy(execution.Workers):
        def __init__(self, n_jobs=None):
            limited.append(bool(execution._blas.users))
            super().__init__(n_jobs)

    monkeypatch.setattr("sklearn_calm._batches.Workers", Spy)
    X = np.random.default_rng(0).random((20, 6, 6))
    model = ConvGMMFeatures(2, patch_size=3, max_iter=2, tol=0, n_init=2, random_state=0).fit(X)
    model.partial_fit(X).transform(X)
    assert limited == [False, False, False]
