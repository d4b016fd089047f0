"""Imports go one way, and the core knows no framework but Keras."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "keras_pdp"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

# The folders that the files of a folder may import from, besides their own.
MAY_IMPORT = {
    "sparsity": set(),
    "channels": set(),
    "training": {"sparsity", "channels"},
    "deployment": {"sparsity", "channels", "training"},
    "report": {"sparsity", "channels", "training", "deployment"},
}
# Frameworks beside Keras, and the only places that may import them.
FRAMEWORKS = {
    "tensorflow": ("training/compiled.py", "deployment/"),
    "jax": ("training/compiled.py",),
    "torch": ("training/random_states.py",),
    "tf_keras": (),
    "tensorflow_model_optimization": (),
    "tensorflow_datasets": (),
}
# Names whose modules are not public, or are of another Keras.
FORBIDDEN = (
    "keras.src",
    "tf_keras",
    "tf.keras",
    "tensorflow.keras",
    "tensorflow.python",
)


def parsed(name):
    return ast.parse((PACKAGE / name).read_text(encoding="utf-8"))


def imported(tree, name="__init__.py"):
    """The modules that a file names in its imports, each name of a `from` as well."""
    package = ["keras_pdp", *pathlib.PurePosixPath(name).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def attributes(tree):
    """`a.b` wherever the file reads an attribute of a plain name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def under(module, package):
    return module == package or module.startswith(f"{package}.")


def folders_imported(tree, name):
    """The folders of the package; "" for the package as a whole, which has all."""
    for module in imported(tree, name):
        package, _, rest = module.partition(".")
        if package == "keras_pdp":
            yield rest.split(".")[0]


def test_folders_import_one_way():
    wrong = []
    for name in FILES:
        folder, _, below = name.partition("/")
        if below:  # the files at the top put the folders together
            allowed = {"", folder, *MAY_IMPORT[folder]}
            found = set(folders_imported(parsed(name), name)) - allowed
            wrong += [f"{name} imports {other}" for other in sorted(found)]
    assert wrong == []


def test_frameworks_are_imported_where_they_are_needed():
    wrong = []
    for name in FILES:
        found = {module.split(".")[0] for module in imported(parsed(name), name)}
        wrong += [
            f"{name} imports {framework}"
            for framework in sorted(found & set(FRAMEWORKS))
            if not name.startswith(FRAMEWORKS[framework])
        ]
    assert wrong == []


def test_frameworks_are_imported_inside_functions():
    """So that a model is defined and trained without what only an export needs."""
    wrong = []
    for name in FILES:
        tree = parsed(name)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                node.body = []
        found = {module.split(".")[0] for module in imported(tree, name)}
        wrong += [f"{name} imports {other}" for other in sorted(found & {*FRAMEWORKS})]
    assert wrong == []


def test_only_public_keras_3_is_used():
    wrong = []
    for name in FILES:
        tree = parsed(name)
        used = {*imported(tree, name), *attributes(tree)}
        wrong += [
            f"{name} uses {module}"
            for module in sorted(used)
            if any(under(module, forbidden) for forbidden in FORBIDDEN)
        ]
    assert wrong == []


@pytest.mark.parametrize(
    "source, modules",
    [
        ("import keras.src.ops as o", {"keras.src.ops"}),
        ("from keras import src", {"keras", "keras.src"}),
        ("from . import mask", {"keras_pdp.sparsity", "keras_pdp.sparsity.mask"}),
        ("from ..training import tree", {"keras_pdp.training.tree"}),
        ("def f():\n    import jax", {"jax"}),
    ],
)
def test_imports_are_found(source, modules):
    """The reader of imports itself, from a file in `sparsity`."""
    assert modules <= set(imported(ast.parse(source), "sparsity/file.py"))


def test_importing_the_package_imports_no_optional_one():
    optional = ["tensorflow_datasets", "tensorflow_model_optimization", "tf_keras"]
    code = f"import sys, keras_pdp; print([m for m in {optional} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"
