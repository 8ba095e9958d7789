"""The layout: packages import one way, light modules stay light, and functions and files stay short."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rounds

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(rounds.__file__).parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
# Lowest first: a package imports from those above it in this list only.
ORDER = (
    "errors",
    "estimate",
    "artifacts",
    "process",
    "config",
    "data",
    "retrieval",
    "models",
    "cluster",
    "encoding",
    "evaluation",
    "mining",
    "training",
    "generation",
    "reranking",
    "kaggle",
    "publishing",
    "report",
    "demo",
    "benchmark",
    "pipeline",
    "flags",
    "cli",
)
HEAVY = ("torch", "transformers", "sentence_transformers", "peft")
LIGHT = (
    "errors",
    "artifacts.store",
    "artifacts.hashing",
    "config.recipe",
    "config.loader",
    "data.collection",
    "data.dataset",
    "data.images",
    "data.lineage",
    "data.loaders.eedi",
    "data.prompts",
    "data.splits",
    "data.text",
    "evaluation.ledger",
    "evaluation.metrics",
    "evaluation.results",
    "evaluation.significance",
    "evaluation.tables",
    "generation.rows",
    "kaggle.submission",
    "mining.sampling",
    "retrieval.bm25",
    "retrieval.run",
    "retrieval.search",
)
MAX_PARAMETERS, MAX_FUNCTION_LINES, MAX_FILE_LINES = 8, 60, 400


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports(path: Path, package: str = "") -> set[str]:
    """Return the modules that a file imports, at its top or inside functions; `from a import b` may be module a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: -node.level + 1 or None]
                base = ".".join([*parent, *base.split(".")]).rstrip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                names.add(whole if whole in MODULES else base)
    return names


def imports_of_rounds(path: Path) -> set[str]:
    package = module_name(path).rpartition(".")[0]
    return {name for name in imports(path, package) if name.split(".")[0] == "rounds"}


def is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def floor(module: str) -> int:
    """Return the place in `ORDER` of a module's package."""
    return ORDER.index(module.split(".")[1])


def test_the_walk_sees_imports():
    """The check itself finds absolute imports, at the top and inside functions."""
    assert "rounds.errors" in imports_of_rounds(MODULES["rounds.artifacts.store"])
    assert "rounds.data.splits" in imports_of_rounds(MODULES["rounds.data.collection"])
    assert "transformers" in imports(MODULES["rounds.cli"])


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"rounds"}))
def test_packages_import_one_way(name):
    """A module imports from its own package and from lower ones, and every package has its place in the order."""
    assert [other for other in imports_of_rounds(MODULES[name]) - {"rounds"} if floor(other) > floor(name)] == []


def test_imports_make_no_circle():
    """The modules of rounds can be put in an order in which each imports only earlier ones."""
    left = {name: imports_of_rounds(path) - {name, "rounds"} for name, path in MODULES.items()}
    while ready := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in ready:
            del left[name]
    assert left == {}


@pytest.mark.parametrize("name", [f"rounds.{name}" for name in LIGHT])
def test_light_modules_name_no_heavy_library(name):
    """No light module, and none of rounds that it imports, imports a deep-learning library, lazily or not."""
    reached, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        if module in MODULES and module not in reached:
            reached.add(module)
            waiting += imports_of_rounds(MODULES[module])
    assert {other for module in reached for other in imports(MODULES[module]) if is_in(other, HEAVY)} == set()


def test_light_modules_load_no_heavy_library():
    """Importing all light modules leaves torch and its like out of the process, third parties included."""
    code = "import sys\n" + "".join(f"import rounds.{name}\n" for name in LIGHT)
    code += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_rounds_and_third_parties_only(path):
    """No script imports another, nor anything of the project but `rounds`."""
    folders = ("scripts", "tests")
    local = {file.stem for folder in folders for file in (ROOT / folder).rglob("*.py")}.union(folders)
    assert {name for name in imports(path) if name.split(".")[0] in local or not name} == set()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_the_package_imports_no_script(name):
    """The library does not know the scripts."""
    stems = {path.stem for path in SCRIPTS} | {"scripts", "tests"}
    assert {other for other in imports(MODULES[name]) if other.split(".")[0] in stems} == set()


# Always there with transformers, sentence-transformers and the kaggle client.
WITH_OTHERS = {"huggingface-hub", "kagglesdk", "requests", "safetensors", "tokenizers"}


def test_imported_packages_are_declared():
    """Whatever the library imports is a dependency of its own, so that no other package's change can remove it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    declared = {_canonical(re.match(r"[\w.-]+", line).group()) for line in lines} | WITH_OTHERS
    distributions = importlib.metadata.packages_distributions()
    imported = {name.split(".")[0] for path in [*MODULES.values(), *SCRIPTS] for name in imports(path)}
    owners = {module: {_canonical(name) for name in distributions.get(module, [])} for module in imported}
    assert {module for module, names in owners.items() if names and not names & (declared | {"rounds"})} == set()


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def library_files() -> list[Path]:
    """Return the files of rounds; the tables of the generated samples may be longer."""
    return sorted(path for path in MODULES.values() if "synthetic" not in path.parts)


def parameter_count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of named parameters, without `self`, `cls`, and `ctx` of an autograd function.

    >>> parameter_count(ast.parse("def f(self, a, /, b, *args, c=1, **options): ...").body[0])
    3
    """
    arguments = function.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"], ["ctx"]))


@pytest.mark.parametrize("path", library_files(), ids=module_name)
def test_functions_and_files_are_short(path):
    """A function has at most 8 parameters and 60 lines, a file at most 400 lines."""
    source = path.read_text(encoding="utf-8")
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long_signatures = {node.name for node in functions if parameter_count(node) > MAX_PARAMETERS}
    assert long_signatures == set()
    assert {node.name for node in functions if node.end_lineno - node.lineno >= MAX_FUNCTION_LINES} == set()
    assert len(source.splitlines()) <= MAX_FILE_LINES
