"""Week 2: padding, mask, attention. The last test asks a model of the package."""
import numpy as np
import pytest

EXAMPLES = [[2, 9, 8, 7, 3], [2, 5, 3], [2, 6, 4, 3]]


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(6, 8)) for _ in range(3)]


def test_the_table_and_its_mask(submission):
    ids, mask = submission.pad(EXAMPLES, pad_id=1)
    assert np.array_equal(ids, [[2, 9, 8, 7, 3], [2, 5, 3, 1, 1], [2, 6, 4, 3, 1]])
    assert np.array_equal(mask, [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])


def test_weights_add_up_to_one(submission, arrays):
    query, key, _ = arrays
    mask = np.array([1, 1, 1, 1, 0, 0])
    found = submission.attention(query, key, np.ones((6, 1)), mask)
    assert np.allclose(found[:4], 1)


def test_padding_changes_nothing(submission, arrays):
    query, key, value = arrays
    mask = np.array([1, 1, 1, 1, 0, 0])
    alone = submission.attention(query[:4], key[:4], value[:4], np.ones(4, dtype=int))
    assert np.allclose(submission.attention(query, key, value, mask)[:4], alone)
    value[4:] = 1e9
    assert np.allclose(submission.attention(query, key, value, mask)[:4], alone)


def test_it_agrees_with_pytorch(submission, arrays):
    torch = pytest.importorskip("torch")
    mask = np.array([1, 1, 1, 1, 1, 0])
    tensors = [torch.tensor(each)[None] for each in arrays]
    expected = torch.nn.functional.scaled_dot_product_attention(
        *tensors, attn_mask=torch.tensor(mask, dtype=torch.bool)[None, None])[0].numpy()
    assert np.allclose(submission.attention(*arrays, mask), expected)


def test_large_scores_are_no_problem(submission, arrays):
    query, key, value = arrays
    with np.errstate(over="ignore", invalid="ignore"):
        found = submission.attention(query * 1e4, key, value, np.ones(6, dtype=int))
    assert np.isfinite(found).all()


def test_a_model_says_the_same_with_your_padding(submission):
    torch = pytest.importorskip("torch")
    from cola_nbdev.model import load_model
    model = load_model("tiny").eval()
    ids, mask = (torch.tensor(np.asarray(each)) for each in submission.pad(EXAMPLES))
    with torch.inference_mode():
        together = model(ids, attention_mask=mask).logits
        alone = [model(torch.tensor([example])).logits[0] for example in EXAMPLES]
    assert torch.allclose(together, torch.stack(alone), atol=1e-5)
