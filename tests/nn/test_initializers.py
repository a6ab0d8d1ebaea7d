import numpy as np
import pytest

from nn.initializers import INITIALIZERS, check_sizes, document, glorot, he

SIZES = [2, 4, 3, 1]


def test_document_draws_weights_then_biases_layer_by_layer():
    generator = np.random.RandomState(7)
    W, b = document(SIZES, seed=7, sigma=0.25)
    assert W[0] is None
    assert b[0] is None
    for k, (n_in, n_out) in enumerate([(2, 4), (4, 3), (3, 1)], start=1):
        # exact: the same draws in the same order
        np.testing.assert_array_equal(W[k], generator.randn(n_in, n_out) * 0.25)
        np.testing.assert_array_equal(b[k], generator.randn(1, n_out) * 0.25)


def test_document_defaults_are_pinned():
    """The stream of RandomState never changes, so neither may these numbers: the printed run stands on them."""
    W, b = document(SIZES)
    assert W[1][0, 0] == 0.04967141530112327
    assert b[3][0, 0] == -0.060170661222939695


@pytest.mark.parametrize("scheme", INITIALIZERS)
def test_shapes_seeds_and_types(scheme):
    draw = INITIALIZERS[scheme]
    W, b = draw(SIZES, seed=3)
    again, _ = draw(SIZES, seed=3)
    other, _ = draw(SIZES, seed=4)
    assert [array.shape for array in W[1:]] == [(2, 4), (4, 3), (3, 1)]
    assert [array.shape for array in b[1:]] == [(1, 4), (1, 3), (1, 1)]
    for k in (1, 2, 3):
        assert W[k].dtype == b[k].dtype == np.float64
        np.testing.assert_array_equal(W[k], again[k])
        assert not np.array_equal(W[k], other[k])


@pytest.mark.parametrize(
    ("draw", "variance"), [(he, 2 / 500), (glorot, 2 / 700), (document, 0.01)], ids=["he", "glorot", "document"]
)
def test_variance_of_the_weights(draw, variance):
    W, _ = draw([500, 200], seed=0)
    # 10^5 draws: the relative standard error of a variance is at most sqrt(2/10^5) = 0.0045; five of them
    assert W[1].var() == pytest.approx(variance, rel=0.023)
    assert W[1].mean() == pytest.approx(0, abs=5 * (variance / 1e5) ** 0.5)


@pytest.mark.parametrize("draw", [he, glorot])
def test_biases_start_at_zero(draw):
    assert all(not np.any(bias) for bias in draw(SIZES)[1][1:])


@pytest.mark.parametrize("scheme", INITIALIZERS)
def test_the_global_generator_is_neither_read_nor_moved(scheme):
    # .get_state of the legacy generator is the thing under test
    before = np.random.get_state()  # noqa: NPY002
    first = INITIALIZERS[scheme](SIZES, seed=1)[0]
    after = np.random.get_state()  # noqa: NPY002
    for left, right in zip(before, after, strict=True):
        np.testing.assert_array_equal(left, right)
    np.random.random()  # noqa: NPY002
    np.testing.assert_array_equal(first[1], INITIALIZERS[scheme](SIZES, seed=1)[0][1])


def test_check_sizes_takes_numpy_integers_and_tuples():
    assert check_sizes((np.int64(2), 3)) == (2, 3)
    assert all(type(size) is int for size in check_sizes((np.int64(2), 3)))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([2], "at least"),
        ([], "at least"),
        (5, "at least"),
        (None, "at least"),
        ([2, 0, 1], r"sizes\[1\].*positive integer.*0"),
        ([2, -3], r"sizes\[1\].*-3"),
        ([2.0, 3], r"sizes\[0\].*2\.0"),
        ([2, True], r"sizes\[1\].*True"),
        ([2, np.True_], r"sizes\[1\]"),
        ([2, None], r"sizes\[1\].*None"),
        ("23", r"sizes\[0\].*'2'"),
    ],
)
def test_wrong_sizes(sizes, words):
    with pytest.raises(ValueError, match=words):
        check_sizes(sizes)
    for draw in INITIALIZERS.values():
        with pytest.raises(ValueError, match=words):
            draw(sizes)
