import bz2
import gzip
import io
import lzma
import tarfile

import pytest

from homenode.drivers import archive, capture, trees
from homenode.drivers.archive import ArchiveTree
from homenode.drivers.capture import CaptureDriver
from homenode.drivers.trees import read_tree
from homenode.errors import HomenodeError
from homenode.formats import sysfs
from trees import CPU, NODE, packed, small_tree


def opened(content):
    return ArchiveTree(content, source="saved.tar")


def refused(content):
    with pytest.raises(HomenodeError) as caught:
        read_tree(opened(content))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("saved.tar:")
    return str(caught.value)


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("folder", ["", "./", "a machine/", "./a machine/", "/"])
def test_an_archive_is_known_by_content_and_read_as_what_is_in_it(tmp_path, mode, folder):
    files = small_tree()
    (tmp_path / "saved").write_bytes(packed(files, mode=mode, folder=folder))
    host = CaptureDriver(str(tmp_path / "saved")).snapshot().host
    assert host.replace(source="") == sysfs.parse(files, source="")


def test_whatever_is_decompressed_is_recognised():
    assert set(capture._PACKED) == set(archive.COMPRESSIONS)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_every_form_of_tar(form):
    made = io.BytesIO()
    device = "sys/devices/" + "pci0000:00/" * (12 if form == tarfile.USTAR_FORMAT else 40)
    with tarfile.open(fileobj=made, mode="w:", format=form) as file:
        member = tarfile.TarInfo(f"{device}numa_node")
        member.size = 2
        file.addfile(member, io.BytesIO(b"1\n"))
    assert opened(made.getvalue()).text(f"{device}numa_node") == "1\n"


PCI = "sys/bus/pci/devices/"


@pytest.mark.parametrize(
    "links",
    [
        [(PCI + "0000:00:01.0", "../../../devices/pci0000:00/0000:00:01.0")],
        [(PCI + "0000:00:01.0", "/sys/devices/pci0000:00/0000:00:01.0")],
        [
            (PCI + "0000:00:01.0", "../there"),
            ("sys/bus/pci/there", "/sys/devices/pci0000:00/0000:00:01.0"),
        ],
        [("sys/bus/pci/devices", "../../devices/pci0000:00")],
        [("sys/bus", "./everything"), ("sys/everything/pci/devices", "/sys/devices/pci0000:00")],
    ],
)
def test_links_are_followed_within_the_archive(links):
    files = {"sys/devices/pci0000:00/0000:00:01.0/numa_node": "3\n", **small_tree()}
    files = {path: text for path, text in files.items() if not path.startswith("sys/bus")}
    files[NODE + "node3/cpulist"] = ""
    host = sysfs.parse(read_tree(opened(packed(files, links=links))), source="test")
    assert [(device.address, device.node) for device in host.devices] == [("0000:00:01.0", 3)]


@pytest.mark.parametrize(
    "target",
    [
        "../../../../../../../../../../etc/hostname",
        "../../../../../sys/../../machine/secret",
        "/etc/hostname",
        "0000:00:09.0",
        "/" + PCI + "0000:00:09.0",
        "",
        "..",
        "../" * 500,
    ],
)
def test_links_out_of_the_archive_and_in_a_ring_lead_nowhere(target):
    links = [(PCI + "0000:00:09.0/numa_node", target), (CPU + "online", "online")]
    files = {path: text for path, text in small_tree().items() if path != CPU + "online"}
    read = read_tree(opened(packed(files, links=links)))
    assert PCI + "0000:00:09.0/numa_node" not in read
    assert CPU + "online" not in read
    assert read[NODE + "node0/cpulist"] == "0-1\n"


def test_hard_links_are_the_file_that_they_name_and_a_ring_of_them_is_none():
    made = io.BytesIO(packed({NODE + "node0/cpulist": "0-3"}))
    with tarfile.open(fileobj=made, mode="a:") as file:
        for name, target in (
            (NODE + "node0/cpumap", NODE + "node0/cpulist"),
            (CPU + "online", CPU + "present"),
            (CPU + "present", CPU + "online"),
        ):
            link = tarfile.TarInfo("machine/" + name)
            link.type, link.linkname = tarfile.LNKTYPE, "machine/" + target
            file.addfile(link)
    assert read_tree(opened(made.getvalue())) == {
        NODE + "node0/cpulist": "0-3",
        NODE + "node0/cpumap": "0-3",
    }


def test_of_two_members_of_one_name_the_later_counts():
    made = io.BytesIO(packed({"proc/meminfo": "old"}))
    with tarfile.open(fileobj=made, mode="a:") as file:
        member = tarfile.TarInfo("machine/proc/meminfo")
        member.size = 3
        file.addfile(member, io.BytesIO(b"new"))
    assert read_tree(opened(made.getvalue())) == {"proc/meminfo": "new"}


