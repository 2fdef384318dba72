"""Let sixteen processes at a time change one simulated host, kill them, and have it watched.

    python -m proof.soak [--seconds 60 | --commands N] [--at-once 16] [--seed 0] [--json]

Each process is a whole ``homenode create``, ``destroy``, ``affinity`` and so on. The seed gives how
each ends: a quarter is left alone, a quarter is killed (SIGKILL) after some time, a quarter kills
itself before some line of the program, most of these between the lines that write a state and put
it in its place, and a quarter may write files of some size only, as on a full disk: half of these
are killed in the middle of that write. So that more of them meet, most are forked from a process
that has everything loaded; one in eight is started as a user starts it.

What the files say is watched all the time by a program that has nothing of homenode in it
(`proof.soak_observer`). Afterwards it is held against what was asked: no guest came or went
without a command that may have done it, and what a command said it had done was so. In the end
time passes (the claims of those who died are made to lapse), and a fresh homenode has to find the
host whole, empty it, and fill it.
"""

import argparse
import gc
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from homenode.cli import affinity, check, claims, create, destroy, main, place  # noqa: F401 - loaded

HOST = 'name = "small"\nnodes = 4\ncores = 4\nmemory = "1GiB"\n'
NAME = "soak"
URI = f"sim:{NAME}"
SIZES_MIB = (96, 160, 250, 330)
GUESTS = 24
"""With those sizes, about one and a half times what the host can hold."""

ALL = tuple(f"g{number}" for number in range(GUESTS))
SURE = 0.8
"""How often a guest is created that is not there, and one destroyed that is."""

LONGEST_S = {False: 0.06, True: 0.3}
"""The latest kill, of a forked process and of one that has to be started."""

WRITING = ("state_file",)
DECIDING = ("state_file", "ledger", "claims", "lifecycle", "affinity", "simulated")
MOST_LINES = {WRITING: 90, DECIDING: 900}
"""A process that kills itself does so before one of so many lines of these modules."""

MOST_BYTES = 20_000
"""About what the file of the full host has."""

KILLED = (-signal.SIGKILL, -signal.SIGXFSZ)

FOR_XEN_MIB = 16
"""More than Xen takes for itself of a node that a guest of one vcpu fills."""

WAITED = "another process has held this lock"
"""What one says that gave up: on a machine that is busy with others that is no defect."""

REFUSED = "no memory for"
"""What a host says that has less than was promised."""


class Command(NamedTuple):
    """One process that was run: what was asked of it, when it lived, and how it ended.

    `status` is its exit status, negative if it was killed; `told` what it printed.
    """

    words: tuple[str, ...]
    began: float
    ended: float = 0.0
    status: int = 0
    told: str = ""
    complaint: str = ""

    @property
    def verb(self) -> str:
        """What was asked for."""
        return self.words[0]

    def is_for(self, name: str) -> bool:
        """Return whether the guest of that name is meant."""
        return name in self.words or f"{name}.cfg" in self.words


class End(NamedTuple):
    """How a process is to end, if not by itself.

    Killed from outside `after_s`; by itself before so many `lines` of `modules`; or by what it
    cannot write, more than `most_bytes` to a file, of which it `dies` if not only told so. `fresh`
    is whether it is started as a user starts it.
    """

    after_s: float | None = None
    fresh: bool = False
    modules: tuple[str, ...] = ()
    lines: int = 0
    most_bytes: int | None = None
    dies: bool = False


class Running(NamedTuple):
    """A process that runs: when it is killed from outside (None: not at all), and its output."""

    command: Command
    kill_at: float | None
    out: Path


