"""Caught by test_the_longest_comes_first: it takes the shortest token that fits."""


def split_word(word, vocabulary):
    tokens, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = range(start + 1, len(word) + 1)
        fits = [end for end in ends if prefix + word[start:end] in vocabulary]
        if not fits: return ["[UNK]"]
        tokens.append(prefix + word[start:fits[0]])
        start = fits[0]
    return tokens
