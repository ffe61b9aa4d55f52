from __future__ import annotations

import peft
from peft import LoraConfig

from knowtune.methods.peft_options import config_class, option_problems, own_options


def test_a_type_by_its_name() -> None:
    assert config_class("lora") is LoraConfig
    assert config_class("ia3") is peft.IA3Config


def test_a_types_own_options() -> None:
    options = own_options("ia3")
    assert set(options) == {
        "target_modules", "exclude_modules", "feedforward_modules", "fan_in_fan_out", "modules_to_save",
        "init_ia3_weights",
    }  # fmt: skip
    assert not {"task_type", "peft_type", "base_model_name_or_path", "inference_mode", "runtime_config"} & set(
        own_options("lora")
    )
    assert "num_virtual_tokens" in own_options("prompt_tuning")
    assert "token_dim" not in own_options("prompt_tuning")


class TestOptionProblems:
    def test_good_options(self) -> None:
        assert option_problems("lora", {"r": 4, "target_modules": ["q_proj"], "use_dora": True}, "x") == []
        assert option_problems("lora", {"target_modules": "all-linear", "init_lora_weights": "pissa"}, "x") == []

    def test_an_unknown_option(self) -> None:
        problems = option_problems("ia3", {"target_module": 3}, "runs.a.options")
        allowed = ", ".join(sorted(own_options("ia3")))
        assert [str(p) for p in problems] == [
            f"runs.a.options.target_module: got an unknown key; allowed: the options of PEFT's ia3: {allowed}; "
            "did you mean 'target_modules'?"
        ]

    def test_a_wrong_type(self) -> None:
        problems = option_problems("lora", {"r": "many", "zzz": 1}, "runs.a.options")
        assert [p.where for p in problems] == ["runs.a.options.r", "runs.a.options.zzz"]
        assert str(problems[0]) == "runs.a.options.r: got 'many'; allowed: int"

    def test_inside_a_config_of_its_own(self) -> None:
        """By the field, and by the rule that it breaks."""
        problems = option_problems("lora", {"kasa_config": {"beta": -1}}, "x")
        assert [str(p) for p in problems] == [
            "x.kasa_config: got {'beta': -1}; allowed: `beta` must be non-negative, got -1.0"
        ]
        problems = option_problems("lora", {"kasa_config": {"gamma": "much"}}, "x")
        assert [str(p) for p in problems] == [
            "x.kasa_config.gamma: got 'much'; allowed: a valid number, unable to parse string as a number"
        ]
        assert str(option_problems("lora", {"kasa_config": 3}, "x")[0]) == (
            "x.kasa_config: got 3; allowed: Optional[KasaConfig]"
        )

    def test_the_configs_own_rules(self) -> None:
        problems = option_problems("oft", {"r": 4, "oft_block_size": 8}, "runs.a.options")
        assert len(problems) == 1
        assert str(problems[0]).startswith(
            "runs.a.options: got {'r': 4, 'oft_block_size': 8}; allowed: what PEFT's oft accepts: "
        )

    def test_bookkeeping_is_no_option(self) -> None:
        assert [p.where for p in option_problems("lora", {"task_type": "SEQ_CLS"}, "x")] == ["x.task_type"]
