"""Metrics: the numbers of the leaderboard. Each member is a file of this folder and a line here.

The words are those of knowledge editing (EasyEdit, KnowEdit): reliability, generalisation, locality.
"""

METRICS = {
    "reliability": "knowtune.metrics.reliability:Reliability",
    "generalisation": "knowtune.metrics.generalisation:Generalisation",
    "known": "knowtune.metrics.known:Known",
    "forgotten": "knowtune.metrics.forgotten:Forgotten",
    "locality": "knowtune.metrics.locality:Locality",
    "text_loss": "knowtune.metrics.text_loss:TextLoss",
    "text_drift": "knowtune.metrics.text_drift:TextDrift",
}
