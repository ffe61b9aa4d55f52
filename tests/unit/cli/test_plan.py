from __future__ import annotations

from cli.plan import would_run

DOT = """strict digraph  {
"prepare";
"base";
"train@a";
"train@b";
"report";
"prepare" -> "train@a";
"prepare" -> "train@b";
"base" -> "train@a";
"train@a" -> "report";
"train@b" -> "report";
}"""


def test_what_changed_and_what_follows_in_order() -> None:
    assert would_run(set(), DOT) == []
    assert would_run({"train@b"}, DOT) == ["train@b", "report"]
    assert would_run({"base"}, DOT) == ["base", "train@a", "report"]
    assert set(would_run({"prepare"}, DOT)) == {"prepare", "train@a", "train@b", "report"}
    assert would_run({"prepare"}, DOT)[-1] == "report"
