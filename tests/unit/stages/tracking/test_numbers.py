from __future__ import annotations

import json
from pathlib import Path

from stages.tracking.numbers import read_numbers


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_an_evaluation_gives_the_stages_means_and_each_seeds_numbers(tmp_path: Path) -> None:
    value = {
        "parity": 0.5,
        "seeds": {"0": {"known": 0.1}, "10": {"known": 0.2}, "9": {"known": 0.3}},
        "summary": {
            "known": {"mean": 0.2, "half_width": 0.1, "n": 3},
            "lost": {"mean": 1, "half_width": None, "n": 1, "without": 2},
        },
    }
    metrics, seeds = read_numbers({"out": write(tmp_path / "out/metrics.json", value).parent})
    assert metrics == {"parity": 0.5, "known": 0.2, "known.half_width": 0.1, "lost": 1.0}
    assert {name: seed.metrics for name, seed in seeds.items()} == {
        "seed-0": {"known": 0.1},
        "seed-9": {"known": 0.3},
        "seed-10": {"known": 0.2},
    }
    assert list(seeds) == ["seed-0", "seed-9", "seed-10"]


def test_other_files_say_their_name(tmp_path: Path) -> None:
    parity = write(tmp_path / "merged/parity.json", {"seed-0": {"largest": 0.25}}).parent
    filters = write(tmp_path / "filters.json", {"clean": {"dropped": 3, "kinds": ["x"], "good": True}})
    metrics, seeds = read_numbers({"merged": parity, "report/filters.json": filters})
    assert metrics == {"filters.clean.dropped": 3.0}
    assert seeds["seed-0"].metrics == {"parity.largest": 0.25}


def test_a_seeds_folder_gives_curve_and_card(tmp_path: Path) -> None:
    write(tmp_path / "out/seed-3/curve.csv", "step,split,loss\n20,train,1.5\n20,validation,2.5\n40,train,1.0\n")
    write(tmp_path / "out/seed-3/knowtune.json", {"method": "lora"})
    _, seeds = read_numbers({"out": tmp_path / "out"})
    assert seeds["seed-3"].curve == [("train_loss", 20, 1.5), ("validation_loss", 20, 2.5), ("train_loss", 40, 1.0)]
    assert seeds["seed-3"].card == {"method": "lora"}
    assert seeds["seed-3"].adapter == tmp_path / "out/seed-3"


def test_a_merged_model_with_an_adapters_card_is_no_adapter(tmp_path: Path) -> None:
    write(tmp_path / "out/seed-3/knowtune.json", {"method": "lora"})
    write(tmp_path / "out/seed-3/merged.json", {})
    assert read_numbers({"out": tmp_path / "out"})[1]["seed-3"].adapter is None


def test_model_files_and_cards_are_no_metrics(tmp_path: Path) -> None:
    write(tmp_path / "base/config.json", {"hidden_size": 128})
    write(tmp_path / "base/tokenizer.json", {"a": 1})
    write(tmp_path / "card/base.json", {"context": 128})
    assert read_numbers({"base": tmp_path / "base", "card": tmp_path / "card"}) == ({}, {})