class Soak:
    """The processes, in `folder`; `chance` gives what each is to do and how it dies."""

    def __init__(self, folder: Path, *, seed: int, at_once: int) -> None:
        self.folder, self.at_once = folder, at_once
        self.chance = random.Random(seed)  # noqa: S311 - an order to be repeated, no secret
        self.running: dict[int, Running] = {}
        self.done: list[Command] = []
        self.killed_inside = self.started = 0

    def prepare(self) -> None:
        """Write the guests' files, and make the host."""
        os.chdir(self.folder)
        os.environ["XDG_STATE_HOME"] = str(self.folder)
        Path("host.toml").write_text(HOST)
        for number in range(GUESTS):
            # Half of them keep their uuid when they are created again.
            uuid = f'uuid="00000000-0000-4000-8000-{number:012d}"\n' if number % 2 else ""
            size = SIZES_MIB[number % len(SIZES_MIB)]
            text = f'name="g{number}"\ntype="pvh"\nmemory={size}\nvcpus={1 + number % 3}\n{uuid}'
            Path(f"g{number}.cfg").write_text(text)
        homenode("list", uri=f"{URI}?host=host.toml")

    def names(self) -> tuple[str, str, str]:
        """Return a guest that is not there, most of the time, one that is, and any other."""
        host = json.loads((self.folder / "homenode/sim" / f"{NAME}.json").read_text())
        there = sorted({guest["name"] for guest in host["snapshot"]["guests"]} & set(ALL))
        away = [name for name in ALL if name not in there]
        sure = self.chance.random() < SURE
        new = self.chance.choice(away if away and sure else ALL)
        old = self.chance.choice(there if there and sure else ALL)
        return new, old, self.chance.choice([name for name in ALL if name not in (new, old)])

    def words(self) -> tuple[str, ...]:
        """Return a command that nobody has thought much about."""
        new, old, other = self.names()
        nodes = str(self.chance.randrange(4))
        return self.chance.choices(
            [
                ("create", f"{new}.cfg"),
                ("create", "--json", "-j2", f"{new}.cfg", f"{other}.cfg"),
                ("destroy", old),
                ("destroy", old, other),
                ("affinity", old, nodes, "--move"),
                ("affinity", old, nodes, "--hard"),
                ("affinity", old, "--open"),
                (self.chance.choice(["list", "claims", "check", "topology"]),),
                ("place", f"{new}.cfg"),
            ],
            weights=[30, 12, 18, 4, 16, 4, 3, 8, 5],
        )[0]

    def end(self) -> End:
        """Return how a process is to end."""
        manner = self.chance.choice(["alone", "killed", "line", "disk"])
        if manner in ("alone", "killed"):
            fresh = self.chance.randrange(4) == 0
            delay_s = self.chance.uniform(0, LONGEST_S[fresh]) if manner == "killed" else None
            return End(after_s=delay_s, fresh=fresh)
        if manner == "disk":
            return End(
                most_bytes=self.chance.randrange(MOST_BYTES), dies=self.chance.random() < 0.5
            )
        modules = WRITING if self.chance.randrange(3) else DECIDING
        return End(modules=modules, lines=self.chance.randrange(1, MOST_LINES[modules]))

    def start(self) -> None:
        """Start a process."""
        words, end = self.words(), self.end()
        self.started += end.fresh
        out = self.folder / f"out-{len(self.done)}-{len(self.running)}-{self.chance.random()}"
        out.touch()
        began = time.monotonic()
        process = os.fork()
        if not process:
            _be(words, out, end)
        kill_at = None if end.after_s is None else began + end.after_s
        self.running[process] = Running(Command(words, began), kill_at, out)

    def reap(self) -> None:
        """Kill those whose time has come, and note those that have ended."""
        now = time.monotonic()
        for process, one in list(self.running.items()):
            if one.kill_at is not None and one.kill_at <= now:
                os.kill(process, signal.SIGKILL)
                self.running[process] = one._replace(kill_at=None)
        # One by one: the observer is a child, too.
        ended = ((process, os.waitpid(process, os.WNOHANG)) for process in self.running)
        process, status = next(((one, told[1]) for one, told in ended if told[0]), (0, 0))
        if not process:
            time.sleep(0.0005)
            return
        one = self.running.pop(process)
        told, _, complaint = one.out.read_text("utf-8").partition("\0")
        one.out.unlink()
        self.done.append(
            one.command._replace(
                ended=time.monotonic(),
                status=os.waitstatus_to_exitcode(status),
                told=told,
                complaint=complaint,
            )
        )

    def run(self, *, seconds: float | None, commands: int | None) -> None:
        """Run processes until time or their number is up, and wait for those that still run."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            begun = len(self.done) + len(self.running)
            over = begun >= commands if commands else time.monotonic() >= (until or 0)
            if over and not self.running:
                return
            if not over and len(self.running) < self.at_once:
                self.start()
            else:
                self.reap()


def _be(words: tuple[str, ...], out: Path, end: End) -> None:
    """Be the process, in a fork; does not return."""
    status = 70
    try:
        file = os.open(out, os.O_RDWR | os.O_APPEND)
        os.dup2(file, 1)
        errors = os.memfd_create("errors")
        os.dup2(errors, 2)
        arguments = ["-c", URI, *words]
        if end.fresh:
            # Its complaints go to its output; what is told there is not read.
            os.dup2(1, 2)
            command = [sys.executable, "-m", "homenode.cli.main", *arguments]
            os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted
        if end.lines:
            _die_before(end.modules, end.lines)
        if end.most_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL if end.dies else signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (end.most_bytes,) * 2)
        gc.disable()
        status = main.main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        os.write(1, b"\0" + os.pread(errors, 1 << 20, 0))
    except BaseException as error:  # noqa: BLE001 - nothing may go on in this process
        os.write(1, f"\0Traceback: {error!r}".encode())
    finally:
        os._exit(int(status))


def _die_before(modules: tuple[str, ...], lines: int) -> None:
    """Have this process kill itself before that many lines of those modules were run."""
    left = lines

    def trace(frame, event, _argument):  # noqa: ANN001, ANN202 - as Python calls it
        nonlocal left
        if Path(frame.f_code.co_filename).stem not in modules:
            return None
        if event == "line":
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)


def homenode(*words: str, uri: str = URI) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, and leave it alone."""
    command = [sys.executable, "-m", "homenode.cli.main", words[0], "-c", uri, *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Cut(NamedTuple):
    """What the observer saw at one moment: the guests by their uuid, as (name, id)."""

    began: float
    ended: float
    guests: dict[str, tuple[str, int]]

    @property
    def names(self) -> set[str]:
        """The guests' names."""
        return {name for name, _ in self.guests.values()}


def unasked(cuts: list[Cut], done: list[Command]) -> list[str]:
    """Return the guests that came or went without a command that may have done it."""
    found = []
    for before, after in pairwise(cuts):
        came, went = after.guests.keys() - before.guests.keys(), before.guests.keys() - after.guests
        changes = [(uuid, "create", after) for uuid in came]
        changes += [(uuid, "destroy", before) for uuid in went]
        for uuid, verb, cut in changes:
            name, number = cut.guests[uuid]
            if not _asked(done, verb, name, since=before.began, until=after.ended):
                found.append(f"{name} (id {number}) changed, and no {verb} was at work")
    return found


def _asked(done: list[Command], verb: str, name: str, *, since: float, until: float) -> bool:
    return any(
        one.verb == verb and one.is_for(name) and one.began <= until and one.ended >= since
        for one in done
    )


def untrue(cuts: list[Cut], done: list[Command]) -> list[str]:
    """Return what commands said that they had done, and had not."""
    found = []
    for one in done:
        if one.status or one.verb not in ("create", "destroy"):
            continue
        opposite = "destroy" if one.verb == "create" else "create"
        later = next((cut for cut in cuts if cut.began > one.ended), None)
        for word in one.words[1:]:
            name = word.removesuffix(".cfg")
            if later is None or not name.startswith("g"):
                continue
            if _asked(done, opposite, name, since=one.began, until=later.ended):
                continue
            if (name in later.names) != (one.verb == "create"):
                found.append(f"{' '.join(one.words)} was done, and {name} says otherwise")
    return found


def unclear(done: list[Command]) -> list[str]:
    """Return what no user may see: a traceback, a promise that was not kept, a broken file."""
    wrong = ("Traceback", REFUSED, "not whole", "cannot read")
    return [
        f"{' '.join(one.words)} ({one.status}): {one.complaint or one.told}"
        for one in done
        if one.status not in (*KILLED, 0, 1, 2, 3, 4)
        or any(text in one.complaint or text in one.told for text in wrong)
    ]


def aftermath(folder: Path) -> list[str]:
    """Let time pass, and have a fresh homenode look, empty the host, and fill it."""
    found = []
    ledger_file = folder / "homenode/sim" / f"{NAME}.claims.json"
    ledger = json.loads(ledger_file.read_text())
    for claim in ledger["claims"]:
        claim["expires_at"] = 0.0
    ledger_file.write_text(json.dumps(ledger))
    promised = json.loads(homenode("claims", "--json").stdout)["outstanding"]
    if promised:
        found.append(f"nobody lives and no time is left, and {promised} is promised")
    guests = json.loads(homenode("list", "--json").stdout)["guests"]
    names = [guest["name"] for guest in guests if guest["name"].startswith("g")]
    if names and homenode("destroy", *names).returncode:
        found.append("a fresh homenode cannot destroy what is there")
    nodes = json.loads(homenode("topology", "--json").stdout)["host"]["nodes"]
    for node in range(4):
        reserved_kib = sum(one["kib"] for one in nodes[node]["reserved"])
        mib = ((nodes[node]["free_kib"] - reserved_kib) >> 10) - FOR_XEN_MIB
        text = f'name="all{node}"\ntype="pvh"\nmemory={mib}\nvcpus=1\nnodes="{node}"\n'
        (folder / f"all{node}.cfg").write_text(text)
    done = homenode("create", *(f"all{node}.cfg" for node in range(4)))
    if done.returncode:
        found.append(f"the empty host is not to be filled: {done.stdout}{done.stderr}")
    return found


def soak(
    folder: Path, *, seed: int, at_once: int, seconds: float | None, commands: int | None
) -> dict[str, object]:
    """Run it all; return what was done, and what was wrong."""
    run = Soak(folder, seed=seed, at_once=at_once)
    run.prepare()
    observer = Path(__file__).with_name("soak_observer.py")
    cuts_file = folder / "cuts"
    words = [
        sys.executable,
        "-S",
        str(observer),
        str(folder / "homenode/sim"),
        NAME,
        str(cuts_file),
    ]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as watching:
        if watching.stdout is None:
            raise RuntimeError
        watching.stdout.readline()
        run.run(seconds=seconds, commands=commands)
        seen = json.loads(watching.communicate()[0])
    with cuts_file.open(encoding="utf-8") as file:
        cuts = [Cut(*json.loads(line)) for line in file]
    complaints = [*seen.pop("complaints"), *unasked(cuts, run.done), *untrue(cuts, run.done)]
    complaints += [*unclear(run.done), *aftermath(folder)]
    verbs = Counter(one.verb for one in run.done)
    endings = Counter(one.status for one in run.done)
    waited = sum(WAITED in one.complaint or WAITED in one.told for one in run.done)
    killed = sum(one.status in KILLED for one in run.done)
    return {
        "commands": len(run.done), "verbs": dict(verbs), "killed": killed,
        "started_afresh": run.started, "ended": dict(sorted(endings.items())),
        "waited_in_vain": waited, **seen, "complaints": complaints,
    }  # fmt: skip


def command() -> int:
    """Be the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--commands", type=int, help="so many, instead of a time")
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(
            Path(folder),
            seed=chosen.seed,
            at_once=chosen.at_once,
            seconds=None if chosen.commands else chosen.seconds,
            commands=chosen.commands,
        )
    print(json.dumps(found, indent=1))
    return 1 if found["complaints"] else 0


if __name__ == "__main__":
    sys.exit(command())
