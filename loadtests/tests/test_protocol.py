"""The bench of the protocol measures; its figures are judged elsewhere, never in a test."""

from warmpool_loadtests.protocol import measure


def test_it_reports_the_whole_its_steps_and_the_control():
    report = measure(rounds=2, pairs=3)
    assert report["cpu_ms_per_request"]["median"] > 0
    assert set(report["cpu_us_by_step"]) == {"write_request", "read_request", "write_result", "read_result"}
    assert report["control_json_cpu_ms_per_request"]["median"] > 0
    assert report["ratio_to_json"]["min"] > 0
