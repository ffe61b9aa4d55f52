"""Mixtures: how several models' changes become one. Each member is a file of this folder and a line here."""

MIXTURES = {
    "average": "knowtune.mixtures.average:Average",
    "ties": "knowtune.mixtures.ties:Ties",
    "dare": "knowtune.mixtures.dare:Dare",
}
