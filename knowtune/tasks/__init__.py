"""Tasks: what is learned and how it is judged. Each member is a file of this folder and a line here."""

TASKS = {
    "knowledge": "knowtune.tasks.knowledge:Knowledge",
    "classification": "knowtune.tasks.classification:Classification",
    "regression": "knowtune.tasks.regression:Regression",
}
