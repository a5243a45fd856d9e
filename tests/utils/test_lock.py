"""The lock of a folder: one process at a time, which is named, and none after the death of its process."""

import json
import os
import signal
import socket
from contextlib import contextmanager

import pytest

from gnnlib._utils.lock import InUseError, exclusive
from tests.processes import needs_fork


@contextmanager
def held_by_another(path):
    """A child process holds the lock; yields its number, and ends it like a crash."""
    ready, done = os.pipe()
    child = os.fork()
    if not child:
        with exclusive(path):
            os.write(done, b"1")
            signal.pause()
        os._exit(1)
    os.close(done)
    assert os.read(ready, 1) == b"1"
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)


class TestOtherProcess:
    pytestmark = needs_fork

    def test_the_holder_is_named(self, tmp_path):
        with held_by_another(tmp_path / "lock") as child:
            holder = f"process {child} on {socket.gethostname()} since 20"
            message = f"expected {tmp_path} to be free, got one in use by {holder}"
            with pytest.raises(InUseError, match=message), exclusive(tmp_path / "lock"):
                pytest.fail("two hold it")
            assert json.loads((tmp_path / "lock").read_text())["process"] == child

    def test_the_lock_of_a_dead_process_is_taken_over(self, tmp_path):
        with held_by_another(tmp_path / "lock"):
            pass
        assert (tmp_path / "lock").exists()
        with exclusive(tmp_path / "lock"):
            assert json.loads((tmp_path / "lock").read_text())["process"] == os.getpid()
        assert not any(tmp_path.iterdir())

    def test_children_do_not_inherit_it(self, tmp_path):
        """A worker that outlives its parent process holds nothing."""
        with exclusive(tmp_path / "lock"):
            child = os.fork()
            if not child:
                signal.pause()
        try:
            with held_by_another(tmp_path / "lock"):
                pass
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_the_same_process_may_not_enter_twice(tmp_path):
    path = tmp_path / "new" / "folder" / "lock"
    with exclusive(path):
        with pytest.raises(InUseError, match="in use by this process"), exclusive(path):
            pytest.fail("two hold it")
        assert path.exists(), "the second attempt has not released it"
    assert not any(tmp_path.iterdir())
    with exclusive(path):
        (path.parent / "result").touch()
    assert [file.name for file in path.parent.iterdir()] == ["result"]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"process": 1}'])
def test_a_file_with_any_content_is_taken_over(tmp_path, text):
    (tmp_path / "lock").write_text(text)
    with exclusive(tmp_path / "lock"):
        assert json.loads((tmp_path / "lock").read_text())["process"] == os.getpid()
