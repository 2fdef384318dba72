#!/usr/bin/env python3
"""A real Xen with several NUMA nodes, booted under qemu without KVM; commands run in its dom0.

    lab.py start [--topology n4] [--xen 'sched=credit']
    lab.py exec 'xl info -n'          input, output and exit status are the command's
    lab.py ssh ARGUMENT...            as OpenSSH's ssh, with the lab's name as the host
    lab.py put LOCAL REMOTE | get REMOTE [LOCAL]
    lab.py console                    what Xen and dom0 wrote on the serial line
    lab.py status | stop

Several labs run side by side with --name. State is in $XENLAB_DIR, which defaults to
homenode-xenlab in the user's cache.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import wire

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[2] / "src"
XEN_ARGUMENTS = (
    "com1=115200,8n1 console=com1 loglvl=all guest_loglvl=all noreboot "
    # Xen would touch all memory at boot, and qemu really take it.
    "bootscrub=0 spec-ctrl=no xpti=no conring_size=512k"
)
DOM0_ARGUMENTS = (
    "console=hvc0 quiet loglevel=4 mitigations=off xen_scrub_pages=0 init_on_alloc=0 rodata=off"
)
ACCELERATOR = "tcg,thread=multi"
PATH_LIMIT = 107
"""Bytes in the name of a unix socket, at most."""
STATUS_OF_FAILURE = 125
DOM0_PYTHON = (3, 11)
CLEAN = r"""
i=0
while guests=$(xl list | awk 'NR > 1 && $2 != 0 { print $2 }'); [ "$guests" ]; do
    [ $((i += 1)) -gt 50 ] && { echo "guests stay: $guests" >&2; exit 1; }
    for id in $guests; do xl destroy "$id" 2>/dev/null; done
done
xl cpupool-list | awk 'NR > 1 && $1 != "Pool-0" { print $1 }' | while read -r pool; do
    cpus=$(xl cpupool-list -c "$pool" | awk 'NR > 1 { print $2 }')
    xl cpupool-destroy "$pool"
    xl cpupool-cpu-add Pool-0 "$cpus"
done
rm -rf /run/homenode
until xl debug-keys H; xl dmesg | awk "
        /'H' pressed/ { dirty = 0 } /unscrubbed pages/ { dirty = 1 } END { exit dirty }"; do
    [ $((i += 1)) -gt 300 ] && { echo "memory stays unscrubbed" >&2; exit 1; }
    sleep 0.2
