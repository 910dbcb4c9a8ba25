"""Counters: the names of the contract, and bounds on what they may grow to."""

from wws.runtime.metrics import MAX_REFUSAL_SERIES, Metrics


def series(metrics: Metrics) -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")
    }


def test_the_names_of_the_contract_are_there_from_the_start():
    metrics = Metrics()
    found = series(metrics)
    for gauge in ("wws_connections", "wws_relay_reservations", "wws_relay_circuits", "wws_dht_records"):
        assert found[gauge] == 0
    text = metrics.render().decode()
    assert "# TYPE wws_refused_total counter" in text
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text


def test_refusals_are_counted_by_protocol_and_reason():
    metrics = Metrics()
    metrics.refused("tcp", "accept_rate")
    metrics.refused("tcp", "accept_rate", 4)
    metrics.refused("kad", "wrong_network")
    assert series(metrics)['wws_refused_total{protocol="tcp",reason="accept_rate"}'] == 5
    assert metrics.refusals() == {("tcp", "accept_rate"): 5, ("kad", "wrong_network"): 1}


def test_reasons_beyond_the_bound_are_counted_together():
    metrics = Metrics()
    for number in range(MAX_REFUSAL_SERIES + 50):
        metrics.refused("tcp", f"reason_{number}")
    assert len(metrics.refusals()) == MAX_REFUSAL_SERIES + 1
    assert metrics.refusals()["other", "other"] == 50
    assert sum(metrics.refusals().values()) == MAX_REFUSAL_SERIES + 50
    metrics.refused("tcp", "reason_0")
    assert metrics.refusals()["tcp", "reason_0"] == 2


def test_two_nodes_of_a_process_count_apart():
    first, second = Metrics(), Metrics()
    first.refused("tcp", "accept_rate")
    assert second.refusals() == {}


def test_a_gauge_can_ask_for_its_value():
    metrics = Metrics()
    records = [1, 2, 3]
    metrics.follow(metrics.dht_records, lambda: len(records))
    assert series(metrics)["wws_dht_records"] == 3
    records.pop()
    assert series(metrics)["wws_dht_records"] == 2
