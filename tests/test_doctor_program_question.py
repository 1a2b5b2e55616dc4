"""The doctor on an unmodified notebook: the question that started the project, with ten faults in NumPy."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from perilune.doctor.isolation import examine_file
from perilune.doctor.loading import notebook_cells

NOTEBOOK = Path(__file__).parents[1] / "examples/broken/question.ipynb"
NEAR = 5  # lines between the reported line and the fault


class Fault(NamedTuple):
    """A fault of the notebook.

    Attributes:
        name: Id of the finding.
        line: Part of the line at fault.
        fixes: Old and new texts. Each old text occurs once after the previous fixes.
    """

    name: str
    line: str
    fixes: list[tuple[str, str]]


FAULTS = [
    Fault(
        "forward.one_sign",
        "np.random.rand(sizes",
        [("np.random.rand(sizes[i + 1], sizes[i]) * np.sqrt(2 / sizes[i + 1])",
          "np.random.randn(sizes[i + 1], sizes[i]) * np.sqrt(2 / sizes[i])")],
    ),
    Fault(
        "loss.all_actions",
        "np.full((n_actions, 1)",
        [("            delta = np.matrix(np.full((n_actions, 1), huber_derivative(error)))\n",
          "            delta = np.matrix(np.zeros((n_actions, 1)))\n"
          "            delta[action, 0] = huber_derivative(error)\n")],
    ),
    Fault(
        "backward.no_input",
        "grad_w = delta * np.ones",
        [("delta * np.ones((1, self.layers[i].shape[0]))", "delta * self.layers[i].T")],
    ),
    Fault("backward.relu_derivative", "(x >= 0)", [("(x >= 0)", "(x > 0)")]),
    Fault(
        "target_network.shared",
        "self.target_model.weights = self.model.weights",
        [("weights = self.model.weights", "weights = [w.copy() for w in self.model.weights]"),
         ("biases = self.model.biases", "biases = [b.copy() for b in self.model.biases]")],
    ),
    Fault(
        "backward.one_bias",
        "np.zeros((1, 1))",
        [("np.zeros((1, 1))", "np.zeros((sizes[i + 1], 1))"), ("grad_b = delta.sum(axis=0)", "grad_b = delta")],
    ),
    Fault(
        "loss.derivative",
        "return 5 * np.sign(error)",
        [("return 5 * np.sign(error)", "return 10 * np.sign(error)")],
    ),
    Fault(
        "backward.too_early",
        "delta = self.weights[i].T * delta",
        [("            delta = self.weights[i].T * delta", "            delta = passed_back"),
         ("            self.adam(i, self.weights", "            passed_back = self.weights[i].T * delta\n"
          "            self.adam(i, self.weights")],
    ),
    Fault(
        "optimizer.counter",
        "self.t += 1",
        [("        self.t += 1\n        self.m[k]", "        self.m[k]"),
         ("    def backward(self, delta):\n", "    def backward(self, delta):\n        self.t += 1\n")],
    ),
    Fault(
        "optimizer.step_per_sample",
        "self.model.backward(delta)",
        [("        self.t += 1\n        for i in reversed", "        for i in reversed"),
         ("            self.adam(i, self.weights[i], grad_w)\n", "            self.grads[i] += grad_w / batch_size\n"),
         ("            self.adam(self.n_layers + i, self.biases[i], grad_b)\n",
          "            self.grads[self.n_layers + i] += grad_b / batch_size\n"),
         ("    def backward(self, delta):\n",
          "    def zero_grads(self):\n"
          "        self.grads = [np.matrix(np.zeros(p.shape)) for p in self.weights + self.biases]\n\n"
          "    def step(self):\n"
          "        self.t += 1\n"
          "        for k, param in enumerate(self.weights + self.biases):\n"
          "            self.adam(k, param, self.grads[k])\n\n"
          "    def backward(self, delta):\n"),
         ("        losses = []\n        for state",
          "        losses = []\n        self.model.zero_grads()\n        for state"),
         ("        return np.mean(losses)\n", "        self.model.step()\n        return np.mean(losses)\n")],
    ),
]  # fmt: skip
NAMES = [fault.name for fault in FAULTS]
HIDDEN = {"backward.too_early"}  # by wrong gradients


def source(cell: dict[str, Any]) -> str:
    """Return the source of a cell."""
    return "".join(cell["source"])


def stage(fixes: int) -> dict[str, Any]:
    """Return the notebook after the first fixes."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for fault in FAULTS[:fixes]:
        for old, new in fault.fixes:
            cells = [cell for cell in notebook["cells"] if old in source(cell)]
            assert [source(cell).count(old) for cell in cells] == [1], old
            cells[0]["source"] = source(cells[0]).replace(old, new)
    return notebook


