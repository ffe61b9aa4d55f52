"""Representations: what of a text is compared in meaning. Each member is a file of this folder and a line here."""

REPRESENTATIONS: dict[str, str] = {
    "input_embedding": "knowtune.representations.input_embedding:InputEmbedding",
    "hidden": "knowtune.representations.hidden:Hidden",
    "sentence_encoder": "knowtune.representations.sentence_encoder:SentenceEncoder",
}
