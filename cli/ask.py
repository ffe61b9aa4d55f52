"""Put one question to the pristine base and to a tuned model, and show both answers side by side."""

from __future__ import annotations

import os
from pathlib import Path

from knowtune.errors import UserError, unknown


def ask(folder: Path, name: str, question: str, seed: int | None) -> int:
    """Print both answers.

    Args:
        folder: the project or a workspace.
        name: a run or mixture.
        question: the start of a sentence.
        seed: which of its models; the first by default.

    Raises:
        UserError: no such run, or it has not been run yet.
    """
    import pandas as pd
    import torch
    from rich.console import Console
    from rich.table import Table

    from knowtune.merging import open_merged
    from stages.core.models import open_base
    from stages.core.params import load_params

    os.chdir(folder)
    params = load_params(Path("params.yaml"))
    names = {**{n: f"data/merged/{n}" for n in params.runs}, **{n: f"data/mixed/{n}" for n in params.mixtures}}
    if name not in names:
        raise unknown("run or mixture", name, names)
    models = sorted(Path(names[name]).glob("seed-*"))
    if not models:
        raise UserError(f"{names[name]}: no model yet; `make run` makes it")
    chosen = models[0] if seed is None else Path(names[name]) / f"seed-{seed}"
    if chosen not in models:
        raise UserError(f"seed: got {seed}; allowed: {', '.join(m.name.removeprefix('seed-') for m in models)}")
    if not question.strip():
        raise UserError('Q: got nothing; allowed: the start of a sentence, e.g. Q="The capital of Chile is"')
    base = open_base(params, Path("data/base"))
    text, _, pair = question.partition(" ||| ")  # a classifier may read two texts
    rows = pd.DataFrame({"prompt": [text.strip() + " "], "text_pair": [pair.strip()]})
    torch.manual_seed(0)  # a classifier's base has a new head
    table = Table("model", "answer", title=question, title_justify="left")
    for label, model in (("base", base.model()), (f"{name} ({chosen.name})", open_merged(chosen, base))):
        table.add_row(label, base.task.answers(model, base.tokenizer(), rows, 1, params.answers.max_new_tokens, "")[0])
    Console().print(table)
    return 0
