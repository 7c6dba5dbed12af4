"""How the package hangs together: imports upstream only, lazy names, documented names."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import faithattn

ROOT = Path(faithattn.__file__).parent
# A module may import from its own layer and from those before it.
LAYERS = (
    {"errors", "_checks", "_memory", "_version"},
    {"measures"},
    {"adapters"},
    {"interventions"},
    {"importance"},
    {"explanations"},
    {"statistics", "results"},
    {"pages"},
    {"metrics"},
    {"audits"},
    {"testing", "pytest_plugin"},
    {"paper"},
    {"planted"},
    {"cli"},
    {"__main__"},
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part_of(module: str) -> str:
    """The folder or file directly under the package."""
    return module.split(".")[1] if "." in module else ""


def name_of(path: Path) -> str:
    parts = ("faithattn", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def imports(path: Path) -> list[str]:
    """Every module of the package that a file imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            module = node.module or ""
            found += [f"{module}.{alias.name}" for alias in node.names]
    return [name for name in found if name == "faithattn" or name.startswith("faithattn.")]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_upstream(path: Path) -> None:
    own = part_of(name_of(path))
    assert own in RANK, f"{own} has no place in the order of layers"
    for module in imports(path):
        part = part_of(module)
        if part not in RANK:  # a public name, taken from the package itself
            pytest.fail(f"{name_of(path)} imports {module}; import it from where it is defined")
        assert RANK[part] <= RANK[own], f"{name_of(path)} imports {module}, which is downstream"


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_loads_no_heavy_library() -> None:
    heavy = ("torch", "numpy", "scipy", "captum", "matplotlib", "tqdm")
    code = f"import sys, faithattn; print([m for m in {heavy!r} if m in sys.modules])"
    assert run(code) == "[]"
    assert run(f"{code}; faithattn.__version__; dir(faithattn); print('torch' in sys.modules)") == (
        "[]\nFalse"
    )


def test_names_are_loaded_when_they_are_used() -> None:
    code = "import sys; from faithattn import permutation_test as test; print(test.__name__)"
    code += "; import faithattn; print(faithattn.adapt.__name__, 'torch' in sys.modules)"
    code += "; from faithattn import *; print(Run.__name__)"
    assert run(code).split() == ["permutation_test", "adapt", "True", "Run"]


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="module 'faithattn' has no attribute 'attention'"):
        _ = faithattn.attention
    with pytest.raises(ImportError, match="cannot import name 'attention'"):
        from faithattn import attention  # noqa: F401


def test_listed_names_are_the_type_checkers_names() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    checked = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("faithattn")
        for alias in node.names
        if not alias.name.startswith("__")
    }
    public = [name for name in faithattn.__all__ if not name.startswith("__")]
    assert set(checked) == set(public)
    for name, module in checked.items():
        assert getattr(faithattn, name) is getattr(importlib.import_module(module), name)
        assert getattr(faithattn, name).__module__ == module
    assert sorted(public) == public and set(dir(faithattn)) == set(faithattn.__all__)


@pytest.mark.parametrize("name", [name for name in faithattn.__all__ if name != "__version__"])
def test_public_names_are_documented(name: str) -> None:
    value = getattr(faithattn, name)
    documentation = inspect.getdoc(value) or ""
    assert value.__doc__ and documentation.splitlines()[0].endswith(".")
    if inspect.isfunction(value):
        assert "Examples:" in documentation and ">>>" in documentation
        assert "Args:" in documentation
        for parameter in inspect.signature(value).parameters:
            assert f"{parameter}:" in documentation, f"{name} does not document {parameter}"


@pytest.mark.parametrize("name", [name for name in faithattn.__all__ if name != "__version__"])
def test_public_methods_are_documented(name: str) -> None:
    value = getattr(faithattn, name)
    if not inspect.isclass(value):
        return
    for member, function in vars(value).items():
        if inspect.isfunction(function) and not member.startswith("_"):
            assert function.__doc__, f"{name}.{member}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_are_of_a_readable_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a module says what it is for"
    assert text.count("\n") <= 400


def test_the_package_is_typed() -> None:
    assert (ROOT / "py.typed").exists()
    assert faithattn.__version__[0].isdigit()


def test_modules_of_the_tests_have_names_of_their_own() -> None:
    """They are imported by their last name, so that two of one name hide each other."""
    names = [path.name for path in Path(__file__).parent.rglob("*.py")]
    special = {"__init__.py", "__main__.py", "conftest.py"}
    assert not sorted({name for name in names if names.count(name) > 1} - special)
