"""Programs as NumPy source: a file that needs nothing else gives what the program gives."""

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad
from autodiff.programs import Program, record, replay
from autodiff.programs.exports import numpy_source
from tests.autodiff.exported import (
    ELSEWHERE,
    FUNCTIONS,
    corners,
    expected,
    hinge,
    of_arrays,
    of_each_sample,
    recorded,
    same,
    same_trees,
)
from tests.autodiff.test_programs import eager, random_graph
from tests.random_graphs import graphs


def run(text):
    """The functions of a source."""
    namespace = {}
    exec(compile(text, "<exported>", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("row", ad.TABLE.values(), ids=lambda row: row.name)
def test_every_row_at_its_corners(row):
    values, slopes = expected(row)
    with np.errstate(all="ignore"):
        same(run(of_each_sample(row).to_numpy())["value"](0.0, *corners(row)), values)
        same(run(of_arrays(row).to_numpy())["value_and_grad"](*corners(row))[1], slopes)


@settings(max_examples=40)
@given(st.integers(0, 10**9), st.booleans(), st.sampled_from(["python", "numpy"]), st.sampled_from([3, 1000]))
def test_random_graphs(seed, special, back_end, long):
    with np.errstate(all="ignore"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_source, "LONG", long)  # functions in pieces too
        parameters, output = random_graph(random.Random(seed), special)
        value, gradient = eager(output, parameters)
        functions = run(record(output, parameters, back_end).to_numpy())
        numbers = [p.data for p in parameters]
        found = functions["value_and_grad"](*numbers)
        scale = 100 * max([1.0, *(abs(x) for x in (value, *gradient) if np.isfinite(x))])
        same(found[0], value, scale)
        same(functions["value"](*numbers), value, scale)
        if not special:  # shared expressions add up what they are given before an infinite slope multiplies it
            same(found[1], gradient, scale)


@settings(max_examples=25)
@given(graphs())
def test_random_graphs_of_named_leaves(graph):
    value, gradient = eager(graph.output, graph.leaves)
    functions = run(record(graph.output, graph.leaves).to_numpy())
    scale = 1e6 * max(1.0, abs(value), *map(abs, gradient))
    found = functions["value_and_grad"](**{leaf.name: leaf.data for leaf in graph.leaves})
    same(found[0], value, scale)
    same(found[1], gradient, scale)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_signature(name):
    program, args, (value, gradient) = recorded(name)
    functions = run(program.to_numpy())
    found = functions["value_and_grad"](*args)
    same(found[0], value)
    same_trees(found[1], gradient)
    same(functions["value"](*args), value)


def test_recorded_trees_and_data():
    w, x, y = ad.scalars([1.0, 2.0], "w"), ad.scalars(np.ones((3, 2)), "x"), ad.Value(2.0)
    program = record(np.sum(np.tanh(x @ w)) * y, {"w": w, "y": y}, data=[x])
    at = {"w": np.array([0.5, -0.25]), "y": 3.0}, np.arange(6.0).reshape(3, 2)
    text = program.to_numpy()
    found = run(text)["value_and_grad"](*at)
    value, gradient = program.value_and_grad(*at)
    same(found[0], value)
    same_trees(found[1], gradient)
    assert "def value(inputs" in text


def test_arguments_have_the_names_of_the_nodes():
    W, b = ad.scalars(np.ones((2, 3)), name="W"), ad.Value(0.5, name="b")
    text = record(np.sum(ad.tanh(W)) * b, [W, b]).to_numpy()
    assert "def value_and_grad(W, b):" in text
    assert "return float(v" in text
    assert "Any" not in run(text)["value"].__doc__
    lines = text.splitlines()
    assert [line for line in lines if "import" in line] == [
        "from __future__ import annotations",
        "import math",
        "import numpy as np",
    ]


def test_a_file_runs_where_nothing_else_is_installed(tmp_path):
    weights = np.random.default_rng(0).normal(size=(300, 100))
    w = ad.scalars(np.zeros(100), name="w")
    program = record(np.sum(np.tanh(weights @ w)) + ad.erf(w[0]), [w])
    with pytest.raises(ValueError, match="give a path"):
        program.to_numpy()  # 30,000 constants
    text = program.to_numpy(tmp_path / "model")
    assert len(text) < 20_000
    assert (tmp_path / "model.npz").exists()
    code = (
        f"import sys; sys.path[:] = [p for p in sys.path if p not in ('', {str(ad.__path__[0])!r})]\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import model, numpy as np\n"
        "value, [d_w] = model.value_and_grad(np.full(100, 0.01))\n"
        "print(repr(float(value)), repr(float(d_w[3])), 'autodiff' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    value, slope, ours = done.stdout.split()
    assert ours == "False"
    wanted, [d_w] = program.value_and_grad(np.full(100, 0.01))
    assert float(value) == pytest.approx(wanted, rel=1e-12)
    assert float(slope) == pytest.approx(d_w[3], rel=1e-12)


def test_a_planted_error_is_found():
    x = ad.scalars([-1.0, 2.0], "x")
    program = record(np.sum(ad.scalars([ad.leaky_relu(a) * 3.5 for a in x])), [x])
    text = program.to_numpy()
    point = np.array([-2.0, 1.0])
    same(run(text)["value_and_grad"](point)[1], program.grad(point))
    assert "3.5" in text
    with pytest.raises(AssertionError):
        same(run(text.replace("3.5", "3.4"))["value_and_grad"](point)[1], program.grad(point))


def test_comparisons_are_checked():
    replayed = replay(lambda a, x: ad.exp(a * x) if x > 0.0 else a - x)
    replayed(0.5, 1.0)
    functions = run(replayed.program.to_numpy())
    assert functions["value_and_grad"](0.5, 2.0) == (np.exp(1.0), 2.0 * np.exp(1.0))
    for name in ("value", "value_and_grad"):
        with pytest.raises(ValueError, match="comes out differently"):
            functions[name](0.5, -1.0)
    with pytest.raises(ValueError, match="comes out differently"):
        functions["value"](0.5, np.nan)
    batch = replay(lambda w, x: w * x if x > 0.0 else w, over=(np.array([1.0, 2.0]),))
    batch(1.0)
    value = run(batch.program.to_numpy())["value"]
    assert value(3.0, np.array([1.0, 3.0, 5.0])) == 9.0
    with pytest.raises(ValueError, match="comes out differently"):
        value(3.0, np.array([1.0, -3.0]))


def test_every_sample_of_a_batch():
    xs, ys = np.arange(6.0).reshape(2, 3), np.array([1.0, -1.0])
    replayed = replay(hinge, over=(xs, ys), reduction=None)
    parameters = {"W": np.full((3, 4), 0.1), "rest": [np.zeros(4), 0.5, None]}
    wanted = replayed(parameters)
    functions = run(replayed.program.to_numpy())
    same(functions["value"](parameters, xs, ys), wanted)
    assert "value_and_grad" not in functions


def test_values_from_elsewhere_are_as_they_were():
    replayed = replay(lambda x: x * ELSEWHERE)
    replayed(2.0)
    value = run(replayed.program.to_numpy())["value"]
    try:
        ELSEWHERE.data = 3.0
        assert (value(2.0), replayed(2.0)) == (2.5, 6.0)
    finally:
        ELSEWHERE.data = 1.25


def test_a_program_of_one_sample_from_a_file(tmp_path):
    replayed = replay(lambda w, x, y: (w * x - y) ** 2, over=(np.ones(2), np.ones(2)))
    replayed(1.0)
    program = Program.load(replayed.program.save(tmp_path / "p"))
    batch = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert run(program.to_numpy())["value_and_grad"](2.0, batch) == (4.0, [12.0])  # the sum over (x, y)


class Odd:
    def __repr__(self):
        return "<odd>"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: f(np.ones(2), 1.0), ValueError, r"W has the shape \(2,\), and the program takes \(3,\)"),
        (lambda f: f(np.ones(3)), TypeError, "missing"),
        (lambda f: f("abc", 1.0), ValueError, "could not convert"),
    ],
)
def test_wrong_arguments(call, error, message):
    W, b = ad.scalars(np.ones(3), name="W"), ad.Value(1.0, name="b")
    function = run(record(np.sum(W) * b, [W, b]).to_numpy())["value_and_grad"]
    with pytest.raises(error, match=message):
        call(function)


