"""Imports run one way: scripts, then files, compress, fit and draw, then backend, then the
ground."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = {path.stem for path in ROOT.glob("*_ifs.py")}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [*ROOT.glob("*_ifs.py"), ROOT / "ifs_model.py", *(ROOT / "diff_ifs").rglob("*.py")]
}
# What the parts of the package may import, at any place, beside themselves; scripts import whatever
# they like.
ALLOWED = {
    "kernels": set(),
    "formats": {"setup", "errors"},
    "backend": {"errors", "kernels"},
    "draw": {"backend", "formats", "metrics", "setup", "errors"},
    "fit": {"draw", "backend", "metrics", "setup", "arrays", "errors"},
    "compress": {"fit", "draw", "backend", "formats", "metrics", "setup", "errors"},
    "files": {"formats", "setup", "errors", "metrics", "fit", "draw", "backend"},
    "page": {"files", "formats", "setup", "errors"},
    "setup": set(),
    "errors": set(),
    "metrics": set(),
    "arrays": set(),
}


def imports(path: Path, everywhere: bool) -> set[str]:
    """The modules, in full, that a file imports: at its top level, or everywhere in it; not those
    for types alone."""
    tree, found = ast.parse(path.read_text()), set()
    typed = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for part in ast.walk(node)
    }
    for node in ast.walk(tree) if everywhere else tree.body:
        if id(node) in typed:
            continue
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{name.name}" for name in node.names}
            found |= (inner & MODULES.keys()) or {node.module}
    return found


def part(module: str) -> str:
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("diff_ifs.")])
def test_imports_of_the_package_run_one_way(module):
    ours = {
        name
        for name in imports(MODULES[module], True)
        if name.split(".")[0] == "diff_ifs" and part(name)
    }
    assert {part(name) for name in ours} - {part(module)} <= ALLOWED[part(module)]
    assert not imports(MODULES[module], True) & SCRIPTS


def test_kernels_import_nothing_but_numba_numpy_and_each_other():
    for name, path in MODULES.items():
        if name.startswith("diff_ifs.kernels."):
            others = (
                imports(path, True)
                - sys.stdlib_module_names
                - {"collections.abc", "concurrent.futures"}
            )
            assert others - MODULES.keys() <= {"numba", "numpy"}, name


def test_the_model_imports_none_of_ours():
    assert not imports(MODULES["ifs_model"], True) & MODULES.keys()


def test_what_refuses_bad_input_loads_no_torch():
    """`diff_ifs`, setups, formats, files and scripts load torch inside functions alone."""
    for name, path in MODULES.items():
        if name != "ifs_model" and part(name) in ("", "setup", "errors", "formats", "files"):
            assert not imports(path, False) & {"torch", "ifs_model", "diff_ifs.backend"}, name


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: imports(path, True) & MODULES.keys() - {name} for name, path in MODULES.items()}
    while free := [name for name, needs in graph.items() if not needs]:
        graph = {name: needs - set(free) for name, needs in graph.items() if name not in free}
    assert not graph, "these are in a ring, or need one that is"