def test_what_is_no_file_is_not_read():
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:") as file:
        for name, kind in (("meminfo", tarfile.FIFOTYPE), ("zoneinfo", tarfile.CHRTYPE)):
            member = tarfile.TarInfo("proc/" + name)
            member.type = kind
            file.addfile(member)
    assert read_tree(opened(made.getvalue())) == {}


# --- bounds -----------------------------------------------------------------------------------


def test_a_member_that_is_too_long_is_refused_if_it_counts():
    long = "0" * (trees.LARGEST_FILE + 1)
    assert "proc/meminfo: is too long" in refused(packed({"proc/meminfo": long}))
    assert read_tree(opened(packed({"proc/meminfo": "", "proc/kallsyms": long})))


@pytest.mark.parametrize("compress", [bz2.compress, gzip.compress, lzma.compress])
def test_a_bomb_is_refused_at_the_bound(monkeypatch, compress):
    monkeypatch.setattr(archive, "LARGEST_ARCHIVE", 4 << 20)
    assert "is longer than 4 MiB when decompressed" in refused(compress(bytes(8 << 20)))


def test_an_xz_that_wants_too_much_memory_is_refused():
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    assert "cannot be unpacked as xz; is it whole?" in refused(
        lzma.compress(b"\0" * 9, filters=filters)
    )


def test_too_many_members_are_refused(monkeypatch):
    monkeypatch.setattr(archive, "MOST_MEMBERS", 40)
    assert "more than 40 members" in refused(packed(small_tree()))


def named(path, form=tarfile.PAX_FORMAT):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:", format=form) as file:
        file.addfile(tarfile.TarInfo(path))
    return made.getvalue()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("length", [100, 16_000, 3_000_000])
def test_a_name_of_digits_without_end_is_refused_at_once(form, length):
    name = "1" * 100 + "/" + "1" * length
    assert "not whole as a tar archive" in refused(named(name, form))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_upon_names_are_refused(form):
    header = named("x" * 300, form)[:1024]
    assert "not whole as a tar archive" in refused(header * 5000)


@pytest.mark.parametrize("path", ["sys/" + "a/" * 2000 + "b", "sys/../proc/meminfo", "proc/.."])
def test_a_name_that_is_no_path_of_sys_or_proc_is_no_member(path):
    assert "without sys/ or proc/" in refused(named(path))


def test_an_archive_that_is_damaged_in_the_middle_is_not_taken_to_end_there():
    content = bytearray(packed(small_tree()))
    at = content.index(b"machine/proc/")
    content[at] ^= 1
    assert "not whole as a tar archive" in refused(bytes(content))


def test_a_sparse_file_whose_map_is_cut_off_is_refused():
    member = tarfile.TarInfo("machine/sys/file")
    member.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[482] = 1  # more of the map follows, it says
    head[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(head))[0]
    assert "damaged" in refused(bytes(head))


def test_a_size_below_zero_is_refused():
    content = bytearray(packed(small_tree()))
    content[124:136] = b"\xff" * 11 + b"\x00"  # the size, in tar's base 256
    member = tarfile.TarInfo.frombuf
    content[148:156] = b"%06o\0 " % (sum(content[:148]) + sum(content[156:512]) + 8 * 32)
    assert member(bytes(content[:512]), "utf-8", "strict").size < 0
    assert "not whole as a tar archive" in refused(bytes(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bz2.compress(b"hello"), "holds no tar archive; pack a tree"),
        (gzip.compress(b""), "holds no tar archive"),
        (b"BZh9 and then nothing", "cannot be unpacked as bzip2; is it whole?"),
        (b"\x1f\x8b and then nothing", "cannot be unpacked as gzip; is it whole?"),
        (b"\xfd7zXZ\0 and then nothing", "cannot be unpacked as xz; is it whole?"),
        (packed({"etc/passwd": "root"}), "without sys/ or proc/ at its top or in one folder"),
        (packed({"a/proc/meminfo": "", "b/proc/meminfo": ""}, folder=""), "without sys/ or proc/"),
        (packed(small_tree())[:5000], "not whole as a tar archive"),
        (bz2.compress(packed(small_tree()))[:-20], "cannot be unpacked as bzip2; is it whole?"),
        (gzip.compress(packed(small_tree()))[:-20], "cannot be unpacked as gzip; is it whole?"),
        (lzma.compress(packed(small_tree()))[:-20], "cannot be unpacked as xz; is it whole?"),
    ],
    ids=[f"case{number}" for number in range(11)],  # gzip has the time in it
)
def test_what_is_no_whole_archive_of_a_machine_is_refused_in_one_line(content, message):
    assert message in refused(content)
