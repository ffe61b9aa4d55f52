"""Methods: how a model is changed. A member is a file here, or a folder with its PEFT tuner; and a line below."""

METHODS = {
    "lora": "knowtune.methods.lora:Lora",
    "fish": "knowtune.methods.fish.method:Fish",
    "full": "knowtune.methods.full:Full",
    "peft": "knowtune.methods.peft:Peft",
}
