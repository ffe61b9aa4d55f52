"""Metrics: the numbers of the leaderboard. Each member is a file of this folder and a line here.

For knowledge the words are those of knowledge editing (EasyEdit, KnowEdit, ROME): reliability, generalisation,
locality, efficacy; for long answers those of question answering; for classifiers GLUE's.
"""

METRICS = {
    "reliability": "knowtune.evaluation.metrics.reliability:Reliability",
    "generalisation": "knowtune.evaluation.metrics.generalisation:Generalisation",
    "known": "knowtune.evaluation.metrics.known:Known",
    "forgotten": "knowtune.evaluation.metrics.forgotten:Forgotten",
    "locality": "knowtune.evaluation.metrics.locality:Locality",
    "gained": "knowtune.evaluation.metrics.gained:Gained",
    "efficacy": "knowtune.evaluation.metrics.efficacy:Efficacy",
    "paraphrase_efficacy": "knowtune.evaluation.metrics.paraphrase_efficacy:ParaphraseEfficacy",
    "answer_loss": "knowtune.evaluation.metrics.answer_loss:AnswerLoss",
    "token_f1": "knowtune.evaluation.metrics.token_f1:TokenF1",
    "contains": "knowtune.evaluation.metrics.contains:Contains",
    "final_number": "knowtune.evaluation.metrics.final_number:FinalNumber",
    "text_loss": "knowtune.evaluation.metrics.text_loss:TextLoss",
    "text_drift": "knowtune.evaluation.metrics.text_drift:TextDrift",
    "kl_to_base": "knowtune.evaluation.metrics.kl_to_base:KLToBase",
    "kl_to_base_prompts": "knowtune.evaluation.metrics.kl_to_base_prompts:KLToBasePrompts",
    "accuracy": "knowtune.evaluation.metrics.accuracy:Accuracy",
    "f1": "knowtune.evaluation.metrics.f1:F1",
    "matthews": "knowtune.evaluation.metrics.matthews:Matthews",
    "pearson": "knowtune.evaluation.metrics.pearson:Pearson",
    "spearman": "knowtune.evaluation.metrics.spearman:Spearman",
    "drift": "knowtune.evaluation.metrics.drift:Drift",
    "similarity_order": "knowtune.evaluation.metrics.similarity_order:SimilarityOrder",
    "pushed_away": "knowtune.evaluation.metrics.pushed_away:PushedAway",
    "pushed_by": "knowtune.evaluation.metrics.pushed_by:PushedBy",
}
