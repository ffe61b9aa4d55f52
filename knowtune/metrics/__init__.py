"""Metrics: the numbers of the leaderboard. Each member is a file of this folder and a line here.

For knowledge the words are those of knowledge editing (EasyEdit, KnowEdit, ROME): reliability, generalisation,
locality, efficacy; for long answers those of question answering; for classifiers GLUE's.
"""

METRICS = {
    "reliability": "knowtune.metrics.reliability:Reliability",
    "generalisation": "knowtune.metrics.generalisation:Generalisation",
    "known": "knowtune.metrics.known:Known",
    "forgotten": "knowtune.metrics.forgotten:Forgotten",
    "locality": "knowtune.metrics.locality:Locality",
    "gained": "knowtune.metrics.gained:Gained",
    "efficacy": "knowtune.metrics.efficacy:Efficacy",
    "paraphrase_efficacy": "knowtune.metrics.paraphrase_efficacy:ParaphraseEfficacy",
    "answer_loss": "knowtune.metrics.answer_loss:AnswerLoss",
    "token_f1": "knowtune.metrics.token_f1:TokenF1",
    "contains": "knowtune.metrics.contains:Contains",
    "final_number": "knowtune.metrics.final_number:FinalNumber",
    "text_loss": "knowtune.metrics.text_loss:TextLoss",
    "text_drift": "knowtune.metrics.text_drift:TextDrift",
    "accuracy": "knowtune.metrics.accuracy:Accuracy",
    "f1": "knowtune.metrics.f1:F1",
    "matthews": "knowtune.metrics.matthews:Matthews",
    "pearson": "knowtune.metrics.pearson:Pearson",
    "spearman": "knowtune.metrics.spearman:Spearman",
    "drift": "knowtune.metrics.drift:Drift",
    "similarity_order": "knowtune.metrics.similarity_order:SimilarityOrder",
    "pushed_away": "knowtune.metrics.pushed_away:PushedAway",
    "pushed_by": "knowtune.metrics.pushed_by:PushedBy",
}
