"""All attacks."""

from faults.security import documents, files, models, places, urls, words

ALL = [*models.CASES, *urls.CASES, *documents.CASES, *files.CASES, *places.CASES, *words.CASES]
