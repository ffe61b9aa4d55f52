"""The stable door for trained models: load any artefact of the pipeline, answer questions, predict.

    from knowtune.serving import load

    served = load("data/merged/lora/seed-0")
    served.answer(["The capital of Chile is"])

An artefact is a folder: a merged checkpoint (`data/merged`, `data/mixed`), a composed one, which is an adapter that
needs its base, or a trained seed (`data/adapters`). The model may write text, name labels or give numbers.

What MLflow keeps beside a logged model imports this module alone. `load`, `Served.answer`, `Served.predict` and their
arguments therefore stay as they are; whatever else of the library moves, this file follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from transformers import PreTrainedTokenizerBase

    from knowtune.checkpoints.base import Base
    from knowtune.models.compute import Compute
    from knowtune.tasks.base import Task

MAX_NEW_TOKENS = 16
BATCH_SIZE = 16
CELLS = ("prompt", "text_pair", "layout")  # of a row, all that a model reads


@dataclass(frozen=True)
class Served:
    """A model that answers as `make ask` does.

    Args:
        model: in evaluation mode.
        tokenizer: the base's.
        task: says whether it writes text, names labels or gives numbers.
        columns: the mapping of the training data, `source.columns` of params.yaml; None for rows of plain prompts.
        layout: of a training row, as `knowtune.text.layout` writes it; says how a prompt starts and an answer ends.
    """

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    task: Task
    columns: Mapping[str, Any] | None = None
    layout: str = ""

    def cells(self, question: str, *, raw: bool = False, pair: str = "") -> dict[str, str]:
        """Give the row that a question becomes: `prompt`, `text_pair`, `layout`.

        Args:
            question: as somebody types it: text, or a JSON object where the mapping's template has several columns. Of
                a classifier's two texts both, separated by " ||| ".
            raw: take the text as the prompt, control tokens and all.
            pair: a classifier's second text; then the question is the first one, whole.

        Raises:
            UserError: the question is empty, or columns are missing.
        """
        from knowtune.data.question import question_cells

        return question_cells(question, self.columns, self.task, self.tokenizer, self.layout, raw=raw, pair=pair)

    def answer(
        self,
        questions: Sequence[str],
        *,
        raw: bool = False,
        max_new_tokens: int = MAX_NEW_TOKENS,
        batch_size: int = BATCH_SIZE,
    ) -> list[str]:
        """Answer questions in words; each becomes a prompt as in training, by the mapping or the chat template.

        Args:
            questions: see `cells`.
            raw: see `cells`.
            max_new_tokens: where a written answer ends at the latest.
            batch_size: questions per forward pass.

        Returns:
            One per question: the text, the label's name, or the number with six digits.

        Raises:
            UserError: see `cells`; or a prompt is longer than the model's context.
        """
        if isinstance(questions, str):
            raise UserError(f"answer: got one text, {questions!r}; allowed: a list of questions")
        return self._answer([self.cells(question, raw=raw) for question in questions], max_new_tokens, batch_size)

    def predict(
        self, rows: pd.DataFrame, *, max_new_tokens: int = MAX_NEW_TOKENS, batch_size: int = BATCH_SIZE
    ) -> list[str] | list[float]:
        """Predict a table of rows.

        Args:
            rows: column `question`, see `answer`, for tasks on two texts also `text_pair`. Or `prompt`: a row's prompt
                as it stands, with its `text_pair` and `layout` where it has them; control tokens in a prompt without a
                layout are text. Other columns are left alone.
            max_new_tokens: where a written answer ends at the latest.
            batch_size: rows per forward pass.

        Returns:
            One per row: the text, the label's name, or the number as a float (six digits of it).

        Raises:
            UserError: neither column is there, or see `answer`.
        """
        if not {"question", "prompt"} & set(rows):
            raise UserError(f"predict: got the columns {', '.join(map(str, rows))}; allowed: question, or prompt")
        table = rows.reindex(columns=["question", *CELLS]).astype("object").fillna("")
        cells = [self._read_row(number, row) for number, row in enumerate(table.to_dict("records"))]
        words = self._answer(cells, max_new_tokens, batch_size)
        return [float(word) for word in words] if self.task.numeric else words

    def _read_row(self, number: int, row: Mapping[Any, Any]) -> dict[str, str]:
        """Give the cells of a row of a table."""
        if question := str(row["question"]):
            try:
                return self.cells(question, pair=str(row["text_pair"]))
            except UserError as error:
                raise UserError(f"predict: row {number}: {error}") from error
        if row["prompt"] == "":
            raise UserError(f"predict: row {number}: got neither a question nor a prompt")
        return {name: str(row[name]) for name in CELLS}

    def _answer(self, cells: Sequence[Mapping[str, str]], max_new_tokens: int, batch_size: int) -> list[str]:
        """Let the model answer rows."""
        import pandas as pd

        rows = pd.DataFrame(cells, columns=list(CELLS), dtype="str")
        return self.task.evaluator.answer(self.model, self.tokenizer, rows, batch_size, max_new_tokens, "")


def load(
    folder: Path | str,
    base: Base | Path | str | None = None,
    *,
    columns: Mapping[str, Any] | None = None,
    compute: Mapping[str, Any] | None = None,
) -> Served:
    """Load a trained model.

    Args:
        folder: of one seed: merged, mixed, composed, or an adapter.
        base: the model that it was trained on: a folder in transformers layout, or one that the base stage wrote. A
            merged checkpoint stands alone; where a base is given all the same, it must be the right one.
        columns: the mapping of the training data; see `Served`.
        compute: fields of `knowtune.models.compute.Compute`; by default the CPU in float32. Of a `Base` its own.
            A merged checkpoint that stands alone is never quantised.

    Raises:
        UserError: the folder is no artefact or is damaged, it needs a base, or was made on another one.
    """
    from dataclasses import replace

    from knowtune.checkpoints.base import load_model
    from knowtune.checkpoints.cards import ADAPTER_CARD, COMPOSED, MERGED
    from knowtune.common.files import read_card
    from knowtune.merging.fold import load_seed, method_of, open_merged, seed_card
    from knowtune.models.checkpoint_files import load_tokenizer
    from knowtune.models.compute import Compute

    folder = Path(folder)
    merged = (folder / MERGED).is_file()
    path = folder / (MERGED if merged else ADAPTER_CARD)
    if not path.is_file():
        raise UserError(f"{folder}: no {MERGED} and no {ADAPTER_CARD}; give the folder of one seed that was trained")
    card = read_card(path, {"task": dict, "example": dict}, "merge" if merged else "train")
    task, where = _task_of(card), Compute(**(compute or {}))
    opened = _open_base(base, where, task)
    if opened is None and (not merged or (folder / COMPOSED).is_file()):
        raise UserError(f"{folder}: an adapter needs the model that it was trained on; give base")
    if opened is None:
        model: Any = load_model(folder, replace(where, quantize="none"), task, trained=True)
        tokenizer = load_tokenizer(folder)
    else:
        model = open_merged(folder, opened) if merged else load_seed(method_of(seed_card(folder), path), folder, opened)
        tokenizer = opened.tokenizer()
    return Served(model, tokenizer, task, columns, str(card["example"].get("layout", "")))


def _task_of(card: Mapping[str, Any]) -> Task:
    """Make the task that a card names."""
    from knowtune.registry import member_class
    from knowtune.tasks import TASKS

    options = dict(card["task"])
    task: Task = member_class(TASKS, "task", options.pop("kind", ""))(**options)
    return task


def _open_base(base: Base | Path | str | None, compute: Compute, task: Task) -> Base | None:
    """Open a base by its card; a folder without one is described first, which reads all of its bytes."""
    from knowtune.checkpoints.base import Base
    from knowtune.checkpoints.cards import CARD, make_card

    if base is None or isinstance(base, Base):
        return base
    folder = Path(base)
    if (folder / CARD).is_file():
        return Base.open(folder, folder, compute, task)
    return Base(make_card(folder, folder.name), folder, compute, task)
