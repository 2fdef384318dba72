"""Guests on a real Xen: created where it was decided, looked at, pinned, moved, and gone again."""

import json
import time

import pytest

NANO = 'type = "pv"\nkernel = "/guest/nano"\n'
LINUX = 'type = "pv"\nkernel = "/guest/vmlinux"\nramdisk = "/guest/linux.cpio"\nextra = "quiet"\n'


def put(lab, name, *lines, memory=300, vcpus=2, kind=NANO):
    text = "\n".join((f'name = "{name}"', f"memory = {memory}", f"vcpus = {vcpus}", *lines))
    lab.put(f"{kind}{text}\n".encode(), f"/root/{name}.cfg")
    return f"/root/{name}.cfg"


def homenode(lab, *words, status=0):
    """Run homenode in dom0 and return its document."""
    result = lab.run(["homenode", *words, "--json"], timeout_s=300)
    assert result.status == status, result
    return json.loads(result.stdout) if result.stdout else result.stderr


def complaint(lab, *words, status):
    result = lab.run(["homenode", *words], timeout_s=300)
    assert (result.status, len(result.stderr.splitlines())) == (status, 1), result
    return result.stderr


def xl(lab, *words):
    return lab.run(["xl", *words], check=True, timeout_s=300).stdout


def guests(lab):
    """Return the names of the guests as xl lists them, without dom0."""
    return [line.split()[0] for line in xl(lab, "list").splitlines()[2:]]


def pages_of(lab, domain):
    """Return the pages by node of a domain, as Xen itself counts them."""
    last = lab.run("xl debug-keys u; sleep 1; xl dmesg", check=True, timeout_s=300).stdout
    last = last[last.rindex("dumping numa info") :]
    lines = iter(last.splitlines())
    next(line for line in lines if f"Domain {domain} (total" in line)
    pages = {}
    for line in lines:
        words = line.replace("(XEN)", "").replace(":", "").split()
        if len(words) != 3 or words[0] != "Node":
            break
        pages[int(words[1])] = int(words[2])
    return {node: count for node, count in pages.items() if count}


def masks_of(lab, name):
    rows = xl(lab, "vcpu-list", name).splitlines()[1:]
    return {tuple("".join(row.split()[6:]).split("/")) for row in rows}


def id_of(lab, name):
    return int(xl(lab, "domid", name))


def test_memory_and_vcpus_are_on_the_node_that_was_decided_and_held_there(lab):
    (made,) = homenode(lab, "create", put(lab, "web"))["guests"]
    (node,) = made["decision"]["nodes"]
    assert pages_of(lab, id_of(lab, "web")) == {node: 300 << 8}
    assert made["created"]["match"] == 100
    assert [share["node"] for share in made["created"]["memory"]] == [node]
    cpus = f"{2 * node}-{2 * node + 1}"
    assert masks_of(lab, "web") == {(cpus, cpus)}
    assert made["warnings"] == []


def test_a_guest_that_may_only_use_one_node_gets_its_memory_there_unlike_with_xl(lab):
    taken = {}
    for node in range(4):
        path = put(lab, f"only{node}", f'cpus = "node:{node}"', memory=100)
        homenode(lab, "create", path)
        taken[node] = pages_of(lab, id_of(lab, f"only{node}"))
    assert taken == {node: {node: 100 << 8} for node in range(4)}


def test_free_memory_that_xen_does_not_give_is_not_counted_on(lab):
    """A guest that fits by free memory, and not by usable memory, is not put there."""
    (info,) = [node for node in homenode(lab, "topology")["host"]["nodes"] if node["id"] == 0]
    free_mib = info["free_kib"] >> 10
    path = put(lab, "tight", 'nodes = "0"', memory=free_mib - 40)
    refused = homenode(lab, "create", path, status=1)["guests"][0]
    assert not refused["decision"]["fits"]
    assert guests(lab) == []
    put(lab, "tight", memory=free_mib - 40)
    (made,) = homenode(lab, "create", path)["guests"]
    (node,) = made["decision"]["nodes"]
    assert set(pages_of(lab, id_of(lab, "tight"))) == {node}


def test_a_wide_guest_gets_two_near_nodes(lab):
    (made,) = homenode(lab, "create", put(lab, "wide", vcpus=4, memory=800))["guests"]
    assert made["decision"]["nodes"] in ([0, 1], [2, 3])
    assert sorted(pages_of(lab, id_of(lab, "wide"))) == made["decision"]["nodes"]


def test_a_guest_that_xl_refuses_leaves_nothing(lab):
    path = put(lab, "broken", 'device_model_version = "nonesuch"')
    said = complaint(lab, "create", path, status=3)
    assert "xl create" in said
    assert guests(lab) == []
    assert homenode(lab, "claims")["claims"] == []
    assert lab.run(["ls", "/run/homenode"]).stdout.split() == ["ledger.json", "ledger.json.lock"]


@pytest.mark.parametrize("number", ["INT", "TERM"])
def test_an_interrupted_creation_leaves_nothing(lab, number):
    path = put(lab, "slow", memory=900)
    script = f"homenode create {path} & sleep 1; while ! xl list slow >/dev/null 2>&1; do :; done"
    # A shell has what it runs behind it ignore SIGINT, so the signal has to be told apart.
    result = lab.run(f"{script}; kill -{number} $!; wait $!; echo $?", timeout_s=120)
    status = int(result.stdout.split()[-1])
    if number == "TERM":
        assert status in (0, 130)
    left = guests(lab)
    if left:
        # It was built before the signal came: on a busy machine xl is not asked often enough.
        assert left == ["slow"]
        assert sum(pages_of(lab, id_of(lab, "slow")).values()) == 900 << 8
    else:
        assert status
    assert len(homenode(lab, "claims")["claims"]) == len(guests(lab))


