"""Filters: which rows are worth learning. Each member is a file of this folder and a line here."""

FILTERS = {
    "everything": "knowtune.filters.everything:Everything",
    "clean": "knowtune.filters.clean:Clean",
    "nearest": "knowtune.filters.nearest:Nearest",
    "band": "knowtune.filters.band:Band",
    "mean_variance": "knowtune.filters.mean_variance:MeanVariance",
    "relations": "knowtune.filters.relations:Relations",
    "interference": "knowtune.filters.interference:Interference",
}
