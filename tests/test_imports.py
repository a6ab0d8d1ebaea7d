"""The house has floors: no module imports from its own floor or above, and heavy guests come only when called."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module may import from lower floors only. `autodiff` is the package's own front door.
FLOORS = [
    {"autodiff.kernels", "autodiff.names", "autodiff.mathml"},
    {"autodiff.primitives"},
    {"autodiff.operations", "autodiff.sweeps", "autodiff.trees", "autodiff.textbook"},
    {"autodiff.value"},
    {"autodiff.tensor", "autodiff.scalars", "autodiff.updates"},
    {"autodiff.forms"},
    {"autodiff.array_functions", "autodiff.notation", "autodiff.copies"},
    {"autodiff.pictures.layout", "autodiff.pictures.scene", "autodiff.pictures.text", "autodiff.pictures.files"},
    {"autodiff.array_compositions", "autodiff.linear_algebra"},
    {"autodiff.pictures.svg"},
    {"autodiff.pictures.dot"},
    {"autodiff.pictures"},
    {
        "autodiff.explorer.doctor",
        "autodiff.explorer.formulas",
        "autodiff.explorer.javascript",
        "autodiff.explorer.views",
    },
    {"autodiff.explorer.contents"},
    {"autodiff.explorer"},
    {"autodiff.pictured", "autodiff.grouping"},
    {"autodiff.collapse"},
    {"autodiff.graph", "autodiff.differences"},
    {"autodiff.transforms", "autodiff.custom"},
    {"autodiff.programs.recording", "autodiff.programs.guards", "autodiff.programs.arguments"},
    {"autodiff.programs.arrays", "autodiff.programs.arrays.graph"},
    {"autodiff.programs.arrays.adjoints", "autodiff.programs.arrays.lowering", "autodiff.programs.arrays.answers"},
    {"autodiff.programs.arrays.buffers", "autodiff.programs.arrays.recording"},
    {"autodiff.programs.arrays.files", "autodiff.programs.arrays.batching"},
    {"autodiff.programs.arrays.program"},
    {"autodiff.programs.sums", "autodiff.programs.instructions"},
    {"autodiff.programs.labels", "autodiff.programs.descent"},
    {"autodiff.programs.arrays.replaying"},
    {"autodiff.programs.bounds"},
    {"autodiff.programs.lanes"},
    {"autodiff.programs.raising", "autodiff.programs.adjoints", "autodiff.programs.lowering"},
    {"autodiff.programs.statements", "autodiff.programs.listing", "autodiff.programs.interpreter"},
    {"autodiff.programs.source", "autodiff.programs.machine.kernels", "autodiff.programs.machine.rows"},
    {"autodiff.programs.machine.writing"},
    {"autodiff.programs.machine.loading", "autodiff.programs.machine.plans"},
    {"autodiff.programs.machine", "autodiff.programs.machine.lanes", "autodiff.programs.machine.scalars"},
    {
        "autodiff.programs.exports.signature",
        "autodiff.programs.exports.jax_rows",
        "autodiff.programs.exports.onnx_rows",
    },
    {
        "autodiff.programs.exports.numpy_source",
        "autodiff.programs.exports.jax_function",
        "autodiff.programs.exports.onnx_model",
        "autodiff.programs.exports",
    },
    {"autodiff.programs.program"},
    {"autodiff.programs.replaying"},
    {"autodiff.programs"},
    {"autodiff.paths", "autodiff.differential", "autodiff.receipts", "autodiff.pulls"},
    {"autodiff.array_receipts", "autodiff.symbolic"},
    {"autodiff.explain", "autodiff.check", "autodiff.nonfinite", "autodiff.zeros"},
    {"autodiff"},
    {"nn.initializers"},
    {"nn.by_hand", "nn.activations"},
    {"nn.losses", "nn.layers", "nn.optim"},
    {"nn.training"},
    {"nn.diagram"},
    {"nn.audit.monomials", "nn.audit.unnamed"},
    {"nn.audit.own_functions"},
    {"nn.audit.formulas", "nn.audit.formulas.tree"},
    {"nn.audit.formulas.text", "nn.audit.formulas.words", "nn.audit.formulas.layers", "nn.audit.formulas.chain"},
    {"nn.audit.formulas.indices", "nn.audit.formulas.trials"},
    {
        "nn.audit.formulas.grammar",
        "nn.audit.formulas.question",
        "nn.audit.formulas.factor",
        "nn.audit.formulas.conditions",
    },
    {"nn.audit.formulas.rules", "nn.audit.formulas.edits", "nn.audit.formulas.mend"},
    {"nn.audit.report", "nn.audit.claims", "nn.audit.child"},
    {"nn.audit.formulas.diagnosis"},
    {"nn.audit.rules", "nn.audit.formula"},
    {"nn.audit.derivatives", "nn.audit.derivatives.functions"},
    {"nn.audit.derivatives.samples", "nn.audit.derivatives.loss_limits"},
    {"nn.audit.derivatives.truth", "nn.audit.derivatives.loss_truth", "nn.audit.derivatives.overflow"},
    {"nn.audit.derivatives.activation_mistakes", "nn.audit.derivatives.loss_mistakes"},
    {"nn.audit.derivatives.activation", "nn.audit.derivatives.loss"},
    {"nn.audit.derivative"},
    {"nn.audit.steps"},
    {"nn.audit.hypotheses", "nn.audit.fitted"},
    {"nn.audit.adjoints", "nn.audit.adjoints.adjoint", "nn.audit.adjoints.mistake", "nn.audit.adjoints.recorded"},
    {"nn.audit.adjoints.jacobians"},
    {"nn.audit.adjoints.pullbacks", "nn.audit.adjoints.shapes", "nn.audit.adjoints.normalisations"},
    {"nn.audit.adjoints.sweep", "nn.audit.adjoints.targets", "nn.audit.adjoints.wrong_rules"},
    {"nn.audit.adjoints.region", "nn.audit.adjoints.pool"},
    {"nn.audit.adjoints.factors", "nn.audit.adjoints.changes", "nn.audit.adjoints.probe", "nn.audit.adjoints.blocks"},
    {"nn.audit.adjoints.shares", "nn.audit.adjoints.stand_ins"},
    {"nn.audit.adjoints.precision", "nn.audit.adjoints.places"},
    {"nn.audit.adjoints.explanation"},
    {"nn.audit.adjoints.pairs"},
    {"nn.audit.adjoints.readings"},
    {"nn.audit.adjoints.telling"},
    {"nn.audit.graphs"},
    {"nn.audit.explanation"},
    {"nn.audit.candidates"},
    {"nn.audit.walk"},
    {"nn.audit.diagnosis"},
    {"nn.audit.function", "nn.audit.protocol"},
    {"nn.audit.own_model"},
    {"nn.audit.chain"},
    {"nn.audit.own_forward"},
    {"nn.audit.model"},
    {"nn.audit"},
    {"nn"},
    {"nn.explore_command"},
    {"nn.cli"},
    {"nn.__main__"},
]
FLOOR = {module: height for height, modules in enumerate(FLOORS) for module in modules}
# Doors upward that open only when somebody walks through: an array meets a Value.
UPWARD = {("autodiff.value", "autodiff.scalars")}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(path for package in ("autodiff", "nn") for path in (ROOT / package).rglob("*.py"))


def imports(source: str, package: str) -> list[tuple[str, bool]]:
    """[(module, whether at the top of the file)] of our own modules that a source imports."""
    tree = ast.parse(source)
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{package} imports relatively: write the module's full name"
            names = [
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in FLOOR else str(node.module)
                for alias in node.names
            ]
        found += [(name, id(node) in top) for name in names if name.split(".")[0] in ("autodiff", "nn")]
    return found


def trespasses(source: str, module: str) -> list[str]:
    """The imports that a module may not have."""
    wrong = []
    for name, at_top in imports(source, module):
        allowed = FLOOR[name] < FLOOR[module] or (not at_top and (module, name) in UPWARD)
        if module in ("nn.by_hand", "nn.initializers"):
            allowed &= not name.startswith("autodiff")  # the other side of the cross-check
        if not allowed:
            wrong.append(f"{module} imports {name}")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_nothing_imports_upward(path):
    module = module_name(path)
    assert module in FLOOR, f"{module} has no floor in FLOORS yet"
    assert trespasses(path.read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("autodiff.primitives", "from autodiff.value import Value"),
        ("autodiff.graph", "import autodiff.explain"),
        ("autodiff.value", "from autodiff.scalars import scalars"),
        ("nn.by_hand", "def f():\n    import autodiff"),
        ("autodiff.check", "from nn import MLP"),
    ],
)
def test_a_planted_import_is_found(module, line):
    assert trespasses(line, module)


def test_heavy_imports_wait_until_they_are_used():
    code = (
        "import sys, autodiff, nn\n"
        "print({'sklearn', 'matplotlib', 'graphviz', 'numba', 'rich', 'scipy', 'jax', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


def test_no_framework_is_a_dependency():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "torch" not in text
    assert "tensorflow" not in text
