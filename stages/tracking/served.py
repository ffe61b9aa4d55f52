"""A trained seed as an MLflow model: the adapter travels, the base is opened where it lies.

MLflow keeps this file beside the adapter and runs it when the model is loaded. Of ours it imports `knowtune.serving`
alone, the one module that never moves, so a model that is logged today loads with every later version:

    mlflow.pyfunc.load_model(uri, model_config={"base": "/models/my-base"})

`base` is a model folder in transformers layout, or one that the base stage wrote. Another base than the adapter's own
is refused. A model of the registry travels whole: merged, or as an adapter with its base beside it.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class Tuned(PythonModel):  # type: ignore[misc]
    """An adapter on its base."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the base, refuse a wrong one, put the adapter on."""
        from knowtune.serving import load

        config, folders = context.model_config, context.artifacts
        model = folders["model"] if "model" in folders else folders["adapter"]
        base = folders.get("base", config["base"])
        self.served = load(model, base, columns=config.get("columns"), compute=config["compute"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer as `make ask` does.

        Args:
            context: MLflow's.
            model_input: column `question`, or `prompt`; see `knowtune.serving.Served.predict`.
            params: `max_new_tokens`, for tasks that write text.

        Returns:
            Column `answer`: what is written, the label's name, or the number.
        """
        return pd.DataFrame({"answer": self.served.predict(model_input, **(params or {}))})


set_model(Tuned())
