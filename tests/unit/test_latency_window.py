"""What a gateway tells of its searches."""

from docray.observability.latency import WINDOW_S, LatencyWindow


def test_the_percentile_of_the_last_searches_and_of_no_older_ones() -> None:
    now = 0.0
    window = LatencyWindow("g", clock=lambda: now)
    assert window.latency() is None
    window.note(900.0)
    now = WINDOW_S + 0.5
    for milliseconds in range(1, 101):
        window.note(float(milliseconds))
    told = window.latency()
    assert told is not None
    assert (told.gateway, told.p95_ms, told.searches) == ("g", 95.0, 100)
    now += WINDOW_S + 0.5
    assert window.latency() is None


def test_one_search_is_its_own_percentile() -> None:
    window = LatencyWindow("g", clock=lambda: 0.0)
    window.note(7.0)
    told = window.latency()
    assert told is not None
    assert told.p95_ms == 7.0
