"""The command `chainrule audit`: files with models and functions, exit codes, and files that misbehave."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from nn.cli import RIGHT, UNDECIDABLE, USAGE, WRONG, main

ROOT = Path(__file__).parents[3]

# A model of our own in the tutorial's protocol, with places to spoil.
MODEL = """
import numpy as np

def mean_bce(y, yhat):
    return -(y * np.log(yhat) + (1 - y) * np.log(1 - yhat)).sum() / len(y)

class Net:
    def __init__(self, sizes=(2, 3, 1)):
        self.sizes, count = sizes, len(sizes)
        for name in "W b z a dz dW db da".split():
            setattr(self, name, [None] * count)
        random = np.random.default_rng(0)
        for k in range(1, count):
            self.W[k] = random.standard_normal((sizes[k - 1], sizes[k]))
            self.b[k] = np.zeros((1, sizes[k]))

    def forward(self, x):
        self.a[0] = x
        for k in range(1, len(self.W)):
            self.z[k] = self.a[k - 1] @ self.W[k] + self.b[k]
            self.a[k] = np.tanh(self.z[k]) if k < len(self.W) - 1 else 1 / (1 + np.exp(-self.z[k]))
        return self.a[-1]

    def backward(self, y, yhat):
        last = len(self.W) - 1
        for k in range(last, 0, -1):
            if k == last:
                self.dz[k] = (yhat - y) / len(y)  # at the output
            else:
                self.dz[k] = self.da[k] * (1 - self.a[k] ** 2)
            self.dW[k] = self.a[k - 1].T @ self.dz[k]
            self.db[k] = self.dz[k].sum(axis=0, keepdims=True)
            self.da[k - 1] = self.dz[k] @ self.W[k].T

net = Net()
"""
FUNCTION = """
import numpy as np
sizes, activations, loss = [2, 2], ["identity"], "half_sse"

def backward(W, b, X, y):
    dz = (X @ W[0] + b[0] - y) / len(X)
    return {"dz1": dz, "dW1": X.T @ dz, "db1": dz.sum(axis=0, keepdims=True)}
"""


@pytest.fixture
def audit(tmp_path, capfd):
    """(exit code, printed, complaint) of the command on a file of this text."""

    def run(text, *options, name="", file="homework.py"):
        path = tmp_path / file
        path.write_text(text, encoding="utf-8")
        code = main(["audit", f"{path}{name}", *options])
        return code, *capfd.readouterr()

    return run


def test_a_right_model_is_right(audit):
    code, text, complaint = audit(MODEL)
    assert (code, complaint) == (RIGHT, "")
    assert text.startswith("right\n")
    assert "activations tanh, sigmoid; loss bce, reduction mean" in text


def test_a_wrong_model_is_wrong(audit):
    code, text, _ = audit(MODEL.replace("(1 - self.a[k] ** 2)", "1"), "--json")
    report = json.loads(text)
    assert code == WRONG
    assert (report["ok"], report["verdict"]) == (False, "wrong")
    assert [(c["quantity"], c["layer"], c["kind"]) for c in report["causes"]] == [("dz1", 1, "activation-derivative")]


@pytest.mark.parametrize(
    ("hint", "present", "absent"),
    [("where", "dz2", "factor"), ("what", "factor -1", "right:"), ("fix", "right:   dz2", "unexplained")],
)
def test_a_hint_gives_away_as_much_as_asked(audit, hint, present, absent):
    _, text, _ = audit(MODEL.replace("yhat - y", "y - yhat"), "--hint", hint)
    assert present in text.split("inherits")[0]
    assert absent not in text.split("inherits")[0]


@pytest.mark.parametrize(("text", "code"), [(FUNCTION, RIGHT), (FUNCTION.replace("X.T @ dz", "-X.T @ dz"), WRONG)])
def test_a_function_is_judged_on_what_the_file_declares(audit, text, code):
    assert audit(text)[0] == code


def test_options_declare_what_the_file_does_not(audit):
    text = FUNCTION.replace("sizes, activations, loss =", "unused =").replace(" / len(X)", "")
    options = ["--sizes", "2,2", "--activations", "identity", "--loss", "half_sse"]
    assert audit(text, *options, "--reduction", "sum")[0] == RIGHT
    assert audit(text, *options, "--reduction", "any")[0] == RIGHT
    assert audit(text, *options)[0] == WRONG
    assert audit(text)[0] == USAGE


def test_an_object_is_named_where_there_are_several(audit):
    text = MODEL + "\nother = Net((3, 2, 2, 1))\n"
    code, _, complaint = audit(text)
    assert code == USAGE
    assert "net, other" in complaint
    code, printed, _ = audit(text, name=":other")
    assert code == RIGHT
    assert "widths 3, 2, 2, 1" in printed
    assert "it defines" in audit(text, name=":missing")[2]


def test_a_class_is_made_where_no_object_is(audit):
    assert audit(MODEL.replace("net = Net()", ""))[0] == RIGHT
    code, printed, _ = audit(MODEL.replace("net = Net()", ""), "--sizes", "4,3,2,1")
    assert code == RIGHT
    assert "widths 4, 3, 2, 1" in printed
    code, _, complaint = audit(MODEL.replace("net = Net()", "").replace("sizes=(2, 3, 1)", "secret"))
    assert code == USAGE
    assert "needs secret" in complaint


def test_of_several_classes_that_make_models_one_must_be_named(audit):
    text = MODEL.replace(
        "net = Net()", "class Base(Net):\n    def backward(self, y):\n        raise NotImplementedError"
    )
    assert audit(text)[0] == RIGHT, "what leaves backward open is no candidate"
    text = text.replace("raise NotImplementedError", "pass")
    code, _, complaint = audit(text)
    assert code == USAGE
    assert "several models, Net, Base" in complaint
    assert audit(text, name=":Net")[0] == RIGHT


def test_a_class_of_layers_is_no_rival_of_its_model_and_gets_its_widths_and_loss(audit):
    text = """
