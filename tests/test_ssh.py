"""ssh as it is: an sshd of our own on the loopback, with a key and a port for each run."""

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homenode.cli.main import main
from homenode.drivers import ssh
from homenode.drivers.gateway import LocalGateway
from homenode.drivers.ssh import SshGateway
from homenode.errors import ExitStatus, HomenodeError, HypervisorError
from homenode.state_file import LOCAL

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
USER = getpass.getuser()

pytestmark = pytest.mark.skipif(
    not (SSHD and shutil.which("ssh") and shutil.which("ssh-keygen")),
    reason="there is no sshd, or no ssh (openssh-server, openssh-client)",
)

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
AWKWARD = [
    "", " ", "'", '"', "$HOME", "`id`", "$(id)", "*", "~", "!1", "\\", "\\'", "-n", "--", "a=b",
    "#", "a\nb", "\n", "\t", "{a,b}", "é 漢 \U0001f600", "\x81\x88", ";&|<>", "%s", "\r\x1b[31m",
]  # fmt: skip


def keep_trying(done, *, for_s=5.0):
    """Wait until `done()` holds; return whether it came to that."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        if done():
            return True
        time.sleep(0.01)
    return False


def is_gone(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def sshd_of(process):
    """Return the sshd that serves the connection of a process."""
    name, _, rest = Path(f"/proc/{process}/stat").read_text().partition("(")[2].rpartition(") ")
    return process if name.startswith("sshd") else sshd_of(int(rest.split()[1]))


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def make_key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


class Host:
    """A running sshd, and the words of an ssh that gets into it."""

    def __init__(self, folder, *, forced=None, banner=None):
        self.folder, self.config = folder, []
        make_key(folder / "host")
        make_key(folder / "key")
        if forced:
            # As a login shell would: with the command as its last word.
            (folder / "forced").write_text(f"#!/bin/sh\n{forced}\n")
            (folder / "forced").chmod(0o755)
            self.config.append(f"ForceCommand exec {folder}/forced")
        if banner:
            (folder / "banner").write_text(banner)
            self.config.append(f"Banner {folder}/banner")

    def __enter__(self):
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it wants that, and only of root
        # Another process may have taken the port since it was free.
        if not any(self._started() for _ in range(3)):
            pytest.fail((self.folder / "log").read_text())
        public = (self.folder / "host.pub").read_text()
        names = (f"[{address}]:{self.port}" for address in ("127.0.0.1", "::1"))
        (self.folder / "known").write_text("".join(f"{name} {public}" for name in names))
        return self

    def _started(self):
        self.port = free_port()
        settings = [
            f"ListenAddress 127.0.0.1:{self.port}",
            *([f"ListenAddress [::1]:{self.port}"] if Path("/proc/net/if_inet6").exists() else []),
            f"HostKey {self.folder}/host",
            f"AuthorizedKeysFile {self.folder}/key.pub",
            "PidFile none", "StrictModes no", "UsePAM no", "MaxStartups 100", "UseDNS no",
            # No profile of ours has a say, and no path that leads to /usr/sbin.
            f"SetEnv HOME={self.folder} PATH=/usr/bin:/bin", "PasswordAuthentication no",
            "KbdInteractiveAuthentication no", *self.config,
        ]  # fmt: skip
        (self.folder / "config").write_text("\n".join(settings) + "\n")
        log = self.folder / "log"
        with log.open("wb") as said:
            self.daemon = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", self.folder / "config"], stderr=said
            )
        listening = keep_trying(
            lambda: self.daemon.poll() is not None or b"listening on 127" in log.read_bytes()
        )
        return listening and self.daemon.poll() is None

    def __exit__(self, *_):
        self.daemon.kill()
        self.daemon.wait()

    def command(self, *options, key="key", known="known"):
        words = [
            "ssh", *options, "-F", "none", "-i", self.folder / key, "-o", "BatchMode=yes",
            "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes",
            "-o", f"UserKnownHostsFile={self.folder / known}",
        ]  # fmt: skip
        return shlex.join(map(str, words))

    @property
    def destination(self):
        return f"{USER}@127.0.0.1:{self.port}"

    def gateway(self, *options, destination=None, **files):
        command = self.command(*options, **files)
        return self._closed_at_the_end(command, SshGateway, destination or self.destination)

    def another(self, gateway):
        return self._closed_at_the_end(self.command(), gateway.another)

    @contextlib.contextmanager
    def _closed_at_the_end(self, command, make, *arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOMENODE_SSH_COMMAND", command)
            made = make(*arguments)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with Host(tmp_path_factory.mktemp("host")) as running:
        yield running


@pytest.fixture(scope="module")
def far(host):
    with host.gateway() as connected:
        yield connected


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(ssh, "_MARGIN_S", 2.0)


# --- what is sent arrives ---

COUNT = 'printf "%s\\0" "$#" "$@"'


def words_that_arrive(gateway, words, **given):
    output = gateway.run(["sh", "-c", COUNT, "sh", *words], **given)
    assert (output.status, output.stderr) == (0, "")
    count, *arrived = output.stdout.removesuffix("\0").split("\0")
    assert int(count) == len(arrived)
    return arrived


@settings(max_examples=40)
@given(words=st.lists(text | st.sampled_from(AWKWARD), max_size=8))
def test_any_words_arrive_as_they_are(far, words):
    assert words_that_arrive(far, words) == words


@settings(max_examples=40)
@given(stdin=text)
def test_any_standard_input_arrives_as_it_is(far, stdin):
    assert far.run(["cat"], stdin=stdin).stdout == stdin


@pytest.mark.parametrize("end", ["", "\n"])
def test_lines_that_begin_as_the_end_of_the_input_arrive(far, end):
    """dash loses a byte where such a line goes on beyond ASCII; the end is in hexadecimal."""
    stdin = "\n".join(f"{letter}\x80|" for letter in "0123456789abcdef|") + end
    assert far.run(["cat"], stdin=stdin).stdout == stdin


def test_much_goes_both_ways_at_once(far):
    stdin = "0123456789 abcde\n" * 100_000
    assert far.run(["cat"], stdin=stdin).stdout == stdin


def test_a_zero_byte_is_refused_here_and_there(far):
    for gateway in (far, LocalGateway()):
        with pytest.raises(HomenodeError, match="zero byte") as caught:
            gateway.run(["echo", "a\0b"])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "script",
    [
        "echo out; echo err >&2; exit 7",
        "printf 'no newline'; printf 'here neither' >&2",
        "echo; echo",
        "printf '\\377\\n'; exit 1",
        "exit 124",
        "exit 126",
        "exit 127",
        "exit 137",
        "cat; exec 3>&- 9>&-; echo $LC_ALL",
        "exit 255",
    ],
)
def test_what_a_command_does_over_there_is_what_it_does_here(far, script):
    there = far.run(["sh", "-c", script], stdin="given")
    here = LocalGateway().run(["sh", "-c", script], stdin="given")
    assert there._replace(stderr=there.stderr.rstrip()) == here._replace(
        stderr=here.stderr.rstrip()
    )


def test_descriptors_of_ours_are_not_those_of_what_is_run(far, tmp_path):
    with far.storage.lock(str(tmp_path / "lock"), wait_s=1):
        open_there = far.run(["ls", "/proc/self/fd"]).stdout.split()
    assert open_there == ["0", "1", "2", "3"]  # 3 is the folder that ls reads


@pytest.mark.parametrize("program", ["no-such-program", "/etc/passwd", "/etc", "/no/such", "-x"])
def test_a_program_that_cannot_be_run_is_one_line_here_and_there(far, program):
    said = []
    for gateway in (LocalGateway(), far):
        with pytest.raises(HypervisorError) as caught:
            gateway.run([program, "word"])
        said.append(str(caught.value).removeprefix(gateway.name))
    assert said[0] == said[1]
    assert "\n" not in said[0]


def test_a_path_over_there_without_it_still_leads_to_where_xl_is(far):
    look = ["sh", "-c", "command -v sshd"]
    found = far.run(look).stdout
    assert found.strip() in ("/usr/sbin/sshd", "/usr/local/sbin/sshd")
    there = subprocess.run(
        far.interactive(look), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True
    )
    assert there.stdout == found


LOGIN_SHELLS = ["bash", "dash", "tcsh", "fish", "zsh", "mksh"]


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_no_login_shell_has_a_say_in_what_arrives(tmp_path, shell):
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    forced = f'exec {shell} -c "$SSH_ORIGINAL_COMMAND"'
    with Host(tmp_path, forced=forced) as there, there.gateway() as gateway:
        assert words_that_arrive(gateway, AWKWARD) == AWKWARD
        command = gateway.interactive(["sh", "-c", COUNT + "; cat; exit 5", "sh", *AWKWARD])
        done = subprocess.run(command, capture_output=True, input=b"given", check=False)
        assert done.stdout.decode() == "\0".join([str(len(AWKWARD)), *AWKWARD, "given"])
        assert done.returncode == 5


@pytest.mark.parametrize("sh", ["dash", "bash --posix", "busybox sh", "mksh", "zsh --emulate sh"])
def test_any_posix_shell_over_there_will_do(tmp_path, sh):
    if not shutil.which(sh.split()[0]):
        pytest.skip(f"there is no {sh.split()[0]}")
    with Host(tmp_path, forced=f"exec {sh}") as there, there.gateway() as gateway:
        assert words_that_arrive(gateway, AWKWARD, stdin="unread") == AWKWARD
        stdin = "".join(AWKWARD)
        assert gateway.run(["cat"], stdin=stdin).stdout == stdin
        assert gateway.run(["sh", "-c", "echo err >&2; exit 7"]) == (7, "", "err")


GREETED = "echo Welcome; printf 'frame 0\\n\\n99\\n42 no newline'; exec $SSH_ORIGINAL_COMMAND"


def test_what_a_login_prints_is_no_part_of_any_answer(tmp_path):
    with (
        Host(tmp_path, forced=GREETED, banner="Authorised use only.\n") as there,
        there.gateway() as gateway,
    ):
        assert gateway.run(["echo", "out"]) == (0, "out\n", "")
        assert not is_gone(gateway.process())


def test_ipv6_addresses_have_brackets_and_a_port(host):
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("there is no IPv6")
    with host.gateway(destination=f"{USER}@[::1]:{host.port}") as gateway:
        assert gateway.run(["sh", "-c", "echo $SSH_CONNECTION"]).stdout.startswith("::1 ")


def test_another_connection_goes_to_the_same_port_and_does_not_wait_for_the_first(host):
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("there is no IPv6")
    with host.gateway(destination=f"{USER}@[::1]:{host.port}") as one, host.another(one) as other:
        busy = threading.Thread(target=one.run, args=(["sleep", "0.3"],))
        busy.start()
        there = other.run(["sh", "-c", "echo $SSH_CONNECTION"]).stdout
        assert busy.is_alive()
        busy.join()
    assert there.split()[2:] == ["::1", str(host.port)]


# --- refused ---


def refusal(gateway):
    with pytest.raises(HypervisorError) as caught:
        gateway.run(["true"])
    said = str(caught.value)
    assert said.startswith(gateway.name)
    assert said.isprintable()
    return said


def test_a_wrong_key_is_one_line_in_the_words_of_ssh_even_behind_a_banner(tmp_path):
    with Host(tmp_path, banner="Authorised\nuse only.\n") as there:
        make_key(tmp_path / "other")
        with there.gateway(key="other") as gateway:
            said = refusal(gateway)
    assert said.startswith(f"{USER}@127.0.0.1: Permission denied (publickey).; try by hand: ssh ")


def test_an_unknown_and_a_changed_host_key_are_told_apart(host):
    with host.gateway(known="unknown") as gateway:
        assert "host key is known for" in refusal(gateway)
    name, public = f"[127.0.0.1]:{host.port}", (host.folder / "key.pub").read_text()
    (host.folder / "changed").write_text(f"{name} {public}")
    with host.gateway(known="changed") as gateway:
        assert "has changed" in refusal(gateway)


def test_who_does_not_listen_or_has_no_name_is_named(host):
    with host.gateway(destination=f"127.0.0.1:{free_port()}") as gateway:
        assert "Connection refused" in refusal(gateway)
    with host.gateway(destination="no-such-host.invalid") as gateway:
        assert "no-such-host.invalid: " in refusal(gateway)


def test_behind_a_proxy_that_fails_the_cause_is_told(host):
    jump = f"{host.command()} -p {host.port} -W 127.0.0.1:{free_port()} {USER}@127.0.0.1"
    with host.gateway("-o", f"ProxyCommand={jump}") as gateway:
        assert "Connection refused" in refusal(gateway)


def test_a_login_without_a_shell_is_told_in_its_own_words(tmp_path):
    closed = "echo This account is currently not available.; exit 1"
    with Host(tmp_path, forced=closed) as there, there.gateway() as gateway:
        assert "This account is currently not available." in refusal(gateway)


def test_who_accepts_and_says_nothing_is_waited_for_in_vain_but_not_for_long(host):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        with host.gateway("-o", "ConnectTimeout=1", destination=f"127.0.0.1:{port}") as gateway:
            assert "timed out" in refusal(gateway)


def test_a_login_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(ssh, "_MARGIN_S", 0.1)
    monkeypatch.setattr(ssh, "CONNECT_S", 1)
    monkeypatch.setattr(ssh, "_LOGIN_S", 0.0)
    sleeping = Host(tmp_path, forced="exec sleep 60", banner="Slow.\n")
    with sleeping as there, there.gateway() as gateway:
        assert "it does not answer" in refusal(gateway)


@pytest.mark.parametrize("verb", [["list"], ["topology"], ["claims"], ["destroy", "web"]])
def test_the_command_says_it_in_one_line_with_the_exit_status_of_the_contract(
    host, verb, monkeypatch, capsys
):
    monkeypatch.setenv("HOMENODE_SSH_COMMAND", host.command())
    uri = f"xen+ssh://{USER}@127.0.0.1:{free_port()}/"
    assert main([verb[0], "-c", uri, *verb[1:]]) == ExitStatus.HYPERVISOR
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "Connection refused" in said.err


def test_an_ssh_that_is_not_there_is_one_line(monkeypatch):
    for told in ("/no/such/ssh -q", "''"):
        monkeypatch.setenv("HOMENODE_SSH_COMMAND", told)
        with pytest.raises(HypervisorError, match="HOMENODE_SSH_COMMAND"):
            SshGateway("host").run(["true"])
    monkeypatch.setenv("HOMENODE_SSH_COMMAND", "ssh 'unclosed")
    with pytest.raises(HomenodeError, match="HOMENODE_SSH_COMMAND"):
        SshGateway("host")


# --- hanging, and cut ---


def test_a_command_that_hangs_over_there_is_ended_there_and_the_next_one_runs(far, tmp_path):
    connection = far.process()
    with pytest.raises(HypervisorError, match=r"did not answer within 0\.2 s, and was ended"):
        far.run(["sh", "-c", f"echo $$ > {tmp_path}/number; exec sleep 60"], timeout_s=0.2)
    assert is_gone((tmp_path / "number").read_text().strip())
    assert far.run(["echo", "again"]).stdout == "again\n"
    assert far.process() == connection


def test_a_command_that_will_not_end_is_made_to(host, tmp_path, monkeypatch):
    monkeypatch.setattr(ssh, "GRACE_S", 0.2)
    stubborn = f"trap '' TERM; echo $$ > {tmp_path}/number; while :; do sleep 0.05; done"
    with host.gateway() as gateway, pytest.raises(HypervisorError, match="was ended"):
        gateway.run(["sh", "-c", stubborn], timeout_s=0.2)
    assert keep_trying(lambda: is_gone((tmp_path / "number").read_text().strip()))


@pytest.mark.parametrize("stdin", ["", "much to say\n" * (1 << 20)], ids=["reading", "writing"])
def test_a_far_side_that_stands_still_is_not_waited_for(host, monkeypatch, stdin):
    monkeypatch.setattr(ssh, "_MARGIN_S", 0.2)
    with host.gateway() as gateway:
        shell = gateway.process()
        os.kill(shell, signal.SIGSTOP)
        try:
            with pytest.raises(HypervisorError, match="it does not answer"):
                gateway.run(["true"], stdin=stdin, timeout_s=0.2)
        finally:
            os.kill(shell, signal.SIGCONT)
        assert gateway.run(["echo", "again"]).stdout == "again\n"
        assert gateway.process() != shell


def test_a_connection_that_is_cut_in_the_middle_is_one_line_and_the_next_run_connects(host):
    with host.gateway() as gateway:
        shell = gateway.process()
        cut = f"kill -KILL {sshd_of(shell)}; sleep 60"
        with pytest.raises(HypervisorError) as caught:
            gateway.run(["sh", "-c", cut])
        assert "closed by remote host" in str(caught.value)
        assert str(caught.value).isprintable()
        assert gateway.run(["echo", "again"]).stdout == "again\n"
        assert gateway.process() != shell


@pytest.mark.parametrize("dead", ["sshd", "ssh"])
def test_a_connection_that_was_cut_while_nothing_went_over_it_is_one_line_too(tmp_path, dead):
    with Host(tmp_path, banner="Authorised use only.\n") as there, there.gateway() as gateway:
        connection = gateway._connected()
        if dead == "sshd":
            os.kill(sshd_of(gateway.process()), signal.SIGKILL)
        else:
            connection.kill()
        connection.wait()
        with pytest.raises(HypervisorError) as caught:
            gateway.run(["cat"], stdin="much to say\n" * 1000)
        said = {"sshd": "closed by remote host", "ssh": "ssh ended with status -9"}[dead]
        assert said in str(caught.value)
        assert str(caught.value).isprintable()
        assert gateway.run(["echo", "again"]).stdout == "again\n"


@pytest.fixture
def interrupts():
    """Have SIGINT do what it does to a command; who runs the tests may have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_leaves_no_half_answer_for_the_next_run(host):
    main_thread = threading.get_ident()
    with host.gateway() as gateway:
        gateway.process()
        later = threading.Timer(0.2, signal.pthread_kill, (main_thread, signal.SIGINT))
        later.start()
        with pytest.raises(KeyboardInterrupt):
            gateway.run(["sh", "-c", "sleep 1; echo late"])
        assert gateway.run(["echo", "again"]).stdout == "again\n"


