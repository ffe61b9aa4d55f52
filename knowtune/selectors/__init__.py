"""Selectors: which rows and which parameters to train. Each member is a file of this folder and a line here."""

SELECTORS = {
    "everything": "knowtune.selectors.everything:Everything",
    "random": "knowtune.selectors.random:Random",
    "magnitude": "knowtune.selectors.magnitude:Magnitude",
    "fish": "knowtune.selectors.fish:Fish",
    "ird": "knowtune.selectors.ird:Ird",
}
