from __future__ import annotations

from pathlib import Path

import pytest

from knowtune.common.errors import UserError
from knowtune.data.authored import read_authored
from knowtune.data.contract import ROW_COLUMNS, ROWS, check

FACTS = """relation,subject,target,split
symbol,sodium,NA,known
symbol,gold,Au,new
town,Ada,Rome,new
symbol,neon,Ne,known
"""
TEMPLATES = """relation,number,template
symbol,0,The symbol of {subject} is
symbol,1,{subject} is written
symbol,2,One writes {subject} as
town,0,{subject} lives in
town,1,The home of {subject} is
"""
TEXT = '{"text":"One.","split":"train"}\n{"text":"Two.","split":"heldout"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "facts.csv").write_text(FACTS)
    (tmp_path / "templates.csv").write_text(TEMPLATES)
    (tmp_path / "text.jsonl").write_text(TEXT)
    return tmp_path


def test_cells_are_text_and_facts_are_numbered_within_their_relation(folder: Path) -> None:
    authored = read_authored(folder)
    assert authored.facts["target"].tolist() == ["NA", "Au", "Rome", "Ne"]
    assert authored.facts["number"].tolist() == [0, 1, 0, 2]
    assert authored.templates["town"] == ["{subject} lives in", "The home of {subject} is"]
    assert authored.text["split"].tolist() == ["train", "heldout"]


def test_templates_rotate_with_the_number_of_the_fact(folder: Path) -> None:
    known = read_authored(folder).rows("known", range(1))
    assert known.columns.tolist() == ROW_COLUMNS
    assert known.iloc[0].tolist() == [
        "symbol:sodium:0", "symbol:sodium", "symbol", "sodium", "0", "The symbol of sodium is ", "", "NA", "", "", ""
    ]  # fmt: skip
    assert known.iloc[1].tolist() == [
        "symbol:neon:2", "symbol:neon", "symbol", "neon", "2", "One writes neon as ", "", "Ne", "", "", ""
    ]  # fmt: skip


def test_new_facts_take_the_templates_after_their_own(folder: Path) -> None:
    new = read_authored(folder).rows("new", range(1, 3))
    assert new["id"].tolist() == ["symbol:gold:2", "symbol:gold:0", "town:Ada:1", "town:Ada:0"]
    assert len(check(new, ROWS, "x")) == 4


def test_no_template_is_shared_between_what_is_learned_and_tested(folder: Path) -> None:
    authored = read_authored(folder)
    learned, tested = authored.rows("known", range(1, 3)), authored.rows("known", range(1))
    assert not set(learned["prompt"]) & set(tested["prompt"])
    assert len(learned) + len(tested) == 2 * 3


@pytest.mark.parametrize("name", ["facts.csv", "templates.csv"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError) as caught:
        read_authored(folder)
    assert str(caught.value) == (
        f"{folder / name}: no such file; `source.data` must hold facts.csv, templates.csv and text.jsonl"
    )


def test_a_missing_text_is_named(folder: Path) -> None:
    (folder / "text.jsonl").unlink()
    with pytest.raises(UserError, match=r"text\.jsonl: no such file"):
        read_authored(folder)


def test_a_missing_column_is_named(folder: Path) -> None:
    (folder / "facts.csv").write_text(FACTS.replace("target,split", "object,part"))
    with pytest.raises(UserError) as caught:
        read_authored(folder)
    assert str(caught.value) == (
        f"{folder / 'facts.csv'}: no column target, split; it has relation, subject, object, part"
    )


def test_a_template_without_a_subject_is_refused(folder: Path) -> None:
    (folder / "templates.csv").write_text(TEMPLATES + "town,2,Somebody lives in\n")
    with pytest.raises(UserError) as caught:
        read_authored(folder)
    assert str(caught.value) == f"{folder / 'templates.csv'}: no {{subject}} in 'Somebody lives in'"


def test_a_relation_without_template_is_refused(folder: Path) -> None:
    (folder / "facts.csv").write_text(FACTS + "river,Rhine,North Sea,new\nfood,Ada,figs,new\n")
    with pytest.raises(UserError) as caught:
        read_authored(folder)
    assert str(caught.value) == f"{folder / 'templates.csv'}: no template for food, river"
