"""Make the Python environment that the peers run in, apart from the project's own.

It is made with the Python that runs this, so that an extension built in place
is found by both. A peer that can't be installed does not stop the others: what
pip said is kept and shown in the results.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".venv-bench"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
STAMP = HOME / "installed.json"
PYTHON = HOME / ("Scripts" if os.name == "nt" else "bin") / "python"


def pinned() -> list[str]:
    """Return the lines of requirements.txt that name a package."""
    lines = (line.strip() for line in REQUIREMENTS.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def prepare() -> dict[str, str]:
    """Make the environment if it is not there yet, and say what is missing from it.

    Returns:
        For each requirement that could not be installed, the reason.
    """
    key = hashlib.sha256(f"{sys.version}\n{REQUIREMENTS.read_text()}".encode()).hexdigest()
    if STAMP.exists():
        found = json.loads(STAMP.read_text())
        if found["key"] == key:
            missing: dict[str, str] = found["missing"]
            return missing
    print(f"installing the peers into {HOME.name}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME)], check=True)
    # Neither git nor the linters have any business in there.
    (HOME / ".gitignore").write_text("*\n")
    missing = {}
    if _install("--requirement", str(REQUIREMENTS)):
        for requirement in pinned():
            if reason := _install(requirement):
                missing[requirement] = reason
    STAMP.write_text(json.dumps({"key": key, "missing": missing}, indent=1))
    return missing


def versions() -> dict[str, str]:
    """Return the version of every package the environment has."""
    command = [str(PYTHON), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {package["name"]: package["version"] for package in json.loads(done.stdout)}


def _install(*what: str) -> str:
    """Install *what*; return "" or the reason why it failed."""
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *what], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    return (errors or done.stderr.splitlines() or ["pip failed"])[-1].strip()
