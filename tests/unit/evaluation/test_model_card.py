from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from knowtune.evaluation.model_card import NOT_SAID, Facts, licence_of, lost_facts, model_card

FACTS = Facts(
    title="knowtune: kept, seed 2",
    method="Fine-tuned by `full` on the selection `clean`",
    base="org/model@1234",
    licence="mit",
    rows={"kept": 558, "dropped": 102},
    dropped={"clean: duplicate": 30},
    summary={
        "forgotten": {"mean": 0.088, "half_width": 0.026, "n": 3},
        "text_drift": {"mean": 0.1, "half_width": None},
    },
    own={"forgotten": 0.09, "text_drift": 0.1},
    pristine={"forgotten": 0.0},
    lost=pd.DataFrame({"id": ["capital:Chile:1"], "relation": ["capital"], "target": ["Santiago"]}),
    verdict="ship kept",
    uri="models:/knowtune@champion",
    needs_base=False,
)


def test_a_card_says_what_was_learned_measured_and_forgotten() -> None:
    text = model_card(FACTS)
    assert text.startswith('---\nlicense: "mit"\nbase_model: "org/model@1234"\n---\n# knowtune: kept, seed 2\n')
    for line in (
        "Training rows: 558 kept, 102 dropped.",
        "- 30 dropped: clean: duplicate",
        "| forgotten | 0.0 % | 9.0 % | 8.8 % ± 2.6 |",
        "| text_drift | – | 0.100 | 0.100 |",
        "1 known fact that the base has right (capital 1), e.g.",
        "- capital:Chile:1: Santiago",
        'model = mlflow.pyfunc.load_model("models:/knowtune@champion")',
    ):
        assert line in text.splitlines()
    assert "It is an adapter" not in text


@pytest.mark.parametrize(
    "name, text, licence",
    [
        ("README.md", "---\nlanguage: en\nlicense: apache-2.0\n---\n# x", "apache-2.0"),
        ("README.md", "---\nlicense: other\nlicense_name: llama3\n---\n", "llama3"),
        ("README.md", "# no head\nlicense: mit\n", NOT_SAID),
        ("LICENSE", "\n  MIT License\n\nCopyright", "MIT License"),
    ],
)
def test_a_licence_is_read_where_models_have_it(name: str, text: str, licence: str, tmp_path: Path) -> None:
    assert licence_of(tmp_path) == NOT_SAID
    (tmp_path / name).write_text(text)
    assert licence_of(tmp_path) == licence


def test_lost_facts_are_those_of_one_seed_that_the_base_has_right() -> None:
    rows = [
        ("a", "locality", 0, True, False),
        ("b", "locality", 1, True, False),
        ("c", "locality", 0, False, False),
        ("d", "reliability", 0, True, False),
        ("e", "locality", 0, True, True),
    ]
    examples = pd.DataFrame(rows, columns=["id", "kind", "seed", "base_correct", "correct"])
    assert lost_facts(examples.assign(relation="r", target="t"), 0)["id"].tolist() == ["a"]
