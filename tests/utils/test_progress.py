"""Progress bars in a terminal, in a notebook and in a file."""

import re

import pytest
import rich.console

from gnnlib._utils import progress
from gnnlib._utils.progress import ProgressBar, track


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def work(clock, steps, seconds, **options):
    with ProgressBar("images", 10, **options) as bar:
        for step in range(steps):
            clock.now += seconds
            bar.advance(1, f"loss {step}")


def test_a_terminal_shows_a_bar_with_count_time_left_and_note(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with ProgressBar("images", 4, done=1) as bar:
        bar.advance(3, "30 segments")
    out, err = capsys.readouterr()
    last = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", err).split("\r")[-1]
    assert re.search(r"images .*4/4 .*left .*30 segments", last)
    assert out == ""


def test_elsewhere_it_is_silent_unless_lines_are_asked_for(capsys, clock):
    work(clock, 3, 70.0)
    assert capsys.readouterr() == ("", "")
    work(clock, 0, 70.0, lines=True)
    assert capsys.readouterr() == ("", "")


def test_lines_come_each_minute_and_at_the_end(capsys, clock):
    """Ten seconds a step: after six and after ten, with the time that four steps take."""
    work(clock, 10, 10.0, lines=True)
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "images: 6 of 10, loss 5, 0:01:00, 0:00:40 left",
        "images: 10 of 10, loss 9, 0:01:40, 0:00:00 left",
    ]
    assert out == ""


def test_the_time_left_is_that_of_steps_of_this_time(capsys, clock):
    """Eight steps that an earlier run did took no time here."""
    work(clock, 1, 60.0, done=8, lines=True)
    assert capsys.readouterr().err.splitlines()[0] == "images: 9 of 10, loss 0, 0:01:00, 0:01:00 left"


def test_a_notebook_without_widgets_gets_lines_and_no_warning(capsys, clock, monkeypatch):
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    monkeypatch.setattr(progress, "find_spec", lambda name: None)
    work(clock, 10, 10.0, lines=True)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_failure_leaves_the_line_of_what_was_done(capsys, clock):
    with pytest.raises(ZeroDivisionError):
        [1 / item for item in track([2, 1, 0], "numbers", 3)]
    assert capsys.readouterr().err == "numbers: 2 of 3, 0:00:00, 0:00:00 left\n"


def test_track_passes_everything_on_and_counts_it(capsys):
    assert list(track(iter("abc"), "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == "letters: 3, 0:00:00\n"
    assert list(track([], "letters", 0)) == []
    assert capsys.readouterr().err == ""
