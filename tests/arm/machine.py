"""An emulated ARM machine in a folder: Debian's Python for ARM, LiteRT's ARM wheel, and an emulator to run them.

Nothing is installed on this machine and nothing needs root: packages are fetched through apt with a state of its own
and unpacked. Debian's packages come from the mirror that this machine's apt uses, wheels from pip's index.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from tests.arm.cpus import CPUS, Cpu
from tests.arm.sources import Mirror, debian_mirror

EMULATOR_SUITE, PYTHON_SUITE = "trixie", "bookworm"
"""The emulator is that of Debian 13: qemu 7.2 of Debian 12 computes SME's convolutions wrongly."""
EMULATOR = ("qemu-user",)
LIBRARIES = (
    "python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libstdc++6 libgcc-s1 zlib1g libexpat1 libffi8 "
    "libssl3 libbz2-1.0 liblzma5 libuuid1 libcrypt1"
).split()
WHEELS = ("ai-edge-litert", "numpy", "ml_dtypes", "flatbuffers", "backports.strenum", "typing_extensions", "tqdm")
"""At the versions of the environment that this runs in."""
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")
GUEST = Path(__file__).with_name("guest.py")
"""The program that runs files there."""
LAYOUT = 1  # of the folder; a machine of another one is built anew


class Unavailable(Exception):
    """The machine cannot be built here, and why: in one line."""