def code_lines(notebook: dict[str, Any]) -> list[str]:
    """Return the lines of all code cells."""
    return "\n".join(source(cell) for cell in notebook["cells"] if cell["cell_type"] == "code").splitlines()


@functools.cache
def examined(fixes: int, directory: Path) -> Any:
    """Return the report on the notebook after the first fixes."""
    path = directory / f"question_{fixes}.ipynb"
    path.write_text(json.dumps(stage(fixes)), encoding="utf-8")
    return examine_file(str(path), 60.0, 0, str, [], None)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("question")


def number(finding: Any) -> int:
    """Return the line of a finding in the notebook, or 0."""
    return int(str(finding.where).rpartition(":")[2]) if finding.where else 0


def test_notebook_is_as_its_author_wrote_it() -> None:
    notebook = stage(0)
    cells = [source(cell) for cell in notebook["cells"]]
    assert cells[1].startswith("!pip install gym[box2d]")
    assert 'env = gym.make("LunarLander-v2")' in "\n".join(cells)
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    assert not any("#" in line for cell in notebook["cells"][1:] for line in source(cell).splitlines())


def test_each_fault_is_one_line_of_the_notebook() -> None:
    lines = code_lines(stage(0))
    for fault in FAULTS:
        assert sum(fault.line in line for line in lines) == 1, fault.name
    assert not any(fault.line in line for fault in FAULTS[:4] for line in code_lines(stage(len(FAULTS))))


@pytest.mark.long
def test_all_faults_of_the_unmodified_notebook_are_named(directory: Path) -> None:
    report = examined(0, directory)
    causes = {one.id for one in report.findings if not one.caused_by}
    assert causes == set(NAMES) - HIDDEN
    assert {one.id for one in report.findings} - causes <= {"forward.narrow", "forward.spread"}


@pytest.mark.long
def test_lines_at_fault_are_near(directory: Path) -> None:
    report = examined(0, directory)
    _, cells = notebook_cells(directory / "question_0.ipynb")
    lines = {at: text for cell in cells for at, text in enumerate(cell.splitlines(), start=1) if text}
    faults = {fault.name: at for fault in FAULTS for at, text in lines.items() if fault.line in text}
    found = {one.id: number(one) for one in report.findings}
    near = {name for name, at in faults.items() if abs(found.get(name, 0) - at) <= NEAR}
    assert near >= {"loss.all_actions", "backward.no_input", "backward.relu_derivative", "optimizer.counter"}, found


@pytest.mark.long
@pytest.mark.parametrize("fixes", [1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_next_fault_is_named_and_none_is_invented(fixes: int, directory: Path) -> None:
    report = examined(fixes, directory)
    causes = {one.id for one in report.findings if not one.caused_by}
    assert NAMES[fixes] in causes
    assert causes <= set(NAMES[fixes:])
    assert {one.id for one in report.findings} - causes <= {"loss.rows_mixed"}


@pytest.mark.long
def test_fixed_notebook_has_no_fault(directory: Path) -> None:
    report = examined(len(FAULTS), directory)
    assert not report.findings
    assert "training loop" in {one.check for one in report.passed}
