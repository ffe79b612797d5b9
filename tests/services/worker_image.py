"""The image of docker/, built without a network from this clone's files and a cached wheelhouse."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from services.podman import BASE, Podman
from services.processes import ServerFailed

CLONE = Path(__file__).resolve().parents[2]
_CONTEXT = ("docker", "minionize", "pyproject.toml", "README.rst", "LICENSE", ".dockerignore")


def build(podman: Podman) -> str:
    """Id of the image; what did not change is taken from the store. ServerFailed if it can't be
    built."""
    with podman.locked(), tempfile.TemporaryDirectory(prefix="minionize-context-") as folder:
        context = Path(folder)
        for name in _CONTEXT:
            source = CLONE / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, context / name, ignore=ignored)
            else:
                shutil.copy2(source, context / name)
        shutil.copytree(_wheelhouse(podman), context / "docker/wheels")
        said = podman(
            "build", "--format=docker", "--pull=never", "--network=none", "--quiet",
            "--tag=localhost/minionize", f"--build-arg=PYTHON={BASE}",
            "--build-arg=PIP_OPTIONS=--no-index --find-links=docker/wheels",
            f"--file={context}/docker/Dockerfile", str(context), timeout_s=300.0,
        )  # fmt: skip
        # Those of yesterday's sources.
        podman("image", "prune", "--force", "--filter=until=24h")
        return said.split()[-1]


def _wheelhouse(podman: Podman) -> Path:
    """Everything that docker/constraints.txt names, for the Python of the base image."""
    pinned = CLONE / "docker/constraints.txt"
    key = "".join(c for c in pinned.read_text() if c.isalnum())
    folder = podman.cache / "wheels"
    mark = folder / "complete"
    if mark.exists() and mark.read_text() == key:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    version = podman(
        "run", "--rm", "--network=none", BASE, "python3", "-c",
        "import sys; print('%d.%d' % sys.version_info[:2])",
    ).strip()  # fmt: skip
    lines = [line.partition("#")[0].partition(";")[0] for line in pinned.read_text().splitlines()]
    # Without what they hold for: pip judges that by the Python that runs it.
    names = [line.strip() for line in lines if line.strip()]
    downloaded = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--no-deps",
         f"--python-version={version}", f"--dest={folder}", *names],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if downloaded.returncode:
        raise ServerFailed(f"pip download: {downloaded.stderr}")
    mark.write_text(key)
    return folder