done
"""
"""Takes dom0 back to how it was after the boot, but for what it wrote elsewhere in its files."""


class LabError(Exception):
    """The lab cannot do what it was told; the first line says why."""


class NoImageError(LabError):
    """There is no image, and none can be built here: no lab can start."""


class Result(NamedTuple):
    """How a command in dom0 ended: exit status (negative: the signal; 124: out of time)."""

    status: int
    stdout: str
    stderr: str


def topology_of(name: str) -> Mapping[str, object]:
    """Read a topology of topologies.json, or of a file of that form."""
    known = json.loads((HERE / "topologies.json").read_text())
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


def image() -> Path:
    """Return the folder of the image, built first if there is none of these sources."""
    done = subprocess.run(
        [sys.executable, HERE / "build.py"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise NoImageError(f"no image: {done.stdout.strip() or 'build.py failed'}")
    return Path(done.stdout.strip())


class Lab:
    """A lab of a name. Any number of processes and threads may use it at once."""

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

    def start(
        self,
        topology: str | Mapping = "n4",
        *,
        xen_args: str = "",
        dom0_args: str = "",
        dom0_mem: int = 512,
        dom0_vcpus: int = 2,
        cpu: str = "Nehalem",
        linux_guest: bool = False,
        accel: str = ACCELERATOR,
        qemu_args: Sequence[str] = (),
        timeout: float = 300,
    ) -> float:
        """Boot; return the seconds that it took. ``dom0_mem`` is in MiB.

        ``linux_guest`` adds the kernel and initramfs of a Linux guest to dom0 (190 MB of its
        memory). Raises LabError when the lab runs, cannot be built or does not come up.
        """
        if self.is_running:
            raise LabError(f"lab {self.name} runs already, pid {self.pid}")
        if isinstance(topology, str):
            topology = topology_of(topology)
        if len(os.fsencode(self.directory)) + len("/p24.lock") > PATH_LIMIT:
            raise LabError(f"{self.directory}: too long for sockets: set XENLAB_DIR to a short one")
        self.stop()  # what another process has ended is still a child of this one
        images = image()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        xen = f"{XEN_ARGUMENTS} dom0_mem={dom0_mem}M,max:{dom0_mem}M dom0_max_vcpus={dom0_vcpus}"
        dom0 = f"{DOM0_ARGUMENTS} {dom0_args}".strip().replace(",", ",,")
        disk = images / ("dom0+linux.cpio" if linux_guest else "dom0.cpio")
        command = [
            *("qemu-system-x86_64", "-name", "xenlab", "-nodefaults", "-no-user-config"),
            *("-machine", "q35", "-accel", accel, "-cpu", cpu, *numa_arguments(topology)),
            *("-kernel", str(images / "xen"), "-append", f"{xen} {xen_args}"),
            *("-initrd", f"{images / 'vmlinux'} {dom0},{disk}"),
            *("-display", "none", "-no-reboot", "-pidfile", str(self.directory / "qemu.pid")),
            *("-serial", f"file:{self.directory / 'console.log'}"),
            *self._ports(),
            *qemu_args,
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
            if "Dom0 crashed" in text or "Panic on CPU" in text:
                raise LabError(f"Xen or dom0 crashed\n{text[-3000:]}")
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
        """Return what Xen and dom0 wrote on the serial line since the boot."""
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
        """Run a list of arguments, or a line for the shell, in dom0.

        After ``timeout_s`` the command is killed, and its status is 124. Raises LabError when dom0
        does not answer, and with ``check`` when the status is not 0.
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
        """Write a file in dom0, and the folders that it needs."""
        script = 'mkdir -p "${1%/*}/" && cat >"$1" && chmod "$2" "$1"'
        command = ["sh", "-c", script, "sh", path, f"{mode:o}"]
        self.run(command, input=data, timeout_s=300, check=True)

    def get(self, path: str) -> bytes:
        """Read a file of dom0."""
        status, data, errors = self._run(["cat", path], b"", 300)
        if status:
            raise LabError(f"lab {self.name}: {errors.decode(errors='replace').strip()}")
        return data

    def clean(self) -> None:
        """Take dom0 back to how it was: no guests, one cpupool, no state of homenode, all scrubbed.

        Memory of a guest that ended is free, and not yet to be had, until idle cpus scrubbed it.
        """
        self.run(CLEAN, timeout_s=180, check=True)

    def install_homenode(self, source: Path = SOURCE) -> None:
        """Put the package into dom0, compiled, with a command /usr/bin/homenode."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in sorted((source / "homenode").rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    _pack(archive, str(path.relative_to(source)), path.read_bytes())
                    if path.suffix == ".py" and sys.version_info[:2] == DOM0_PYTHON:
                        _pack(archive, *_compiled(source, path))
        packages = "/usr/lib/python3/dist-packages"
        script = f"mkdir -p {packages} && rm -rf {packages}/homenode && tar -x -C {packages}"
        self.run(script, input=packed.getvalue(), check=True)
        if sys.version_info[:2] != DOM0_PYTHON:
            compiler = ["python3", "-m", "compileall", "-q", "--invalidation-mode"]
            self.run([*compiler, "unchecked-hash", f"{packages}/homenode"], timeout_s=600)
        self.put(
            b"#!/usr/bin/python3 -Es\nfrom homenode.cli.main import console\n\nconsole()\n",
            "/usr/bin/homenode",
            0o755,
        )


def _feed(session: wire.Session, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the command ended, or read no more
        session.send(data)
        session.end_input()


def _pack(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _compiled(source: Path, path: Path) -> tuple[str, bytes]:
    """Compile for a Python of this version that is told never to look at the source."""
    import importlib._bootstrap_external as loader  # noqa: PLC0415 - what py_compile writes with

    relative = path.relative_to(source)
    text = path.read_bytes()
    code = compile(text, f"/usr/lib/python3/dist-packages/{relative}", "exec", dont_inherit=True)
    data = loader._code_to_hash_pyc(code, importlib.util.source_hash(text), checked=False)
    tag = f"{path.stem}.cpython-{DOM0_PYTHON[0]}{DOM0_PYTHON[1]}.pyc"
    return str(relative.parent / "__pycache__" / tag), bytes(data)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="lab")
    verbs = parser.add_subparsers(dest="verb", required=True)
    start = verbs.add_parser("start")
    start.add_argument("--topology", default="n4", help="of topologies.json, or a file")
    start.add_argument("--xen", default="", help="more parameters of Xen")
    start.add_argument("--dom0", default="", help="more parameters of dom0's kernel")
    start.add_argument("--dom0-mem", type=int, default=512, help="MiB")
    start.add_argument("--dom0-vcpus", type=int, default=2)
    start.add_argument("--cpu", default="Nehalem")
    start.add_argument("--accel", default=ACCELERATOR)
    start.add_argument(
        "--qemu",
        default="",
        help="more arguments of qemu: with --accel tcg,thread=single,"
        " '-icount shift=3,sleep=off' gives exact virtual time",
    )
    start.add_argument("--linux-guest", action="store_true", help="have /guest/vmlinux in dom0")
    start.add_argument("--timeout", type=int, default=300, help="seconds")
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
    return parser


def _do(lab: Lab, asked: argparse.Namespace) -> int:
    match asked.verb:
        case "start":
            seconds = lab.start(
                asked.topology,
                xen_args=asked.xen,
                dom0_args=asked.dom0,
                dom0_mem=asked.dom0_mem,
                dom0_vcpus=asked.dom0_vcpus,
                cpu=asked.cpu,
                linux_guest=asked.linux_guest,
                accel=asked.accel,
                qemu_args=shlex.split(asked.qemu),
                timeout=asked.timeout,
            )
            print(f"up after {seconds:.1f} s")
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
    os.execv(Lab.ssh, [Lab.ssh, *arguments])  # noqa: S606 - it is a program of ours


def main(arguments: list[str]) -> int:
    """Be the command; return its exit status."""
    parser = _parser()
    asked, rest = parser.parse_known_args(arguments)
    if asked.verb == "ssh":
        _become_ssh(arguments[arguments.index("ssh") + 1 :])
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    try:
        return _do(Lab(asked.name), asked)
    except (LabError, OSError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return STATUS_OF_FAILURE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
