"""Methods: how a model is changed. A member is a file here, or a folder with its PEFT tuner; and a line below."""

METHODS = {
    "lora": "knowtune.methods.lora:Lora",
    "fish": "knowtune.methods.fish.method:Fish",
    "kasa": "knowtune.methods.kasa.method:Kasa",
    "full": "knowtune.methods.full:Full",
    "sk_tuning": "knowtune.methods.sk_tuning.method:SkTuning",
    "imsm": "knowtune.methods.imsm.method:Imsm",
    "peft": "knowtune.methods.peft:Peft",
}
