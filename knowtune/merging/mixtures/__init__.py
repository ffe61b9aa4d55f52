"""Mixtures: how several models' task vectors become one. Each member is a file of this folder and a line here."""

MIXTURES = {
    "average": "knowtune.merging.mixtures.average:Average",
    "ties": "knowtune.merging.mixtures.ties:Ties",
    "dare": "knowtune.merging.mixtures.dare:Dare",
    "interpolate": "knowtune.merging.mixtures.interpolate:Interpolate",
    "lines": "knowtune.merging.mixtures.lines:Lines",
}
