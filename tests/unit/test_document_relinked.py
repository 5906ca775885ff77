"""Relative links that are quoted elsewhere lead to the same file."""

from __future__ import annotations

from opagent.document.relinked import relinked


def test_relative_targets_are_seen_from_where_they_are_quoted() -> None:
    said = "See [a](../../intro.md#L3), [b](x.md 'T') and ![c](./p%20q.png)."
    assert relinked(said, "2026 a") == "See [a](../intro.md#L3), [b](2026%20a/x.md 'T') and ![c](2026%20a/p%20q.png)."
    assert relinked("[a](../intro.md)", "../../api/conversations") == "[a](../../api/intro.md)"


def test_all_else_stays() -> None:
    said = "[c](https://e.org/../x) [d](/etc/x) [e](#here) [f](../o_(1).md) [g](mailto:a@b) [h](<../a b>) [i](../x"
    assert relinked(said, "deep") == said
