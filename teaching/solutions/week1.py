"""Week 1, a solution."""


def split_word(word, vocabulary):
    tokens, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            if prefix + word[start:end] in vocabulary: break
        else: return ["[UNK]"]
        tokens.append(prefix + word[start:end])
        start = end
    return tokens
