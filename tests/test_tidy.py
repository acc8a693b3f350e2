"""Keeps the house rules that no off-the-shelf linter knows. One parse of each file, no dependencies."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Who may import whom. A room may always import itself.
MAY_IMPORT = {
    "domain": set(),
    "projections": {"domain"},
    "adapters": {"domain"},
    "workers": {"domain", "projections", "adapters"},
    "api": {"domain", "projections", "adapters"},
    "migrations": set(),
}
# From outside, the adapters are entered through their composition roots only.
DOORS = {
    "adapters.wiring",    # services that need no event loop
    "adapters.gateway",   # the live services of one gateway process
    "adapters.settings",
}  # fmt: skip
EXTRA = {
    "adapters/wiring.py": {"projections"},
    "api/cli.py": {"workers", "adapters"},  # the command line starts everything, each with its own import
}
DOMAIN_LIBRARIES = {"pydantic", "msgspec"}
BANNED_CALLS = {
    "datetime.now": "take the moment as an argument",
    "time.time": "take the moment as an argument",
    "time.time_ns": "take the moment as an argument",
    "os.urandom": "take the randomness as an argument",
    "float": "money and tokens are whole numbers",
}
CLEAN_ROOMS = {"domain", "projections"}
TOP_LEVEL = {
    "adapters", "api", "domain", "migrations", "projections", "tests", "workers",
    "Dockerfile", "LICENSE", "README.md", "compose.yaml", "pyproject.toml", "requirements-dev.lock",
    "requirements.lock", "run", "test", "uv.lock.txt",
}  # fmt: skip

FILES = [path for room in MAY_IMPORT for path in sorted((ROOT / room).rglob("*.py"))]


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    return listed.stdout.splitlines()


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_keeps_to_its_room(path: Path) -> None:
    tree = ast.parse(path.read_text())
    where = str(path.relative_to(ROOT))
    room = where.split("/")[0]
    used = imported(tree)
    rooms = {name.split(".")[0] for name in used}

    allowed = MAY_IMPORT[room] | {room} | EXTRA.get(where, set())
    assert not (rooms & set(MAY_IMPORT)) - allowed, f"{where}: {room} may not import these"
    if room in ("api", "workers") and "adapters" not in EXTRA.get(where, set()):
        entered = {".".join(name.split(".")[:2]) for name in used if name.startswith("adapters.")}
        assert entered <= DOORS, f"{where}: enters the adapters by {entered - DOORS}"
    if room == "domain":
        strangers = rooms - set(sys.stdlib_module_names) - DOMAIN_LIBRARIES - {"domain"}
        assert not strangers, f"{where}: the domain may not import {strangers}"
    if room in CLEAN_ROOMS:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (call := ast.unparse(node.func)) in BANNED_CALLS:
                pytest.fail(f"{where}:{node.lineno}: {call}: {BANNED_CALLS[call]}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_why_it_exists(path: Path) -> None:
    text = path.read_text()
    assert not text or ast.get_docstring(ast.parse(text)), "begin with a sentence that says why this file exists"


def test_sql_is_spoken_by_the_projections_adapters_and_migrations_alone() -> None:
    speaks = re.compile(r"\b(select|insert into|update|delete from)\b [\w*(]+.*\b(from|values|set|where)\b")
    for path in [*ROOT.glob("api/**/*.py"), *ROOT.glob("workers/**/*.py"), *ROOT.glob("domain/**/*.py")]:
        strings = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        assert not [text for text in strings if isinstance(text, str) and speaks.search(text)], path


def test_nothing_unforeseen_stands_at_the_top() -> None:
    assert {name.split("/")[0] for name in tracked() if not name.startswith(".")} <= TOP_LEVEL


def test_no_installed_distribution_owns_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    taken = {room: owners[room] for room in [*MAY_IMPORT, "tests"] if set(owners.get(room, [])) - {"bharatrouter"}}
    assert not taken, "these rooms would be shadowed"


def test_lock_files_are_hashed_and_name_no_host() -> None:
    for lock in ROOT.glob("*.lock*"):
        text = lock.read_text()
        assert "://" not in text, lock
        packages = re.findall(r"^[A-Za-z0-9][^\n]*==", text, re.MULTILINE)
        assert packages, lock
        assert text.count("--hash=sha256:") >= len(packages), lock
