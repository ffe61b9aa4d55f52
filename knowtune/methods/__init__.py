"""Methods: how a model is changed. Each member is a file of this folder and a line here."""

METHODS = {
    "lora": "knowtune.methods.lora:Lora",
    "fish": "knowtune.methods.fish.method:Fish",
    "full": "knowtune.methods.full:Full",
    "peft": "knowtune.methods.peft:Peft",
}
