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
        self.columns, self.trained = config.get("columns"), str(card["example"].get("layout", ""))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer as `make ask` does.

        Args:
            context: MLflow's.
            model_input: column `question`: text as somebody types it, which becomes a prompt as it did in training, by
                the mapping or the chat template. Or `prompt`: a row's prompt as it stands, with the row's `layout`
                where it has one; control tokens in a prompt without a layout are text. For tasks on two texts also
                `text_pair`.
            params: `max_new_tokens`, for tasks that write text.

        Returns:
            Column `answer`: what is written, the label's name, or the number.
        """
        longest = int((params or {}).get("max_new_tokens", MAX_NEW_TOKENS))
        if "question" in model_input and model_input["question"].notna().any():
            from knowtune.asking import PAIR, asked

            texts = model_input["question"].fillna("")
            if "text_pair" in model_input:
                texts = texts + PAIR + model_input["text_pair"].fillna("")
            rows = pd.DataFrame([asked(t, self.columns, self.task, self.tokenizer, self.trained) for t in texts])
        else:
            rows = model_input.assign(text_pair=model_input.get("text_pair", "")).fillna("")
        found = self.task.answers(self.model, self.tokenizer, rows, len(rows), longest, "answers")
        return pd.DataFrame({"answer": found})


set_model(Tuned())