def test_wrong_batches():
    replayed = replay(lambda w, x, y: w * x * y, over=(np.ones(2), np.ones(2)))
    replayed(1.0)
    value = run(replayed.program.to_numpy())["value"]
    for batch in ((np.ones(2), np.ones(3)), (np.ones(0), np.ones(0))):
        with pytest.raises(ValueError, match="same number of samples"):
            value(1.0, *batch)
    with pytest.raises(ValueError, match=r"\(None,\)"):
        value(1.0, np.ones((2, 1)), np.ones(2))


def test_what_cannot_be_written():
    x = ad.Value(2.0)
    with pytest.raises(NotImplementedError, match="no literal"):
        record(x * x, {Odd(): x}).to_numpy()
    row = ad.primitive("cube", lambda a: a * a * a, lambda y, a: 3.0 * a * a)
    try:
        program = record(row(x), [x])
        for export in (program.to_numpy, program.to_onnx):
            with pytest.raises(NotImplementedError, match="'cube'"):
                export()
    finally:
        del ad.TABLE["cube"]
    replayed = replay(lambda x: x * x if x > 0.0 else x)
    with pytest.raises(ValueError, match="has 0 programs"):
        replayed.program
    replayed(1.0), replayed(-1.0)
    with pytest.raises(ValueError, match="has 2 programs"):
        replayed.program


@pytest.mark.parametrize(("package", "export"), [("jax", "to_jax"), ("onnx", "to_onnx")])
def test_a_missing_package_is_named(package, export, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    x = ad.Value(2.0)
    with pytest.raises(ImportError, match=rf'pip install "chainrule\[{package}\]"'):
        getattr(record(x * x, [x]), export)()
