"""Word statistics: how much there is to read, which words come up most, which documents are the longest."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from flowplatform.demo.documents import Document

# Silent reading of English non-fiction: Brysbaert (2019), "How many words do we read per minute?".
WORDS_PER_MINUTE = 238
SHORTEST_COUNTED = 4
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_COMMONPLACE_WORDS = (
    "about after also because been before being between both cannot could does each every from have here into its"
    " itself just like made make many more most much must never none only other over same should since some such than"
    " that their them then there these they this those through under until very were what when where which while will"
    " with without would your"
)
_COMMONPLACE = frozenset(_COMMONPLACE_WORDS.split())


@dataclass
class WordStatistics:
    """The totals over all documents; the lists hold the first few, the largest first."""

    words: int = 0
    different_words: int = 0
    frequent: list[tuple[str, int]] = field(default_factory=list)
    longest: list[tuple[str, int]] = field(default_factory=list)

    @property
    def reading_minutes(self) -> float:
        """Minutes to read everything at the pace of an adult reader."""
        return self.words / WORDS_PER_MINUTE


def count_words(documents: Sequence[Document], *, top: int = 10) -> WordStatistics:
    """Count the words of the documents, without their markup."""
    counter: Counter[str] = Counter()
    lengths: Counter[str] = Counter()
    for document in documents:
        words = _WORD.findall(document.content.text.lower())
        counter.update(words)
        lengths[document.name] = len(words)
    telling = Counter({word: count for word, count in counter.items() if _is_telling(word)})
    return WordStatistics(lengths.total(), len(counter), telling.most_common(top), lengths.most_common(top))


def _is_telling(word: str) -> bool:
    return len(word) >= SHORTEST_COUNTED and word not in _COMMONPLACE
