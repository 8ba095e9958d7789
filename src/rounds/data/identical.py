"""Find the passages that are a query itself: where queries come from the corpus, they are no answers.

BEIR calls leaving them out of a ranking `ignore_identical_ids`.
"""

from collections.abc import Collection, Iterable

from rounds.data.dataset import Query
from rounds.data.text import normalize_text


def find_identical(
    queries: Collection[Query], texts: Iterable[tuple[str, str]], qrels: dict[str, list[str]], ignore: bool = True
) -> dict[str, list[str]]:
    """Return query id -> passages with the query's own id or text, without those that are labelled as relevant.

    Args:
        queries: the queries.
        texts: id and text of each passage; a passage may stand with several texts, such as with and without its title.
        qrels: query id -> relevant passage ids.
        ignore: False gives every query an empty list, which says that its own passages are ranked on purpose.

    >>> queries = [Query("a", "a", {"question": "one  two"}), Query("b", "b", {"question": "three"})]
    >>> find_identical(queries, [("a", "A"), ("c", "one two"), ("d", "three")], {"b": ["d"]})
    {'a': ['a', 'c']}
    """
    if not ignore:
        return {query.id: [] for query in queries}
    questions = {query.id: normalize_text(query.fields["question"]) for query in queries}
    by_text: dict[str, list[str]] = {text: [] for text in questions.values()}
    ids: set[str] = set()
    for passage, text in texts:  # perhaps of a corpus larger than memory
        if passage in questions:
            ids.add(passage)
        if (same := by_text.get(normalize_text(text))) is not None:
            same.append(passage)
    identical = {}
    for query in queries:
        own = [*([query.id] if query.id in ids else []), *by_text[questions[query.id]]]
        if own := [passage for passage in dict.fromkeys(own) if passage not in qrels.get(query.id, ())]:
            identical[query.id] = own
    return identical
