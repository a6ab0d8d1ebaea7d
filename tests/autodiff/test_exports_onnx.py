"""Programs as ONNX models: checked by onnx, run by onnxruntime, equal to the nodes."""

import math
import random

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff as ad
from autodiff.programs import record, replay
from autodiff.programs.exports import onnx_model
from tests.autodiff.exported import (
    FUNCTIONS,
    corners,
    expected,
    of_arrays,
    of_each_sample,
    recorded,
    same,
)
from tests.autodiff.test_programs import eager, random_graph


def run(model, *values):
    """The outputs of a model."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return session.run(None, dict(zip(names, (np.asarray(x, float) for x in values), strict=True)))


@pytest.mark.parametrize("row", ad.TABLE.values(), ids=lambda row: row.name)
def test_every_row_at_its_corners(row):
    values, slopes = expected(row)
    same(run(of_each_sample(row).to_onnx(), 0.0, *corners(row))[0], values)
    same(run(of_arrays(row).to_onnx(), *corners(row))[1:], slopes)


@pytest.mark.parametrize(
    ("row", "oracle"), [("erf", math.erf), ("erfc", math.erfc), ("arctan", math.atan), ("expm1", math.expm1),
    ("log1p", math.log1p), ("sinh", math.sinh), ("arcsinh", math.asinh), ("tan", math.tan)],
)  # fmt: skip
def test_composed_functions_are_good_to_1e_13(row, oracle):
    generator = random.Random(1)
    x = np.array([math.exp(generator.uniform(-20.0, 3.2)) * generator.choice([-1, 1]) for _ in range(400)])
    x = np.abs(x) if row == "log1p" else x
    replayed = replay(lambda w, x: ad.TABLE[row](x) + w, over=(x,), reduction=None)
    replayed(0.0)
    [found] = run(replayed.program.to_onnx(), 0.0, x)
    wanted = np.array([oracle(one) for one in x])
    normal = np.abs(wanted) > 1e-300
    assert np.max(np.abs(found / wanted - 1.0)[normal]) < 1e-13  # the tangent near its poles; else 1e-14


@settings(max_examples=15)
@given(st.integers(0, 10**9), st.booleans(), st.sampled_from(["python", "numpy"]))
def test_random_graphs(seed, special, back_end):
    with np.errstate(all="ignore"):
        parameters, output = random_graph(random.Random(seed), special)
        value, gradient = eager(output, parameters)
        found = run(record(output, parameters, back_end).to_onnx(), *[p.data for p in parameters])
        scale = 100 * max([1.0, *(abs(x) for x in (value, *gradient) if np.isfinite(x))])
        same(found[0], value, scale)
        if not special:
            same(found[1:], gradient, scale)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_signature(name):
    program, args, (value, gradient) = recorded(name)
    found = run(program.to_onnx(), *ad.trees.leaves(args))
    same(found[0], value)
    wanted = ad.trees.leaves(gradient)
    assert [np.shape(x) for x in found[1:]] == [np.shape(x) for x in wanted]
    for one, slope in zip(found[1:], wanted, strict=True):
        same(one, slope)
    assert len(run(program.to_onnx(gradient=False), *ad.trees.leaves(args))) == 1


def test_the_file_and_the_batch(tmp_path):
    X, y = np.arange(6.0).reshape(3, 2), np.ones(3)
    replayed = replay(lambda w, x, y: (np.sum(np.tanh(w @ x)) - y) ** 2, over=(X, y))
    w = np.array([[0.1, 0.2], [-0.3, 0.4]])
    replayed(w)
    replayed.program.to_onnx(tmp_path / "model")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        one.name: [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim]
        for one in [*model.graph.input, *model.graph.output]
    }
    assert shapes == {"w": [2, 2], "x": ["n", 2], "y": ["n"], "value": [], "d_w": [2, 2]}
    for n in (1, 3, 7):
        X, y = np.random.default_rng(n).normal(size=(n, 2)), np.ones(n)
        value, slopes = replay(replayed.f, over=(X, y)).value_and_grad(w)
        found = run(model, w, X, y)
        same(found[0], value)
        same(found[1], slopes)


def test_comparisons_that_come_out_differently_give_nan():
    batch = replay(lambda w, x: w * x if x > 0.0 else w, over=(np.array([1.0, 2.0]),))
    batch(1.0)
    model = batch.program.to_onnx()
    assert run(model, 3.0, [1.0, 3.0, 5.0]) == [9.0, 3.0]
    assert np.isnan(run(model, 3.0, [1.0, -3.0])).all()
    each = replay(lambda w, x: w * x if x > 0.0 else w, over=(np.array([1.0, 2.0]),), reduction=None)
    each(1.0)
    np.testing.assert_array_equal(run(each.program.to_onnx(), 3.0, [1.0, -3.0])[0], [3.0, np.nan])


def test_what_takes_long_to_load_is_announced(monkeypatch):
    x = ad.Value(0.5)
    program = record(ad.erf(x), [x])
    program.to_onnx()
    monkeypatch.setattr(onnx_model, "LONG", 100)  # erf alone has more nodes
    with pytest.warns(UserWarning, match="load"):
        program.to_onnx()


def test_a_planted_error_is_found():
    x = ad.scalars([-1.0, 2.0], "x")
    model = record(np.sum(ad.tanh(x)) * 3.5, [x]).to_onnx()
    wanted = 3.5 * np.tanh([0.3, 0.4]).sum()
    same(run(model, [0.3, 0.4])[0], wanted)
    [place] = [
        i
        for i, one in enumerate(model.graph.initializer)
        if list(one.dims) == [1, 1] and onnx.numpy_helper.to_array(one).item() == 3.5
    ]
    wrong = onnx.numpy_helper.from_array(np.full((1, 1), 3.4), model.graph.initializer[place].name)
    model.graph.initializer[place].CopyFrom(wrong)
    with pytest.raises(AssertionError):
        same(run(model, [0.3, 0.4])[0], wanted)