# --- the lock ---


def test_what_one_connection_holds_no_other_gets_neither_there_nor_here(host, tmp_path):
    path = str(tmp_path / "new folder" / "it's.lock")
    with host.gateway() as one, host.gateway() as other:
        with one.storage.lock(path, wait_s=1):
            for storage in (other.storage, LOCAL):
                with pytest.raises(HomenodeError) as caught, storage.lock(path, wait_s=0):
                    pytest.fail("two hold the lock")
                assert path in str(caught.value)
                assert "try again" in str(caught.value)
            assert one.run(["echo", "held"]).stdout == "held\n"
        with other.storage.lock(path, wait_s=0), pytest.raises(HomenodeError):  # noqa: SIM117 - it is the inner one that fails
            with LOCAL.lock(path, wait_s=0):
                pytest.fail("two hold the lock")
        with LOCAL.lock(path, wait_s=0), pytest.raises(HomenodeError, match="try again"):  # noqa: SIM117 - the same
            with one.storage.lock(path, wait_s=0):
                pytest.fail("two hold the lock")


def test_who_waits_gets_the_lock_when_it_is_let_go(host, tmp_path):
    path = str(tmp_path / "lock")
    order = []

    def wait():
        with LOCAL.lock(path, wait_s=10):
            order.append("waited")

    with host.gateway() as holder:
        with holder.storage.lock(path, wait_s=1):
            waiting = threading.Thread(target=wait)
            waiting.start()
            holder.run(["sleep", "0.1"])
            order.append("held")
        waiting.join()
    assert order == ["held", "waited"]


