"""Counters of a run for Prometheus, through Ray's metrics endpoint on the driver's node (`ray_embedpipe_…`)."""

from ray.util.metrics import Counter

from pipeline.flow.acks import Ack


class Metrics:
    """Counts acknowledgements. Without a metrics agent, as in embedded Ray, it counts for nobody."""

    def __init__(self) -> None:
        tags = ("output",)
        self._units = Counter("embedpipe_units_total", "Units acknowledged, by what became of them.", (*tags, "state"))
        self._rows = Counter("embedpipe_rows_total", "Rows embedded and committed.", tags)
        self._tokens = Counter("embedpipe_tokens_total", "Tokens encoded.", tags)
        self._quarantined = Counter("embedpipe_rows_quarantined_total", "Rows kept aside.", tags)
        self._truncated = Counter("embedpipe_rows_truncated_total", "Rows longer than the model takes.", tags)
        self._encode = Counter("embedpipe_encode_seconds_total", "Seconds that replicas spent encoding.", tags)
        self._wait = Counter("embedpipe_wait_seconds_total", "Seconds that replicas had nothing to encode.", tags)

    def count(self, ack: Ack, output: str) -> None:
        """Add one acknowledgement. Only what this run committed counts as rows and tokens."""
        own = {"output": output}
        self._units.inc(1, {**own, "state": ack.state})
        if ack.state != "done":
            return
        for counter, value in (
            (self._rows, ack.rows_out),
            (self._tokens, ack.tokens),
            (self._quarantined, sum(ack.quarantined.values())),
            (self._truncated, ack.truncated),
            (self._encode, ack.times.encode / 1000),
            (self._wait, ack.times.wait / 1000),
        ):
            if value:  # Ray refuses to add nothing
                counter.inc(value, own)
