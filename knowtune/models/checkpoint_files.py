"""A checkpoint's own files, read without the settings by which a checkpoint would change what is measured.

config      attention and experts are computed by what this machine has; a pass returns what its caller requests
tokenizer   tokenizer.json itself: some of transformers' classes build another tokenizer from its vocabulary
generation  greedy; of generation_config.json the end tokens alone count
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtune.common.errors import UserError
from knowtune.common.files import parse_json

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

DECIDING_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json",
                  "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model",
                  "chat_template.jinja", "additional_chat_templates/*.jinja")  # fmt: skip
ATTENTION = ("attn_implementation", "_attn_implementation", "attn_implementation_internal")
PLAIN_ATTENTION = ("eager", "sdpa")  # what torch computes by itself
OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
QUANTISED = ("quantization_config", "compression_config")
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def first_line(error: BaseException) -> str:
    """Give the first line of an error that says something, or the error's kind."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        UserError: it is no JSON, or something else.
    """
    try:
        content = parse_json(path)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(f"{path}: not readable as JSON ({first_line(error)})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: got a {type(content).__name__}; allowed: a JSON object, as transformers writes it")
    return content


def read_config(folder: Path) -> PreTrainedConfig:
    """Read config.json into transformers' own class; what decides how is left to this machine.

    Raises:
        UserError: transformers knows no such model, a value is of a wrong type, or the weights are quantised.
    """
    from transformers import AutoConfig

    raw = read_object(folder / "config.json")
    require_unquantised(folder, raw)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, **LOCAL)
        parts = [config, *(part for key in config.sub_configs if (part := getattr(config, key, None)) is not None)]
    except Exception as error:  # a wrong type leads transformers to whatever error
        what = " ".join(line.strip() for line in str(error).splitlines()[:2]) or type(error).__name__
        raise UserError(f"{folder / 'config.json'}: transformers cannot read it ({what})") from error
    for part in parts:
        if part._attn_implementation not in PLAIN_ATTENTION:
            part._attn_implementation = None
        part._experts_implementation = None
        for name, value in OUTPUTS.items():
            setattr(part, name, value)
    return config


def require_unquantised(folder: Path, raw: dict[str, Any]) -> None:
    """Refuse quantised weights: they cannot be trained whole, folded into or compared.

    Raises:
        UserError: names the way out.
    """
    parts = {"": raw, **{f"{key}.": value for key, value in raw.items() if isinstance(value, dict)}}
    for where, part in parts.items():
        for key in QUANTISED:
            if part.get(key):
                named = part[key].get("quant_method") if isinstance(part[key], dict) else None
                raise UserError(
                    f"{folder}: quantised weights ({where}{key} in config.json"
                    + (f": {named}" if named else "")
                    + "); "
                    "give the checkpoint that they were made from, or dequantise them and save the model as "
                    "safetensors; compute.quantize: 4bit quantises while it loads"
                )


def requested_attention(raw: dict[str, Any]) -> str | None:
    """Name the attention that a config asks for and this machine is not made to have; None where it asks for none."""
    parts = [raw, *(value for value in raw.values() if isinstance(value, dict))]
    requested = (part.get(key) for part in parts for key in ATTENTION)
    return next((str(value) for value in requested if value and value not in PLAIN_ATTENTION), None)


def end_tokens(folder: Path) -> list[int]:
    """Give the tokens at which a model says to end: those of generation_config.json first, then of config.json."""
    tokens: list[int] = []
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            raw = read_object(folder / name)
            for part in (raw, raw.get("text_config")):
                value = part.get("eos_token_id") if isinstance(part, dict) else None
                tokens += [token for token in (value if isinstance(value, list) else [value]) if type(token) is int]
    return list(dict.fromkeys(token for token in tokens if token >= 0))


def plain_generation(folder: Path) -> GenerationConfig:
    """Make the generation settings of a checkpoint: greedy, one beam, ending where the model says to."""
    from transformers import GenerationConfig

    return GenerationConfig(eos_token_id=end_tokens(folder) or None)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load tokenizer.json itself, with the names of special tokens that the checkpoint or its class gives them.

    Without an end token, it is given the model's own. Padding falls back to the end token, and is masked everywhere.

    Raises:
        UserError: a file is missing or unreadable, or the tokenizer needs code of its own.
    """
    from transformers import PreTrainedTokenizerFast

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{folder}: no tokenizer.json; save the tokenizer: tokenizer.save_pretrained(folder)")
    _require_no_code(folder)
    known = _by_its_class(folder)
    try:
        if type(known) is PreTrainedTokenizerFast:  # transformers' class for a tokenizer.json as it stands
            tokenizer = known
        else:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, **LOCAL, **_names(path, known))
    except Exception as error:  # tokenizers raises bare Exceptions
        raise _unreadable(path, error) from None
    if tokenizer.eos_token is None:
        tokens = (tokenizer.convert_ids_to_tokens(token) for token in end_tokens(folder))
        tokenizer.eos_token = next((token for token in tokens if token), None)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _unreadable(path: Path, error: Exception) -> UserError:
    """Say which file a tokenizer cannot be read from."""
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_file(str(path))
    except Exception as own:
        return UserError(f"{path}: not readable as a tokenizer ({first_line(own)})")
    others = "tokenizer_config.json, special_tokens_map.json, added_tokens.json"
    return UserError(f"{path.parent}: transformers cannot read the tokenizer ({first_line(error)}); look at {others}")


def _require_no_code(folder: Path) -> None:
    """Refuse a tokenizer that needs code of its own."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return
    needed = read_object(path).get("auto_map")
    if needed and not (isinstance(needed, dict) and "AutoTokenizer" not in needed):
        raise UserError(
            f"{folder}: the tokenizer needs code of its own (auto_map in tokenizer_config.json), and knowtune runs no "
            "code that comes with a model; where tokenizer.json alone says what it does, take the key auto_map out"
        )


def _by_its_class(folder: Path) -> Any:
    """Load the tokenizer by its class in transformers, which knows names of special tokens; None where that fails."""
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    try:
        known = AutoTokenizer.from_pretrained(folder, **LOCAL)
    except Exception:  # a class that cannot build on these files, or is not there: the file itself is what counts
        return None
    return known if isinstance(known, PreTrainedTokenizerBase) else None


def _names(path: Path, known: Any) -> dict[str, Any]:
    """Give what a class knows beside the file: names of special tokens that the file has, and what its models read."""
    if known is None:
        return {}
    contents = json.loads(path.read_text(encoding="utf-8"))
    words = contents["model"].get("vocab", {})
    there = {word[0] if isinstance(word, list) else word for word in words}
    there |= {token["content"] for token in contents.get("added_tokens", [])}
    named = {name: str(token) for name, token in known.special_tokens_map.items() if isinstance(token, str)}
    return {
        "model_input_names": known.model_input_names,
        **{name: token for name, token in named.items() if token in there},
    }