def test_the_lock_is_let_go_when_the_ssh_of_its_holder_is_killed(host, tmp_path):
    path = str(tmp_path / "lock")

    def lose(holder, other):
        with holder.storage.lock(path, wait_s=1):
            holder._connected().kill()
            with other.storage.lock(path, wait_s=5):
                other.run(["true"])
            holder.run(["true"])

    with host.gateway() as holder, host.gateway() as other:
        with pytest.raises(HypervisorError, match="ended with status -9"):
            lose(holder, other)
        with holder.storage.lock(path, wait_s=5):
            holder.run(["true"])


def test_what_went_wrong_under_the_lock_is_not_hidden_by_a_connection_that_is_gone(host, tmp_path):
    def fail(gateway):
        with gateway.storage.lock(str(tmp_path / "lock"), wait_s=1):
            connection = gateway._connected()
            connection.kill()
            connection.wait()
            raise ZeroDivisionError

    with host.gateway() as gateway, pytest.raises(ZeroDivisionError):
        fail(gateway)


# --- files ---

contents = st.binary(max_size=50) | st.sampled_from([b"", b"\n", b"\xff\n", b"a\0b", b"{\r\n}"])


@settings(max_examples=40)
@given(content=contents, most=st.integers(0, 60))
def test_what_is_read_over_there_is_what_is_read_here(far, tmp_path_factory, content, most):
    path = tmp_path_factory.getbasetemp() / "it's a $(file) to read"
    path.write_bytes(content)
    assert far.storage.read(str(path), most=most) == LOCAL.read(str(path), most=most)


