"""How long answers of each model usually are: what a stream holds at first. A wrong guess costs an extension only."""

FIRST_TOKENS = 1_024
SAMPLES_MIN = 100
SAMPLES_MAX = 10_000


class OutputSizes:
    """A histogram per model in powers of two, of the answers this process has seen; old ones fade by halving."""

    def __init__(self) -> None:
        self._seen: dict[str, list[int]] = {}

    def observe(self, model: str, tokens: int) -> None:
        buckets = self._seen.setdefault(model, [0] * 32)
        buckets[min(tokens.bit_length(), 31)] += 1
        if sum(buckets) >= SAMPLES_MAX:
            buckets[:] = [count // 2 for count in buckets]

    def first_hold(self, model: str) -> int:
        """Tokens that 99 of 100 answers stay within, but never under `FIRST_TOKENS`."""
        buckets = self._seen.get(model)
        if buckets is None or (total := sum(buckets)) < SAMPLES_MIN:
            return FIRST_TOKENS
        rest = total
        for bits, count in enumerate(buckets):
            rest -= count
            if rest * 100 <= total:
                return int(max(FIRST_TOKENS, 1 << bits))
        return FIRST_TOKENS
