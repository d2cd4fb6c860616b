"""Caught by test_what_is_taken_is_not_given_back: it tries a shorter token when it is stuck."""


def split_word(word, vocabulary, prefix=""):
    if not word: return []
    for end in range(len(word), 0, -1):
        if prefix + word[:end] not in vocabulary: continue
        rest = split_word(word[end:], vocabulary, "##")
        if rest != ["[UNK]"]: return [prefix + word[:end], *rest]
    return ["[UNK]"]
