"""A trained seed as an MLflow model: the adapter travels, the base is opened where it lies.

MLflow keeps this file beside the adapter and runs it when the model is loaded, so it needs the library only:

    mlflow.pyfunc.load_model(uri, model_config={"base": "/models/my-base"})

`base` is a model folder in transformers layout, or one that the base stage wrote. Another base than the adapter's own
is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

MAX_NEW_TOKENS = 16


class Tuned(PythonModel):  # type: ignore[misc]
    """An adapter on its base."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the base, refuse a wrong one, put the adapter on."""
        from knowtune.artefacts import read_card
        from knowtune.base import ADAPTER_CARD, CARD, Base, Compute, make_card
        from knowtune.families import member_class
        from knowtune.merging import load_seed
        from knowtune.methods import METHODS
        from knowtune.tasks import TASKS

        adapter, config = Path(context.artifacts["adapter"]), context.model_config
        card = read_card(adapter / ADAPTER_CARD, {"task": dict, "method": str, "options": dict}, "train")
        options = dict(card["task"])
        task: Any = member_class(TASKS, "task", options.pop("kind"))(**options)
        folder, compute = Path(config["base"]), Compute(**config["compute"])
        if (folder / CARD).is_file():
            base = Base.open(folder, folder, compute, task)
        else:
            base = Base(make_card(folder, folder.name), folder, compute, task)
        method: Any = member_class(METHODS, "method", card["method"])(**card["options"])
        self.model = load_seed(method, adapter, base)
        self.task, self.tokenizer = task, base.tokenizer()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer as `make ask` does.

        Args:
            context: MLflow's.
            model_input: columns `prompt` and, for tasks on two texts, `text_pair`.
            params: `max_new_tokens`, for tasks that write text.

        Returns:
            Column `answer`: what is written, the label's name, or the number.
        """
        longest = int((params or {}).get("max_new_tokens", MAX_NEW_TOKENS))
        rows = model_input.assign(text_pair=model_input.get("text_pair", ""))
        found = self.task.answers(self.model, self.tokenizer, rows.fillna(""), len(rows), longest, "answers")
        return pd.DataFrame({"answer": found})


set_model(Tuned())
