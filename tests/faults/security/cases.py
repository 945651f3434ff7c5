"""All attacks."""

from faults.security import documents, files, links, models, places, urls, words

ALL = [*models.CASES, *urls.CASES, *documents.CASES, *files.CASES, *links.CASES, *places.CASES, *words.CASES]
