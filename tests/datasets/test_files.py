"""Finding, downloading and keeping files: from a folder, from file:// addresses, and from a server on this machine."""

import http.server
import os
import threading
import time

import pytest

from gnnlib._utils.files import atomic_write
from gnnlib.datasets.files import DownloadError, cache_dir, cached, data_dir, digest, find

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of b"abc": FIPS 180-2, appendix B.1


@pytest.fixture
def public(tmp_path):
    """A file with a public address."""
    path = tmp_path / "public" / "abc.txt"
    path.parent.mkdir()
    path.write_bytes(b"abc")
    return path


def leftovers(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_digest_is_sha256(public):
    assert digest(public) == ABC


@pytest.mark.parametrize("place", ["set/abc.txt", "abc.txt"])
def test_find_in_the_data_directory_first(tmp_path, public, place, monkeypatch):
    path = tmp_path / "data" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    # A user's file is taken as it is: no checksum, no download.
    assert find("set/abc.txt", tmp_path / "data", public.as_uri(), ABC) == path
    monkeypatch.setenv("GNNLIB_DATA", str(tmp_path / "data"))
    assert find("set/abc.txt", None, public.as_uri(), ABC) == path


def test_find_downloads_once(public, cache, capfd):
    path = find("set/abc.txt", url=public.as_uri(), sha256=ABC)
    assert path == cache / "set" / "abc.txt"
    assert path.read_bytes() == b"abc"
    assert public.as_uri()[:20] in capfd.readouterr().err.replace("\n", "")  # the progress bar, not on standard output
    public.unlink()
    assert find("set/abc.txt", url=public.as_uri(), sha256=ABC) == path


def test_a_data_directory_without_the_file_is_named(tmp_path):
    with pytest.raises(DownloadError) as error:
        find("set/abc.txt", tmp_path, (tmp_path / "gone").as_uri())
    for part in (
        tmp_path / "set" / "abc.txt",
        tmp_path / "abc.txt",
        (tmp_path / "gone").as_uri(),
        "--data",
        "GNNLIB_DATA",
    ):
        assert str(part) in str(error.value)
    assert isinstance(error.value, FileNotFoundError)


def test_a_data_directory_that_is_not_there(tmp_path, monkeypatch, public):
    with pytest.raises(FileNotFoundError, match=r"expected a data directory, got data=.*gone"):
        find("abc.txt", tmp_path / "gone", public.as_uri())
    monkeypatch.setenv("GNNLIB_DATA", str(public))
    with pytest.raises(FileNotFoundError, match=r"got GNNLIB_DATA=.*abc\.txt, which is not a directory"):
        data_dir()
    monkeypatch.setenv("GNNLIB_DATA", "")
    assert data_dir() is None


def test_a_file_without_an_address():
    with pytest.raises(DownloadError, match=r"no data directory given.*no public address"):
        find("abc.txt")


def test_a_wrong_checksum_leaves_nothing(public, cache):
    public.write_bytes(b"abd")
    with pytest.raises(DownloadError, match=f"expected sha256 {ABC}, got {digest(public)}"):
        find("abc.txt", url=public.as_uri(), sha256=ABC)
    assert leftovers(cache) == []


@pytest.mark.parametrize("harm", ["truncated", "changed", "unsealed"])
def test_a_damaged_cache_entry_is_named_and_made_again(public, cache, harm):
    path = find("abc.txt", url=public.as_uri())
    if harm == "unsealed":
        (cache / "abc.txt.sha256").unlink()
    else:
        path.write_bytes({"truncated": b"ab", "changed": b"abd"}[harm])
    with pytest.warns(RuntimeWarning, match=rf"damaged cache entry {path}: expected sha256 .*, got "):
        assert find("abc.txt", url=public.as_uri()).read_bytes() == b"abc"
    assert leftovers(cache) == ["abc.txt", "abc.txt.sha256"]


@pytest.fixture
def server():
    """A server that promises ten bytes and sends three."""

    class Short(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/short" else 404)
            self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(b"abc")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Short) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_download_that_falls_short(server, cache):
    with pytest.raises(DownloadError, match=r"/short \(expected 10 bytes, got 3\)"):
        find("abc.txt", url=f"{server}/short")
    with pytest.raises(DownloadError, match="404"):
        find("abc.txt", url=f"{server}/missing")
    assert leftovers(cache) == []


@pytest.mark.parametrize("url", ["https://127.0.0.1:9/abc.txt", "https://host.invalid/abc.txt", "nonsense"])
def test_without_a_network_it_fails_at_once(url):
    start = time.monotonic()
    with pytest.raises(DownloadError, match=f"cannot download {url}"):
        find("abc.txt", url=url)
    assert time.monotonic() - start < 15


def test_cached_builds_once_for_several_processes(cache):
    calls = []

    def build(part):
        calls.append(part)
        time.sleep(0.1)
        part.write_text("5")

    threads = [threading.Thread(target=cached, args=(cache / "five", build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert (cache / "five").read_text() == "5"


def test_an_error_while_building_leaves_nothing(cache):
    def build(part):
        part.write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        cached(cache / "five", build)
    assert leftovers(cache) == []


def test_a_cache_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write to the cache .*file.*GNNLIB_CACHE"):
        cached(tmp_path / "file" / "five", lambda part: None)


def test_cache_dir(monkeypatch, tmp_path, cache):
    assert cache_dir() == cache
    monkeypatch.delenv("GNNLIB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "gnnlib"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "gnnlib"


def test_atomic_write_replaces_in_one_step(tmp_path):
    path = tmp_path / "new" / "result.json"
    with atomic_write(path) as part:
        part.write_text("1")
        assert not path.exists()
        assert part.suffix == ".json"

    def fail():
        with atomic_write(path) as part:
            part.write_text("2")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert path.read_text() == "1"
    assert os.listdir(path.parent) == ["result.json"]
