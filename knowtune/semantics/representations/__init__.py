"""Representations: what of a text is compared in meaning. Each member is a file of this folder and a line here."""

REPRESENTATIONS: dict[str, str] = {
    "input_embedding": "knowtune.semantics.representations.input_embedding:InputEmbedding",
    "hidden": "knowtune.semantics.representations.hidden:Hidden",
    "sentence_encoder": "knowtune.semantics.representations.sentence_encoder:SentenceEncoder",
}
