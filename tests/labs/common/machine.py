"""A machine under qemu without KVM, with several NUMA nodes; commands run in it from outside.

What the labs share: `Machine` starts one from an image, waits until it is up, runs commands in it
over virtio ports (`wire`), and ends it. Several run side by side by their names. State is in
$XENLAB_DIR, which defaults to homenode-xenlab in the user's cache.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import wire

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[2] / "src"
ACCELERATOR = "tcg,thread=multi"
PATH_LIMIT = 107
"""Bytes in the name of a unix socket, at most."""
STATUS_OF_FAILURE = 125
PYTHON = (3, 11)
"""That of the labs."""
PACKAGES = "/usr/lib/python3/dist-packages"
STARTER = """\
#!/usr/bin/python3 -Es
from homenode.cli.{module} import console

console()
"""


class LabError(Exception):
    """The lab cannot do what it was told; the first line says why."""


class NoImageError(LabError):
    """There is no image, and none can be built here: no lab can start."""


class Result(NamedTuple):
    """How a command in a lab ended: exit status (negative: the signal; 124: out of time)."""

    status: int
    stdout: str
    stderr: str


def topology_of(name: str, known_in: Path) -> Mapping[str, object]:
    """Read a topology of a file of them, or of a file of that form."""
    known = json.loads(known_in.read_text())
    if name in known:
        return known[name]
    if Path(name).is_file():
        return json.loads(Path(name).read_text())
    raise LabError(f"there is no topology {name!r} (there are: {' '.join(known)})")


def numa_arguments(topology: Mapping) -> list[str]:
    """Tell qemu a topology: ``nodes`` as [MiB, cpus], ``dist``ances, ``threads`` of a core."""
    nodes = topology["nodes"]
    cpus = sum(count for _, count in nodes)
    threads = topology.get("threads", 1)
    sizes = {count for _, count in nodes if count}
    shape = f"sockets={cpus},cores=1,threads=1"
    if len(sizes) == 1:
        (each,) = sizes
        shape = f"sockets={cpus // each},cores={each // threads},threads={threads}"
    arguments = ["-m", f"{sum(mib for mib, _ in nodes)}M", "-smp", f"{cpus},{shape}"]
    first = 0
    for index, (mib, count) in enumerate(nodes):
        node = f"node,nodeid={index}"
        if mib:
            arguments += ["-object", f"memory-backend-ram,id=ram{index},size={mib}M"]
            node += f",memdev=ram{index}"
        if count:
            node += f",cpus={first}-{first + count - 1}"
            first += count
        arguments += ["-numa", node]
    for source, row in enumerate(topology.get("dist", [])):
        for target, distance in enumerate(row):
            arguments += ["-numa", f"dist,src={source},dst={target},val={distance}"]
    return arguments


def image_by(builder: Path) -> Path:
    """Return the folder of the image that a program builds, if there is none of its sources."""
    done = subprocess.run([sys.executable, builder], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise NoImageError(f"no image: {done.stdout.strip() or 'it was not built'}")
    return Path(done.stdout.strip())


class Machine:
    """A lab of a name. Any number of processes and threads may use it at once."""

    kind = "lab"
    builder: Path
    topologies: Path
    crashes: Sequence[str] = ()
    """What is on the console of a machine that will not come up."""

    ssh = str(HERE / "ssh")
    """A program with the command line of ssh; the lab's name is the host."""

    def __init__(self, name: str = "lab") -> None:
        self.name = name
        self.directory = Path(wire.lab_directory(name))
        self._qemu: subprocess.Popen | None = None

    def __repr__(self) -> str:
        return f"Lab({self.name!r})"

    @property
    def pid(self) -> int | None:
        """The process of the lab, if it runs."""
        try:
            pid = int((self.directory / "qemu.pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self.directory) in command else None

    @property
    def is_running(self) -> bool:
        """Whether the lab runs."""
        return self.pid is not None

    def boot(self, topology: str | Mapping, command: Sequence[str], *, timeout: float) -> float:
        """Run qemu with `topology` and the options of `command`; return the seconds until it is up.

        Raises LabError when the lab does not come up.
        """
        command = [
            *("qemu-system-x86_64", "-name", self.kind, "-nodefaults", "-no-user-config"),
            *numa_arguments(self.topology_of(topology)),
            *("-display", "none", "-no-reboot", "-pidfile", str(self.directory / "qemu.pid")),
            *("-serial", f"file:{self.directory / 'console.log'}"),
            *self._ports(),
            *command,
        ]
        begun = time.monotonic()
        with (self.directory / "qemu.log").open("wb") as log:
            self._qemu = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_up(self._qemu, begun + timeout)
        except BaseException:
            self.stop()
            raise
        return time.monotonic() - begun

    def topology_of(self, topology: str | Mapping) -> Mapping:
        """Return a topology by its name."""
        if isinstance(topology, str):
            return topology_of(topology, self.topologies)
        return topology

    def prepare(self) -> Path:
        """Make sure that the lab can be started; return the folder of the image."""
        if self.is_running:
            raise LabError(f"lab {self.name} runs already, pid {self.pid}")
        if len(os.fsencode(self.directory)) + len("/p24.lock") > PATH_LIMIT:
            raise LabError(f"{self.directory}: too long for sockets: set XENLAB_DIR to a short one")
        self.stop()  # what another process has ended is still a child of this one
        images = image_by(self.builder)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        return images

    def _ports(self) -> list[str]:
        arguments = ["-device", f"virtio-serial-pci,max_ports={wire.PORTS + 1}"]
        for number in range(1, wire.PORTS + 1):
            path = self.directory / f"p{number}"
            arguments += ["-chardev", f"socket,id=p{number},path={path},server=on,wait=off"]
            arguments += ["-device", f"virtserialport,chardev=p{number},nr={number}"]
        return arguments

    def _wait_until_up(self, qemu: subprocess.Popen, deadline: float) -> None:
        while True:
            if qemu.poll() is not None:
                words = " ".join((self.directory / "qemu.log").read_text().split())
                raise LabError(f"qemu ended with status {qemu.returncode}: {words}")
            text = self.console()
            if any(words in text for words in self.crashes):
                raise LabError(f"it crashed\n{text[-3000:]}")
            if "READY" in text:
                with contextlib.suppress(LabError):
                    self.run(["true"], timeout_s=20, check=True)
                    return
            if time.monotonic() > deadline:
                raise LabError(f"the lab did not come up in time\n{text[-3000:]}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End the lab if it runs."""
        for deadly in (signal.SIGTERM, signal.SIGKILL):
            pid = self.pid
            if pid is None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, deadly)
            deadline = time.monotonic() + 5
            while self.is_running and time.monotonic() < deadline:
                time.sleep(0.05)
        if self._qemu:
            # It did not live to write its number, or it is gone and waits to be seen off.
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None

    def console(self) -> str:
        """Return what was written on the serial line since the boot."""
        try:
            return (self.directory / "console.log").read_text(errors="replace")
        except OSError:
            return ""

    def run(
        self,
        command: Sequence[str] | str,
        input: bytes = b"",  # noqa: A002 - as subprocess.run has it
        *,
        timeout_s: float = 120,
        check: bool = False,
    ) -> Result:
        """Run a list of arguments, or a line for the shell, in the lab.

        After ``timeout_s`` the command is killed, and its status is 124. Raises LabError when the
        lab does not answer, and with ``check`` when the status is not 0.
        """
        status, output, errors = self._run(command, input, timeout_s)
        result = Result(status, output.decode(errors="replace"), errors.decode(errors="replace"))
        if check and status:
            said = (result.stderr.strip() or result.stdout.strip())[-2000:]
            raise LabError(f"lab {self.name}: {command!r} ended with status {status}: {said}")
        return result

    def _run(
        self, command: Sequence[str] | str, data: bytes, timeout_s: float
    ) -> tuple[int, bytes, bytes]:
        got = {wire.OUTPUT: [], wire.ERROR: [], wire.STATUS: []}
        try:
            session = wire.Session(
                str(self.directory), command, limit_s=timeout_s, silence_s=timeout_s + 60
            )
            with contextlib.closing(session):
                feeder = threading.Thread(target=_feed, args=(session, data), daemon=True)
                feeder.start()
                for kind, payload in session.answers():
                    got[kind].append(payload)
        except (OSError, wire.LineError) as error:
            raise LabError(f"lab {self.name}: {error}") from None
        return int(got[wire.STATUS][0]), b"".join(got[wire.OUTPUT]), b"".join(got[wire.ERROR])

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Write a file in the lab, and the folders that it needs."""
        script = 'mkdir -p "${1%/*}/" && cat >"$1" && chmod "$2" "$1"'
        command = ["sh", "-c", script, "sh", path, f"{mode:o}"]
        self.run(command, input=data, timeout_s=300, check=True)

    def get(self, path: str) -> bytes:
        """Read a file of the lab."""
        status, data, errors = self._run(["cat", path], b"", 300)
        if status:
            raise LabError(f"lab {self.name}: {errors.decode(errors='replace').strip()}")
        return data

    def install_homenode(self, source: Path = SOURCE) -> None:
        """Put the package, and what it requires, into the lab, with its commands in /usr/bin."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            _pack_package(archive, source / "homenode")
            rich = importlib.util.find_spec("rich")
            if rich and rich.origin:
                _pack_package(archive, Path(rich.origin).parent)
        script = f"mkdir -p {PACKAGES} && rm -rf {PACKAGES}/homenode && tar -x -C {PACKAGES}"
        self.run(script, input=packed.getvalue(), timeout_s=300, check=True)
        if sys.version_info[:2] != PYTHON:
            compiler = ["python3", "-m", "compileall", "-q", "--invalidation-mode"]
            self.run([*compiler, "unchecked-hash", f"{PACKAGES}/homenode"], timeout_s=600)
        for name, module in (("homenode", "main"), ("homenode-numad", "numad")):
            if (source / f"homenode/cli/{module}.py").is_file():
                text = STARTER.format(module=module)
                self.put(text.encode(), f"/usr/bin/{name}", 0o755)


def _feed(session: wire.Session, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the command ended, or read no more
        session.send(data)
        session.end_input()


def _pack(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _pack_package(archive: tarfile.TarFile, package: Path) -> None:
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            _pack(archive, str(path.relative_to(package.parent)), path.read_bytes())
            if path.suffix == ".py" and sys.version_info[:2] == PYTHON:
                _pack(archive, *_compiled(package.parent, path))


def _compiled(source: Path, path: Path) -> tuple[str, bytes]:
    """Compile for a Python of this version that is told never to look at the source."""
    import importlib._bootstrap_external as loader  # noqa: PLC0415 - what py_compile writes with

    relative = path.relative_to(source)
    text = path.read_bytes()
    code = compile(text, f"{PACKAGES}/{relative}", "exec", dont_inherit=True)
    data = loader._code_to_hash_pyc(code, importlib.util.source_hash(text), checked=False)
    tag = f"{path.stem}.cpython-{PYTHON[0]}{PYTHON[1]}.pyc"
    return str(relative.parent / "__pycache__" / tag), bytes(data)


def add_verbs(verbs: "argparse._SubParsersAction") -> None:
    """Add what every lab can be told but ``start``."""
    verbs.add_parser("exec").add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("ssh", add_help=False)
    put = verbs.add_parser("put")
    put.add_argument("local", type=Path)
    put.add_argument("remote")
    get = verbs.add_parser("get")
    get.add_argument("remote")
    get.add_argument("local", nargs="?", type=Path)
    for verb in ("console", "status", "stop"):
        verbs.add_parser(verb)


def do(lab: Machine, asked: argparse.Namespace) -> int:
    """Do what a lab was told."""
    match asked.verb:
        case "exec":
            _become_ssh(["--", lab.name, *asked.command])
        case "put":
            mode = 0o755 if os.access(asked.local, os.X_OK) else 0o644
            lab.put(asked.local.read_bytes(), asked.remote, mode)
        case "get" if asked.local:
            asked.local.write_bytes(lab.get(asked.remote))
        case "get":
            sys.stdout.buffer.write(lab.get(asked.remote))
        case "console":
            print(lab.console(), end="")
        case "stop":
            lab.stop()
        case "status":
            print(f"running, pid {lab.pid}" if lab.is_running else "not running")
            return 0 if lab.is_running else 3
    return 0


def _become_ssh(arguments: list[str]) -> NoReturn:
    os.execv(Machine.ssh, [Machine.ssh, *arguments])  # noqa: S606 - it is a program of ours


def main(
    arguments: list[str],
    parser: argparse.ArgumentParser,
    start: Callable[[Machine, argparse.Namespace], float],
    kind: type[Machine],
) -> int:
    """Be the command of a lab; return its exit status."""
    asked, rest = parser.parse_known_args(arguments)
    if asked.verb == "ssh":
        _become_ssh(arguments[arguments.index("ssh") + 1 :])
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    try:
        lab = kind(asked.name)
        if asked.verb == "start":
            print(f"up after {start(lab, asked):.1f} s")
            return 0
        return do(lab, asked)
    except (LabError, OSError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return STATUS_OF_FAILURE