@settings(max_examples=40)
@given(content=text)
def test_what_is_put_there_is_what_is_put_here(far, tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "it's a $(file) to write"
    far.storage.replace(str(path), content.encode())
    assert path.read_bytes() == content.encode()
    assert not path.with_name(path.name + ".new").exists()


def complaint(do):
    with pytest.raises(HomenodeError) as caught:
        do()
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_files_that_are_not_there_or_are_none_are_the_same_there_and_here(far, tmp_path):
    folder, missing = str(tmp_path), str(tmp_path / "missing" / "file")
    for storage in (far.storage, LOCAL):
        assert storage.read(missing, most=9) is None
        (tmp_path / "kept").mkdir(exist_ok=True)
        assert "Is a directory" in complaint(lambda: storage.read(folder, most=9))  # noqa: B023 - called at once
        assert "cannot write it" in complaint(lambda: storage.replace(folder, b"x\n"))  # noqa: B023 - the same
        assert missing in complaint(lambda: storage.replace(missing, b"x\n"))  # noqa: B023 - the same
        (tmp_path / "file").write_text("")
        with pytest.raises(HomenodeError, match="cannot lock it"):  # noqa: SIM117 - it is the inner one that fails
            with storage.lock(str(tmp_path / "file" / "x"), wait_s=0):
                pytest.fail("there is no such folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "kept"]
