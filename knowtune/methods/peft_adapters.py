"""What every PEFT adapter needs: attach, save, load, fold."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.checkpoints.tied_weights import tie_again, untie
from knowtune.common.errors import UserError
from knowtune.common.files import read_card, read_json, read_tensors, write_json
from knowtune.methods.peft_warnings import quiet_peft
from knowtune.models.checkpoint_files import first_line
from knowtune.models.load import new_modules, require_matching

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PreTrainedModel

ADAPTER_WEIGHTS = "adapter_model.safetensors"


def attach_adapter(model: PreTrainedModel, config: PeftConfig) -> torch.nn.Module:
    """Wrap a pristine base by PEFT; the adapter's random start follows torch's global seed.

    What of the model is new, as its checkpoint has it not, is trained and saved whole: a classifier's head and all that
    lies between it and the backbone.

    Raises:
        UserError: PEFT cannot attach it to this model, or leaves out what is new.
    """
    from peft import get_peft_model

    name = str(getattr(config.peft_type, "value", config.peft_type)).lower()
    new = list(getattr(model, "new_weights", []))
    chosen_by_peft = getattr(config, "target_modules", None) == "all-linear"  # PEFT then writes what it chose
    _keep_whole(model, config, new_modules(model))
    try:
        with quiet_peft():
            attached: torch.nn.Module = without_card(get_peft_model(model, config))
    except (ValueError, TypeError, RuntimeError, AttributeError, LookupError) as error:
        fault = f"PEFT cannot attach {config.peft_type}: {error}"
        remedy = "name layers of the backbone in target_modules, instead of all-linear"
        raise UserError(f"{fault.rstrip('.')}; {remedy}" if chosen_by_peft else fault) from error
    trained = [weight for weight, parameter in attached.named_parameters() if parameter.requires_grad]
    if config.task_type == "SEQ_CLS" and not any("modules_to_save" in weight for weight in trained):
        raise UserError(f"PEFT's {name} neither trains nor saves a classifier's head; use another method")
    plain = [f".{weight.replace('modules_to_save.default.', '')}" for weight in trained if "modules_to_save" in weight]
    left = [weight for weight in new if not any(kept.endswith(f".{weight}") for kept in plain)]
    if chosen_by_peft:
        _report_experts(attached)
    if left:
        raise UserError(
            f"PEFT's {name} neither trains nor saves {', '.join(left[:3])}, which the base does not have, so that "
            "they would stay random; use another method"
        )
    return attached


def without_card(model: Any) -> Any:
    """Let PEFT write no model card: it would compile a template for one at each checkpoint, and nobody keeps it."""
    model.create_or_update_model_card = lambda _folder: None
    return model


def _report_experts(attached: torch.nn.Module) -> None:
    """Say when all-linear leaves experts out: where they are one large parameter, they are no linear layers."""
    changed = {name.split(".experts.")[0] for name, p in attached.named_parameters() if p.requires_grad}
    left = [
        name
        for name, parameter in attached.named_parameters()
        if parameter.ndim == 3 and ".experts." in name and name.split(".experts.")[0] not in changed
    ]
    if left:
        kinds = sorted({name.rpartition("experts.")[2] for name in left})
        print(
            f"all-linear: the experts of this model are no linear layers and stay as they are; to train them too, take "
            f"method peft, type lora, with target_parameters: [{', '.join(f'experts.{kind}' for kind in kinds)}]",
            file=sys.stderr,
        )


def _keep_whole(model: PreTrainedModel, config: Any, modules: set[str]) -> None:
    """Let PEFT train modules whole, and put no adapter into them."""
    if not modules or not hasattr(config, "modules_to_save"):
        return
    config.modules_to_save = sorted({*(config.modules_to_save or []), *modules})
    if hasattr(config, "exclude_modules") and config.exclude_modules is None:
        inside = tuple(f"{module}." for module in modules)
        config.exclude_modules = {path for path, _ in model.named_modules() if f"{path}.".startswith(inside)}


def task_type(model: PreTrainedModel) -> str:
    """Return PEFT's name of a model's task; with SEQ_CLS it trains and saves the head too."""
    return "SEQ_CLS" if type(model).__name__.endswith("ForSequenceClassification") else "CAUSAL_LM"


def save_adapter(model: Any, folder: Path) -> None:
    """Save in PEFT's layout, less what differs from machine to machine (base path, model card).

    Raises:
        UserError: a saved tensor is empty, as sharded training can leave it.
    """
    from safetensors import safe_open

    with quiet_peft():
        model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = read_json(folder / "adapter_config.json")
    given = model.peft_config["default"].to_dict()
    ordered = {
        key: sorted(value) for key, value in config.items() if isinstance(given.get(key), set)
    }  # a set has no order
    write_json(folder / "adapter_config.json", {**config, **ordered, "base_model_name_or_path": None, "revision": None})
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
        empty = [key for key in file.keys() if 0 in file.get_slice(key).get_shape()]  # noqa: SIM118
        if empty or not file.keys():
            raise UserError(f"{folder}: the saved adapter is empty ({', '.join(empty[:3]) or 'no tensor'}); not kept")


def load_adapter(model: PreTrainedModel, folder: Path, *, trainable: bool = False) -> torch.nn.Module:
    """Load a saved adapter onto a pristine base, in evaluation mode; `trainable` to go on training it.

    Raises:
        UserError: a file of it is missing, damaged or of another shape, or the model does not take all of it.
    """
    from peft import PeftModel

    read_card(folder / "adapter_config.json", {"peft_type": str})
    read_tensors(folder / ADAPTER_WEIGHTS)
    try:
        with quiet_peft():
            loaded: torch.nn.Module = PeftModel.from_pretrained(model, folder, is_trainable=trainable).eval()
        require_loaded(loaded, folder)
    except UserError:
        raise
    except Exception as error:  # whatever a file that is not as it should be leads PEFT to
        fault = f"{folder}: PEFT cannot put the adapter onto this model ({first_line(error)})"
        raise UserError(f"{fault}; run the stage that wrote it again") from error
    return loaded


def require_loaded(model: Any, folder: Path) -> None:
    """Refuse an adapter that PEFT loaded in part: what was loaded, saved again, must be what was saved.

    PEFT passes over tensors that fit no parameter, and over parameters without a tensor, e.g. of a classifier's head.

    Raises:
        UserError: names tensors that are missing, unexpected or other than saved.
    """
    from peft import get_peft_model_state_dict

    saved = read_tensors(folder / ADAPTER_WEIGHTS)
    with quiet_peft():
        loaded = {name: tensor.cpu() for name, tensor in get_peft_model_state_dict(model).items()}
    require_matching(folder, loaded.keys() - saved.keys(), saved.keys() - loaded.keys())
    other = sorted(name for name, tensor in saved.items() if not _equal(loaded[name], tensor))
    if other:
        raise UserError(
            f"{folder}: {len(other)} weights are not what was trained after loading, e.g. {', '.join(other[:3])}"
        )


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Compare in the coarser of two types: a base in bfloat16 rounds what it trains whole."""
    coarse = min(one, other, key=lambda tensor: tensor.element_size()).dtype
    return one.shape == other.shape and bool((one.to(coarse) == other.to(coarse)).all())


def fold_adapter(model: Any, *, keep_ties: bool = False) -> PreTrainedModel:
    """Write the adapter into the base's weights and give the plain model back.

    Weights that are tied in the base, and were changed apart, are apart in the plain model: an adapter of the output
    layer alone must not change the embeddings.

    Args:
        model: the base with the adapter.
        keep_ties: whether the adapter changes all uses of a tied weight by itself.

    Raises:
        UserError: the merged weights are not finite.
    """
    tied = not keep_ties and untie(model)
    try:
        with quiet_peft():
            _unwrap_whole(model)
            merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    except (ValueError, TypeError, RuntimeError, AttributeError, LookupError, NotImplementedError) as error:
        raise UserError(f"PEFT cannot fold the adapter, or the merged weights are not finite: {error}") from error
    if tied:
        tie_again(merged)
    return merged


def _unwrap_whole(model: Any) -> None:
    """Unwrap modules that were trained whole; some types of PEFT can do so for single layers alone."""
    from peft.utils.other import ModulesToSaveWrapper

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ModulesToSaveWrapper):
                setattr(parent, name, child.unload_and_optionally_merge_module(True, True, None))
