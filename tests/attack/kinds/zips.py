"""Archives of data sets: the zips of TU and OGB, idx files in gzip, and CIFAR's tar."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib

import numpy as np

from gnnlib.datasets import FormatError, cifar10, ogb_graphs, ogb_names, tu
from gnnlib.datasets.cifar import ARCHIVE, FOLDER
from gnnlib.datasets.files import DownloadError
from gnnlib.datasets.idx import read_idx
from tests.attack.kinds import Kind, Mutation
from tests.attack.mutators import damage

__all__ = ["Zips"]

TABLES = {
    "A": "1, 4\n4, 1\n4, 6\n6, 4\n2, 3\n3, 2\n",
    "graph_indicator": "1\n2\n2\n1\n3\n1\n",
    "node_labels": "5\n9\n5\n-2\n9\n5\n",
    "graph_labels": "1\n-1\n1\n",
}
BOMB = 2**28  # bytes of zeros
FILES = {"tu": "MUTAG.zip", "ogb": "hiv.zip", "idx": "images.gz", "cifar": ARCHIVE}


class Zips(Kind):
    names = tuple(FILES.values())
    errors = (FormatError, DownloadError)
    variants = ("tu", "idx", "cifar", *(["ogb"] if ogb_names("ogbg") else []))

    def make(self, variant, folder):
        path = folder / FILES[variant]
        if variant == "tu":
            write_zip(path, {f"MUTAG/MUTAG_{name}.txt": text.encode() for name, text in TABLES.items()})
        elif variant == "idx":
            images = np.random.default_rng(0).integers(0, 256, (5, 6, 7), np.uint8)
            path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, *images.shape) + images.tobytes()))
        elif variant == "cifar":
            write_tar(path, {f"{FOLDER}/test_batch.bin": bytes([3]) + np.random.default_rng(0).bytes(3072)})
        else:
            from tests.ogb_raw import write_graphs

            raw = write_graphs(folder / "raw")
            write_zip(path, {f"hiv/{file.relative_to(raw)}": file.read_bytes() for file in raw.rglob("*.gz")})
            import shutil

            shutil.rmtree(folder / "raw")

    def mutate(self, variant, folder, draw):
        path = folder / FILES[variant]
        if draw.random() < 0.5:
            return Mutation(damage(path, draw))
        forge = draw.choice(FORGERIES[variant])
        forge(path)
        return Mutation(forge.__name__, forged=True)

    def read(self, variant, folder, mutation):
        if variant == "tu":
            graphs, labels = tu("MUTAG", folder)
            return [[graph.edges()[0].tolist(), graph.ndata["feat"].tolist()] for graph in graphs], labels.tolist()
        if variant == "idx":
            return read_idx(folder / FILES[variant]).tolist()
        if variant == "cifar":
            images, labels = cifar10(folder, train=False)
            return images.tolist(), labels.tolist()
        dataset, split, _ = ogb_graphs("ogbg-molhiv", folder)
        graphs = [(graph.edges()[0].tolist(), label.tolist()) for graph, label in dataset]
        return graphs, {part: ids.tolist() for part, ids in split.items()}


def write_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def write_tar(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zeros():
    return bytes(BOMB)


# ---------------------------------------------------------------- zips


def bomb_beside(path):
    """A member that no reader needs."""
    write_zip(path, {**members_of(path), "bomb": zeros()})


def bomb_in_place(path):
    """The first member inflates to more than the table says."""
    members = members_of(path)
    first = next(iter(members))
    write_zip(path, {**members, first: zeros()})
    patch_headers(path, size=lambda size: len(members[first]) if size == BOMB else size)


def large_size(path):
    """The table says that members are larger than deflate could make them."""
    patch_headers(path, size=lambda size: 2**31)


def encrypted(path):
    patch_headers(path, flags=1)


def unknown_compression(path):
    patch_headers(path, method=93)


def bzip2(path):
    write_zip(path, members_of(path), zipfile.ZIP_BZIP2)


def lzma(path):
    write_zip(path, members_of(path), zipfile.ZIP_LZMA)


def patch_headers(path, flags=0, method=None, size=None):
    """Other flags, another method or other sizes of the content in all headers of a zip."""
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + place] |= flags
            if method is not None:
                data[at + place + 2] = method
            if size is not None:
                (old,) = struct.unpack_from("<I", data, at + place + 16)
                struct.pack_into("<I", data, at + place + 16, size(old))
            at = data.find(signature, at + 4)
    path.write_bytes(data)


def traversal(path):
    members = members_of(path)
    names = ["../../outside.txt", "/tmp/outside.txt", "a/../../../outside.txt", "C:\\outside.txt"]
    write_zip(path, {**members, **dict.fromkeys(names, b"outside")})


def twins(path):
    """Every member twice, the second time with another content."""
    import warnings

    members = members_of(path)
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in (lambda text: text, lambda text: text[::-1]):
            for name, text in members.items():
                archive.writestr(name, content(text))


def other_folder(path):
    write_zip(path, {f"elsewhere/{name}": content for name, content in members_of(path).items()})


def links(path):
    """Symbolic links in place of members."""
    names = list(members_of(path))
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc/passwd")


def rubbish(path):
    """Members that are no tables."""
    write_zip(path, dict.fromkeys(members_of(path), b"\x80\x04\x95\x1d\x00cos\nsystem\n(S'true'\ntR."))


# ---------------------------------------------------------------- gzip and tar


def idx_bomb(path):
    header = struct.pack(">4I", 0x803, 5, 6, 7)
    path.write_bytes(gzip.compress(header + zeros()))


def idx_header(path):
    """Sizes that no file has."""
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, *[2**32 - 1] * 3) + bytes(100)))


def idx_dimensions(path):
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 200]) + struct.pack(">I", 1) * 200 + b"\x07"))


def idx_member_after(path):
    path.write_bytes(path.read_bytes() + gzip.compress(zeros()))


def tar_bomb(path, size=2**28 + 2**20):
    write_tar(path, {"bomb": bytes(size)})


def tar_traversal(path):
    write_tar(path, {"../../outside.bin": b"x", "/tmp/outside.bin": b"x"})


def tar_links(path):
    with tarfile.open(path, "w:gz") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"{FOLDER}/test_batch.bin")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)


def tar_long_name(path):
    """A name of many bytes, which tarfile reads at once."""
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("x" * 2**20))


def tar_without_gzip(path):
    path.write_bytes(zlib.decompress(path.read_bytes(), 31))


OF_ZIP = [bomb_beside, bomb_in_place, large_size, encrypted, unknown_compression, bzip2, lzma, traversal, twins]
OF_ZIP += [other_folder, links, rubbish]
FORGERIES = {
    "tu": OF_ZIP,
    "ogb": OF_ZIP,
    "idx": [idx_bomb, idx_header, idx_dimensions, idx_member_after],
    "cifar": [tar_bomb, tar_traversal, tar_links, tar_long_name, tar_without_gzip],
}
