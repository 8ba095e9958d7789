import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rounds

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(rounds.__file__).parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
FOUNDATION = ("rounds.data", "rounds.recipe", "rounds.prompts", "rounds.pictures", "rounds.artefact", "rounds.errors")
HEAVY = ("torch", "transformers", "sentence_transformers", "peft")
LIGHT = (
    "ranking", "mining", "evaluation", "comparison", "bm25", "lineage", "ledger", "submission", "collection", "recipe",
    "prompts", "artefact", "errors", "pictures", "data.eedi", "data.splits",
)  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports(path: Path, package: str = "") -> set[str]:
    """Modules that a file imports, at its top or inside functions; `from a import b` is a.b where that is a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: -node.level + 1 or None]
                base = ".".join([*parent, *base.split(".")]).rstrip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in MODULES else base)
    return found


def of_rounds(path: Path) -> set[str]:
    return {name for name in imports(path, module_name(path).rpartition(".")[0]) if name.split(".")[0] == "rounds"}


def is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_walk_sees_imports():
    """The check itself finds what is imported: one absolute, one inside a function, one by name."""
    assert "rounds.errors" in of_rounds(MODULES["rounds.artefact"])
    assert "rounds.data.splits" in of_rounds(MODULES["rounds.collection"])
    assert "transformers" in imports(MODULES["rounds.cli"])


@pytest.mark.parametrize("name", sorted(name for name in MODULES if is_in(name, FOUNDATION)))
def test_the_foundation_imports_nothing_above_it(name):
    """Data, recipe, prompts, artefact and errors import of rounds only each other."""
    assert [each for each in of_rounds(MODULES[name]) if not is_in(each, FOUNDATION)] == []


def test_imports_make_no_circle():
    """The modules of rounds can be put in an order in which each imports only earlier ones."""
    left = {name: of_rounds(path) - {name, "rounds"} for name, path in MODULES.items()}
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
            waiting += of_rounds(MODULES[module])
    assert {each for module in reached for each in imports(MODULES[module]) if is_in(each, HEAVY)} == set()


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
    own = {each.stem for folder in folders for each in (ROOT / folder).rglob("*.py")}.union(folders)
    assert {name for name in imports(path) if name.split(".")[0] in own or not name} == set()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_the_package_imports_no_script(name):
    """The library does not know the scripts."""
    stems = {path.stem for path in SCRIPTS} | {"scripts", "tests"}
    assert {each for each in imports(MODULES[name]) if each.split(".")[0] in stems} == set()