def test_sixteen_at_once_never_get_the_same_memory_twice(lab):
    """They would fill the host: what does not fit is refused, the rest is where it was decided.

    Four processes with four guests each: sixteen interpreters are too much for the emulated dom0.
    """
    paths = [put(lab, f"g{number}", memory=200, vcpus=1) for number in range(16)]
    run = " ".join(
        f"homenode create --json {' '.join(paths[at::4])} >/root/at{at}.json &" for at in range(4)
    )
    lab.run(f"{run} wait", timeout_s=600)
    documents = [json.loads(lab.get(f"/root/at{at}.json")) for at in range(4)]
    decided = {
        made["decision"]["guest"]: made["decision"]
        for document in documents
        for made in document["guests"]
    }
    assert len(decided) == 16
    running = set(guests(lab))
    assert running == {name for name, decision in decided.items() if decision["fits"]}
    assert len(running) >= 12
    for name in running:
        assert sorted(pages_of(lab, id_of(lab, name))) == decided[name]["nodes"], name


def test_a_plain_xl_create_beside_ours_is_found_and_said(lab):
    ours, theirs = put(lab, "ours", memory=600), put(lab, "theirs", memory=100)
    script = f"""
    homenode create --json {ours} > /root/ours.json &
    while ! xl list ours >/dev/null 2>&1; do :; done
    xl create {theirs}; wait
    """
    lab.run(script, timeout_s=300)
    made = json.loads(lab.get("/root/ours.json"))["guests"][0]
    codes = [warned["code"] for warned in made["warnings"]]
    if made["created"]["memory"] is None:  # theirs was there when ours was looked at
        assert "raced" in codes
    else:
        assert [share["node"] for share in made["created"]["memory"]] == made["decision"]["nodes"]


def test_pinning_on_line_follows_pools_and_can_be_opened_again(lab):
    homenode(lab, "create", put(lab, "web", memory=64))
    moved = homenode(lab, "affinity", "web", "3")
    assert moved["guest"]["node_affinity"] == [3]
    assert masks_of(lab, "web") == {("6-7", "6-7")}
    opened = homenode(lab, "affinity", "web", "--open")
    assert masks_of(lab, "web") == {("all", "6-7")}
    assert [warned["code"] for warned in opened["warnings"]] == ["soft-drifts"]
    homenode(lab, "affinity", "web", "1", "--hard", "--vcpus", "1")
    assert masks_of(lab, "web") == {("all", "6-7"), ("2-3", "2-3")}
    assert not homenode(lab, "affinity", "web", "1", "--hard", "--vcpus", "1")["changed"]


def test_pages_are_counted_when_asked_for_and_remembered(lab):
    xl(lab, "create", put(lab, "web", memory=64))
    assert homenode(lab, "list", "--sample", "0")["guests"][1]["memory"] is None
    seen = homenode(lab, "list", "--sample", "0", "--pages")["guests"][1]
    kib = {share["node"]: share["kib"] for share in seen["memory"]}
    assert kib == {node: count * 4 for node, count in pages_of(lab, seen["id"]).items()}
    assert homenode(lab, "list", "--sample", "0")["guests"][1]["memory"] == seen["memory"]


@pytest.mark.xen("n4", linux_guest=True)
def test_a_guest_stays_where_it_was_put_through_reboot_and_save_and_restore(lab):
    """The config that libxl keeps has the masks that homenode wrote: a stated choice."""
    homenode(lab, "create", put(lab, "linux", memory=160, kind=LINUX), "--nodes", "2")
    wait_until_up(lab, "linux")
    first = id_of(lab, "linux")
    xl(lab, "reboot", "linux")
    until(lambda: lab.run(["xl", "domid", "linux"]).stdout.strip() not in ("", str(first)))
    assert masks_of(lab, "linux") == {("4-5", "4-5")}
    rebooted = id_of(lab, "linux")
    assert max(pages_of(lab, rebooted).items(), key=lambda item: item[1])[0] == 2
    wait_until_up(lab, "linux")
    xl(lab, "save", "linux", "/run/linux.save")
    xl(lab, "restore", "/run/linux.save")
    assert masks_of(lab, "linux") == {("4-5", "4-5")}
    assert set(pages_of(lab, id_of(lab, "linux"))) == {2}
    listed = homenode(lab, "list", "--sample", "0")["guests"][1]
    assert listed["memory"] is None  # what was seen was of another domain


@pytest.mark.xen("n4", linux_guest=True)
def test_moving_brings_the_memory_along(lab):
    """Live, or where this Xen cannot (4.17.7 of Debian) through a file, which dom0 has room for."""
    homenode(lab, "create", put(lab, "linux", memory=160, kind=LINUX), "--nodes", "2")
    wait_until_up(lab, "linux")
    assert "--yes" in complaint(lab, "affinity", "linux", "1", "--move", status=2)
    moved = homenode(lab, "affinity", "linux", "1", "--move", "--yes")
    assert masks_of(lab, "linux") == {("2-3", "2-3")}
    assert set(pages_of(lab, id_of(lab, "linux"))) == {1}
    assert [share["node"] for share in moved["guest"]["memory"]] == [1]
    assert homenode(lab, "claims")["claims"][0]["memory"][0]["node"] == 1
    assert not lab.run(["sh", "-c", "ls /var/lib/xen/save"]).stdout


def until(holds, *, wait_s=180):
    deadline = time.monotonic() + wait_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(1)


def wait_until_up(lab, name):
    """Wait until the kernel of a Linux guest answers xenstore, so that it can be saved."""
    path = f"/local/domain/{id_of(lab, name)}/control/platform-feature-multiprocessor-suspend"
    until(lambda: lab.run(["xenstore-read", path]).stdout.strip() == "1")
