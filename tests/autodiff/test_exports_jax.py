"""Programs as functions for JAX, in a process of its own: JAX starts threads, has one setting for its float64, and one
number of devices, here four of a CPU.
"""

import os
import random
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import autodiff as ad
from autodiff.programs import record, replay
from tests.autodiff.exported import FUNCTIONS, PARAMETERS, X, Y, corners, expected, hinge, recorded, same, same_trees
from tests.autodiff.test_programs import eager, random_graph
from tests.random_graphs import build

ROOT = Path(__file__).parents[2]
CHILD = "CHAINRULE_TESTS_IN_JAX"
DEVICES = 4

if CHILD not in os.environ:

    def test_in_a_process_of_its_own():
        environment = {**os.environ, CHILD: "1", "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"}
        environment["JAX_PLATFORMS"] = "cpu"
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr

else:
    import jax
    import jax.numpy as jnp

    from autodiff.programs.exports import jax_function
    from autodiff.programs.exports.jax_rows import compare, jax_row

    jax.config.update("jax_enable_x64", True)

    def wrt(program):
        """The arguments that derivatives are taken by, in the order of the gradient."""
        names = program.signature.names
        return tuple(dict.fromkeys(names.index(re.match(r"\w+", leaf.place)[0]) for leaf in program.signature.wrt))

    @pytest.fixture(scope="module")
    def rows_at_their_corners():
        """{row: (values, slopes)}, compiled in one go."""

        def everything(one, two):
            found = {}
            for row in ad.TABLE.values():
                y, pull = jax.vjp(jax_row(row), *(one if row.arity == 1 else two))
                found[row.name] = y, pull(jnp.ones_like(y))
            return found

        return jax.jit(everything)(corners(ad.TABLE["exp"]), corners(ad.TABLE["add"]))

    @pytest.mark.parametrize("row", ad.TABLE.values(), ids=lambda row: row.name)
    def test_every_row_and_its_slopes_at_the_corners(row, rows_at_their_corners):
        values, slopes = expected(row)
        same(rows_at_their_corners[row.name][0], values)
        same(rows_at_their_corners[row.name][1], slopes)

    def test_jax_itself_would_choose_other_slopes():
        assert jax.grad(jnp.abs)(0.0) != 0.0 or jax.grad(jax.nn.leaky_relu)(0.0) != 0.01
        assert jax.grad(jax_row(ad.TABLE["abs"]))(0.0) == 0.0

    @pytest.mark.parametrize("name", ["tanh", "pow", "sigmoid", "sinc", "hypot", "leaky_relu"])
    def test_second_derivatives_are_those_of_the_rules(name):
        row = ad.TABLE[name]
        point = (0.7, 1.3)[: row.arity]
        f = jax_row(row)
        found = jax.jit(jax.hessian(lambda x: f(*x)))(jnp.array(point))
        wanted = [ad.hvp(lambda x: row(*x), (np.array(point),), (e,))[0] for e in np.eye(row.arity)]
        same(found, wanted)

    def test_comparisons():
        for name, holds in [("lt", 1.0), ("le", 1.0), ("gt", 0.0), ("ge", 0.0), ("eq", 0.0), ("ne", 1.0)]:
            assert compare(name, jnp.array(1.0), jnp.array(2.0)) == holds
        assert [float(compare("signbit", jnp.array(x), None)) for x in (-0.0, 0.0, -1.0)] == [1.0, 0.0, 1.0]

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_every_signature(name):
        program, args, (value, gradient) = recorded(name)
        found = jax.jit(jax.value_and_grad(program.to_jax(), argnums=wrt(program)))(*args)
        same(found[0], value)
        for one, slope in zip(jax.tree.leaves(found[1]), ad.trees.leaves(gradient), strict=True):
            same(one, slope)

    @pytest.mark.parametrize(("seed", "back_end"), [(1, "numpy"), (2, "python"), (5, "numpy")])
    def test_random_graphs_of_lanes(seed, back_end):
        with np.errstate(all="ignore"):
            parameters, output = random_graph(random.Random(seed), special=False)
            value, gradient = eager(output, parameters)
        numbers = [p.data for p in parameters]
        function = record(output, parameters, back_end).to_jax()
        found = jax.jit(jax.value_and_grad(function, argnums=tuple(range(len(numbers)))))(*numbers)
        scale = 100 * max([1.0, *(abs(x) for x in (value, *gradient) if np.isfinite(x))])
        same(found[0], value, scale)
        same(found[1], gradient, scale)

    @pytest.mark.parametrize("seed", range(3))
    def test_random_graphs_of_every_row(seed):
        graph = build(seed, 10, False)
        value, gradient = eager(graph.output, graph.leaves)
        function = record(graph.output, graph.leaves).to_jax()
        numbers = [leaf.data for leaf in graph.leaves]
        found = jax.jit(jax.value_and_grad(function, argnums=tuple(range(len(numbers)))))(*numbers)
        scale = 1e6 * max([1.0, *map(abs, (value, *gradient))])
        same(found[0], value, scale)
        same(found[1], gradient, scale)

    def test_jit_grad_vmap_and_hessian_compose():
        w = ad.scalars([0.3, -0.2, 0.9], "w")
        program = record(np.sum(np.tanh(X @ w) ** 2) + ad.maximum(w[0], w[1]), [w])
        f = program.to_jax()
        points = np.random.default_rng(1).normal(size=(5, 3))
        same(jax.jit(jax.vmap(f))(points), [program(point) for point in points])
        same(jax.jit(jax.vmap(jax.grad(f)))(points), [program.grad(point)[0] for point in points])
        direction = np.array([1.0, 0.5, -2.0])
        found = jax.jit(lambda x, t: jax.jvp(jax.grad(f), (x,), (t,))[1])(points[0], direction)
        same(found, program.hvp([points[0]], [direction])[0])

    # --- the batch over devices ---

    @pytest.mark.parametrize("axes", ["auto", "explicit"])
    @pytest.mark.parametrize("on_the_mesh", [True, False], ids=["weights on the mesh", "weights anywhere"])
    def test_a_batch_is_sharded_over_the_devices(axes, on_the_mesh):
        from jax.sharding import AxisType, NamedSharding, PartitionSpec

        generator = np.random.default_rng(3)
        xs, ys = generator.normal(size=(8 * DEVICES, 3)), generator.choice([-1.0, 1.0], 8 * DEVICES)
        replayed = replay(hinge, over=(xs, ys))
        value, gradient = replayed.value_and_grad(PARAMETERS)
        kind = AxisType.Auto if axes == "auto" else AxisType.Explicit
        mesh = jax.make_mesh((DEVICES,), ("batch",), axis_types=(kind,))
        batch = jax.device_put((xs, ys), NamedSharding(mesh, PartitionSpec("batch")))
        weights = jax.device_put(PARAMETERS, NamedSharding(mesh, PartitionSpec())) if on_the_mesh else PARAMETERS
        step = jax.jit(jax.value_and_grad(replayed.program.to_jax()))
        compiled = step.lower(weights, *batch).compile()
        assert all(len(x.sharding.device_set) == DEVICES and not x.is_fully_replicated for x in batch)
        text = compiled.as_text()
        assert f"num_partitions={DEVICES}" in text
        assert "all-reduce" in text  # the sums of the devices are added
        assert "all-gather" not in text  # and no samples travel
        assert re.search(r"f64\[8,3\]", text)  # what a device holds of 32 samples
        found = step(weights, *batch)
        same(found[0], value)
        for one, slope in zip(jax.tree.leaves(found[1]), ad.trees.leaves(gradient), strict=True):
            assert len(one.sharding.device_set) == DEVICES
            same(one, slope)

    def test_every_sample_keeps_its_place():
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        xs, ys = np.tile(X, (4, 1)), np.tile(Y, 4)
        replayed = replay(hinge, over=(xs, ys), reduction=None)
        wanted = replayed(PARAMETERS)
        sharding = NamedSharding(Mesh(jax.devices(), ("batch",)), PartitionSpec("batch"))
        found = jax.jit(replayed.program.to_jax())(PARAMETERS, *jax.device_put((xs, ys), sharding))
        same(found, wanted)
        assert len(found.sharding.device_set) == DEVICES
        assert not found.sharding.is_fully_replicated

    # --- guards, settings, lengths ---

    def test_comparisons_raise_or_give_nan():
        replayed = replay(lambda a, x: ad.exp(a * x) if x > 0.0 else a - x)
        replayed(0.5, 1.0)
        f = replayed.program.to_jax()
        assert f(0.5, 2.0) == pytest.approx(np.exp(1.0))
        for function in (f, jax.grad(f)):
            with pytest.raises(ValueError, match="comes out differently"):
                function(0.5, -2.0)
        value, slope = jax.jit(jax.value_and_grad(f))(0.5, -2.0)
        assert np.isnan([value, slope]).all()
        assert jax.jit(jax.grad(f))(0.5, 2.0) == pytest.approx(2.0 * np.exp(1.0))
        each = replay(lambda w, x: w * x if x > 0.0 else w, over=(np.array([1.0, 2.0]),), reduction=None)
        each(1.0)
        found = jax.jit(each.program.to_jax())(3.0, np.array([1.0, -3.0]))
        np.testing.assert_array_equal(found, [3.0, np.nan])

    def test_float32_is_refused():
        x = ad.Value(2.0)
        f = record(x * x, [x]).to_jax()
        assert f(3).dtype == jnp.float64
        with jax.enable_x64(False), pytest.raises(RuntimeError, match="jax_enable_x64"):
            f(3.0)

    def test_what_takes_minutes_to_compile_is_announced(monkeypatch):
        monkeypatch.setattr(jax_function, "LONG", 20)
        x = ad.Value(0.5)
        y = x
        for i in range(30):
            y = ad.tanh(y) * (0.5 + i)
        with pytest.warns(UserWarning, match=r"compile.*replay\(f, over=...\)"):
            record(y, [x]).to_jax()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            record(ad.tanh(x), [x]).to_jax()

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda f: f(1.0), TypeError, "takes 2 arguments"),
            (lambda f: f(np.ones(2), 1.0), ValueError, r"W has the shape \(2,\), and the program takes \(3,\)"),
            (lambda f: f({"a": 1.0}, 1.0), TypeError, "structure"),
        ],
    )
    def test_wrong_arguments(call, error, message):
        W, b = ad.scalars(np.ones(3), name="W"), ad.Value(1.0, name="b")
        with pytest.raises(error, match=message):
            call(record(np.sum(W) * b, [W, b]).to_jax())

    def test_rows_of_the_users_own_are_refused():
        row = ad.primitive("cube", lambda a: a * a * a, lambda y, a: 3.0 * a * a)
        try:
            x = ad.Value(2.0)
            with pytest.raises(NotImplementedError, match="'cube'"):
                record(row(x), [x]).to_jax()
        finally:
            del ad.TABLE["cube"]

    def test_a_planted_error_is_found(monkeypatch):
        x = ad.scalars([0.3, 0.4], "x")
        program = record(np.sum(ad.tanh(x)) * 3.5, [x])
        point = np.array([0.1, 0.2])
        same(program.to_jax()(point), program(point))
        builder, _ = program.instructions("value")
        place = next(i for i, extra in enumerate(builder.extras) if extra == 3.5)
        builder.extras[place] = 3.4
        with pytest.raises(AssertionError):
            same(program.to_jax()(point), 3.5 * np.tanh(point).sum())

    def test_the_example_of_the_readme():
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
        [example] = [block for block in blocks if "to_jax" in block]
        namespace = {}
        exec(example, namespace)
        assert namespace["value"] == pytest.approx(namespace["wanted"])


def test_the_helpers_compare_trees():
    same_trees({"a": [1.0]}, {"a": [1.0]})
    with pytest.raises(AssertionError):
        same_trees({"a": [1.0]}, {"a": [1.1]})
