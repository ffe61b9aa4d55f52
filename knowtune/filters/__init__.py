"""Filters: which rows are worth learning. Each member is a file of this folder and a line here."""

FILTERS = {
    "everything": "knowtune.filters.everything:Everything",
    "clean": "knowtune.filters.clean:Clean",
}
