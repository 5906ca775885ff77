"""Small packages of every kind around the echo agent, and an npm registry on loopback that serves them, damaged or held back if told."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import shutil
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.doubles.runtimes import ROOT

ECHO = ROOT / "runtimes/echo"
STARTS = f"""#!{sys.executable}
import os, runpy, sys
place = os.path.join(os.path.dirname(os.path.realpath(__file__)), "echo")
sys.argv = [place]
runpy.run_path(place, run_name="__main__")
"""


def echo_files(prefix: str) -> dict[str, str]:
    """The echo agent's modules by name below a directory."""
    return {f"{prefix}/{path.name}": path.read_text() for path in ECHO.glob("*.py")}


def tarball(files: Mapping[str, str], top: str = "package", programs: tuple[str, ...] = ()) -> bytes:
    """A .tgz with these files; `programs` may be executed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            data = text.encode()
            member = tarfile.TarInfo(f"{top}/{name}" if top else name)
            member.size, member.mode = len(data), 0o755 if name in programs else 0o644
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


class Registry(ThreadingHTTPServer):
    """An npm registry. `damaged`: names whose tarballs are not what their hash says. `gate`: tarballs wait until it is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.packages: dict[str, dict[str, tuple[dict[str, Any], bytes]]] = {}
        self.damaged: set[str] = set()
        self.files: dict[str, bytes] = {}  # other answers, by path
        self.gate, self.asked = threading.Event(), threading.Event()
        self.gate.set()
        self.fetched: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def publish(self, name: str, version: str, files: Mapping[str, str], **manifest: Any) -> None:
        said = {"name": name, "version": version, **manifest}
        programs = tuple(manifest.get("bin", {}).values())
        data = tarball({**files, "package.json": json.dumps(said)}, programs=programs)
        if any(event in manifest.get("scripts", {}) for event in ("preinstall", "install", "postinstall")):
            said["hasInstallScript"] = True
        self.packages.setdefault(name, {})[version] = (said, data)

    def publish_echo(self, name: str, version: str, **manifest: Any) -> None:
        """The echo agent as a package with one program of its name."""
        files = {**echo_files("bin/echo"), f"bin/{name}": STARTS}
        self.publish(name, version, files, bin={name: f"bin/{name}"}, **manifest)

    def environment(self, home: Path) -> dict[str, str]:
        """What makes npm use this registry and nothing of the person's."""
        return {
            "npm_config_registry": self.url, "npm_config_cache": str(home / "npm-cache"), "npm_config_userconfig": str(home / "npmrc"),
            "npm_config_fetch_retries": "0",
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        path = unquote(self.path).partition("?")[0].lstrip("/")
        self.server.fetched.append(path)
        name, tar, version = path.partition("/-/")
        if path in self.server.files:
            self._say(200, self.server.files[path])
        elif tar and version in self.server.packages.get(name, {}):
            self._tarball(name, version)
        elif name in self.server.packages and not tar:
            self._say(200, json.dumps(self._packument(name)).encode())
        else:
            self._say(404, b'{"error": "not found"}')

    def _tarball(self, name: str, version: str) -> None:
        self.server.asked.set()
        self.server.gate.wait(60)
        data = self.server.packages[name][version][1]
        self._say(200, data[:-30] + bytes(30) if name in self.server.damaged else data)

    def _packument(self, name: str) -> dict[str, Any]:
        versions = {}
        for version, (said, data) in self.server.packages[name].items():
            digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
            dist = {"tarball": f"{self.server.url}{name}/-/{version}", "integrity": f"sha512-{digest}"}
            versions[version] = {**said, "dist": dist}
        return {"name": name, "dist-tags": {"latest": list(versions)[-1]}, "versions": versions}

    def _say(self, status: int, body: bytes) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def registry() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.gate.set()
            server.shutdown()
            thread.join()


def wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = (), python: str = ">=3.8") -> Path:
    """The echo agent as a wheel with a console script of its name."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}/__init__.py": "import os, runpy, sys\n\n\ndef main():\n    place = os.path.join(os.path.dirname(__file__), 'echo')\n"
        "    sys.argv = [place]\n    runpy.run_path(place, run_name='__main__')\n",
        **echo_files(f"{module}/echo"),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}\n"
        + "".join(f"Requires-Dist: {each}\n" for each in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {module}:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in (*files, f"{info}/RECORD"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for each, text in files.items():
            file.writestr(each, text)
    return path


def pip_environment(wheels: Path) -> dict[str, str]:
    """What makes pip take packages from a directory, and nothing from anywhere else."""
    return {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONSTRAINT": ""}


def own(folder: Path, name: str, version: str, **more: str) -> Path:
    """A runtime of a person's own: a directory with a runtime.yaml around the echo agent; `more` files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in ECHO.glob("*.py"):
        shutil.copy(path, folder / path.name)
    (folder / "runtime.yaml").write_text(
        f'name: {name}\nversion: "{version}"\ncommand: ["{{python}}", "-I", "-S", "{{package}}", "--state={{state}}"]\n'
    )
    for each, text in more.items():
        (folder / each).write_text(text)
    return folder