class ArmMachine:
    """The machine in ``folder``; :meth:`build` makes it where it is not there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.root, self.qemu = self.folder / "root", self.folder / "qemu" / "usr" / "bin" / "qemu-aarch64"
        self.stamp = self.folder / "machine.json"

    def versions(self) -> dict[str, str]:
        """Of the wheels: those of this environment."""
        try:
            return {name: metadata.version(name) for name in WHEELS}
        except metadata.PackageNotFoundError as error:
            raise Unavailable(f"this environment lacks {error.name}; pip install 'hatdet[export]'") from error

    def build(self) -> str:
        """Build the machine unless it is there at these versions; says what it is.

        Raises:
            Unavailable: a tool, the packages or the index are missing.
        """
        wanted = {"layout": LAYOUT, "wheels": self.versions()}
        if self.stamp.is_file() and json.loads(self.stamp.read_text()).get("wanted") == wanted:
            return str(json.loads(self.stamp.read_text())["says"])
        mirror = requirements()
        shutil.rmtree(self.folder, ignore_errors=True)
        for part in ("debs", "wheels", "root/site", "root/proc"):
            (self.folder / part).mkdir(parents=True)
        self._unpack(mirror, EMULATOR_SUITE, _host_architecture(), EMULATOR, self.folder / "qemu")
        for other in self.qemu.parent.glob("*"):  # 400 MB of emulators of other processors
            if other != self.qemu:
                other.unlink()
        self._unpack(mirror, PYTHON_SUITE, "arm64", LIBRARIES, self.root)
        self._install_wheels(wanted["wheels"])  # type: ignore[arg-type]
        says = self._describe()
        for part in ("debs", "wheels"):  # 100 MB that nobody reads again
            shutil.rmtree(self.folder / part)
        self.stamp.write_text(json.dumps({"wanted": wanted, "says": says}, indent=1))
        return says

    def run(
        self, cpu: Cpu, arguments: Sequence[str | Path], more: Mapping[str, str] | None = None, timeout: float = 3600
    ) -> str:
        """Run the machine's Python; what it printed.

        Raises:
            RuntimeError: it ended otherwise than with 0, with its last lines.
        """
        (self.root / "proc").mkdir(exist_ok=True)
        (self.root / "proc" / "cpuinfo").write_text(cpu.cpuinfo())
        command = [self.qemu, "-cpu", cpu.qemu, "-L", self.root, self.root / "usr" / "bin" / "python3.11", *arguments]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LD_", "QEMU", "OMP"))}
        environment = {**kept, "PYTHONPATH": str(self.root / "site"), "OMP_NUM_THREADS": "1", **(more or {})}
        done = _call([str(word) for word in command], environment=environment, timeout=timeout)
        if done.returncode:
            raise RuntimeError(f"on the emulated {cpu.name}: status {done.returncode}: {_end(done.stdout)}")
        return done.stdout

    def _unpack(self, mirror: Mirror, suite: str, architecture: str, packages: Sequence[str], into: Path) -> None:
        """Fetch Debian packages with an apt state of their own, and unpack them."""
        state = self.folder / f"apt-{suite}-{architecture}"
        for part in ("lists/partial", "cache/archives/partial"):
            (state / part).mkdir(parents=True)
        (state / "status").touch()
        (state / "sources.list").write_text(mirror.line(suite) + "\n")
        settings = {
            "APT::Architecture": architecture, "APT::Architectures": architecture, "Dir::State": state,
            "Dir::State::lists": state / "lists", "Dir::State::status": state / "status", "Dir::Cache": state / "cache",
            "Dir::Etc::sourcelist": state / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
            "Acquire::Languages": "none", "APT::Update::Error-Mode": "any",
        }  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            settings["APT::Sandbox::User"] = "root"  # its own user may not write here
        apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items())]
        where = f"Debian's {suite} for {architecture}"
        _need([*apt, "update"], f"{where} is not reached through this machine's apt", state)
        debs = self.folder / "debs" / suite
        debs.mkdir(parents=True)
        _need([*apt, "download", *packages], f"packages of {where} were not fetched", debs)
        for deb in sorted(debs.glob("*.deb")):
            _need(["dpkg", "-x", str(deb), str(into)], f"{deb.name} was not unpacked", debs)
        shutil.rmtree(state)

    def _install_wheels(self, versions: Mapping[str, str]) -> None:
        wheels = self.folder / "wheels"
        tags = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "none"]
        tags += [word for name in PLATFORMS for word in ("--platform", name)]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *tags]
        pinned = [f"{name}=={version}" for name, version in versions.items()]
        _need([*pip, "--dest", str(wheels), *pinned], "pip's index does not give the ARM wheels", wheels)
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(self.root / "site")

    def _describe(self) -> str:
        said = self.run(CPUS["cortex-a53"], ["-c", _SELF_TEST]).split()
        emulator = _call([str(self.qemu), "--version"]).stdout.split("\n")[0].split("version ")[-1].split(" (")[0]
        if said[-4:-3] != ["aarch64"]:
            raise RuntimeError(f"the machine in {self.folder} says {said}")
        return f"{said[-4]}, Python {said[-3]}, numpy {said[-2]}, LiteRT {said[-1]}; qemu {emulator}"


_SELF_TEST = """
import platform, numpy, ai_edge_litert.interpreter
from importlib.metadata import version
print(platform.machine(), platform.python_version(), numpy.__version__, version("ai-edge-litert"))
"""


def requirements() -> Mirror:
    """What building needs is here; the mirror.

    Raises:
        Unavailable: what is not.
    """
    if not sys.platform.startswith("linux"):
        raise Unavailable(f"the emulator runs on Linux, this is {sys.platform}")
    missing = [name for name in ("apt-get", "dpkg") if shutil.which(name) is None]
    if missing:
        raise Unavailable(f"this machine has no {' and no '.join(missing)}; they fetch and unpack Debian's packages")
    mirror = debian_mirror()
    if mirror is None:
        raise Unavailable("this machine's apt sources name no mirror of Debian")
    if not mirror.keyring.is_file():
        raise Unavailable(f"there is no {mirror.keyring}; install debian-archive-keyring")
    return mirror


def _host_architecture() -> str:
    return _call(["dpkg", "--print-architecture"]).stdout.strip()


def _need(command: Sequence[str], otherwise: str, folder: Path) -> None:
    done = _call(command, folder=folder, timeout=900)
    if done.returncode:
        raise Unavailable(f"{otherwise}: {_end(done.stdout, 1)}")


def _call(
    command: Sequence[str],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment, timeout=timeout, text=True, errors="replace", check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _end(text: str, lines: int = 12) -> str:
    kept = [line for line in text.strip().splitlines() if line.strip()][-lines:]
    return " | ".join(kept) if lines == 1 else "\n" + "\n".join(kept)
