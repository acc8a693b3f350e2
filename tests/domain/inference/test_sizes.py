from hypothesis import given
from hypothesis import strategies as st

from domain.inference.sizes import FIRST_TOKENS, SAMPLES_MAX, SAMPLES_MIN, OutputSizes


def seen(*lengths: int, model: str = "m") -> OutputSizes:
    sizes = OutputSizes()
    for tokens in lengths:
        sizes.observe(model, tokens)
    return sizes


def test_a_model_that_is_not_known_well_gets_the_default() -> None:
    assert OutputSizes().first_hold("m") == FIRST_TOKENS
    assert seen(*[50_000] * (SAMPLES_MIN - 1)).first_hold("m") == FIRST_TOKENS


def test_one_model_teaches_nothing_about_another() -> None:
    assert seen(*[50_000] * SAMPLES_MIN, model="other").first_hold("m") == FIRST_TOKENS


def test_short_answers_do_not_shrink_the_first_hold() -> None:
    assert seen(*[3] * 500).first_hold("m") == FIRST_TOKENS


def test_one_answer_in_a_hundred_may_be_longer() -> None:
    assert seen(*[3_000] * 99, 60_000).first_hold("m") == 4_096
    assert seen(*[3_000] * 98, 60_000, 60_000).first_hold("m") == 65_536


@given(st.lists(st.integers(0, 200_000), min_size=SAMPLES_MIN, max_size=300))
def test_ninety_nine_of_a_hundred_answers_stay_within_the_first_hold(lengths: list[int]) -> None:
    first = seen(*lengths).first_hold("m")
    longer = sum(1 for tokens in lengths if tokens > first)
    assert longer * 100 <= len(lengths)
    assert first <= max(FIRST_TOKENS, 2 * max(lengths))


def test_old_answers_fade() -> None:
    sizes = seen(*[60_000] * 5_000)
    assert sizes.first_hold("m") == 65_536
    for _ in range(20 * SAMPLES_MAX):
        sizes.observe("m", 100)
    assert sizes.first_hold("m") == FIRST_TOKENS


def test_an_absurd_length_is_put_into_the_last_drawer() -> None:
    assert seen(*[10**15] * SAMPLES_MIN).first_hold("m") == 1 << 31
