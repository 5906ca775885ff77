"""Lines that a mirror brought: an editor that did not load them did not delete them."""

from __future__ import annotations

from opagent.daemon.guests import LOADING, Guests


def test_a_save_that_shows_the_first_lines_says_nothing_of_later_ones() -> None:
    guests = Guests()
    guests.come([b"one"], b"one\n", 0.0)
    assert guests.come([b"two"], b"one\ntwo\n", 0.1) == [b"one", b"two"]
    assert guests.loaded(b"one\nmine\n") == [b"one"]
    assert guests.late(0.2) == []
    assert guests.loaded(b" two \n") == [b"two"]


def test_a_later_line_was_loaded_with_all_before() -> None:
    guests = Guests()
    guests.come([b"one"], b"one\n", 0.0)
    guests.come([b"two"], b"one\ntwo\n", 0.1)
    assert guests.loaded(b"two\n") == [b"one", b"two"], "it had both, and took one out"


def test_after_a_while_the_second_save_without_them_counts() -> None:
    guests = Guests()
    guests.come([b"one"], b"one\n", 0.0)
    assert guests.late(LOADING / 2) == []
    assert guests.late(LOADING) == [b"one"]
    assert guests.late(LOADING) == []


def test_what_is_gone_from_the_file_waits_no_longer() -> None:
    guests = Guests()
    guests.come([b"one"], b"one\n", 0.0)
    assert guests.come([], b"", 0.1) == []
