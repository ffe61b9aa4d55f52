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
        from knowtune.artefacts import read_json
        from knowtune.base import ADAPTER_CARD, CARD, Base, Compute, make_card
        from knowtune.families import member_class
        from knowtune.merging import load_seed
        from knowtune.methods import METHODS

        adapter = Path(context.artifacts["adapter"])
        config: dict[str, Any] = context.model_config
        folder, compute = Path(config["base"]), Compute(**config["compute"])
        has_card = (folder / CARD).is_file()
        card = read_json(adapter / ADAPTER_CARD)
        base = Base(make_card(folder, folder.name), folder, compute)
        if has_card:
            base = Base.open(folder, folder, compute)
        method = member_class(METHODS, "method", card["method"])(**card["options"])
        self.model = load_seed(method, adapter, base)
        self.tokenizer = base.tokenizer()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Continue each prompt greedily.

        Args:
            context: MLflow's.
            model_input: column `prompt`.
            params: `max_new_tokens`.

        Returns:
            Column `answer`.
        """
        from knowtune.evaluation import greedy_answers

        longest = int((params or {}).get("max_new_tokens", MAX_NEW_TOKENS))
        prompts = model_input["prompt"].tolist()
        return pd.DataFrame({"answer": greedy_answers(self.model, self.tokenizer, prompts, len(prompts), longest)})


set_model(Tuned())