import numpy as np

class Dense:
    def __init__(self, n_in, n_out):
        self.weights, self.bias = np.ones((n_in, n_out)), np.ones(n_out)
    def forward(self, x):
        self.x = x
        return x @ self.weights + self.bias
    def backward(self, upstream):
        self.dweights, self.dbias = self.x.T @ upstream, upstream.sum(axis=0)
        return upstream @ self.weights.T

class Network:
    def __init__(self, input_size, output_size, learning_rate):
        self.layers = [Dense(input_size, 4), Dense(4, output_size)]
    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x
    def backward(self, y, yhat):
        upstream = (yhat - y) / yhat.size
        for layer in reversed(self.layers):
            upstream = layer.backward(upstream)
    def compute_loss(self, y, yhat):
        return np.mean((yhat - y) ** 2) / 2
"""
    assert audit(text)[0] == RIGHT
    code, printed, _ = audit(text.replace("upstream.sum(axis=0)", "upstream.mean(axis=0)"), "--json")
    (cause,) = json.loads(printed)["causes"]
    assert (code, cause["quantity"], cause["layers"], cause["factor"]) == (WRONG, "db", [1, 2], "1/n")


def test_a_loss_is_named_or_found(audit):
    assert audit(MODEL, "--loss", "bce")[0] == RIGHT
    assert audit(MODEL, "--loss", "mean_bce")[0] == RIGHT
    assert audit(MODEL, "--loss", "sse")[0] == WRONG
    assert audit(MODEL, "--loss", "nonsense")[0] == USAGE
    code, _, complaint = audit(MODEL.replace("def mean_bce(y, yhat)", "def mean_bce(y, yhat, more)"))
    assert code == USAGE
    assert "--loss" in complaint


def test_of_several_losses_the_one_that_fits_is_taken(audit):
    code, text, _ = audit(MODEL + "\ndef sse(y, yhat):\n    return ((y - yhat) ** 2).sum()\n")
    assert code == RIGHT
    assert "taken for the loss: mean_bce" in text


@pytest.mark.parametrize("name", ["data.npz", "data.csv", "named.csv"])
def test_data_of_the_user_are_used(audit, tmp_path, name):
    X, y = np.random.default_rng(0).standard_normal((5, 2)), np.array([[0.0], [1.0], [1.0], [0.0], [1.0]])
    path = tmp_path / name
    if name.endswith("npz"):
        np.savez(path, X=X, y=y)
    else:
        header = {"header": "u,v,label", "comments": ""} if name == "named.csv" else {}
        np.savetxt(path, np.hstack([X, y]), delimiter=",", **header)
    assert audit(MODEL, "--data", str(path))[0] == RIGHT
    assert audit(MODEL.replace("yhat - y", "y - yhat"), "--data", str(path))[0] == WRONG


def test_what_a_file_prints_stays_a_note(audit):
    code, text, _ = audit("print('hello')\n" + MODEL, "--json")
    assert code == RIGHT
    assert any("'hello'" in note for note in json.loads(text)["notes"])


def test_a_file_that_breaks_after_its_model_is_judged_all_the_same(audit):
    code, text, _ = audit(MODEL + "\nimport no_such_plots\n")
    assert code == RIGHT
    assert "ModuleNotFoundError" in text
    assert audit(MODEL + "\nraise SystemExit(0)\n")[0] == RIGHT


def test_a_file_may_call_the_doctor_itself(audit):
    text = FUNCTION + "\nfrom nn.audit.function import audit_function\n"
    text += "print(audit_function(backward, sizes=sizes, activations=activations, loss=loss))\n"
    code, printed, _ = audit(text)
    assert code == RIGHT
    assert "the file prints: 'right'" in printed
    own = f"{FUNCTION}\nfrom nn.cli import main\nprint(main(['audit', __file__]))\n"
    assert audit(own)[0] == RIGHT, "a file that audits itself comes to an end"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("while True: pass", USAGE, "did not finish loading within 0.5 seconds"),
        ("x = input()", USAGE, "nobody is there to answer"),
        ("import os; os._exit(5)", UNDECIDABLE, "exit code 5"),
        (MODEL.replace("last = len", "while True: pass\n        last = len"), WRONG, "did not finish the audit"),
        (MODEL.replace("last = len", "import os; os._exit(5)\n        last = len"), WRONG, "exit code 5"),
        (MODEL.replace("last = len", "last = undefined + len"), WRONG, "raised NameError"),
        (FUNCTION.replace("dz =", "while True: pass\n    dz =", 1), WRONG, "within 0.5 seconds"),
        (FUNCTION.replace("dz =", "X /= 2; dz =", 1), WRONG, "it changes X"),
        ("def broken(:", USAGE, "SyntaxError"),
        ("x = 1", USAGE, "neither a model"),
        ("", USAGE, "neither a model"),
    ],
)
def test_misbehaviour_is_told(audit, text, code, words):
    found, printed, complaint = audit(text, "--timeout", "0.5" if "while" in text else "30")
    assert found == code
    assert words in printed + complaint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "nowhere.npz"], "no file nowhere.npz"),
        (["--timeout", "0"], "positive number of seconds"),
        (["--timeout", "nan"], "positive number of seconds"),
    ],
)
def test_wrong_usage_is_told(audit, options, words):
    code, printed, complaint = audit(MODEL, *options)
    assert (code, printed) == (USAGE, "")
    assert words in complaint


@pytest.mark.parametrize(
    "arguments",
    [[], ["audit"], ["audit", "f.py", "--sizes", "2"], ["audit", "f.py", "--activations", "rleu"], ["heal", "f.py"]],
)
def test_the_parser_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage" in capsys.readouterr().err


def test_a_missing_file_is_usage(capsys):
    assert main(["audit", "nowhere.py"]) == USAGE
    assert "no file nowhere.py" in capsys.readouterr().err


def test_nan_in_a_report_is_valid_json(audit):
    _, text, _ = audit(MODEL.replace("yhat - y", "yhat - y + np.nan"), "--json")
    report = json.loads(text, parse_constant=pytest.fail)
    assert [(c["quantity"], c["kind"]) for c in report["causes"]] == [("dz2", "non-finite")]


def test_the_module_and_the_script_are_the_command(tmp_path):
    path = tmp_path / "homework.py"
    path.write_text(MODEL, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "nn", "audit", path], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (RIGHT, "")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"chainrule": "nn.cli:main"}


def test_every_option_is_explained(capsys):
    with pytest.raises(SystemExit):
        main(["audit", "--help"])
    printed = capsys.readouterr().out
    for option in re.findall(r'add_argument\(\s*"(--\w+)"', (ROOT / "nn" / "cli.py").read_text(encoding="utf-8")):
        assert option in printed
