"""Week 1. Split a word into wordpieces, as BERT's tokenizer does. Plain Python; import nothing."""


def split_word(word: str, vocabulary: set[str]) -> list[str]:
    """The tokens of a lower-case word: the longest that fits, again and again, from the left.

    A token that continues a word is in the vocabulary with ## before it. What has been taken is
    never given back: if the rest can't be split, the whole word is ["[UNK]"].

    >>> split_word("plumber", {"plum", "pl", "##ber", "##umber"})
    ['plum', '##ber']
    """
    raise NotImplementedError
